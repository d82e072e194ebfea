"""What is done to data before training: checks, splits, known datasets, resizing, frames, demo sets."""
