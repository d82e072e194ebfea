"""Windows become segments: neighboring windows of one class are one segment.

    for segment in merge(model.windows(source), labels, min_score=0.3, min_duration=1.0):
        print(segment.start, segment.end, segment.label_names[0])

Hysteresis keeps segments from breaking up. A class begins a segment where its score reaches
`min_score`, and keeps it down to half of that, as long as no other class reaches `min_score`. An
interruption shorter than `min_duration` does not end a segment, and what lasts shorter than that is
no segment.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddlevideo.metrics.scores import best_classes
from paddlevideo.timelines.windows import Window

MIN_SCORE = 0.3  # by default
KEEP = 0.5  # times min_score: down to which a class keeps its segment
DIGITS = 3  # of times in files (ms)
ROUNDING = 1e-6  # s: times are sums of rounded numbers


@dataclass(frozen=True)
class Segment:
    """A part of a file or stream, and its classes, best first; or why it has none.

    Args:
        start, end: of the part (s).
        class_ids: ids of the best classes; the first is the one that makes the segment.
        scores: their mean probabilities over the windows of the segment.
        label_names: their names; ids as text where the model has no names.
        error: why the part could not be classified; None if it was.
    """

    start: float
    end: float
    class_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        """Plain data: start and end (s, rounded to ms), and either class_ids, scores and
        label_names, or error."""
        span: dict[str, Any] = {"start": round(self.start, DIGITS), "end": round(self.end, DIGITS)}
        if self.error is not None:
            return {**span, "error": self.error}
        names = {"class_ids": self.class_ids, "scores": self.scores}
        return {**span, **names, "label_names": self.label_names}

    @classmethod
    def of(
        cls,
        start: float,
        end: float,
        scores: np.ndarray,
        class_ids: Sequence[int],
        labels: Sequence[str] | None,
    ) -> "Segment":
        """The segment of some classes.

        Args:
            scores: probabilities of all classes, float [num_classes].
            labels: name of each class; None if only ids are known.
        """
        ids = [int(i) for i in class_ids]
        names = [labels[i] if labels else str(i) for i in ids]
        return cls(start, end, ids, [float(scores[i]) for i in ids], names)


def window_segment(window: Window, labels: Sequence[str] | None, topk: int) -> Segment:
    """A window as it is, with its best classes."""
    if window.scores is None:
        return Segment(window.start, window.end, error=window.error)
    best = best_classes(window.scores, topk)
    return Segment.of(window.start, window.end, window.scores, best.tolist(), labels)


@dataclass
class _Track:
    """A segment that may go on.

    Args:
        total: sum of the windows' scores, float64 [num_classes].
    """

    start: float
    end: float
    total: np.ndarray | None = None
    count: int = 0

    def add(self, window: Window) -> None:
        self.end = window.end
        if window.scores is not None:
            scores = window.scores.astype(np.float64)
            self.total = scores if self.total is None else self.total + scores
            self.count += 1


def merge(
    windows: Iterable[Window],
    labels: Sequence[str] | None,
    min_score: float = MIN_SCORE,
    min_duration: float = 0.0,
    topk: int = 1,
    multi_label: bool = False,
) -> Iterator[Segment]:
    """The segments of windows, each as soon as it is closed; see the module docstring.

    Where overlapping windows have different classes, the border is in the middle of the overlap.
    With one class per window, segments do not overlap. A window with an error ends all segments,
    and is one itself.

    Args:
        labels: name of each class; None if only ids are known.
        min_score: probability from which a class begins a segment, 0 to 1.
        min_duration: of a segment, and of an interruption that ends one (s).
        topk: classes of a segment; for multi-label models, the classes of a window that may have
            segments, each of its own.
        multi_label: whether a window may have several classes.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score is {min_score}, expected a probability from 0 to 1")
    if not min_duration >= 0 or min_duration == np.inf:
        raise ValueError(f"min_duration is {min_duration}, expected seconds, at least 0")
    if topk < 1:
        raise ValueError(f"topk is {topk}, expected at least 1")
    merging = _Merging(labels, min_score, min_duration, topk, multi_label)
    return merging.run(windows)


class _Merging:
    """The state of `merge`. A key of a track is a class, or the reason of an error."""

    def __init__(
        self,
        labels: Sequence[str] | None,
        min_score: float,
        min_duration: float,
        topk: int,
        multi_label: bool,
    ):
        self._labels, self._min_score, self._min_duration = labels, min_score, min_duration
        self._topk, self._multi_label = topk, multi_label
        self._tracks: dict[int | str, _Track] = {}
        self._active: set[int | str] = set()  # keys of the window before
        self._last_end: float | None = None

    def run(self, windows: Iterable[Window]) -> Iterator[Segment]:
        for window in windows:
            yield from self._add(window)
        yield from self._close(np.inf)

    def _add(self, window: Window) -> list[Segment]:
        """Add a window, and return the segments that it closes."""
        last = window.start if self._last_end is None else self._last_end
        border = (last + window.start) / 2 if last > window.start else window.start
        if window.scores is None:
            keys: set[int | str] = {window.error or "no scores"}
        else:
            keys = self._classes(window.scores)
        for key in self._active - keys:
            track = self._tracks[key]
            track.end = min(track.end, border)
        closed = []
        if any(isinstance(key, str) for key in keys ^ self._active):
            closed = self._close(np.inf)  # nothing goes on over an error
        closed += self._close(border, self._active & keys)
        for key in keys:
            self._tracks.setdefault(key, _Track(border, window.end)).add(window)
        self._active, self._last_end = keys, window.end
        return closed

    def _classes(self, scores: np.ndarray) -> set[int | str]:
        """The classes that a window has."""
        keep = KEEP * self._min_score
        if self._multi_label:
            best = best_classes(scores, self._topk).tolist()
            begin = {i for i in best if scores[i] >= self._min_score}
            kept = {i for i in self._active if isinstance(i, int) and scores[i] >= keep}
            return begin | kept
        best = int(best_classes(scores, 1)[0])
        if scores[best] >= self._min_score:
            return {best}
        return {i for i in self._active if isinstance(i, int) and scores[i] >= keep}

    def _close(self, now: float, going_on: Iterable[int | str] = ()) -> list[Segment]:
        """Close the tracks whose interruption has lasted until now, in the order of their start."""
        segments = []
        for key, track in list(self._tracks.items()):
            lasted = now - track.end
            # Without a smallest duration any interruption ends a segment; none has lasted yet where
            # the class is in the window that follows.
            if key in going_on or lasted < self._min_duration - ROUNDING:
                continue
            del self._tracks[key]
            if isinstance(key, str):
                segments.append(Segment(track.start, track.end, error=key))
            elif track.end - track.start >= self._min_duration - ROUNDING:
                segments.append(self._segment(key, track))
        return sorted(segments, key=lambda segment: segment.start)

    def _segment(self, key: int, track: _Track) -> Segment:
        scores = track.total / track.count if track.total is not None else np.zeros(0)
        ids = [key]
        if not self._multi_label:
            others = [i for i in best_classes(scores, self._topk).tolist() if i != key]
            ids += others[: self._topk - 1]
        return Segment.of(track.start, track.end, scores, ids, self._labels)
