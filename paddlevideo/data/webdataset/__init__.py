"""Samples in tar shards, by the rules of WebDataset."""
