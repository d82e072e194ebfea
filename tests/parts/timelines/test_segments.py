"""Windows become segments: borders, hysteresis, durations, errors, several classes."""

import numpy as np
import pytest

from paddlevideo.timelines.segments import Segment, merge, window_segment
from paddlevideo.timelines.windows import Window

LABELS = ["walk", "run", "rest"]


def windows(*rows, stride: float = 1.0, length: float = 2.0) -> list[Window]:
    """A window per row: its scores, or the text of its error."""
    made = []
    for number, row in enumerate(rows):
        start, end = number * stride, number * stride + length
        if isinstance(row, str):
            made.append(Window(start, end, error=row))
        else:
            made.append(Window(start, end, np.array(row, np.float32)))
    return made


def brief(segments) -> list[tuple]:
    return [
        (s.start, s.end, s.error if s.error is not None else s.label_names[0]) for s in segments
    ]


A, B, C = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]
LOW = [0.34, 0.33, 0.33]


def test_neighbors_of_one_class_are_one_segment():
    segments = list(merge(windows(A, A, B, B, B, A), LABELS, 0.5))
    assert brief(segments) == [(0, 2.5, "walk"), (2.5, 5.5, "run"), (5.5, 7, "walk")]
    assert segments[1].scores == pytest.approx([0.8]) and segments[1].class_ids == [1]


def test_windows_next_to_each_other_and_apart():
    side = windows(A, B, B, stride=2.0)
    assert brief(merge(side, LABELS, 0.5)) == [(0, 2, "walk"), (2, 6, "run")]
    apart = windows(A, B, B, stride=3.0)
    assert brief(merge(apart, LABELS, 0.5)) == [(0, 2, "walk"), (3, 8, "run")]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([A, [0.3, 0.4, 0.3], A], [(0, 4, "walk")]),  # above half of min_score
        ([A, [0.2, 0.4, 0.4], A], [(0, 1.5, "walk"), (2.5, 4, "walk")]),  # below it
        ([[0.4, 0.3, 0.3], A], [(1.5, 3, "walk")]),  # does not begin below min_score
        ([A, [0.45, 0.52, 0.03], A], [(0, 1.5, "walk"), (1.5, 2.5, "run"), (2.5, 4, "walk")]),
    ],
)
def test_a_class_keeps_its_segment_down_to_half_of_min_score(rows, expected):
    assert brief(merge(windows(*rows), LABELS, 0.5)) == expected


@pytest.mark.parametrize(
    ("rows", "duration", "expected"),
    [
        ([A, A, B, A, A], 1.5, [(0, 6, "walk")]),  # a short interruption
        ([A, A, B, B, A, A], 1.5, [(0, 2.5, "walk"), (2.5, 4.5, "run"), (4.5, 7, "walk")]),
        ([B, A, A, A], 1.6, [(1.5, 5, "walk")]),  # a short segment
        ([A, B], 9.0, []),
        ([A, "bad", A, A], 1.2, [(0, 1.5, "walk"), (1.5, 2.5, "bad"), (2.5, 5, "walk")]),
    ],
)
def test_min_duration_bridges_interruptions_and_drops_short_segments(rows, duration, expected):
    assert brief(merge(windows(*rows), LABELS, 0.5, duration)) == expected


def test_without_min_score_every_window_is_in_a_segment():
    segments = brief(merge(windows(LOW, LOW, C, LOW), LABELS, 0.0))
    assert segments == [(0, 2.5, "walk"), (2.5, 3.5, "rest"), (3.5, 5, "walk")]


def test_each_segment_comes_as_soon_as_it_is_closed():
    seen = []

    def source():
        for window in windows(A, A, B, B, "bad", C):
            seen.append(window.start)
            yield window

    segments = merge(source(), LABELS, 0.5)
    assert next(segments).label_names == ["walk"] and seen[-1] == 2
    assert next(segments).label_names == ["run"] and seen[-1] == 4
    assert next(segments).error == "bad" and seen[-1] == 5
    assert next(segments).label_names == ["rest"]
    assert next(segments, None) is None


def test_errors_of_one_reason_are_one_segment():
    rows = ["no audio", "no audio", "damaged", A]
    expected = [(0, 2.5, "no audio"), (2.5, 3.5, "damaged"), (3.5, 5, "walk")]
    assert brief(merge(windows(*rows), LABELS, 0.5)) == expected


def test_topk_adds_the_next_classes_by_their_mean():
    (segment,) = merge(windows([0.6, 0.3, 0.1], [0.6, 0.1, 0.3], A), LABELS, 0.5, topk=2)
    assert segment.class_ids == [0, 1] and segment.label_names == ["walk", "run"]
    assert segment.scores == pytest.approx([2 / 3, 0.5 / 3])
    (segment,) = merge(windows(A), None, 0.5, topk=9)
    assert segment.label_names == ["0", "1", "2"]


def test_segments_of_several_classes_overlap():
    rows = [[0.9, 0.9, 0.0], [0.9, 0.3, 0.0], [0.9, 0.1, 0.9], [0.1, 0.1, 0.9]]
    segments = list(merge(windows(*rows), LABELS, 0.5, topk=3, multi_label=True))
    assert brief(segments) == [(0, 2.5, "run"), (0, 3.5, "walk"), (2.5, 5, "rest")]
    assert all(len(segment.class_ids) == 1 for segment in segments)
    one = list(merge(windows(*rows), LABELS, 0.5, topk=1, multi_label=True))
    assert "run" not in {segment.label_names[0] for segment in one}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": -0.1}, "min_score is -0.1, expected a probability from 0 to 1"),
        ({"min_score": 1.5}, "min_score is 1.5"),
        ({"min_score": float("nan")}, "min_score is nan"),
        ({"min_duration": -1}, "min_duration is -1, expected seconds, at least 0"),
        ({"min_duration": float("inf")}, "min_duration is inf"),
        ({"topk": 0}, "topk is 0, expected at least 1"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        merge([], LABELS, **options)


def test_plain_data():
    segment = Segment(1.23456, 2.0, [1], [0.5], ["run"])
    assert segment.json == {
        "start": 1.235, "end": 2.0, "class_ids": [1], "scores": [0.5], "label_names": ["run"],
    }  # fmt: skip
    assert Segment(1, 2, error="bad").json == {"start": 1, "end": 2, "error": "bad"}
    raw = window_segment(windows(B)[0], LABELS, 2)
    assert raw.class_ids == [1, 0] and raw.scores == pytest.approx([0.8, 0.1])
    assert window_segment(windows("bad")[0], LABELS, 2).error == "bad"
