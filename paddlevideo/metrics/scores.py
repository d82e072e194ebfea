"""Scores of classes: softmax, the best classes, and the rank of a label.

Among equal scores the class with the lower id ranks first everywhere in this package, with one
exception: late fusion counts its top-k accuracy as MMAction2 does, the highest id first.
"""

from typing import Literal

import numpy as np

# The rank of a label in a row that has no order because it contains a NaN: a hit for no k.
NO_RANK = np.iinfo(np.int64).max


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis of logits [..., K], in the precision of the logits."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def best_classes(scores: np.ndarray, k: int) -> np.ndarray:
    """The ids of the k classes with the highest scores, best first.

    Among equal scores the lower class id comes first; NaN comes last.

    Args:
        scores: float [..., K].
        k: number of classes; more than K gives K.

    Returns:
        int64 [..., min(k, K)].
    """
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def label_ranks(
    scores: np.ndarray,
    labels: np.ndarray,
    first_of_ties: Literal["lowest", "highest"] = "lowest",
) -> np.ndarray:
    """Count the classes that rank before the label; a rank below k is a top-k hit.

    Args:
        scores: float [N, K].
        labels: int [N], each in [0, K).
        first_of_ties: among equal scores, whether the lowest or the highest class id ranks first.

    Returns:
        int64 [N]; `NO_RANK` for a row that contains a NaN.
    """
    labels = labels[:, None]
    label_scores = np.take_along_axis(scores, labels, axis=1)
    classes = np.arange(scores.shape[1])
    first = classes < labels if first_of_ties == "lowest" else classes > labels
    before = (scores > label_scores) | ((scores == label_scores) & first)
    return np.where(np.isnan(scores).any(axis=1), NO_RANK, before.sum(axis=1))
