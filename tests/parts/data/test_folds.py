"""Folds of a cross-validation: sources stay together, classes are spread."""

import numpy as np
import pytest

from paddlevideo.data.folds import folds_of


def test_groups_stay_together_and_classes_are_spread():
    groups = [f"take {i // 3}" for i in range(60)]  # each has one clip of each class
    labels = np.arange(60) % 3
    folds = folds_of(groups, labels, 5)
    for group in set(groups):
        assert len({folds[i] for i in range(60) if groups[i] == group}) == 1
    counts = [np.bincount(labels[folds == fold]).tolist() for fold in range(5)]
    assert counts == [[4, 4, 4]] * 5


@pytest.mark.parametrize(("num_groups", "expected"), [(1, 1), (2, 2), (4, 4), (9, 5)])
def test_there_are_no_more_folds_than_groups(num_groups, expected):
    groups = [i % num_groups for i in range(36)]
    folds = folds_of(groups, np.zeros(36, np.int64), 5)
    assert sorted(set(folds.tolist())) == list(range(expected))


def test_folds_do_not_depend_on_the_order_of_clips():
    rng = np.random.default_rng(3)
    groups = [f"g{i}" for i in rng.integers(0, 12, 80)]
    labels = rng.integers(0, 4, 80)
    folds, order = folds_of(groups, labels, 4), rng.permutation(80)
    shuffled = folds_of([groups[i] for i in order], labels[order], 4)
    assert (shuffled == folds[order]).all()


def test_another_seed_gives_other_folds():
    groups, labels = [f"g{i}" for i in range(40)], np.arange(40) % 2
    folds = [folds_of(groups, labels, 4, seed).tolist() for seed in (0, 1, 2)]
    assert folds[0] == folds_of(groups, labels, 4).tolist()
    assert folds[0] != folds[1] != folds[2] != folds[0]
    for each in folds:
        assert np.bincount(each).tolist() == [10] * 4
