"""Multi-label metrics against plain loops, for any division, with ties, failures and padding."""

from itertools import permutations

import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.metrics import multi_label
from paddlevideo.metrics.multi_label import MultiLabelMetric
from paddlevideo.metrics.recognition import RecognitionMetric
from paddlevideo.metrics.scores import best_classes


def score(logits, labels, top_k: int | None = 20, **batch):
    metric = MultiLabelMetric(np.shape(logits)[1], top_k)
    metric.update(np.asarray(logits), {"label": np.asarray(labels), **batch})
    return metric.result(metric.state())


@pytest.fixture
def samples():
    """30 videos of 40 classes with up to 30 labels, the first with none; many ties."""
    rng = np.random.default_rng(1)
    logits = (rng.integers(-12, 13, (30, 40)) / 4).astype("float32")
    num_labels = rng.integers(0, 31, 30)
    num_labels[0] = 0
    labels = np.array([rng.permutation(np.arange(40) < n) for n in num_labels]).astype("uint8")
    return logits, labels


def numbers_by_loops(logits, labels, top_k, orders=1):
    """All five numbers with plain loops; ties come in `orders` random orders."""
    rng = np.random.default_rng(0)
    hits, perr, losses, pairs = [], [], [], []
    for row, own in zip(logits.astype("float64"), labels, strict=True):
        order = sorted(range(len(row)), key=lambda c, row=row: (-row[c], c))
        n = int(own.sum())
        hits.append(own[order[0]])
        perr.append(sum(own[c] for c in order[:n]) / n if n else 0)
        probability = 1 / (1 + np.exp(-row))
        losses.append(-np.log(np.where(own > 0, probability, 1 - probability)).sum())
        pairs += [(row[c], c, own[c]) for c in order[:top_k]]
    gaps, maps = [], []
    for _ in range(orders):
        ranked = [pairs[i] for i in rng.permutation(len(pairs))]
        ranked.sort(key=lambda pair: -pair[0])
        gaps.append(average_precision([hit for *_, hit in ranked], labels.sum()))
        by_class = [
            average_precision([hit for _, c, hit in ranked if c == k], labels[:, k].sum())
            for k in np.flatnonzero(labels.sum(axis=0))
        ]
        maps.append(np.mean(by_class))
    return {
        "avg_hit_at_one": np.mean(hits),
        "avg_perr": np.mean(perr),
        "avg_loss": np.mean(losses),
        "gap": np.mean(gaps),
        "map": np.mean(maps),
    }


def average_precision(hits, positives):
    hits = [int(hit) for hit in hits]
    return sum(sum(hits[:rank]) / rank for rank, hit in enumerate(hits, 1) if hit) / positives


def test_names_and_ignored_keys_of_paddlevideo_s_configs():
    assert lookup("metric", "MultiLabelMetric").make is MultiLabelMetric
    assert lookup("metric", "HitOneMetric").make is MultiLabelMetric
    ignored = {"num_class", "data_size", "batch_size", "log_interval"}
    assert set(lookup("metric", "HitOneMetric").ignores) == ignored


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 5, 20, 40, None])
def test_numbers_agree_with_loops(samples, top_k):
    logits, labels = samples
    shifts = np.random.default_rng(2).permutation(logits.size).reshape(logits.shape)
    logits = logits + shifts.astype("float32") * 1e-5
    assert len(np.unique(logits)) == logits.size, "no ties"
    numbers = score(logits, labels, top_k)
    for name, value in numbers_by_loops(logits, labels, top_k or 40).items():
        tolerance = 1e-6 if name == "avg_loss" else 1e-12
        assert numbers[name] == pytest.approx(value, rel=tolerance), name
    assert (numbers["num_samples"], numbers["num_failed"], numbers["num_unlabelled"]) == (30, 0, 0)


def test_ties_count_with_the_mean_over_their_orders(samples):
    numbers = score(*samples, top_k=7)
    expected = numbers_by_loops(*samples, top_k=7, orders=300)
    assert numbers["avg_hit_at_one"] == expected["avg_hit_at_one"]
    assert numbers["avg_perr"] == pytest.approx(expected["avg_perr"], rel=1e-12)
    assert numbers["gap"] == pytest.approx(expected["gap"], rel=0.01)
    assert numbers["map"] == pytest.approx(expected["map"], rel=0.02)


def test_mean_over_all_orders_of_three_ties():
    """Scores 3, 2, 2, 2, 1 of one class: the middle three have 6 orders."""
    hits = [1, 1, 0, 1, 1]
    orders = [
        average_precision([hits[0], *(hits[i] for i in order), hits[4]], 4)
        for order in permutations((1, 2, 3))
    ]
    numbers = score(np.array([[3.0], [2], [2], [2], [1]]), np.array(hits)[:, None])
    assert numbers["map"] == numbers["gap"] == pytest.approx(np.mean(orders), rel=1e-12)


def test_keeps_the_lower_of_tied_classes():
    labels = np.eye(6, dtype="uint8")[[2, 3]]
    numbers = score(np.zeros((2, 6)), labels, top_k=3)  # classes 0, 1, 2 are the best three
    assert numbers["avg_hit_at_one"] == 0
    assert numbers["map"] == 0.375  # class 2 is found, at rank 1 or 2; class 3 is not
    assert score(np.zeros((2, 6)), np.eye(6, dtype="uint8")[[0, 0]], top_k=3)["avg_perr"] == 1
    assert score([[0.0, -0.0]], [[1, 0]])["gap"] == score([[-0.0, 0.0]], [[1, 0]])["gap"] == 0.75


@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_fast_selection_equals_best_classes(samples, k):
    scores = samples[0]
    threshold = np.sort(scores, axis=1)[:, -k][:, None]
    fast = multi_label._top_classes(scores, k, threshold)
    assert (fast == best_classes(scores, k)).all()


def test_a_video_without_labels_counts_as_wrong():
    numbers = score([[3.0, 1], [2, 1]], [[1, 0], [0, 0]])
    assert (numbers["avg_hit_at_one"], numbers["avg_perr"], numbers["gap"]) == (0.5, 0.5, 1.0)
    empty = score([[3.0, 1]], [[0, 0]])
    assert empty["gap"] == 0 and "map" not in empty and empty["num_samples"] == 1


def test_perr_reads_more_classes_than_gap():
    """PERR reads as many classes as there are labels, GAP only the best `top_k`."""
    numbers = score([[5.0, 4, 3, 2]], [[1, 1, 0, 1]], top_k=1)
    assert numbers["avg_hit_at_one"] == 1
    assert numbers["avg_perr"] == pytest.approx(2 / 3)
    assert numbers["gap"] == numbers["map"] == pytest.approx(1 / 3)


def test_does_not_find_a_label_with_probability_0():
    numbers = score([[1.0, -np.inf, -np.inf]], [[1, 1, 0]])
    assert numbers["avg_perr"] == 0.5
    assert numbers["avg_loss"] == np.inf
    more = score([[1.0] + [-np.inf] * 4], [[1, 1, 1, 0, 0]], top_k=2)
    assert more["avg_perr"] == pytest.approx(1 / 3)
    assert score([[np.inf, -np.inf]], [[1, 0]])["avg_loss"] == 0


@pytest.mark.parametrize("value", [-90.0, -20.0, 0.0, 20.0, 90.0])
def test_loss_of_large_logits(value):
    expected = np.logaddexp(0, value) + np.logaddexp(0, -value)  # one class is a label, one is not
    assert score([[value, value]], [[1, 0]])["avg_loss"] == pytest.approx(expected, rel=1e-6)


def test_numbers_by_class():
    metric = MultiLabelMetric(3)
    metric.update(np.array([[3.0, 1, 0], [1, 2, 0]]), {"label": np.array([[1, 0, 0], [1, 1, 0]])})
    by_class = metric.by_class(metric.state())
    assert by_class == {"samples": [2, 1, 0], "average_precision": [1.0, 1.0, 0.0]}


# --- batches and ranks ------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 4, 30])
def test_same_bits_for_any_division(samples, ranks, size):
    logits, labels = samples
    logits = logits.copy()
    logits[4] = np.nan
    metrics = [MultiLabelMetric(40, 6) for _ in range(ranks)]
    for rank, metric in enumerate(metrics):
        own = np.random.default_rng(ranks).permutation(30)[rank::ranks]
        for start in range(0, len(own), size):
            batch = own[start : start + size]
            rows = np.resize(batch, size)  # repeats pad the last batch
            weight = np.arange(size) < len(batch)
            metric.update(logits[rows], {"label": labels[rows], "weight": weight})
    merged = MultiLabelMetric.merge([metric.state() for metric in metrics])
    assert metrics[0].result(merged) == score(logits, labels, 6)


def test_blocks_do_not_change_the_numbers(samples, monkeypatch):
    numbers = score(*samples)
    monkeypatch.setattr(multi_label, "BLOCK", 100)  # 2 videos at a time
    assert score(*samples) == numbers


def test_the_state_is_small_and_a_copy(samples):
    metric = MultiLabelMetric(40, 20)
    for _ in range(10):
        metric.update(samples[0], {"label": samples[1]})
    state = metric.state()
    rows = {name: (array.dtype.name, array.shape) for name, array in state.items() if array.ndim}
    assert rows == {
        "positives": ("float64", (40,)),
        "pairs": ("uint64", (6000,)),
        "precisions": ("float64", (300,)),
        "losses": ("float32", (300,)),
    }
    assert metric.state()["pairs"].tobytes() == state["pairs"].tobytes()
    metric.update(samples[0], {"label": samples[1]})
    assert len(metric.state()["pairs"]) == 6600 and len(state["pairs"]) == 6000


def test_merges_single_label_states_too():
    metrics = [RecognitionMetric(3) for _ in range(2)]
    for metric, label in zip(metrics, (0, 2), strict=True):
        metric.update(np.eye(3)[:1], {"label": np.array([label])})
    merged = RecognitionMetric.merge([metric.state() for metric in metrics])
    assert metrics[0].result(merged)["top1"] == 0.5


def test_reset(samples):
    metric = MultiLabelMetric(40)
    metric.update(samples[0], {"label": samples[1]})
    metric.reset()
    assert not any(array.any() for array in metric.state().values())


# --- failed and unlabeled videos, rejected input ----------------------------------------------


def test_counts_failed_videos_as_wrong():
    logits = np.array([[2.0, 1], [np.nan, 1], [np.nan, np.nan]])
    numbers = score(logits, [[1, 0], [0, 1], [0, 1]])
    third = pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert (numbers["avg_hit_at_one"], numbers["avg_perr"], numbers["gap"]) == third
    assert numbers["map"] == 0.5  # class 1 lacks the labels that were not found
    assert (numbers["num_samples"], numbers["num_failed"]) == (3, 2)
    assert numbers["avg_loss"] == score([[2.0, 1]], [[1, 0]])["avg_loss"]


def test_counts_a_batch_without_scores():
    metric = MultiLabelMetric(2)
    metric.update(None, {"label": np.array([[1, 0], [0, 1]]), "weight": np.array([1, 0])})
    zeros = dict.fromkeys(("avg_hit_at_one", "avg_perr", "gap", "map"), 0.0)
    counts = {"num_samples": 1, "num_failed": 1, "num_unlabelled": 0}
    assert metric.result(metric.state()) == zeros | counts


def test_unlabeled_videos_have_no_numbers():
    counts = {"num_samples": 0, "num_failed": 0, "num_unlabelled": 2}
    assert score(np.zeros((2, 3)), np.full((2, 3), -1)) == counts
    metric = MultiLabelMetric(3)
    metric.update(np.zeros((2, 3)), {})
    assert metric.result(metric.state()) == counts
    assert score([[1.0, 0], [0, 1]], [[1, 0], [-1, -1]])["avg_hit_at_one"] == 1


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 1], r"labels are \[2\], expected \[N, 3 classes\] of 0 and 1"),
        (np.zeros((2, 3)), np.zeros((2, 4)), r"labels are \[2, 4\], expected \[N, 3 classes\]"),
        (np.zeros((1, 3)), np.zeros((2, 3)), r"scores are \[1, 3\], but labels are \[2, 3\]"),
        (np.zeros((1, 3)), [[0, 0.5, 1]], "the label of class 1 is 0.5; expected 0 or 1"),
        (np.zeros((1, 3)), [[0, 0, -1]], "the label of class 2 is -1; expected 0 or 1"),
        (None, [[2, 0, 0]], "the label of class 0 is 2"),
    ],
)
def test_rejects_batches_that_do_not_fit(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelMetric(3).update(logits, {"label": np.asarray(labels)})


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"num_classes": 3, "top_k": 0}])
def test_rejects_arguments_below_1(arguments):
    with pytest.raises(ValueError, match="both must be at least 1"):
        MultiLabelMetric(**arguments)
