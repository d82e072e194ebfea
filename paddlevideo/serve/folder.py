"""The folder of uploads: each file is removed with its request, and what a kill left at the start.

A running service holds a lock in its folder. The system releases it when the process ends in any
way, so the next service recognizes the folders of killed ones, also those of other containers that
share the disk.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from paddlevideo.files import try_lock
from paddlevideo.log import logger

PREFIX = "paddlevideo-serve-"
LOCK = "lock"
UNLOCKED_SECONDS = 3600  # age at which a folder without a lock file counts as left


class UploadFolder:
    """A new folder for the uploads of one service.

    Args:
        base: where it is created; None for the system's folder for temporary files.

    Attributes:
        path: the folder.
        removed: how many folders of killed services were removed.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, base: Path | None = None):
        base = Path(base or tempfile.gettempdir())
        try:
            base.mkdir(parents=True, exist_ok=True)
            self.removed = remove_dead_folders(base)
            self.path, self._lock = _locked_folder(base)
        except OSError as error:
            text = f"cannot create a folder for uploads in {base}: {error.strerror}"
            raise OSError(error.errno, f"{text}; choose another with --temp_dir") from error
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def file(self) -> Iterator[Path]:
        """Yield a new path without suffix; the block's end removes all files that begin with it."""
        path = self.path / f"{next(self._numbers)}-"
        try:
            yield path
        finally:
            for name in self.files():
                if name.startswith(path.name):
                    (self.path / name).unlink(missing_ok=True)

    def files(self) -> list[str]:
        """The names of the uploads that are there now."""
        return sorted(name for name in os.listdir(self.path) if name != LOCK)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_dead_folders(base: Path) -> int:
    """Remove the folders of services that were killed; returns their number."""
    removed = 0
    for path in sorted(base.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):  # of another user, or removed in this moment
            if path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.getuid():
                continue
            if _is_dead(path):
                shutil.rmtree(path)
                removed += 1
    if removed:
        logger.info(f"{base}: removed the uploads of {removed} killed service(s)")
    return removed


def _is_dead(path: Path) -> bool:
    try:
        lock = os.open(path / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return time.time() - path.stat().st_mtime > UNLOCKED_SECONDS
    try:
        return bool(try_lock(lock))
    finally:
        os.close(lock)


def _locked_folder(base: Path) -> tuple[Path, int | None]:
    """(a new folder, the descriptor of its lock)."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        # A service that starts at the same moment may have taken the new folder for a dead one.
        if try_lock(lock) is not False and (path / LOCK).exists():
            return path, lock
        os.close(lock)
