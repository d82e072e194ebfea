"""A path becomes arrays: containers, frames, waveforms, log-mel spectrograms. Knows no lists and no models."""
