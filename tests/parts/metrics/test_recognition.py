"""Recognition metrics: exact counts, however the samples are split over batches and ranks."""

import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.metrics.recognition import RecognitionMetric, label_ranks


def make(num_classes, **arguments):
    return lookup("metric", "CenterCropMetric").make(num_classes=num_classes, **arguments)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (7, 8)).astype("float32"), rng.integers(
        0, 8, 7
    )  # small integers: many ties


def by_hand(scores, labels, k):
    order = [sorted(range(len(row)), key=lambda c, row=row: (-row[c], c)) for row in scores]
    return np.mean([label in o[:k] for o, label in zip(order, labels, strict=True)])


def test_names_of_the_configs():
    assert (
        lookup("metric", "TenCropMetric").make
        is lookup("metric", "CenterCropMetric").make
        is RecognitionMetric
    )
    assert set(lookup("metric", "TenCropMetric").ignores) == {
        "data_size",
        "batch_size",
        "log_interval",
    }
    assert lookup("metric", "MultiCropMetric").make is RecognitionMetric
    assert {"num_ensemble_views", "num_spatial_crops", "num_cls"} < set(
        lookup("metric", "MultiCropMetric").ignores
    )


def test_ranks_order_ties_by_class_id():
    assert label_ranks(np.array([[1.0, 3, 3, 2]] * 4), np.arange(4)).tolist() == [3, 0, 1, 2]


def test_against_sorting(samples):
    metric = make(8)
    metric.update(samples[0], {"label": samples[1]})
    numbers = metric.result(metric.state())
    assert numbers["top1"] == by_hand(*samples, 1)
    assert numbers["top5"] == by_hand(*samples, 5)
    assert numbers["num_samples"] == 7


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_same_numbers_on_any_split(samples, ranks, size):
    scores, labels = samples
    whole = make(8)
    whole.update(scores, {"label": labels})
    parts = [make(8) for _ in range(ranks)]
    for rank, metric in enumerate(parts):
        own = np.arange(rank, 7, ranks)
        for start in range(0, len(own), size):
            rows = np.resize(
                own[start : start + size], size
            )  # the last batch is filled up with repeats
            weight = np.arange(size) < len(own[start : start + size])
            metric.update(scores[rows], {"label": labels[rows], "weight": weight})
    states = [metric.state() for metric in parts]
    total = {key: sum(state[key] for state in states) for key in states[0]}
    assert all(array.dtype == np.float64 for array in total.values())
    assert parts[0].result(total) == whole.result(whole.state())


def test_mean_over_the_classes_that_occur():
    metric = make(4)
    metric.update(np.eye(4)[[0, 0, 1, 2]], {"label": np.array([0, 0, 0, 2])})
    numbers = metric.result(metric.state())
    assert numbers["top1"] == 0.75
    assert numbers["mean_class_accuracy"] == (2 / 3 + 1) / 2
    assert metric.state()["samples"].tolist() == [3, 0, 1, 0]
    assert metric.state()["confusion"][0].tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("num_classes", "keys"), [(1, {"top1"}), (2, {"top1", "top2"}), (5, {"top1", "top5"})]
)
def test_k_stops_at_the_number_of_classes(num_classes, keys):
    metric = make(num_classes)
    metric.update(np.zeros((1, num_classes)), {"label": np.array([num_classes - 1])})
    numbers = metric.result(metric.state())
    assert {key for key in numbers if key.startswith("top")} == keys
    assert numbers[f"top{min(5, num_classes)}"] == 1


def test_other_k():
    assert make(10, topk=[3]).topk == [3]


def test_failed_samples_are_counted_as_wrong():
    metric = make(2)
    metric.update(np.array([[1.0, 0.0], [np.nan, np.nan]]), {"label": np.array([0, 0])})
    metric.update(None, {"label": np.array([1, 1])})
    numbers = metric.result(metric.state())
    assert (numbers["top1"], numbers["top2"], numbers["mean_class_accuracy"]) == (0.25, 0.25, 0.25)
    assert (numbers["num_samples"], numbers["num_failed"]) == (4, 3)


def test_failed_padding_does_not_count():
    metric = make(2)
    metric.update(None, {"label": np.array([1, 1]), "weight": np.array([1, 0])})
    assert metric.result(metric.state())["num_failed"] == 1


def test_unlabelled_samples_have_no_accuracy():
    metric = make(3)
    metric.update(np.zeros((2, 3)), {"label": np.array([-1, -1])})
    assert metric.result(metric.state()) == {"num_samples": 0, "num_failed": 0, "num_unlabelled": 2}
    metric.update(np.eye(3)[:1], {"label": np.array([0])})
    assert metric.result(metric.state())["top1"] == 1


@pytest.mark.parametrize("label", [3, -2])
def test_labels_out_of_range(label):
    with pytest.raises(ValueError, match=rf"label {label} is not one of 3 classes \(0 to 2\)"):
        make(3).update(np.zeros((1, 3)), {"label": np.array([label])})


def test_scores_of_another_shape():
    with pytest.raises(ValueError, match=r"scores are \[2, 4\], expected \[2 labels, 3 classes\]"):
        make(3).update(np.zeros((2, 4)), {"label": np.array([0, 1])})


@pytest.mark.parametrize(
    "arguments",
    [{"num_classes": 0}, {"num_classes": 3, "topk": []}, {"num_classes": 3, "topk": [0]}],
)
def test_refuses(arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        RecognitionMetric(**arguments)


def test_reset():
    metric = make(2)
    metric.update(None, {"label": np.array([1])})
    metric.reset()
    assert not any(array.any() for array in metric.state().values())
