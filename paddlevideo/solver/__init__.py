"""Optimizers, learning rates, weight averages, the multigrid schedule."""
