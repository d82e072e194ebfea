"""Metrics of several labels a video: against plain loops, on any split, with ties, failures and padding."""

from itertools import permutations

import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.metrics import multilabel
from paddlevideo.metrics.multilabel import MultiLabelMetric
from paddlevideo.metrics.recognition import RecognitionMetric


def score(logits, labels, top_k: int | None = 20, **batch):
    metric = MultiLabelMetric(np.shape(logits)[1], top_k)
    metric.update(np.asarray(logits), {"label": np.asarray(labels), **batch})
    return metric.result(metric.state())


@pytest.fixture
def samples():
    """30 videos of 40 classes, up to 30 labels each, the first without; quarters, so that many scores are equal."""
    rng = np.random.default_rng(1)
    logits = (rng.integers(-12, 13, (30, 40)) / 4).astype("float32")
    number = rng.integers(0, 31, 30)
    number[0] = 0
    labels = np.array([rng.permutation(np.arange(40) < n) for n in number]).astype("uint8")
    return logits, labels


def by_hand(logits, labels, top_k, orders=1):
    """All five numbers with plain loops, from pairs in `orders` random orders of what is equal."""
    rng = np.random.default_rng(0)
    hits, perr, losses, pooled = [], [], [], []
    for row, own in zip(logits.astype("float64"), labels, strict=True):
        order = sorted(range(len(row)), key=lambda c, row=row: (-row[c], c))
        n = int(own.sum())
        hits.append(own[order[0]])
        perr.append(sum(own[c] for c in order[:n]) / n if n else 0)
        probability = 1 / (1 + np.exp(-row))
        losses.append(-np.log(np.where(own > 0, probability, 1 - probability)).sum())
        pooled += [(row[c], c, own[c]) for c in order[:top_k]]
    gaps, maps = [], []
    for _ in range(orders):
        mixed = [pooled[i] for i in rng.permutation(len(pooled))]
        mixed.sort(key=lambda pair: -pair[0])
        gaps.append(average_precision([hit for *_, hit in mixed], labels.sum()))
        classes = np.flatnonzero(labels.sum(axis=0))
        maps.append(
            np.mean(
                [
                    average_precision([h for _, c, h in mixed if c == k], labels[:, k].sum())
                    for k in classes
                ]
            )
        )
    return {"avg_hit_at_one": np.mean(hits), "avg_perr": np.mean(perr), "avg_loss": np.mean(losses),
            "gap": np.mean(gaps), "map": np.mean(maps)}  # fmt: skip


def average_precision(hits, positives):
    hits = [int(hit) for hit in hits]
    return sum(sum(hits[:rank]) / rank for rank, hit in enumerate(hits, 1) if hit) / positives


def test_names_of_the_configs():
    assert (
        lookup("metric", "MultiLabelMetric").make
        is lookup("metric", "HitOneMetric").make
        is MultiLabelMetric
    )
    assert {"num_class", "data_size", "batch_size", "log_interval"} == set(
        lookup("metric", "HitOneMetric").ignores
    )


@pytest.mark.parametrize("top_k", [1, 5, 20, 40, None])
def test_against_loops(samples, top_k):
    logits, labels = samples
    logits = (
        logits
        + np.random.default_rng(2).permutation(logits.size).reshape(logits.shape).astype("float32")
        * 1e-5
    )
    assert len(np.unique(logits)) == logits.size
    numbers = score(logits, labels, top_k)
    for name, value in by_hand(logits, labels, top_k or 40).items():
        assert numbers[name] == pytest.approx(value, rel=1e-6 if name == "avg_loss" else 1e-12), (
            name
        )
    assert (numbers["num_samples"], numbers["num_failed"], numbers["num_unlabelled"]) == (30, 0, 0)


def test_equal_scores_count_with_the_mean_of_their_orders(samples):
    numbers, loops = score(*samples, top_k=7), by_hand(*samples, top_k=7, orders=300)
    assert numbers["avg_hit_at_one"] == loops["avg_hit_at_one"]
    assert numbers["avg_perr"] == pytest.approx(loops["avg_perr"], rel=1e-12)
    assert numbers["gap"] == pytest.approx(loops["gap"], rel=0.01)
    assert numbers["map"] == pytest.approx(loops["map"], rel=0.02)


def test_a_mean_of_orders_in_full():
    """Scores 3, 2, 2, 2, 1 of one class with hits among them: all 6 orders of the middle three."""
    hits = [1, 1, 0, 1, 1]
    orders = [
        average_precision([hits[0], *(hits[i] for i in p), hits[4]], 4)
        for p in permutations((1, 2, 3))
    ]
    numbers = score(np.array([[3.0], [2], [2], [2], [1]]), np.array(hits)[:, None])
    assert numbers["map"] == numbers["gap"] == pytest.approx(np.mean(orders), rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 4, 30])
def test_same_bits_on_any_split(samples, ranks, size):
    logits, labels = samples
    logits = logits.copy()
    logits[4] = np.nan
    parts = [MultiLabelMetric(40, 6) for _ in range(ranks)]
    for rank, metric in enumerate(parts):
        own = np.random.default_rng(ranks).permutation(30)[rank::ranks]
        for start in range(0, len(own), size):
            rows = np.resize(
                own[start : start + size], size
            )  # the last batch is filled up with repeats
            metric.update(
                logits[rows],
                {"label": labels[rows], "weight": np.arange(size) < len(own[start : start + size])},
            )
    merged = MultiLabelMetric.merge([metric.state() for metric in parts])
    assert parts[0].result(merged) == score(logits, labels, 6)


def test_blocks_do_not_show(samples, monkeypatch):
    whole = score(*samples)
    monkeypatch.setattr(multilabel, "BLOCK", 100)  # 2 videos at a time
    assert score(*samples) == whole


def test_what_is_kept_is_small(samples):
    metric = MultiLabelMetric(40, 20)
    for _ in range(10):
        metric.update(samples[0], {"label": samples[1]})
    state = metric.state()
    rows = {name: (array.dtype.name, array.shape) for name, array in state.items() if array.ndim}
    assert rows == {
        "positives": ("float64", (40,)), "pairs": ("uint64", (6000,)), "precisions": ("float64", (300,)),
        "losses": ("float32", (300,)),
    }  # fmt: skip
    assert metric.state()["pairs"].tobytes() == state["pairs"].tobytes()
    metric.update(samples[0], {"label": samples[1]})
    assert len(metric.state()["pairs"]) == 6600 and len(state["pairs"]) == 6000


def test_of_equal_scores_the_lower_class_is_kept():
    labels = np.eye(6, dtype="uint8")[[2, 3]]
    numbers = score(np.zeros((2, 6)), labels, top_k=3)  # classes 0, 1, 2 are the best three
    assert numbers["avg_hit_at_one"] == 0
    assert numbers["map"] == 0.375  # class 2 is found, at rank 1 or 2; class 3 is not
    assert score(np.zeros((2, 6)), np.eye(6, dtype="uint8")[[0, 0]], top_k=3)["avg_perr"] == 1
    assert score([[0.0, -0.0]], [[1, 0]])["gap"] == score([[-0.0, 0.0]], [[1, 0]])["gap"] == 0.75


def test_a_video_without_labels_counts_with_nothing_right():
    numbers = score([[3.0, 1], [2, 1]], [[1, 0], [0, 0]])
    assert (numbers["avg_hit_at_one"], numbers["avg_perr"], numbers["gap"]) == (0.5, 0.5, 1.0)
    empty = score([[3.0, 1]], [[0, 0]])
    assert empty["gap"] == 0 and "map" not in empty and empty["num_samples"] == 1


def test_more_labels_than_pairs():
    """PERR looks as far as there are labels, GAP only at the best."""
    numbers = score([[5.0, 4, 3, 2]], [[1, 1, 0, 1]], top_k=1)
    assert numbers["avg_hit_at_one"] == 1
    assert numbers["avg_perr"] == pytest.approx(2 / 3)
    assert numbers["gap"] == numbers["map"] == pytest.approx(1 / 3)


def test_a_label_of_probability_zero_is_not_found():
    numbers = score([[1.0, -np.inf, -np.inf]], [[1, 1, 0]])
    assert numbers["avg_perr"] == 0.5
    assert score([[1.0] + [-np.inf] * 4], [[1, 1, 1, 0, 0]], top_k=2)["avg_perr"] == pytest.approx(
        1 / 3
    )
    assert numbers["avg_loss"] == np.inf
    assert score([[np.inf, -np.inf]], [[1, 0]])["avg_loss"] == 0


@pytest.mark.parametrize("value", [-90.0, -20.0, 0.0, 20.0, 90.0])
def test_the_loss_of_large_logits(value):
    expected = np.logaddexp(0, value) + np.logaddexp(0, -value)  # one class is a label, one is not
    assert score([[value, value]], [[1, 0]])["avg_loss"] == pytest.approx(expected, rel=1e-6)


def test_failed_videos_are_counted_with_nothing_right():
    logits = np.array([[2.0, 1], [np.nan, 1], [np.nan, np.nan]])
    numbers = score(logits, [[1, 0], [0, 1], [0, 1]])
    assert (numbers["avg_hit_at_one"], numbers["avg_perr"], numbers["gap"]) == pytest.approx(
        (1 / 3, 1 / 3, 1 / 3)
    )
    assert numbers["map"] == 0.5  # the labels that were not found are missing in class 1
    assert (numbers["num_samples"], numbers["num_failed"]) == (3, 2)
    assert numbers["avg_loss"] == score([[2.0, 1]], [[1, 0]])["avg_loss"]
    metric = MultiLabelMetric(2)
    metric.update(None, {"label": np.array([[1, 0], [0, 1]]), "weight": np.array([1, 0])})
    assert metric.result(metric.state()) == {
        "avg_hit_at_one": 0.0, "avg_perr": 0.0, "gap": 0.0, "map": 0.0, "num_samples": 1, "num_failed": 1, "num_unlabelled": 0,
    }  # fmt: skip


def test_unlabelled_videos_have_no_numbers():
    counts = {"num_samples": 0, "num_failed": 0, "num_unlabelled": 2}
    assert score(np.zeros((2, 3)), np.full((2, 3), -1)) == counts
    metric = MultiLabelMetric(3)
    metric.update(np.zeros((2, 3)), {})
    assert metric.result(metric.state()) == counts
    assert score([[1.0, 0], [0, 1]], [[1, 0], [-1, -1]])["avg_hit_at_one"] == 1


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (np.zeros((2, 3)), [0, 1], r"labels are \[2\], expected \[N, 3 classes\] of 0 and 1"),
        (np.zeros((2, 3)), np.zeros((2, 4)), r"labels are \[2, 4\], expected \[N, 3 classes\]"),
        (np.zeros((1, 3)), np.zeros((2, 3)), r"scores are \[1, 3\], but labels \[2, 3\]"),
        (np.zeros((1, 3)), [[0, 0.5, 1]], "the label of class 1 is 0.5; expected 0 or 1"),
        (np.zeros((1, 3)), [[0, 0, -1]], "the label of class 2 is -1; expected 0 or 1"),
        (None, [[2, 0, 0]], "the label of class 0 is 2"),
    ],
)
def test_refuses(logits, labels, said):
    with pytest.raises(ValueError, match=said):
        MultiLabelMetric(3).update(logits, {"label": np.asarray(labels)})


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"num_classes": 3, "top_k": 0}])
def test_refuses_arguments(arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        MultiLabelMetric(**arguments)


def test_reset(samples):
    metric = MultiLabelMetric(40)
    metric.update(samples[0], {"label": samples[1]})
    metric.reset()
    assert not any(array.any() for array in metric.state().values())


def test_single_label_states_merge_too():
    parts = [RecognitionMetric(3) for _ in range(2)]
    for metric, label in zip(parts, (0, 2), strict=True):
        metric.update(np.eye(3)[:1], {"label": np.array([label])})
    assert parts[0].result(RecognitionMetric.merge([m.state() for m in parts]))["top1"] == 0.5
