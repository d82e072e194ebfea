"""From a path to just the wanted frames: one function over PyAV, decord, OpenCV and folders of pictures.

    with VideoDecoder().open(record) as clip:
        frames = clip.read(np.array([0, 10, 20]))   # uint8 [3, H, W, 3] RGB

PyAV is the default and the only backend that promises frames equal, bit for bit, to those of a full decode from the first
packet, decoding no more than they need (see containers.py). decord and OpenCV stand behind the same function for comparison.
"""

import functools
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import cv2
import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.log import logger
from paddlevideo.media.containers import PyAVReader, num_threads, open_container, video_streams
from paddlevideo.sample import DecodeError, Record

FRAMES_AT_ONCE = (
    16  # of decord, which gives frames in batches only; it goes on where the last batch ended
)
NO_EFFECT = "it steered the reference's own sampling inside the decoder; here the sample step chooses the frames"


class Reader(Protocol):
    """What a backend gives. `num_frames` counts the whole file, `fps` is the mean rate (frames per second, 0.0 unknown)."""

    num_frames: int
    fps: float

    def times(self) -> np.ndarray:
        """Seconds of each frame after the first, float64 [num_frames]."""
        ...

    def fill(self, canvas: "Canvas") -> None:
        """Put each of `canvas.wanted` (sorted, without repeats).

        One that cannot be decoded stays missing, which `Clip.read` reports.
        """
        ...


class Canvas:
    """The output of one read: a decoded frame is written once into each place that asks for it, as `each` changes it."""

    def __init__(self, indices: np.ndarray, each: Callable[[np.ndarray], np.ndarray] | None = None):
        self._num_slots = len(indices)
        self._slots: dict[int, list[int]] = {}
        for slot, number in enumerate(indices.tolist()):
            self._slots.setdefault(number, []).append(slot)
        self.wanted = sorted(self._slots)
        self._each = each
        self.clear()

    def clear(self) -> None:
        self.frames: np.ndarray | None = None
        self._size: tuple[int, ...] = ()
        self.missing = set(self.wanted)

    def put(self, number: int, image: np.ndarray) -> None:
        was, now = self._size or image.shape, image.shape
        if now != was:
            raise DecodeError(
                f"the picture changes its size, from {was[1]}x{was[0]} to {now[1]}x{now[0]} at frame {number}"
            )
        self._size = now
        image = image if self._each is None else self._each(image)
        if self.frames is None:
            self.frames = np.empty((self._num_slots, *image.shape), np.uint8)
        for slot in self._slots[number]:
            self.frames[slot] = image
        self.missing.discard(number)


class Clip:
    """An open video, or the part of it between two times.

    Attributes:
        num_frames: frames from which `read` chooses.
        fps: mean frames per second, 0.0 where unknown (folders of pictures).
    """

    def __init__(
        self, reader: Reader, start_sec: float | None = None, end_sec: float | None = None
    ):
        self._reader = reader
        self._first, last = 0, reader.num_frames
        if last == 0:
            raise DecodeError("no frames in it")
        if start_sec is not None or end_sec is not None:
            times = reader.times()
            # Lists round their times; a frame that is a microsecond off is meant to belong to the part.
            self._first = 0 if start_sec is None else int(np.searchsorted(times, start_sec - 1e-6))
            last = last if end_sec is None else int(np.searchsorted(times, end_sec - 1e-6))
            if last <= self._first:
                raise DecodeError(
                    f"no frame between {start_sec or 0} s and {end_sec} s; the last one is at {times[-1]:.3f} s"
                )
        self.num_frames = last - self._first
        self.fps = reader.fps

    def times(self) -> np.ndarray:
        """Seconds of each frame after the file's first one, float64 [num_frames].

        Raises:
            DecodeError: of a folder of frames, which has none.
        """
        return self._reader.times()[self._first : self._first + self.num_frames]

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """The frames of these numbers.

        Args:
            indices: integers [T] in 0 .. num_frames - 1, in any order and with repeats; each frame is decoded once.
            each: what to make of a frame [H, W, 3] as soon as it is decoded, the same size of all; the large ones of a long
                read then never lie side by side.

        Returns:
            uint8 [T, H, W, 3] RGB, upright (a rotation flag is applied), in stored pixels (the pixel aspect is not).

        Raises:
            DecodeError: a frame cannot be decoded.
            IndexError: a number outside the clip.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
            raise ValueError(
                f"indices must be integers [T] with T >= 1, got {indices.dtype} {list(indices.shape)}"
            )
        if indices.min() < 0 or indices.max() >= self.num_frames:
            raise IndexError(
                f"frames {indices.min()}..{indices.max()} asked of a clip of {self.num_frames} frames"
            )
        canvas = Canvas(indices.astype(np.int64) + self._first, each)
        self._reader.fill(canvas)
        if canvas.missing or canvas.frames is None:
            raise DecodeError(
                f"frame {min(canvas.missing)} of {self._reader.num_frames} cannot be decoded: it is damaged"
            )
        return canvas.frames


@register(
    "decode",
    ignores=dict.fromkeys(
        ("mode", "sampling_rate", "num_seg", "num_clips", "target_fps"), NO_EFFECT
    ),
)
@dataclass(frozen=True)
class VideoDecoder:
    """Video files.

    Args:
        backend: pyav; decord (PyAV where it is not installed); cv2, which always decodes from the beginning.
        stream: which video stream, counted from 0 without cover pictures; None is the first. Only PyAV can choose.
    """

    pipeline: ClassVar[type | None] = None  # the default, ClipPipeline

    backend: Literal["pyav", "decord", "cv2"] = "pyav"
    stream: int | None = None

    def __post_init__(self):
        if self.stream is not None and self.backend != "pyav":
            raise ValueError(
                f"backend {self.backend} cannot choose a stream (stream: {self.stream}); use backend: pyav"
            )

    @contextmanager
    def open(self, record: Record) -> Iterator[Clip]:
        """A clip to read from; closed on leaving the block, whatever happens in it.

        Raises:
            DecodeError: not a video file, damaged, without a video stream, or without frames in the record's part.
        """
        backend = self.backend
        if backend == "decord" and not has_decord():
            backend = "pyav"
        with open_container(record.path) as container:
            streams = video_streams(container)
            number = self.stream or 0
            if number >= len(streams):
                raise DecodeError(
                    f"there is no video stream {number}; the file has {len(streams)}, counted from 0"
                )
            if backend == "pyav":
                reader: Reader = PyAVReader(record.path, container, streams[number])
            elif len(streams) > 1:
                raise DecodeError(
                    f"{len(streams)} video streams, and {backend} cannot be told which one; use backend: pyav"
                )
            else:
                reader = (
                    DecordReader(record.path) if backend == "decord" else OpenCVReader(record.path)
                )
            try:
                yield Clip(reader, record.start_sec, record.end_sec)
            finally:
                if isinstance(reader, OpenCVReader):
                    reader.capture.release()


@register("decode")
@dataclass(frozen=True)
class FrameDecoder:
    """Folders of pictures: `record.path` / `record.frame_pattern.format(number)`, numbered from 1; any format OpenCV reads."""

    pipeline: ClassVar[type | None] = None  # the default, ClipPipeline

    @contextmanager
    def open(self, record: Record) -> Iterator[Clip]:
        """A clip of `record.num_frames` pictures (counted in the folder where None), fps 0.0.

        Raises:
            DecodeError: no such folder, no pictures in it, or times asked of it.
        """
        if not record.frame_pattern:
            raise DecodeError(
                "the record has no frame_pattern; FrameDecoder reads the records of a FrameDataset"
            )
        if not os.path.isdir(record.path):
            what = (
                "a file, not a folder of frames"
                if os.path.exists(record.path)
                else "no such folder"
            )
            raise DecodeError(what)
        if record.start_sec is not None or record.end_sec is not None:
            raise DecodeError(
                "start_sec and end_sec need a frame rate, and a folder of frames has none"
            )
        yield Clip(FrameFileReader(Path(record.path), record.frame_pattern, record.num_frames))


@functools.cache
def has_decord() -> bool:
    if importlib.util.find_spec("decord") is not None:
        return True
    logger.warning("decord is not installed: PyAV decodes instead (it gives the same frames)")
    return False


class DecordReader:
    """decord's own index and seeking; its times are those of the packets."""

    def __init__(self, path: str):
        import decord  # optional: no wheels for ARM or macOS

        self._failure = decord.DECORDError
        try:
            self._video = decord.VideoReader(path, num_threads=num_threads())
        except (self._failure, RuntimeError) as error:
            raise DecodeError(f"decord cannot open it: {first_line(error)}") from error
        self.num_frames, self.fps = len(self._video), float(self._video.get_avg_fps())

    def times(self) -> np.ndarray:
        starts = self._video.get_frame_timestamp(range(self.num_frames))[:, 0]
        return (starts - starts[0]).astype(np.float64)

    def fill(self, canvas: Canvas) -> None:
        for start in range(0, len(canvas.wanted), FRAMES_AT_ONCE):
            numbers = canvas.wanted[start : start + FRAMES_AT_ONCE]
            try:
                frames = self._video.get_batch(numbers).asnumpy()
            except (self._failure, RuntimeError) as error:
                raise DecodeError(f"decord cannot decode it: {first_line(error)}") from error
            for number, frame in zip(numbers, frames, strict=True):
                canvas.put(number, frame)


class OpenCVReader:
    """OpenCV, decoding from the beginning: its seeking is not exact. The frame rate is taken as constant."""

    def __init__(self, path: str):
        self._path, self.capture = path, cv2.VideoCapture()
        self._rewind()
        self.num_frames = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.fps = float(self.capture.get(cv2.CAP_PROP_FPS))

    def _rewind(self) -> None:
        if not self.capture.open(
            self._path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads()]
        ):
            raise DecodeError("OpenCV cannot open it")
        self.capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)

    def times(self) -> np.ndarray:
        return np.arange(self.num_frames) / (self.fps or 25.0)

    def fill(self, canvas: Canvas) -> None:
        self._rewind()
        wanted = set(canvas.wanted)
        for number in range(canvas.wanted[-1] + 1):
            if not self.capture.grab():
                return
            if number in wanted:
                found, image = self.capture.retrieve()
                if not found:
                    return
                canvas.put(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class FrameFileReader:
    """Pictures of a folder, numbered from 1. A picture's own orientation tag is not applied."""

    fps = 0.0

    def __init__(self, folder: Path, pattern: str, num_frames: int | None):
        self._folder, self._pattern = folder, pattern
        self.num_frames = count_frame_files(folder, pattern) if num_frames is None else num_frames

    def times(self) -> np.ndarray:
        raise DecodeError("a folder of frames has no times, and so no sound; use video files")

    def fill(self, canvas: Canvas) -> None:
        for number in canvas.wanted:
            file = self._folder / self._pattern.format(number + 1)
            try:
                # Not cv2.imread: it knows no non-ASCII names on Windows and only logs why it fails.
                image = cv2.imdecode(
                    np.fromfile(file, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
                )
            except OSError as error:
                raise DecodeError(
                    f"{file.name}: {error.strerror} ({self.num_frames} frames expected)"
                ) from error
            except cv2.error:
                image = None
            if image is None:
                raise DecodeError(
                    f"{file.name}: not a picture, or damaged ({file.stat().st_size} bytes)"
                )
            canvas.put(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def count_frame_files(folder: Path, pattern: str) -> int:
    """How many pictures stand in the folder without a gap from number 1 on."""
    names = set(os.listdir(folder))
    count = 0
    while pattern.format(count + 1) in names:
        count += 1
    return count


def first_line(error: Exception) -> str:
    """The message of a C++ library without its stack trace."""
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
    )


@dataclass(frozen=True)
class ArrayClip:
    """Frames in memory, uint8 [T, H, W, 3] RGB, as an open clip; the sampler picks from them as from a video."""

    frames: np.ndarray
    fps: float = 0.0

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """uint8 [T, H, W, 3], each frame as `each` makes it."""
        if each is None:
            return self.frames[np.asarray(indices)]
        return np.stack([each(self.frames[number]) for number in indices])
