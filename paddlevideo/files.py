"""Whole files: written beside their place first, then moved there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; when the block ends well the file is synced and takes the place of `path`.

    Raises:
        OSError: the folder is missing, full or not writable; what stood at `path` before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        why = error.strerror or error
        raise OSError(
            error.errno, f"cannot write {path}: {why}; a file that was there before is kept"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink()
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def writable(path: str | Path) -> None:
    """Find out before long work whether `path` can be written: makes its folder, and a file in it for a moment.

    Raises:
        OSError: it cannot; the message names the path.
    """
    path = Path(path)
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror}; choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
