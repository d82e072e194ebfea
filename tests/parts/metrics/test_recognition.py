"""Recognition metrics: exact counts for any division of the samples into batches and ranks."""

import tracemalloc

import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.metrics.recognition import RecognitionMetric


def make(num_classes, **arguments):
    return lookup("metric", "CenterCropMetric").make(num_classes=num_classes, **arguments)


@pytest.fixture
def samples():
    """Scores [7, 8] with many ties, and labels [7]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (7, 8)).astype("float32"), rng.integers(0, 8, 7)


def accuracy_by_sorting(scores, labels, k):
    order = [sorted(range(len(row)), key=lambda c, row=row: (-row[c], c)) for row in scores]
    return np.mean([label in o[:k] for o, label in zip(order, labels, strict=True)])


def test_names_and_ignored_keys_of_paddlevideo_s_configs():
    common = {"data_size", "batch_size", "log_interval"}
    for name in ("CenterCropMetric", "TenCropMetric", "MultiCropMetric"):
        assert lookup("metric", name).make is RecognitionMetric
    assert set(lookup("metric", "CenterCropMetric").ignores) == common
    assert set(lookup("metric", "TenCropMetric").ignores) == common
    more = {"num_ensemble_views", "num_spatial_crops", "num_cls"}
    assert set(lookup("metric", "MultiCropMetric").ignores) == common | more


def test_accuracies_agree_with_sorting(samples):
    metric = make(8)
    metric.update(samples[0], {"label": samples[1]})
    numbers = metric.result(metric.state())
    assert numbers["top1"] == accuracy_by_sorting(*samples, 1)
    assert numbers["top5"] == accuracy_by_sorting(*samples, 5)
    assert numbers["num_samples"] == 7


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_same_numbers_for_any_division(samples, ranks, size):
    scores, labels = samples
    single = make(8)
    single.update(scores, {"label": labels})
    metrics = [make(8) for _ in range(ranks)]
    for rank, metric in enumerate(metrics):
        own = np.arange(rank, 7, ranks)
        for start in range(0, len(own), size):
            batch = own[start : start + size]
            rows = np.resize(batch, size)  # repeats pad the last batch
            weight = np.arange(size) < len(batch)
            metric.update(scores[rows], {"label": labels[rows], "weight": weight})
    states = [metric.state() for metric in metrics]
    merged = RecognitionMetric.merge(states)
    assert all(array.dtype == np.float64 for array in merged.values())
    assert metrics[0].result(merged) == single.result(single.state())


def test_mean_over_the_classes_that_occur():
    metric = make(4)
    metric.update(np.eye(4)[[0, 0, 1, 2]], {"label": np.array([0, 0, 0, 2])})
    numbers = metric.result(metric.state())
    assert numbers["top1"] == 0.75
    assert numbers["mean_class_accuracy"] == (2 / 3 + 1) / 2
    assert metric.state()["samples"].tolist() == [3, 0, 1, 0]
    assert metric.state()["confusion"].tolist() == [[0, 0, 2], [0, 1, 1], [2, 2, 1]]


@pytest.mark.parametrize("num_classes", [1, 12_000, 100_000])
def test_memory_is_linear_in_the_classes(num_classes):
    labels = np.array([0, num_classes - 1, num_classes // 2])
    wrong = (labels + 1) % num_classes
    metrics = [make(num_classes), make(num_classes)]
    tracemalloc.start()
    for metric, predicted in zip(metrics, (labels, wrong), strict=True):
        for label, best in zip(labels, predicted, strict=True):
            scores = np.zeros((1, num_classes), np.float32)
            scores[0, best] = 1
            metric.update(scores, {"label": label[None]})
    merged = RecognitionMetric.merge([metric.state() for metric in metrics])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20 if num_classes == 1 else most < 200 * num_classes
    rows = merged["confusion"].tolist()
    assert rows == sorted(rows) and sum(count for *_, count in rows) == 6
    accuracy = 1.0 if num_classes == 1 else 0.5
    assert metrics[0].result(merged)["mean_class_accuracy"] == accuracy
    assert metrics[0].by_class(merged)["confusion"] == rows


def test_numbers_by_class():
    metric = make(3)
    metric.update(np.eye(3)[[0, 1, 2]], {"label": np.array([0, 0, 2])})
    metric.update(None, {"label": np.array([2])})
    assert metric.by_class(metric.state()) == {
        "samples": [2, 0, 2],
        "confusion": [[0, 0, 1], [0, 1, 1], [2, 2, 1]],
    }


@pytest.mark.parametrize(
    ("num_classes", "keys"), [(1, {"top1"}), (2, {"top1", "top2"}), (5, {"top1", "top5"})]
)
def test_limits_k_to_the_number_of_classes(num_classes, keys):
    metric = make(num_classes)
    metric.update(np.zeros((1, num_classes)), {"label": np.array([num_classes - 1])})
    numbers = metric.result(metric.state())
    assert {key for key in numbers if key.startswith("top")} == keys
    assert numbers[f"top{min(5, num_classes)}"] == 1


def test_other_values_of_k():
    assert make(10, topk=[3]).topk == [3]


def test_counts_failed_samples_as_wrong():
    metric = make(2)
    metric.update(np.array([[1.0, 0.0], [np.nan, np.nan]]), {"label": np.array([0, 0])})
    metric.update(None, {"label": np.array([1, 1])})
    numbers = metric.result(metric.state())
    assert (numbers["top1"], numbers["top2"], numbers["mean_class_accuracy"]) == (0.25, 0.25, 0.25)
    assert (numbers["num_samples"], numbers["num_failed"]) == (4, 3)


def test_does_not_count_failed_padding():
    metric = make(2)
    metric.update(None, {"label": np.array([1, 1]), "weight": np.array([1, 0])})
    assert metric.result(metric.state())["num_failed"] == 1


def test_unlabeled_samples_have_no_accuracy():
    metric = make(3)
    metric.update(np.zeros((2, 3)), {"label": np.array([-1, -1])})
    assert metric.result(metric.state()) == {"num_samples": 0, "num_failed": 0, "num_unlabelled": 2}
    metric.update(np.eye(3)[:1], {"label": np.array([0])})
    assert metric.result(metric.state())["top1"] == 1


@pytest.mark.parametrize("label", [3, -2])
def test_rejects_labels_out_of_range(label):
    with pytest.raises(ValueError, match=rf"label {label} is not one of 3 classes \(0 to 2\)"):
        make(3).update(np.zeros((1, 3)), {"label": np.array([label])})


def test_rejects_scores_of_another_shape():
    with pytest.raises(ValueError, match=r"scores are \[2, 4\], expected \[2 labels, 3 classes\]"):
        make(3).update(np.zeros((2, 4)), {"label": np.array([0, 1])})


@pytest.mark.parametrize(
    "arguments",
    [{"num_classes": 0}, {"num_classes": 3, "topk": []}, {"num_classes": 3, "topk": [0]}],
)
def test_rejects_arguments_below_1(arguments):
    with pytest.raises(ValueError, match="all of them must be at least 1"):
        RecognitionMetric(**arguments)


def test_reset():
    metric = make(2)
    metric.update(None, {"label": np.array([1])})
    metric.reset()
    assert not any(array.any() for array in metric.state().values())
