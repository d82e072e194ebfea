"""One training per output folder: `run.lock` names the run that writes there.

The file is locked (flock), and the system releases the lock when the process ends, however it ends.
Some shared file systems have no such locks, or keep them per machine. Therefore the owner also sets
the file's time every few seconds. Where the lock cannot decide, a new run watches that time for a
while: if it moves, the owner is alive.
"""

import contextlib
import errno
import json
import os
import platform
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from paddlevideo import dist, log
from paddlevideo.files import boot_id, try_lock

FILE = "run.lock"
BEAT = 5.0  # seconds between two signs of life
WATCH = 20.0  # seconds without a sign of life after which an owner counts as dead

logger = log.logger
_held: weakref.WeakSet["RunLock"] = weakref.WeakSet()


class FolderInUse(ValueError):
    """Another run writes to the output folder."""


class RunLock:
    """The lock of an output folder, held by this process.

    Args:
        path: the file of the lock.
        descriptor: the open file.
        text: the content of the file, unique to this lock.
    """

    def __init__(self, path: Path, descriptor: int, text: str):
        self.path, self.text = path, text
        self._descriptor = descriptor
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run lock", daemon=True)
        self._thread.start()
        _close_in_forks(self)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # `check` reports a folder that is gone
                os.utime(self._descriptor)

    def is_kept(self) -> bool:
        """Whether the file is as this run wrote it; False where the folder was removed.

        Raises:
            FolderInUse: another run has taken the folder; nothing more may be written there.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a shared file system that is away for a moment
            return True
        if text not in (self.text, ""):
            raise FolderInUse(
                f"{self.path.parent}: {describe_owner(text)} has taken this output folder while "
                "this run was writing to it, because the lock of this run was deleted; this run "
                "stops without writing more"
            )
        return True

    def check(self) -> None:
        """Report an output folder that was removed during the run.

        Raises:
            FolderInUse: see `is_kept`.
            OSError: the folder was removed.
        """
        if not self.is_kept():
            raise OSError(
                errno.ENOENT,
                f"{self.path.parent} was removed or emptied while this run was writing to it: its "
                "log, metrics and earlier checkpoints are gone. The state of this moment was saved "
                "there; continue with --resume",
            )

    def release(self) -> None:
        """Give the folder free."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError, FolderInUse):
            if self.is_kept():
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the file, which ends the lock; the file itself remains."""
        if self in _held:
            _held.discard(self)
            os.close(self._descriptor)


@contextlib.contextmanager
def output_folder(folder: str | Path) -> Iterator[RunLock | None]:
    """Hold the output folder of a training for a block; created where it is missing.

    The first rank holds it for all ranks; the others get None. Tests, exports and reports read a
    folder without a lock.

    Raises:
        FolderInUse: another run holds it; the message names its host and process.
        OSError: the folder cannot be written.
    """
    if not dist.is_main():
        yield None
        return
    with log.session():  # on the console alone: log.txt may belong to the other run
        lock = acquire(Path(folder))
    try:
        yield lock
    finally:
        lock.release()


def acquire(folder: Path) -> RunLock:
    """Take the lock of a folder; see `output_folder`."""
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                return _take(path, descriptor)
            except _Removed:
                os.close(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
    except OSError as error:
        raise log.folder_error(folder, error) from error


class _Removed(Exception):
    """The file was removed between opening and locking it, by a run that has just ended."""


def _take(path: Path, descriptor: int) -> RunLock:
    locked = try_lock(descriptor)
    owner = _content(descriptor)
    if locked is False:
        raise _in_use(path, owner)
    if not _is_at(path, descriptor):
        raise _Removed
    if owner:
        if not (locked and _field(owner, "boot") == boot_id()) and _is_alive(path, owner):
            raise _in_use(path, owner)
        logger.info(f"{path.parent}: {describe_owner(owner)} was killed; this run takes its place")
    text = _own_text()
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    os.fsync(descriptor)
    if locked is None:
        time.sleep(1)  # two runs that start at once both write; the last one has the folder
        text_now = path.read_text(encoding="utf-8")
        if text_now != text:
            raise _in_use(path, text_now)
    return RunLock(path, descriptor, text)


def _is_alive(path: Path, owner: str) -> bool:
    """Watch an owner on another machine, or on a file system without locks, for a sign of life.

    Raises:
        _Removed: it has ended meanwhile.
    """
    logger.info(
        f"{path.parent}: {describe_owner(owner)} has used this folder; "
        f"waiting {WATCH:g} s for a sign of life from it ..."
    )
    before, end = _time_of(path), time.monotonic() + WATCH
    while time.monotonic() < end:
        time.sleep(min(1.0, WATCH / 4))
        if _time_of(path) != before:
            return True
    return False


def _time_of(path: Path) -> int:
    """The file's time (ns); opening a file makes NFS ask its server instead of a cache.

    Raises:
        _Removed: there is no such file any more.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise _Removed from None
    try:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> str:
    return os.pread(descriptor, 10_000, 0).decode("utf-8", "replace")


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _own_text() -> str:
    return json.dumps(
        {
            "host": platform.node(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": " ".join(sys.argv)[:500],
            "boot": boot_id(),
            "token": secrets.token_hex(8),
        }
    )


def _field(owner: str, name: str) -> str:
    """A value of the content of a lock, "?" where it is damaged."""
    try:
        content = json.loads(owner)
    except ValueError:
        content = None
    return str(content.get(name, "?")) if isinstance(content, dict) else "?"


def describe_owner(owner: str) -> str:
    """The run that wrote this content of a lock, as text."""
    values = {name: _field(owner, name) for name in ("pid", "host", "since")}
    return "the run of process {pid} on {host} (since {since})".format(**values)


def _in_use(path: Path, owner: str) -> FolderInUse:
    return FolderInUse(
        f"{path.parent}: {describe_owner(owner)} is writing to this output folder. Wait for it or "
        f"stop it (kill {_field(owner, 'pid')}), or choose another folder with -o output_dir=... "
        f"If you are sure that it has ended, delete {path}"
    )


# --- forked processes ---------------------------------------------------------------------------

_hook = threading.Event()


def _close_in_forks(lock: RunLock) -> None:
    """Let forked processes close the file: they inherit the lock, and may outlive its owner."""
    _held.add(lock)
    if not _hook.is_set() and hasattr(os, "register_at_fork"):
        _hook.set()
        os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    for lock in list(_held):
        lock.close()
