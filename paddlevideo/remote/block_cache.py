"""Blocks of remote files on the local disk: only what was read, up to a number of bytes.

A block is a file of its own, `<folder>/<2 digits>/<digest of URL and version>-<number>`: a CRC-32,
then the bytes. It appears by a rename, so several processes may use one folder. Where the limit is
nearly reached, the blocks that were not used for the longest time are removed. A process looks at
the folder after each 32nd part of the limit that it has written, so one process keeps the limit,
and each further one may exceed it by a 16th, for a moment.
"""

import contextlib
import contextvars
import errno
import hashlib
import os
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paddlevideo.files import remove_leftovers, temporary_name, try_lock
from paddlevideo.log import logger

BLOCK = 512 * 1024  # bytes
SMALLEST = 32 * BLOCK  # limit of a cache
FULL, KEPT = 0.94, 0.88  # of the limit: from when on blocks are removed, and what is left then
LOOKS = 32  # looks at the folder while the limit is written once
HEAD = 4  # bytes of the checksum
LOCK = ".lock"


@dataclass(frozen=True)
class CacheSettings:
    """Where blocks are stored, and how much of them.

    Args:
        folder: of the blocks; it need not exist.
        gigabytes: limit of all blocks in the folder, 10 ** 9 bytes each.

    Raises:
        ValueError: the limit is too small to be of use.
    """

    folder: str
    gigabytes: float = 50.0

    def __post_init__(self):
        if not self.gigabytes * 1e9 >= SMALLEST:
            raise ValueError(
                f"cache_gb is {self.gigabytes:g}, expected at least {SMALLEST / 1e9:.3f} "
                f"({SMALLEST // BLOCK} blocks of {BLOCK // 1024} KB); leave cache_dir out for no "
                "cache"
            )


_settings: contextvars.ContextVar[CacheSettings | None] = contextvars.ContextVar(
    "remote_cache", default=None
)
_caches: dict[tuple[CacheSettings, int], "Cache"] = {}


@contextlib.contextmanager
def use_cache(settings: CacheSettings | None) -> Iterator[None]:
    """Keep blocks that are read inside this `with`, by this thread; None keeps none on the disk."""
    token = _settings.set(settings)
    try:
        yield
    finally:
        _settings.reset(token)


def current_cache() -> "Cache | None":
    """The cache of the innermost `use_cache` of this thread."""
    settings = _settings.get()
    if settings is None:
        return None
    key = settings, os.getpid()  # the counts are those of one process
    if key not in _caches:
        _caches[key] = Cache(settings)
    return _caches[key]


class Cache:
    """The blocks in a folder. An error of the disk is logged once; reading goes on without it."""

    def __init__(self, settings: CacheSettings):
        self.folder = Path(settings.folder).expanduser()
        self.limit = int(settings.gigabytes * 1e9)
        self._written: int | None = None  # bytes since the last look; None before the first
        self._lock = threading.Lock()
        self._has_failed = False

    def get(self, name: str, number: int, size: int) -> bytes | None:
        """A block of this size (bytes); None if it is not there, or damaged."""
        path = self._path(name, number)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # of another user
            os.utime(path)  # removed later than blocks that were not used since
        block = content[HEAD:]
        if len(block) != size or zlib.crc32(block) != int.from_bytes(content[:HEAD], "big"):
            return None
        return block

    def put(self, name: str, number: int, block: bytes) -> None:
        """Store a block, unless another process has been removing old ones for long."""
        if not self._has_room():
            return
        path = self._path(name, number)
        temporary = temporary_name(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(zlib.crc32(block).to_bytes(HEAD, "big") + block)
            os.replace(temporary, path)
        except OSError as error:
            self._note(error)
            with contextlib.suppress(OSError):
                temporary.unlink()
            return
        with self._lock:
            self._written = (self._written or 0) + HEAD + len(block)

    def _has_room(self) -> bool:
        """Whether a block may be written; look at the folder where it is time to."""
        with self._lock:
            written = self._written
        is_first = written is None
        if not is_first and written * LOOKS < self.limit:
            return True
        if self.trim(clean=is_first):
            with self._lock:
                self._written = 0
            return True
        return (written or 0) * LOOKS < 2 * self.limit

    def trim(self, clean: bool = False) -> bool:
        """Remove the blocks that were not used for the longest time, where the limit is near.

        Args:
            clean: also remove what killed processes left.

        Returns:
            False where another process is doing it.
        """
        try:
            lock = (self.folder / LOCK).open("ab")
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # nothing is stored yet
                self._note(error)
            return True
        with lock:
            if try_lock(lock.fileno()) is False:
                return False
            remove_oldest(self.folder, self.limit * FULL, self.limit * KEPT, clean)
        return True

    def _path(self, name: str, number: int) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:40]
        return self.folder / digest[:2] / f"{digest[2:]}-{number}"

    def _note(self, error: OSError) -> None:
        if self._has_failed:
            return
        self._has_failed = True
        full = "; make room or set a smaller cache_gb" if error.errno == errno.ENOSPC else ""
        logger.warning(
            f"cache_dir {self.folder}: cannot write: {error.strerror or error}{full}; what does "
            "not fit is read from its server each time"
        )


def remove_oldest(
    folder: Path, limit: float, kept: float, clean: bool = False, min_age: float = 0.0
) -> None:
    """Remove the files of a folder's sub-folders that were not used for the longest time.

    Args:
        limit: bytes above which files are removed.
        kept: bytes that are left then.
        clean: also remove temporary files of killed processes.
        min_age: files that were used in the last so many seconds stay.
    """
    files = []
    for parent, _, names in os.walk(folder):
        if clean:
            remove_leftovers(Path(parent))
        for name in names:
            if name.startswith("."):
                continue
            with contextlib.suppress(OSError):  # removed in this moment
                path = os.path.join(parent, name)
                status = os.stat(path)
                files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= limit:
        return
    newest = time.time() - min_age
    for used, size, path in sorted(files):
        if total <= kept or (min_age and used > newest):
            return
        for old in (path, note_of(path)):
            with contextlib.suppress(OSError):
                os.unlink(old)
        total -= size


def note_of(path: str | Path) -> str:
    """The file that notes of which version a copy is; blocks have none."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".version-{name}")
