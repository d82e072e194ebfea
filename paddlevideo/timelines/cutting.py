"""Cuts a stream of frames and audio into windows, with the memory of one window."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from paddlevideo.data.pipeline import StreamNeeds
from paddlevideo.media.clip import FALLBACK_FPS, TIME_TOLERANCE, FrameTransform
from paddlevideo.sample import DecodeError
from paddlevideo.timelines.frames import Audio, Gap, Item
from paddlevideo.timelines.held import HeldAudio, HeldClip
from paddlevideo.timelines.sharing import Grid

# Seconds of audio before and after a span that resampling and the last time step need.
AUDIO_BEFORE, AUDIO_AFTER = 1.2, 0.15
MAX_LAG = 1.0  # s that audio may come after the frames of its time
MAX_STEPS = 30  # frames at the end of a run, whose distances give the length of the last frame
HOLD_BYTES = 2 << 30  # of the frames of a window


@dataclass(frozen=True)
class Part:
    """A window to score, or a stretch without scores.

    Args:
        start, end: of it (s).
        clip: its frames and audio; valid until the next part is asked for. None with an error.
        error: why there is none.
    """

    start: float
    end: float
    clip: HeldClip | None = None
    error: str | None = None


@dataclass
class Cutter:
    """Cuts a stream into windows.

    A stretch of frames without a gap is a run. Its first window begins with its first frame, and
    its last window ends with it, so that it may be shorter than the others.

    Args:
        needs: what windows need of the stream.
        window: length (s).
        stride: from the start of a window to that of the next one (s).
        fps: frames per second; None to compute it from the times of the frames in a window.
        change: changes each frame that comes; None keeps it.
        grid: the windows in whole frames, which then replaces `window` and `stride`; it needs
            `fps`.
    """

    needs: StreamNeeds
    window: float
    stride: float
    fps: float | None = None
    change: FrameTransform | None = None
    grid: Grid | None = None

    _frames: deque[tuple[float, np.ndarray]] = field(default_factory=deque, init=False)
    _audio: HeldAudio = field(default_factory=HeldAudio, init=False)
    _origin: float | None = field(default=None, init=False)  # start of the run (s)
    _number: int = field(default=0, init=False)  # of the next window in the run
    _covered: float = field(default=0.0, init=False)  # end of the last window of the run (s)
    _num_bytes: int = field(default=0, init=False)

    def cut(self, source: Iterable[Item]) -> Iterator[Part]:
        """Yield the windows and gaps of a source, each as soon as it is complete.

        Raises:
            DecodeError: the frames of a window take more than HOLD_BYTES.
        """
        for item in source:
            if isinstance(item, Gap):
                yield from self._finish(item.start)
                yield Part(item.start, item.end, error=item.reason)
            elif isinstance(item, Audio):
                self._add_audio(item)
            elif self.needs.frames:
                image = item.image if self.change is None else self.change(item.image)
                if self._frames and image.shape != self._frames[-1][1].shape:
                    yield from self._finish(item.time)
                self._add_frame(item.time, image)
            yield from self._complete()
        yield from self._finish(None)

    # --- what comes -------------------------------------------------------------------------------

    def _add_audio(self, audio: Audio) -> None:
        if not self.needs.audio:
            return
        self._audio.add(audio)
        if not self.needs.frames and self._origin is None:
            self._origin = self._covered = audio.time

    def _add_frame(self, time: float, image: np.ndarray) -> None:
        if self._origin is None:
            self._origin = self._covered = time
        self._frames.append((time, image))
        self._num_bytes += image.nbytes
        if self._num_bytes > HOLD_BYTES:
            raise DecodeError(
                f"a window of {self.window:g} s holds {len(self._frames)} frames of "
                f"{image.shape[1]} x {image.shape[0]} pixels, {self._num_bytes / 2**30:.1f} GiB; "
                "use a shorter window, or a model whose PIPELINE.test begins with a resize"
            )

    @property
    def _now(self) -> float:
        """Up to when all that belongs to the stream has come (s)."""
        if not self.needs.frames:
            return self._audio.end_sec - AUDIO_AFTER
        return self._frames[-1][0] if self._frames else -np.inf

    def _has_audio(self, start: float, end: float) -> bool:
        """Whether the audio of a window has come, or comes no more."""
        if not (self.needs.audio and self.needs.frames):
            return True
        needed = max(end, start + self.needs.audio_sec) + AUDIO_AFTER
        return self._audio.end_sec >= needed or self._now >= needed + MAX_LAG

    # --- windows ----------------------------------------------------------------------------------

    def _span(self, end_of_run: float | None = None) -> tuple[float, float] | None:
        """Start and end of the next window (s); None where it is not complete.

        Args:
            end_of_run: where the run ends, so that no more frames come (s).
        """
        if self._origin is None:
            return None
        if self.grid is None:
            start = self._origin + self._number * self.stride
            end = start + self.window
            if end_of_run is None:
                return None if self._now < end - TIME_TOLERANCE else (start, end)
            return (start, min(end, end_of_run)) if start < end_of_run - TIME_TOLERANCE else None
        first = self.grid.start(self._number)
        start, end = self._time_of(first), self._time_of(first + self.grid.num_frames)
        end = end_of_run if end is None else end
        return None if start is None or end is None else (start, end)

    def _time_of(self, number: int) -> float | None:
        """The time of a frame, counted in the run; None where it has not come yet (s)."""
        assert self.fps and self._origin is not None
        # A number counts time, so that a lost frame does not shift the frames behind it.
        wanted = self._origin + (number - 0.5) / self.fps
        if not self._frames or self._frames[-1][0] < wanted:
            return None
        return next(time for time, _ in self._frames if time >= wanted)

    def _complete(self) -> Iterator[Part]:
        """The windows that are complete now."""
        while (span := self._span()) and self._has_audio(*span):
            yield self._part(*span)
            self._advance(span[0])

    def _finish(self, end: float | None) -> Iterator[Part]:
        """The last windows of a run.

        Args:
            end: of the run (s); None where the source has ended.
        """
        if self._origin is not None:
            end = self._end_of_run() if end is None else end
            while self._covered < end - TIME_TOLERANCE and (span := self._span(end)):
                yield self._part(*span)
                self._advance(span[0])
        self._frames.clear()
        self._origin, self._number, self._num_bytes = None, 0, 0

    def _end_of_run(self) -> float:
        if not self.needs.frames:
            return self._audio.end_sec
        seconds = [time for time, _ in self._frames]
        if self.fps:
            return seconds[-1] + 1 / self.fps
        steps = np.diff(seconds[-MAX_STEPS:])
        return seconds[-1] + (float(steps.min()) if len(steps) else 1 / FALLBACK_FPS)

    def _fps(self, seconds: np.ndarray) -> float:
        if self.fps is not None:
            return self.fps
        span = seconds[-1] - seconds[0] if len(seconds) else 0.0
        return (len(seconds) - 1) / span if span > 0 else 0.0

    def _part(self, start: float, end: float) -> Part:
        """The window from `start` to `end`. Without a frame of its own it shows the one before."""
        frames = list(self._frames)
        seconds = np.array([time for time, _ in frames], np.float64)
        first, last = np.searchsorted(seconds, [start - TIME_TOLERANCE, end - TIME_TOLERANCE])
        if first == last:
            first = max(0, first - 1)
        images = [image for _, image in frames[first:last]]
        fps, changed = self._fps(seconds), self.change is not None
        clip = HeldClip(images, seconds[first:last], fps, start, end, self._audio, changed)
        self._covered = end
        return Part(start, end, clip)

    def _advance(self, start: float) -> None:
        """Go on to the next window, and forget what no window needs any more.

        Args:
            start: of the window before (s).
        """
        self._number += 1
        if self.grid is None:
            assert self._origin is not None
            needed = self._origin + self._number * self.stride
        else:
            needed = self._time_of(self.grid.start(self._number)) or start
        # One frame before the window stays: it is shown until the next one comes.
        while len(self._frames) > 1 and self._frames[1][0] < needed - TIME_TOLERANCE:
            self._num_bytes -= self._frames.popleft()[1].nbytes
        self._audio.drop_before(needed - AUDIO_BEFORE)
