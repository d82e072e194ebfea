"""Hit@1, PERR, GAP and mAP against the numbers of google/youtube-8m's own code."""

import json

import numpy as np
import pytest

from paddlevideo.metrics.multi_label import MultiLabelMetric

CASES = (
    "small_c5",
    "c30_one_batch",
    "class_without_positives",
    "sample_without_labels",
    "top_k_5",
    "ties",
)
# Name in this package -> in YouTube-8M's code.
NAMES = {"avg_hit_at_one": "hit_at_one", "avg_perr": "perr", "gap": "gap", "map": "map"}


@pytest.fixture(scope="module")
def golden(goldens):
    return json.loads((goldens / "nextvlad" / "metrics_golden.json").read_text())


def score(case, sizes, dtype="uint8"):
    """The numbers of a case whose videos come in batches of these sizes.

    The case has probabilities; the metric takes logits.
    """
    predictions, labels = np.array(case["predictions"]), np.array(case["labels"], dtype)
    with np.errstate(divide="ignore"):  # a probability of 0
        logits = np.log(predictions / (1 - predictions))
    metric, start = MultiLabelMetric(case["num_classes"], case["top_k"]), 0
    for size in sizes:
        metric.update(logits[start : start + size], {"label": labels[start : start + size]})
        start += size
    assert start == case["num_videos"]
    return metric.result(metric.state())


def test_covers_every_case(golden):
    assert set(golden["cases"]) == set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name != "ties"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_numbers(golden, name, dtype):
    case = golden["cases"][name]
    numbers = score(case, case["batches"], dtype)
    for key, reference_key in NAMES.items():
        expected = case["google"][reference_key]
        assert numbers[key] == pytest.approx(expected, abs=golden["tolerance"], rel=0), key


@pytest.mark.parametrize("name", ["sample_without_labels", "top_k_5"])
def test_numbers_of_each_batch(golden, name):
    case, start = golden["cases"][name], 0
    for size, expected in zip(case["batches"], case["google"]["per_batch"], strict=True):
        rows = slice(start, start + size)
        batch = {
            **case,
            "top_k": 20,  # YouTube-8M's code always takes 20 for a single batch
            "num_videos": size,
            "predictions": case["predictions"][rows],
            "labels": case["labels"][rows],
        }
        numbers = score(batch, [size])
        for key, reference_key in NAMES.items():
            if key != "map":
                assert numbers[key] == pytest.approx(expected[reference_key], abs=1e-9)
        start += size


@pytest.mark.parametrize("name", CASES)
def test_batches_do_not_change_the_bits(golden, name):
    case = golden["cases"][name]
    assert score(case, [1] * case["num_videos"]) == score(case, case["batches"])


def test_ties_lie_within_the_bounds_of_their_orders(golden):
    """YouTube-8M's code has one order of ties; the metric's mean over all orders lies between."""
    case = golden["cases"]["ties"]
    numbers = score(case, case["batches"])
    low, high = case["gap_bounds_over_tie_orders"]
    assert low < numbers["gap"] < high
    assert numbers["avg_hit_at_one"] == pytest.approx(case["google"]["hit_at_one"], abs=0.1)
