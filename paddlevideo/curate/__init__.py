"""Prepare data for training: checks, splits, published data sets, resizing, frames, demo sets."""
