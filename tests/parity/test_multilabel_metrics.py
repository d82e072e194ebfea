"""Hit@1, PERR, GAP and MAP against the numbers of google/youtube-8m's own code."""

import json

import numpy as np
import pytest

from paddlevideo.metrics.multilabel import MultiLabelMetric

CASES = (
    "small_c5",
    "c30_one_batch",
    "class_without_positives",
    "sample_without_labels",
    "top_k_5",
    "ties",
)


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "parity" / "nextvlad" / "metrics_golden.json").read_text())


def score(case, sizes, dtype="uint8"):
    """The numbers of a case, its videos in batches of these sizes; probabilities turned into the logits they come from."""
    predictions, labels = np.array(case["predictions"]), np.array(case["labels"], dtype)
    with np.errstate(divide="ignore"):  # a probability of 0
        logits = np.log(predictions / (1 - predictions))
    metric, start = MultiLabelMetric(case["num_classes"], case["top_k"]), 0
    for size in sizes:
        metric.update(logits[start : start + size], {"label": labels[start : start + size]})
        start += size
    assert start == case["num_videos"]
    return metric.result(metric.state())


def test_every_case_is_tried(golden):
    assert set(golden["cases"]) == set(CASES)


@pytest.mark.parametrize("name", CASES[:-1])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_numbers(golden, name, dtype):
    case = golden["cases"][name]
    numbers = score(case, case["batches"], dtype)
    for ours, theirs in (
        ("avg_hit_at_one", "hit_at_one"),
        ("avg_perr", "perr"),
        ("gap", "gap"),
        ("map", "map"),
    ):
        assert numbers[ours] == pytest.approx(
            case["google"][theirs], abs=golden["tolerance"], rel=0
        ), ours


@pytest.mark.parametrize("name", ["sample_without_labels", "top_k_5"])
def test_numbers_of_each_batch(golden, name):
    case, start = (
        golden["cases"][name] | {"top_k": 20},
        0,
    )  # for a single batch the reference always takes 20
    for size, expected in zip(case["batches"], case["google"]["per_batch"], strict=True):
        part = {
            **case,
            "num_videos": size,
            **{key: case[key][start : start + size] for key in ("predictions", "labels")},
        }
        numbers = score(part, [size])
        assert numbers["avg_hit_at_one"] == pytest.approx(expected["hit_at_one"], abs=1e-9)
        assert numbers["avg_perr"] == pytest.approx(expected["perr"], abs=1e-9)
        assert numbers["gap"] == pytest.approx(expected["gap"], abs=1e-9)
        start += size


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_in_single_videos(golden, name):
    case = golden["cases"][name]
    assert score(case, [1] * case["num_videos"]) == score(case, case["batches"])


def test_ties_lie_within_what_their_orders_give(golden):
    """The order of equal scores is the implementation's own; some order gives less than our mean over all, some more."""
    case = golden["cases"]["ties"]
    numbers = score(case, case["batches"])
    low, high = case["gap_bounds_over_tie_orders"]
    assert low < numbers["gap"] < high
    assert numbers["avg_hit_at_one"] == pytest.approx(case["google"]["hit_at_one"], abs=0.1)
