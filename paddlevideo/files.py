"""Complete files: written under a temporary name, then moved to their own; and locks.

A temporary name contains the machine and the process of its writer, so that what a killed writer
left is recognized and removed (`remove_leftovers`).
"""

import contextlib
import errno
import functools
import itertools
import json
import logging
import math
import os
import platform
import re
import shutil
import stat
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from paddlevideo.urls import RemoteError

try:
    import fcntl
except ImportError:  # not a Unix system
    fcntl = None

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# .<name>.<machine>-<process>-<number>.tmp, and .<name>.<process>.tmp of earlier versions
TEMPORARY = re.compile(
    r"\.(?P<name>.+?)\.((?P<machine>[0-9a-f]{8})-)?(?P<process>\d+)(?P<number>-\d+)?\.tmp"
)
NAME_BYTES = 200  # of a name inside a temporary name, which may have 255
FOREIGN_SECONDS = 24 * 3600  # age at which a file of another machine counts as left

logger = logging.getLogger("paddlevideo")
_numbers = itertools.count()


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; a block without errors moves that file to `path`.

    The file is synced to the disk before the move, so `path` never holds a part of a file. Missing
    parent folders are created. After an error the temporary file is removed.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full; an earlier file at
            `path` is unchanged. A `RemoteError` of the block is raised as it is.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except RemoteError:  # of what the block reads
        raise
    except OSError as error:
        reason = error.strerror or error
        text = f"cannot write {path}: {reason}; an earlier file of this name is kept"
        raise OSError(error.errno, text) from error
    finally:
        # An error of the clean-up must not hide the first error.
        with contextlib.suppress(OSError):
            temporary.unlink()
    # Sync the new name too; some file systems cannot sync a folder.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def check_writable(path: str | Path) -> None:
    """Check before long work that `path` can be written.

    Creates missing parent folders, and for a moment a temporary file next to `path`. Removes
    temporary files that killed writers of `path` left.

    Raises:
        OSError: `path` cannot be written; the message names it.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, {path.name})
        temporary.touch()
    except OSError as error:
        text = f"cannot write {path}: {error.strerror}; choose another path"
        raise OSError(error.errno, text) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def cache_folder() -> Path | None:
    """The folder of the cache: PADDLEVIDEO_HOME, else `paddlevideo` in the user's cache folder.

    It need not exist. None if there is no home folder. PADDLEVIDEO_CACHE is an earlier name of the
    variable.
    """
    given = os.environ.get("PADDLEVIDEO_HOME") or os.environ.get("PADDLEVIDEO_CACHE")
    if given:
        return Path(given).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    if shared and Path(shared).is_absolute():
        return Path(shared) / "paddlevideo"
    try:
        return Path.home() / ".cache" / "paddlevideo"
    except RuntimeError:  # no HOME, and no entry for this user
        return None


def temporary_name(path: Path) -> Path:
    """A new hidden name next to `path`, which `remove_leftovers` recognizes."""
    number = next(_numbers)
    return path.with_name(f".{_short(path.name)}.{machine()}-{os.getpid()}-{number}.tmp")


def _short(name: str) -> str:
    return os.fsencode(name)[:NAME_BYTES].decode("utf-8", "ignore")


def json_text(content: Any, indent: int | None = None) -> str:
    """JSON that every parser reads: NaN and infinity become null."""
    try:
        return json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(content), ensure_ascii=False, indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_regular(path: str | Path) -> None:
    """Refuse a FIFO, a device or a socket, which may have no end; a folder fails when it is opened.

    Raises:
        OSError: `path` is one of these, or there is no such file.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "a FIFO" if stat.S_ISFIFO(mode) else "a device or socket"
        raise OSError(errno.EINVAL, f"{kind}, expected a regular file", str(path))


# --- what killed writers left ---------------------------------------------------------------------


def remove_leftovers(
    folder: Path, names: Collection[str] | None = None, own: tuple[str, ...] = ()
) -> list[str]:
    """Remove and log temporary files and folders whose writers were killed.

    A writer on this machine is dead if its process has ended. What another machine wrote counts as
    left after a day.

    Args:
        names: only those of files with these names; None removes those of all files.
        own: how names begin that nobody writes now, so that all their temporary files are left.

    Returns:
        the names of what was removed.
    """
    shortened = None if names is None else {_short(name) for name in names}
    removed = []
    with contextlib.suppress(OSError):  # no such folder, or it cannot be read
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            match = TEMPORARY.fullmatch(entry.name)
            if not match or (shortened is not None and match["name"] not in shortened):
                continue
            if not match["name"].startswith(own) and _may_be_in_use(entry, match):
                continue
            with contextlib.suppress(OSError):  # removed in this moment, or of another user
                is_folder = entry.is_dir(follow_symlinks=False)
                shutil.rmtree(entry) if is_folder else os.unlink(entry)
                removed.append(entry.name)
    if removed:
        logger.info("%s: removed temporary files of killed runs: %s", folder, ", ".join(removed))
    return removed


def _may_be_in_use(entry: os.DirEntry, match: re.Match) -> bool:
    if match["machine"] not in (None, machine()):
        with contextlib.suppress(OSError):
            return time.time() - entry.stat(follow_symlinks=False).st_mtime < FOREIGN_SECONDS
        return True
    process = int(match["process"])
    if process == os.getpid():
        return match["number"] is not None  # another thread may be writing it
    return _is_running(process)


def _is_running(process: int) -> bool:
    if os.name == "nt":
        # On Windows os.kill would end the process instead of testing for it.
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        # It runs, but belongs to another user.
        return True
    return True


@functools.cache
def machine() -> str:
    """Eight characters for where process numbers are valid: host, running kernel and container."""
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return f"{zlib.crc32(f'{platform.node()} {boot_id()} {container}'.encode()):08x}"


# --- locks --------------------------------------------------------------------------------------


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file for this process, until it closes the file or ends in any way.

    Returns:
        True: locked. False: another process holds the lock. None: the file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def boot_id() -> str:
    """What names the running system kernel, which holds the locks of all its containers."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()
