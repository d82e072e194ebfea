"""The windows of a file or stream, scored by a model.

    model = TimelineModel(predictor, window=2.0, stride=1.0)
    for window in model.windows(source):         # as soon as its last frame has come
        print(window.start, window.end, window.scores)

`TimelineModel.windows(source, live=False, fps=None)` takes any iterable of `Frame`, `Audio` and
`Gap`. For a live source, each window is scored at once; for a file, several windows are scored in
one run of the network while the next ones are decoded.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from paddlevideo.data.pipeline import StageError, StreamNeeds
from paddlevideo.log import logger
from paddlevideo.predict.ahead import one_ahead
from paddlevideo.predict.predictor import Predictor
from paddlevideo.sample import DecodeError, Record, Sample
from paddlevideo.timelines.cutting import Cutter, Part
from paddlevideo.timelines.frames import Item
from paddlevideo.timelines.sharing import Grid, SharedFrames, fitting_grid

MAX_BATCH = 64  # windows whose scores come together
# Part of a prediction's run. Larger ones are no faster on a CPU, and take most of the memory.
RUN_SHARE = 4
SHORTEST = 1e-3  # s, of a window or a stride


@dataclass(frozen=True)
class Window:
    """The scores of a part of a file or stream.

    Args:
        start, end: of the part (s).
        scores: probability of each class, float32 [num_classes]; None where there is none.
        error: why there are no scores; None if there are.
    """

    start: float
    end: float
    scores: np.ndarray | None = None
    error: str | None = None


class TimelineModel:
    """A model that scores the windows of long videos and streams.

    A window is preprocessed as `predict` does with a video that has only its frames and audio.
    Threads may share an instance.

    Args:
        predictor: an exported or built model of frames, audio, or both.
        window: length of a window (s).
        stride: from the start of a window to that of the next one (s); below `window`, they
            overlap, and above, there are parts between them that no window has.
        exact_stride: begin windows exactly where `stride` says. Otherwise, for a model of single
            frames and overlapping windows of a file, starts and length are rounded so that windows
            sample the same frames, which go through the network once; see sharing.py.

    Attributes:
        needs: which of frames and audio it uses, and from which streams of a file.
        labels: name of each class; None if only ids are known.
        multi_label: whether a window may have several classes.
        top_k: default number of classes of a result.

    Raises:
        ValueError: window or stride is not positive, or the model takes frame features.
    """

    def __init__(
        self,
        predictor: Predictor,
        window: float = 2.0,
        stride: float = 1.0,
        exact_stride: bool = False,
    ):
        for name, value in (("window", window), ("stride", stride)):
            if not (SHORTEST <= value < math.inf):
                raise ValueError(f"{name} is {value} s, expected seconds, at least {SHORTEST:g}")
        self.predictor, self.window, self.stride = predictor, float(window), float(stride)
        self._pipeline = predictor.feed.pipeline
        self.needs: StreamNeeds = self._pipeline.stream_needs()
        self._shares = stride < window and predictor.frame_logits
        self._exact_stride = exact_stride

    @property
    def labels(self) -> Sequence[str] | None:
        return self.predictor.labels

    @property
    def multi_label(self) -> bool:
        return self.predictor.multi_label

    @property
    def top_k(self) -> int:
        return self.predictor.top_k

    def windows(
        self,
        source: Iterable[Item],
        live: bool = False,
        fps: float | None = None,
        constant_rate: bool = False,
    ) -> Iterator[Window]:
        """Score the windows of a source, with the memory of a few windows.

        Args:
            source: frames, audio and gaps in the order of time; see frames.py. It is read in
                another thread unless `live` is set.
            live: score each window at once.
            fps: frames per second; None to compute it from the times of the frames.
            constant_rate: whether all frames have this distance, as in most files.

        Yields:
            windows and gaps in the order of time, each as soon as it is complete and scored.

        Raises:
            DecodeError: a window holds too many frames for the memory.
            BackendError: the runtime cannot run the model.
        """
        shares = self._shares and not live
        grid = self._grid(fps) if shares and fps and constant_rate else None
        change = self._pipeline.held_frame()
        cutter = Cutter(self.needs, self.window, self.stride, fps, change, grid)
        samples = map(self._sample, cutter.cut(source))
        with ExitStack() as stack:
            scorer = stack.enter_context(self.predictor.scorer())
            score = scorer.probabilities
            if shares:
                model = self.predictor
                shared = SharedFrames(model.feed, model.backend, self._clips_per_run)
                score = partial(score, run=shared.run)
            if live:
                batches = ([pair] for pair in samples)
            else:
                pool = stack.enter_context(ThreadPoolExecutor(1, "windows"))
                # Shared frames are only a part of those of a window, and have to fill a run.
                overlap = self.window / self.stride if shares else 1.0
                batches = one_ahead(self._batches(samples, overlap), pool)
            for batch in batches:
                yield from _scored(batch, score)

    def _grid(self, fps: float) -> Grid | None:
        """The windows in whole frames that share frames, or None for those that were asked for."""
        if self._exact_stride or self._pipeline.sample.random:
            return None
        grid = fitting_grid(self._pipeline.sample, self.window, self.stride, fps)
        if grid:
            logger.info(
                f"windows of {grid.num_frames / fps:.3f} s begin at multiples of "
                f"{grid.step / fps:.3f} s, so that they share frames: {grid.cost:.2f} times the "
                "frames of windows without overlap go through the network"
            )
        return grid

    def _sample(self, part: Part) -> tuple[Part, Sample | str]:
        """A window and its sample, or why there is none."""
        if part.clip is None:
            return part, part.error or "no frames"
        record = Record("window", start_sec=part.start, end_sec=part.end)
        try:
            return part, self.predictor.feed.sample(record, self._pipeline.of_window(part.clip))
        except StageError as error:
            return part, str(error)
        except DecodeError as error:
            return part, f"decode: {error}"

    def _batches(
        self, samples: Iterator[tuple[Part, Sample | str]], overlap: float
    ) -> Iterator[list[tuple[Part, Sample | str]]]:
        """As many windows as fill a run of the network; all have samples of one shape."""
        feed = self.predictor.feed
        views = feed.num_views / feed.views_in_clip
        most = max(1, min(MAX_BATCH, int(self._clips_per_run * overlap / views)))
        batch: list[tuple[Part, Sample | str]] = []
        shapes = None
        for part, sample in samples:
            now = None if isinstance(sample, str) else self._shapes(sample)
            if batch and (len(batch) >= most or (now and shapes and now != shapes)):
                yield batch
                batch, shapes = [], None
            batch.append((part, sample))
            shapes = now or shapes
        if batch:
            yield batch

    @property
    def _clips_per_run(self) -> int:
        return max(1, self.predictor.views_per_step // RUN_SHARE)

    def _shapes(self, sample: Sample) -> list[tuple[int, ...]]:
        return [tuple(sample[name].shape) for name in self.predictor.feed.batch_specs]


def _scored(
    batch: list[tuple[Part, Sample | str]],
    score: Callable[[list[Sample]], list[np.ndarray | str]],
) -> Iterator[Window]:
    """The windows of a batch with their scores."""
    rows = iter(score([sample for _, sample in batch if not isinstance(sample, str)]))
    for part, sample in batch:
        row = sample if isinstance(sample, str) else next(rows)
        if isinstance(row, str):
            yield Window(part.start, part.end, error=row)
        else:
            yield Window(part.start, part.end, row.astype(np.float32))
