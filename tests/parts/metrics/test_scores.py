"""Softmax, the best classes and the ranks of labels, with ties and NaN."""

import numpy as np
import paddle
import pytest

from paddlevideo.losses import top_k_accuracy
from paddlevideo.metrics.scores import NO_RANK, best_classes, label_ranks, softmax


@pytest.fixture
def tied():
    """Scores [50, 8] with many ties, and labels [50]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (50, 8)).astype("float32"), rng.integers(0, 8, 50)


def position_of(labels, order):
    return [int(np.flatnonzero(o == k)[0]) for o, k in zip(order, labels, strict=True)]


def test_softmax_of_large_logits():
    values = np.array([[1000.0, 1000], [0, np.log(3)]])
    assert softmax(values) == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))
    assert (softmax(values[1]) == softmax(values)[1]).all()
    assert (softmax(values[None]) == softmax(values)).all()


def test_softmax_keeps_the_precision():
    assert softmax(np.zeros((1, 2), "float32")).dtype == np.float32
    assert softmax(np.zeros((1, 2))).dtype == np.float64


def test_best_classes_puts_lower_ids_first_and_nan_last():
    scores = np.array([1.0, 3, np.nan, 3, -np.inf])
    assert best_classes(scores, 5).tolist() == [1, 3, 0, 4, 2]
    assert best_classes(scores, 2).tolist() == [1, 3]
    assert best_classes(scores, 99).shape == (5,)
    assert best_classes(np.stack([scores, -scores]), 1).tolist() == [[1], [4]]


def test_ranks_order_ties_by_class_id():
    scores, labels = np.array([[1.0, 3, 3, 2]] * 4), np.arange(4)
    assert label_ranks(scores, labels).tolist() == [3, 0, 1, 2]
    assert label_ranks(scores, labels, first_of_ties="highest").tolist() == [3, 1, 0, 2]


def test_ranks_agree_with_sorting(tied):
    scores, labels = tied
    lowest_first = best_classes(scores, 8)
    highest_first = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
    assert label_ranks(scores, labels).tolist() == position_of(labels, lowest_first)
    ranks = label_ranks(scores, labels, first_of_ties="highest")
    assert ranks.tolist() == position_of(labels, highest_first)


def test_a_row_with_nan_has_no_rank():
    scores = np.array([[1.0, 0, 0], [np.nan, 0, 1]])
    assert label_ranks(scores, np.array([0, 2])).tolist() == [0, NO_RANK]


@pytest.mark.parametrize("k", [1, 3, 8, 9])
def test_the_accuracy_shown_in_training_follows_the_same_rule(tied, k):
    scores, labels = tied
    scores[3] = np.nan
    shown = top_k_accuracy(paddle.to_tensor(scores), paddle.to_tensor(labels), k).item()
    assert shown == pytest.approx((label_ranks(scores, labels) < k).mean())
