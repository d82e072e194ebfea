"""Small copies of decoded videos on the disk, so that a training decodes each video once.

Decoding and resizing take most of the time of a small model on a CPU. `FrameCache` opens records
as a decoder does. The first time it decodes the complete video, resizes its frames, and stores
them; from then on it reads only the sampled frames. The frames are the same, bit for bit.

A file is an array uint8 [num_frames, H, W, 3] in NumPy's format, followed by the frame rate
(float64). Its name is a digest of what the frames depend on: path, size and time of the video, the
part of it, decoder, transform, and the versions of the libraries that decode and resize. Files of
earlier runs are removed, longest unused first, before the cache outgrows its limit.
"""

import contextlib
import getpass
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL

from paddlevideo.files import atomic_write, cache_folder, remove_leftovers
from paddlevideo.log import logger
from paddlevideo.media.tar_files import file_state
from paddlevideo.remote import absolute_path
from paddlevideo.sample import Record

VERSIONS = (av.__version__, cv2.__version__, PIL.__version__)
FPS_BYTES = 8  # a float64 after the array


@dataclass(frozen=True)
class CachedClip:
    """A `media.clip.Clip` whose frames have been changed already. They have no times.

    Args:
        frames: uint8 [num_frames, H, W, 3] RGB.
        fps: frames per second, 0.0 where unknown.
    """

    frames: np.ndarray
    fps: float

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def times(self) -> None:
        """Return None: stored frames have no times."""

    def read(self, indices: Sequence[int] | np.ndarray, each: Any = None) -> np.ndarray:
        """Return frames uint8 [T, H, W, 3] RGB. `each` was applied before they were stored."""
        return np.asarray(self.frames[np.asarray(indices)])


class FrameCache:
    """Opens records like `decode`, with frames that `transform` has resized.

    Args:
        decode: a decoder of video files.
        transform: the first transform of a pipeline; it works frame by frame and draws nothing.
        folder: where the copies are kept; None is `frames` in `files.cache_folder()`, or in the
            folder for temporary files where that cannot be written.
        gigabytes: largest size of the folder (10**9 bytes). Videos that find no room are decoded
            each time.

    Raises:
        ValueError: the transform changes more than single frames, or draws.
    """

    def __init__(self, decode: Any, transform: Any, folder: str | None, gigabytes: float):
        if transform is None or transform.frame_transform is None or transform.random:
            name = "none" if transform is None else type(transform).__name__
            raise ValueError(
                f"cache keeps frames after the first transform, which is {name}; it must resize "
                "each frame to a fixed size, such as '- Scale: {short_size: 72}'"
            )
        self.decode, self.transform = decode, transform
        self.folder = Path(folder) if folder else _default_folder()
        self.max_bytes = int(gigabytes * 1e9)
        self._start = time.time()  # files used since then belong to this run
        self._writes = True
        self._is_clean = False  # whether what killed processes left is removed

    @contextlib.contextmanager
    def open(self, record: Record) -> Iterator[Any]:
        """The record's clip, from the cache if it is there.

        Raises:
            DecodeError: of the decoder; nothing is stored then.
        """
        path = self._path(record)
        clip = _stored(path) if path else None
        if clip is None:
            with self.decode.open(record) as video:
                change = self.transform.frame_transform(None)
                frames = video.read(np.arange(video.num_frames), change)
                clip = CachedClip(frames, float(video.fps))
            if path:
                self._store(path, clip)
        yield clip

    def _path(self, record: Record) -> Path | None:
        """The file of a record, named by what its frames depend on; None where the state of the
        video is unknown: it is missing, or its server states no version."""
        try:
            size, version = file_state(record.path)
        except OSError:  # the decoder says what it is
            return None
        if version == "":
            return None
        file, part = (size, version), (record.start_sec, record.end_sec)
        key = (absolute_path(record.path), file, part, self.decode, self.transform, VERSIONS)
        digest = hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.folder / f"{digest}.npy"

    def _store(self, path: Path, clip: CachedClip) -> None:
        """Write a clip if there is room. A cache that cannot be written is said once."""
        if not self._writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._is_clean:
                remove_leftovers(self.folder)
                self._is_clean = True
            if not self._make_room(clip.frames.nbytes):
                return
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.lib.format.write_array(file, clip.frames, allow_pickle=False)
                file.write(np.float64(clip.fps).tobytes())
        except OSError as error:
            self._writes = False
            logger.warning("%s; videos are decoded in each epoch", error)

    def _make_room(self, num_bytes: int) -> bool:
        """Remove files of earlier runs until `num_bytes` more fit; whether they do."""
        files = sorted(_files(self.folder))
        total = sum(size for _, size, _ in files) + num_bytes
        for used, size, path in files:
            if total <= self.max_bytes or used >= self._start:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total <= self.max_bytes


def _default_folder() -> Path:
    folder = cache_folder()
    if folder is not None:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if os.access(existing, os.W_OK):
            return folder / "frames"
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in a container
        user = str(os.getuid())
    return Path(tempfile.gettempdir()) / f"paddlevideo-{user}" / "frames"


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """(time of last use, size in bytes, path) of each stored file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".npy"):
                with contextlib.suppress(OSError):  # another process removed it in this moment
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, Path(entry.path)


def _stored(path: Path) -> CachedClip | None:
    """The clip in a file, None where there is none or it is damaged. Marks the file as used."""
    try:
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        with contextlib.suppress(OSError):  # of another user
            os.utime(path)
        with path.open("rb") as file:
            file.seek(frames.offset + frames.nbytes)
            fps = float(np.frombuffer(file.read(), np.float64)[0])
    except (OSError, ValueError, EOFError, IndexError):
        return None
    return CachedClip(frames, fps)
