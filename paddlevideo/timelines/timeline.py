"""The timeline of a file.

timeline = Timeline(Predictor("inference/ppTSN"), window=2.0, stride=1.0)
for segment in timeline.segments("long.mp4"):       # as soon as it is closed
    print(segment.start, segment.end, segment.label_names[0])
"""

from collections.abc import Iterable, Iterator
from os import PathLike

from paddlevideo.predict.predictor import Predictor
from paddlevideo.timelines.files import FileSource, video_frames
from paddlevideo.timelines.segments import MIN_SCORE, Segment, merge, window_segment
from paddlevideo.timelines.windows import TimelineModel, Window


class Timeline:
    """Finds the segments of long files.

    Args:
        predictor: an exported or built model of frames, audio, or both.
        window: length of a window (s).
        stride: from the start of a window to that of the next one (s); half of `window` by default.
        min_score: probability from which a class begins a segment; see `segments.merge`.
        min_duration: of a segment, and of an interruption that ends one (s).
        topk: classes of a segment; None for INFERENCE.top_k of the exported config.
        raw_windows: each window is a segment as it is.

    Attributes:
        model: scores the windows.
        topk: classes of a segment.

    Raises:
        ValueError: an argument is out of range, or the model takes frame features.
    """

    def __init__(
        self,
        predictor: Predictor,
        window: float = 2.0,
        stride: float | None = None,
        min_score: float = MIN_SCORE,
        min_duration: float = 0.0,
        topk: int | None = None,
        raw_windows: bool = False,
    ):
        self.model = TimelineModel(predictor, window, window / 2 if stride is None else stride)
        self.topk = predictor.top_k if topk is None else topk
        self._min_score, self._min_duration = min_score, min_duration
        self._raw_windows = raw_windows
        self.merged(())  # checks the arguments

    def open(self, path: str | PathLike[str]) -> FileSource:
        """A file as a source with what the model needs.

        Raises:
            DecodeError: it cannot be decoded, or lacks what the model needs.
        """
        needs = self.model.needs
        return video_frames(path, needs.frames, needs.audio, needs.video_stream, needs.audio_stream)

    def windows(self, source: str | PathLike[str] | FileSource) -> Iterator[Window]:
        """The scored windows of a file, in order, with the memory of a few windows.

        Raises:
            DecodeError: the file cannot be decoded at all.
        """
        file = source if isinstance(source, FileSource) else self.open(source)
        return self.model.windows(file, fps=file.fps)

    def segments(self, source: str | PathLike[str] | FileSource) -> Iterator[Segment]:
        """The segments of a file, each as soon as it is closed; see `windows`."""
        return self.merged(self.windows(source))

    def merged(self, windows: Iterable[Window]) -> Iterator[Segment]:
        """The segments of windows."""
        labels, multi_label = self.model.labels, self.model.multi_label
        segments = merge(
            windows, labels, self._min_score, self._min_duration, self.topk, multi_label
        )
        if self._raw_windows:
            return (window_segment(window, labels, self.topk) for window in windows)
        return segments
