"""Divide clips into the folds of a cross-validation, by source."""

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np


def folds_of(
    groups: Sequence[Hashable], labels: np.ndarray, num_folds: int, seed: int = 0
) -> np.ndarray:
    """The fold of each clip; the clips of a group share a fold, and classes are spread evenly.

    Groups are assigned from the largest to the smallest, those of equal size by a hash of their
    names. Each goes to the fold that has the fewest clips of its classes.

    Args:
        groups: the source of each clip.
        labels: int [N], class ids.
        seed: another seed gives other folds.

    Returns:
        int [N], in [0, number of folds); there are no more folds than groups.
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    num_folds = min(num_folds, len(members))
    counts = np.zeros((num_folds, int(labels.max()) + 1))
    prefix = f"{seed}/" if seed else ""
    order = sorted(
        members,
        key=lambda g: (-len(members[g]), hashlib.sha256(f"{prefix}{g}".encode()).digest()),
    )
    folds = np.zeros(len(labels), np.int64)
    for group in order:
        own = np.bincount(labels[members[group]], minlength=counts.shape[1])
        fold = min(range(num_folds), key=lambda i: (counts[i] @ own, counts[i].sum(), i))
        counts[fold] += own
        folds[members[group]] = fold
    return folds
