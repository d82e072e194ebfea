"""Training, evaluation and testing: one loop, exact numbers on any number of ranks."""
