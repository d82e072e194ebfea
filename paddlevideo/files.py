"""Complete files: written under a temporary name, then moved to their own."""

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; a block without errors moves that file to `path`.

    The file is synced to the disk before the move, so `path` never holds a part of a file. Missing
    parent folders are created. After an error the temporary file is removed.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full; an earlier file at
            `path` is unchanged.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
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

    Creates missing parent folders, and for a moment a temporary file next to `path`.

    Raises:
        OSError: `path` cannot be written; the message names it.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        text = f"cannot write {path}: {error.strerror}; choose another path"
        raise OSError(error.errno, text) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


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


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
