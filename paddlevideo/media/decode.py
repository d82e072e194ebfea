"""From a path to just the wanted frames: PyAV, decord, OpenCV, and folders of frames.

    with VideoDecoder().open(record) as clip:
        frames = clip.read(np.array([0, 10, 20]))   # uint8 [3, H, W, 3] RGB

A decoder's `open(record)` is a context manager that gives a `Clip` (clip.py): `num_frames`, `fps`,
`times()` and `read(indices, each)`. The clip is valid inside the block.

PyAV is the default backend and the only one that guarantees frames equal, bit for bit, to those of
a full decode from the first packet, while it decodes no more than they need (see containers.py).
decord and OpenCV are available through the same function for comparison.
"""

import functools
import importlib.util
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.log import logger
from paddlevideo.media.clip import FALLBACK_FPS, Canvas, Reader, VideoClip
from paddlevideo.media.containers import (
    PyAVReader,
    first_video,
    num_threads,
    open_container,
    video_streams,
)
from paddlevideo.media.frame_files import frame_files, span_text
from paddlevideo.media.tar_files import check_usable, files_of_range, read_part
from paddlevideo.remote import (
    AccessError,
    MissingError,
    RemoteError,
    is_file,
    is_url,
    join_path,
    list_url,
    parent_path,
    path_name,
    read_bytes,
    shown,
)
from paddlevideo.sample import DecodeError, Record
from paddlevideo.tar_paths import tar_path

# decord decodes in batches. This many frames at once bound the memory; a batch continues where the
# last one ended.
DECORD_BATCH = 16
NO_EFFECT = (
    "it controls sampling inside PaddleVideo's decoder; here the sample step chooses the frames"
)


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
        backend: pyav; decord (PyAV where it is not installed); cv2, which always decodes from the
            beginning.
        stream: which video stream, counted from 0 without cover images; None is the first with
            more than one frame. Only PyAV can choose.
    """

    pipeline: ClassVar[type | None] = None  # the default, ClipPipeline

    backend: Literal["pyav", "decord", "cv2"] = "pyav"
    stream: int | None = None

    def __post_init__(self):
        if self.stream is not None and self.backend != "pyav":
            raise ValueError(
                f"backend {self.backend} cannot choose a stream (stream: {self.stream}); "
                "use backend: pyav"
            )

    @contextmanager
    def open(self, record: Record) -> Iterator[VideoClip]:
        """Open the record's part of a video; the block's end closes it, also after an error.

        Raises:
            DecodeError: not a video file, damaged, without a video stream, or without frames in
                the record's part.
        """
        check_usable(record)
        backend = self.backend
        if record.frame_pattern and tar_path(record.path):
            raise DecodeError("the sample holds frames; decode them with FrameDecoder")
        if backend != "pyav" and tar_path(record.path):
            raise DecodeError(f"backend {backend} cannot read from a shard; use backend: pyav")
        if backend == "decord" and not has_decord():
            backend = "pyav"
        if backend != "pyav" and is_url(record.path):
            raise AccessError(f"backend {backend} reads local files only; use backend: pyav")
        with open_container(record.path) as container:
            streams = video_streams(container)
            if (self.stream or 0) >= len(streams):
                raise DecodeError(
                    f"there is no video stream {self.stream}; the file has {len(streams)}, "
                    "counted from 0"
                )
            if backend == "pyav":
                if self.stream is None:
                    stream = first_video(record.path, streams)
                else:
                    stream = streams[self.stream]
                reader: Reader = PyAVReader(record.path, container, stream)
            elif len(streams) > 1:
                raise DecodeError(
                    f"the file has {len(streams)} video streams and backend {backend} cannot "
                    "choose one; use backend: pyav"
                )
            elif backend == "decord":
                reader = DecordReader(record.path)
            else:
                reader = OpenCVReader(record.path)
            jumps = ()
            if isinstance(reader, PyAVReader):
                jumps = [stretch.first_frame for stretch in reader.stretches[1:]]
            try:
                yield VideoClip(reader, record.start_sec, record.end_sec, jumps)
            finally:
                if isinstance(reader, OpenCVReader):
                    reader.capture.release()


@register("decode")
@dataclass(frozen=True)
class FrameDecoder:
    """Folders of frames, in any image format that OpenCV reads.

    The files are `record.path` / `record.frame_pattern.format(number)`, numbered from 1; or
    numbered images of another name (frame_files.py).
    """

    pipeline: ClassVar[type | None] = None  # the default, ClipPipeline
    stream: ClassVar[None] = None

    @contextmanager
    def open(self, record: Record) -> Iterator[VideoClip]:
        """Open `record.num_frames` frames; where that is None, count them in the folder.

        The clip's fps is 0.0 and its `times()` raises DecodeError.

        Raises:
            DecodeError: no such folder; no frames in it, or some of them missing; or a record with
                start or end times.
        """
        check_usable(record)
        if not record.frame_pattern and tar_path(record.path):
            raise DecodeError("the sample has no frames; decode it with VideoDecoder")
        if not record.frame_pattern:
            raise DecodeError(
                "the record has no frame_pattern; FrameDecoder reads the records of a FrameDataset"
            )
        if tar_path(record.path):
            yield VideoClip(FramesInTar(record.path, record.frame_pattern, record.num_frames))
            return
        if not is_url(record.path) and not os.path.isdir(record.path):
            exists = os.path.exists(record.path)
            raise DecodeError("a file, not a folder of frames" if exists else "no such folder")
        if record.start_sec is not None or record.end_sec is not None:
            raise DecodeError(
                "start_sec and end_sec need a frame rate, and a folder of frames has none"
            )
        kind = RemoteFrameFolderReader if is_url(record.path) else FrameFolderReader
        yield VideoClip(kind(record.path, record.frame_pattern, record.num_frames))


@functools.cache
def has_decord() -> bool:
    """Return whether decord is installed; log once that PyAV decodes where it is not."""
    if importlib.util.find_spec("decord") is not None:
        return True
    logger.warning("decord is not installed: PyAV decodes instead (it gives the same frames)")
    return False


# --- readers --------------------------------------------------------------------------------------


class DecordReader:
    """Frames by decord, with its own index and seeking; times are those of the packets."""

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
        for start in range(0, len(canvas.wanted), DECORD_BATCH):
            numbers = canvas.wanted[start : start + DECORD_BATCH]
            try:
                frames = self._video.get_batch(numbers).asnumpy()
            except (self._failure, RuntimeError) as error:
                raise DecodeError(f"decord cannot decode it: {first_line(error)}") from error
            for number, frame in zip(numbers, frames, strict=True):
                canvas.put(number, frame)


class OpenCVReader:
    """Frames by OpenCV. It decodes from the beginning, because OpenCV's seeking is not exact, and
    it assumes a constant frame rate."""

    def __init__(self, path: str):
        self._path, self.capture = path, cv2.VideoCapture()
        self._rewind()
        self.num_frames = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.fps = float(self.capture.get(cv2.CAP_PROP_FPS))

    def _rewind(self) -> None:
        threads = [cv2.CAP_PROP_N_THREADS, num_threads()]
        if not self.capture.open(self._path, cv2.CAP_FFMPEG, threads):
            raise DecodeError("OpenCV cannot open it")
        self.capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)

    def times(self) -> np.ndarray:
        return np.arange(self.num_frames) / (self.fps or FALLBACK_FPS)

    def fill(self, canvas: Canvas) -> None:
        self._rewind()
        wanted = set(canvas.wanted)
        for number in range(canvas.wanted[-1] + 1):
            if not self.capture.grab():
                return
            if number in wanted:
                is_decoded, image = self.capture.retrieve()
                if not is_decoded:
                    return
                canvas.put(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class FrameFolderReader:
    """Frames stored as one image file each; see frame_files.py. Orientation tags of the images are
    not applied.

    Args:
        num_frames: that a list gives; None to count the files.

    Raises:
        DecodeError: the files are no series of frames, or fewer than `num_frames`.
    """

    fps = 0.0

    def __init__(self, folder: str, pattern: str, num_frames: int | None):
        self._folder, self._pattern = folder, pattern
        self._names = None if self._counts_from_one(num_frames) else self._find(num_frames)
        self.num_frames = len(self._names or ()) if num_frames is None else num_frames

    def _counts_from_one(self, num_frames: int | None) -> bool:
        """Whether files are called as the pattern says, from 1 on; the folder is not listed then.

        A file 0 is no frame of a list that has files for all of its numbers.
        """
        if num_frames is None or not self._exists(1):
            return False
        return not self._exists(0) or self._exists(num_frames)

    def _exists(self, number: int) -> bool:
        return os.path.exists(os.path.join(self._folder, self._pattern.format(number)))

    def _list(self) -> Collection[str]:
        """The names of all files in the folder."""
        return os.listdir(self._folder)

    def _bytes(self, name: str) -> np.ndarray:
        """The content of a file, uint8 [n]."""
        return np.fromfile(os.path.join(self._folder, name), np.uint8)

    def _find(self, num_frames: int | None) -> list[str] | None:
        """The frame files; None if there are none."""
        names = frame_files(self._list(), self._pattern)
        if names and num_frames is not None and len(names) < num_frames:
            raise DecodeError(
                f"{num_frames} frames expected, the folder has {len(names)}: {span_text(names)}"
            )
        return names or None

    def times(self) -> np.ndarray:
        raise DecodeError("a folder of frames has no times and therefore no audio; use video files")

    def fill(self, canvas: Canvas) -> None:
        for number in canvas.wanted:
            name = self._names[number] if self._names else self._pattern.format(number + 1)
            image = self._read(name)
            canvas.put(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def _read(self, name: str) -> np.ndarray:
        """Read an image file: uint8 [H, W, 3] BGR."""
        data = np.zeros(0, np.uint8)
        try:
            # cv2.imread fails for non-ASCII names on Windows, and only logs why a file is bad.
            data = self._bytes(name)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except OSError as error:
            raise DecodeError(
                f"{name}: {error.strerror or error} ({self.num_frames} frames expected)"
            ) from error
        except cv2.error:
            image = None
        if image is None:
            raise DecodeError(f"{name}: not an image, or damaged ({len(data)} bytes)")
        return image


class FramesInTar(FrameFolderReader):
    """Frames that are the images of a sample in a tar shard; their names follow its key.

    Args:
        path: of the images; see tar_paths.py.
        pattern, num_frames: as of FrameFolderReader.

    Raises:
        DecodeError: as FrameFolderReader; or the shard has changed.
    """

    def __init__(self, path: str, pattern: str, num_frames: int | None):
        files = files_of_range(path)
        # A single image may be called after the key alone.
        self._files = {name if "." in name else f"1.{name}": at for name, at in files.items()}
        super().__init__(path, pattern, num_frames)

    def _exists(self, number: int) -> bool:
        return self._pattern.format(number) in self._files

    def _list(self) -> Collection[str]:
        return self._files

    def _bytes(self, name: str) -> np.ndarray:
        offset, size = self._files[name]
        return np.frombuffer(read_part(self._folder, offset, size), np.uint8)


class RemoteFrameFolderReader(FrameFolderReader):
    """The same in a folder that a URL names."""

    def _counts_from_one(self, num_frames: int | None) -> bool:
        return False  # listing is one request, as asking for a file is

    def _list(self) -> list[str]:
        try:
            urls = list_url(self._folder)
        except MissingError as error:
            exists = is_file(self._folder)
            text = "a file, not a folder of frames" if exists else "no such folder"
            raise DecodeError(text) from error
        except RemoteError as error:
            raise DecodeError(str(error).removeprefix(f"{shown(self._folder)}: ")) from error
        return [path_name(url) for url in urls if parent_path(url) == self._folder.rstrip("/")]

    def _bytes(self, name: str) -> np.ndarray:
        return np.frombuffer(read_bytes(join_path(self._folder, name)), np.uint8)


def count_frame_files(names: Iterable[str], pattern: str) -> int:
    """Count the frame files in a folder, with these names, that are numbered from 1 without a
    gap."""
    known, count = set(names), 0
    while pattern.format(count + 1) in known:
        count += 1
    return count


def first_line(error: Exception) -> str:
    """Return the message of a C++ library without its stack trace."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
