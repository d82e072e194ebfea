"""The contract of a `Clip`, an open video whose frames are read by number.

    clip.num_frames            # int, at least 1
    clip.fps                   # mean frames per second, 0.0 where unknown
    clip.times()               # float64 [num_frames] in seconds, None if the frames have no times
    clip.read([0, 10, 20])     # uint8 [3, H, W, 3] RGB

`VideoClip` implements the contract for stored videos on top of a `Reader`; each decoding backend
has its own reader. `ArrayClip` implements it for frames in memory.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from paddlevideo.sample import DecodeError

# Frames per second, to give times to the frames of a file that states no frame rate.
FALLBACK_FPS = 25.0
# Lists round their times: a frame at most this long (s) before a boundary counts as on it.
TIME_TOLERANCE = 1e-6

FrameTransform = Callable[[np.ndarray], np.ndarray]
# (sample rate in Hz, start and end in s, backend) -> samples, as `waveform.read_waveform`.
ReadWaveform = Callable[[int, float, float, Any], np.ndarray]


class Clip(Protocol):
    """An open video, or a part of one, whose frames are read by number."""

    @property
    def read_waveform(self) -> ReadWaveform | None:
        """Reads the audio of a clip in memory; None where it is in the file of the record."""
        ...

    @property
    def num_frames(self) -> int:
        """Number of frames, at least 1. Frames are numbered 0 .. num_frames - 1."""
        ...

    @property
    def fps(self) -> float:
        """Mean frames per second; 0.0 where unknown, as for folders of frames."""
        ...

    def times(self) -> np.ndarray | None:
        """Return when each frame is shown: float64 [num_frames], seconds after the first frame of
        the file, ascending. None means that the frames have no times, so that no audio belongs to
        them; the caller continues without audio.

        Raises:
            DecodeError: the frames have no times and the caller must not continue without audio.
                Clips of `FrameDecoder` raise it, so that training with audio on folders of frames
                fails instead of using silence unnoticed.
        """
        ...

    def read(
        self, indices: Sequence[int] | np.ndarray, each: FrameTransform | None = None
    ) -> np.ndarray:
        """Return the frames with these numbers.

        Args:
            indices: integers [T], in any order and with repeats.
            each: maps one frame uint8 [H, W, 3] to what is kept of it, always of one shape. It runs
                as soon as a frame is decoded, so that the full-size frames of a long read are
                never in memory together.

        Returns:
            uint8 [T, H, W, 3] RGB, or [T, ...] of what `each` returns.

        Raises:
            DecodeError: a frame cannot be decoded.
            IndexError: a number outside 0 .. num_frames - 1.
        """
        ...


class Reader(Protocol):
    """The frames of a complete file, as one decoding backend gives them.

    Attributes:
        num_frames: frames of the complete file.
        fps: mean frames per second, 0.0 where unknown.
    """

    num_frames: int
    fps: float

    def times(self) -> np.ndarray:
        """Return the time of each frame (s), 0 for the first one: float64 [num_frames].

        Raises:
            DecodeError: the frames have no times.
        """
        ...

    def fill(self, canvas: "Canvas") -> None:
        """Decode each frame of `canvas.wanted` and pass it to `canvas.put`.

        A frame that cannot be decoded stays in `canvas.missing`; `VideoClip.read` reports it. Where
        the frame before replaces it, it is in `canvas.lost`.
        """
        ...


class Canvas:
    """The output array of one read. Each decoded frame is transformed once and then copied to
    every position that asks for it.

    Attributes:
        wanted: numbers of the frames to decode, sorted and without repeats.
        missing: those of `wanted` that have not been put yet.
        lost: those that are damaged beyond decoding, and were replaced by the frame before.
        frames: uint8 [T, ...], None until the first frame is put.
    """

    def __init__(self, indices: np.ndarray, each: FrameTransform | None = None):
        self._num_slots = len(indices)
        self._slots: dict[int, list[int]] = {}
        for slot, number in enumerate(indices.tolist()):
            self._slots.setdefault(number, []).append(slot)
        self.wanted = sorted(self._slots)
        self._each = each
        self.clear()

    def clear(self) -> None:
        """Forget every frame, so that the reader can start again."""
        self.frames: np.ndarray | None = None
        self._shape: tuple[int, ...] = ()
        self.missing = set(self.wanted)
        self.lost: list[int] = []

    def put(self, number: int, image: np.ndarray) -> None:
        """Store frame `number`, uint8 [H, W, 3].

        Raises:
            DecodeError: its size differs from that of the frames before.
        """
        before, now = self._shape or image.shape, image.shape
        if now != before:
            sizes = f"from {before[1]}x{before[0]} to {now[1]}x{now[0]}"
            raise DecodeError(f"the video changes its size, {sizes} at frame {number}")
        self._shape = now
        image = image if self._each is None else self._each(image)
        if self.frames is None:
            self.frames = np.empty((self._num_slots, *image.shape), np.uint8)
        for slot in self._slots[number]:
            self.frames[slot] = image
        self.missing.discard(number)


class VideoClip:
    """A `Clip` of a stored video, or of the part of it between two times.

    Frames are upright: a rotation flag is applied. They have the stored pixels: the pixel aspect
    ratio is not applied. Threads that share a clip take turns, because its reader has a position.

    Attributes:
        num_frames: frames of the part.
        fps: mean frames per second of the file, 0.0 where unknown.
        jumps: numbers of the frames at which the time stamps of the file go back; `times()` goes on
            there one frame after the frame before.
        lost: numbers in the file of frames that were read and are damaged beyond decoding.

    Raises:
        DecodeError: the file has no frames, or none in this part.
    """

    def __init__(
        self,
        reader: Reader,
        start_sec: float | None = None,
        end_sec: float | None = None,
        jumps: Sequence[int] = (),
    ):
        self._reader, self._turn = reader, threading.Lock()
        self._first, last = 0, reader.num_frames
        if last == 0:
            raise DecodeError("no frames in it")
        if start_sec is not None or end_sec is not None:
            times = reader.times()
            if start_sec is not None:
                self._first = int(np.searchsorted(times, start_sec - TIME_TOLERANCE))
            if end_sec is not None:
                last = int(np.searchsorted(times, end_sec - TIME_TOLERANCE))
            if last <= self._first:
                end = "the end" if end_sec is None else f"{end_sec} s"
                span = f"{start_sec or 0} s and {end}"
                raise DecodeError(
                    f"no frame between {span}; the last frame is at {times[-1]:.3f} s"
                )
        self.num_frames = last - self._first
        self.fps = reader.fps
        self.jumps = [jump - self._first for jump in jumps if self._first < jump < last]
        self.lost: set[int] = set()

    @property
    def read_waveform(self) -> None:
        """None: it is in the file of the record."""

    def times(self) -> np.ndarray:
        """Return when each frame is shown, float64 [num_frames]; see `Clip.times`.

        They rise, even where the time stamps of the file go back; see `jumps`.

        Raises:
            DecodeError: the clip is a folder of frames, which has no times.
        """
        with self._turn:
            return self._reader.times()[self._first : self._first + self.num_frames]

    def read(
        self, indices: Sequence[int] | np.ndarray, each: FrameTransform | None = None
    ) -> np.ndarray:
        """Return frames uint8 [T, H, W, 3] RGB; see `Clip.read`. Each frame is decoded once.

        Raises:
            DecodeError: a frame cannot be decoded.
            IndexError: a number outside the clip.
            ValueError: `indices` are not integers [T] with T >= 1.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
            given = f"{indices.dtype} {list(indices.shape)}"
            raise ValueError(f"indices must be integers [T] with T >= 1, got {given}")
        if indices.min() < 0 or indices.max() >= self.num_frames:
            asked = f"frames {indices.min()}..{indices.max()}"
            raise IndexError(f"{asked} requested from a clip of {self.num_frames} frames")
        canvas = Canvas(indices.astype(np.int64) + self._first, each)
        with self._turn:
            self._reader.fill(canvas)
            self.lost.update(canvas.lost)
        if canvas.missing or canvas.frames is None:
            number = f"{min(canvas.missing)} of {self._reader.num_frames}"
            raise DecodeError(f"frame {number} cannot be decoded: it is damaged")
        return canvas.frames


@dataclass(frozen=True)
class ArrayClip:
    """A `Clip` of frames in memory. They have no times.

    Args:
        frames: uint8 [T, H, W, 3] RGB.
        fps: frames per second, 0.0 where unknown.
    """

    frames: np.ndarray
    fps: float = 0.0

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def read_waveform(self) -> None:
        """None: there is no audio."""

    def times(self) -> None:
        """Return None: frames in memory have no times."""

    def read(
        self, indices: Sequence[int] | np.ndarray, each: FrameTransform | None = None
    ) -> np.ndarray:
        """Return frames uint8 [T, H, W, 3] RGB; see `Clip.read`."""
        if each is None:
            return self.frames[np.asarray(indices)]
        return np.stack([each(self.frames[number]) for number in indices])
