"""Cuts a stream of frames and audio into windows, with the memory of one window."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from paddlevideo.data.pipeline import StreamNeeds
from paddlevideo.media.clip import TIME_TOLERANCE, FrameTransform
from paddlevideo.timelines.frames import Gap, Item, Sound
from paddlevideo.timelines.held import HeldClip, HeldSound

# Seconds of audio before and after a span that resampling and the last time step need.
AUDIO_BEFORE, AUDIO_AFTER = 1.2, 0.15
MAX_LAG = 1.0  # s that audio may come after the frames of its time
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
        offsets: (number of a window in its run, from 0) -> number of the frame in the run with
            which it begins; None where `stride` alone decides.
    """

    needs: StreamNeeds
    window: float
    stride: float
    fps: float | None = None
    change: FrameTransform | None = None
    offsets: Callable[[int], int] | None = None

    _frames: deque[tuple[float, np.ndarray]] = field(default_factory=deque, init=False)
    _sound: HeldSound = field(default_factory=HeldSound, init=False)
    _origin: float | None = field(default=None, init=False)  # start of the run (s)
    _number: int = field(default=0, init=False)  # of the next window in the run
    _start: float | None = field(default=None, init=False)  # of the next window (s), if known
    _covered: float = field(default=0.0, init=False)  # end of the last window of the run (s)
    _count: int = field(default=0, init=False)  # frames of the run that have come
    _num_bytes: int = field(default=0, init=False)

    def cut(self, source: Iterable[Item]) -> Iterator[Part]:
        """Yield the windows and gaps of a source, each as soon as it is complete.

        Raises:
            ValueError: the frames of a window take more than HOLD_BYTES.
        """
        for item in source:
            if isinstance(item, Gap):
                yield from self._finish(item.start)
                yield Part(item.start, item.end, error=item.reason)
            elif isinstance(item, Sound):
                self._add_sound(item)
            elif self.needs.frames:
                image = item.image if self.change is None else self.change(item.image)
                if self._frames and image.shape != self._frames[-1][1].shape:
                    yield from self._finish(item.time)
                self._add_frame(item.time, image)
            yield from self._complete()
        yield from self._finish(None)

    # --- what comes -------------------------------------------------------------------------------

    def _add_sound(self, sound: Sound) -> None:
        if not self.needs.audio:
            return
        self._sound.add(sound)
        if not self.needs.frames and self._origin is None:
            self._origin = self._start = self._covered = sound.time

    def _add_frame(self, time: float, image: np.ndarray) -> None:
        if self._origin is None:
            self._origin = self._start = self._covered = time
        if self.offsets and self._count == self.offsets(self._number):
            self._start = time
        self._count += 1
        self._frames.append((time, image))
        self._num_bytes += image.nbytes
        if self._num_bytes > HOLD_BYTES:
            raise ValueError(
                f"a window of {self.window:g} s holds {len(self._frames)} frames of "
                f"{image.shape[1]} x {image.shape[0]} pixels, {self._num_bytes / 2**30:.1f} GiB; "
                "use a shorter window, or a model whose PIPELINE.test begins with a resize"
            )

    @property
    def _now(self) -> float:
        """Up to when all that belongs to the stream has come (s)."""
        if not self.needs.frames:
            return self._sound.end_sec - AUDIO_AFTER
        return self._frames[-1][0] if self._frames else -np.inf

    def _has_audio(self, start: float, end: float) -> bool:
        """Whether the audio of a window has come, or comes no more."""
        if not (self.needs.audio and self.needs.frames):
            return True
        needed = max(end, start + self.needs.audio_sec) + AUDIO_AFTER
        return self._sound.end_sec >= needed or self._now >= needed + MAX_LAG

    # --- windows ----------------------------------------------------------------------------------

    def _complete(self) -> Iterator[Part]:
        """The windows that are complete now."""
        while self._start is not None:
            end = self._start + self.window
            if self._now < end - TIME_TOLERANCE or not self._has_audio(self._start, end):
                return
            yield self._part(self._start, end)
            self._advance()

    def _finish(self, end: float | None) -> Iterator[Part]:
        """The last windows of a run.

        Args:
            end: of the run (s); None where the source has ended.
        """
        if self._origin is not None:
            end = self._end_of_run() if end is None else end
            while self._start is not None and self._covered < end - TIME_TOLERANCE:
                if self._start >= end - TIME_TOLERANCE:
                    break
                yield self._part(self._start, min(self._start + self.window, end))
                self._advance()
        self._frames.clear()
        self._origin, self._start, self._number, self._count, self._num_bytes = None, None, 0, 0, 0

    def _end_of_run(self) -> float:
        if not self.needs.frames:
            return self._sound.end_sec
        last = self._frames[-1][0]
        fps = self._fps(np.array([time for time, _ in self._frames]))
        return last + (1 / fps if fps else 0.0)

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
        clip = HeldClip(images, seconds[first:last], fps, start, end, self._sound, changed)
        self._covered = end
        return Part(start, end, clip)

    def _advance(self) -> None:
        """Go on to the next window, and forget what no window needs any more."""
        assert self._origin is not None and self._start is not None
        self._number += 1
        before = self._start
        if self.offsets is None:
            self._start = self._origin + self._number * self.stride
        else:
            # The frame may have come already, or comes later.
            place = self.offsets(self._number) - self._count + len(self._frames)
            self._start = self._frames[place][0] if place < len(self._frames) else None
        needed = self._start if self._start is not None else before + TIME_TOLERANCE
        # One frame before the window stays: it is shown until the next one comes.
        while len(self._frames) > 1 and self._frames[1][0] < needed - TIME_TOLERANCE:
            self._num_bytes -= self._frames.popleft()[1].nbytes
        self._sound.drop_before(needed - AUDIO_BEFORE)
