"""Scores of one video: softmax, and which classes are best."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of rows of logits [..., K], float64."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
