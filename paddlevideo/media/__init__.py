"""From a path to arrays: containers, video frames, waveforms and log-mel spectrograms."""
