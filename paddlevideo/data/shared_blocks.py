"""Arrays on their way from worker processes to the main process: files in shared memory.

Each loader has a folder of its own, `/dev/shm/paddlevideo-<host>-<process>-<random>`. Its file
`owner` is locked by the process of the loader and by its workers. The system releases the lock when
they end, so the next loader on this machine finds the folders of runs that were killed, also those
of other containers that share the memory, and removes them. Python's own shared memory is not used:
its blocks have random names, and the process that tracks them dies with a closed terminal.
"""

import contextlib
import errno
import itertools
import os
import platform
import re
import secrets
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from paddlevideo import log
from paddlevideo.files import try_lock

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "paddlevideo-"
OWNER = "owner"

# (name of the file, shape, dtype) of an array that `put` wrote.
Block = tuple[str, tuple[int, ...], str]


class SharedBlocks:
    """The shared memory of one loader.

    Args:
        base: where its folder is created; None for `/dev/shm`, or the folder for temporary files
            on systems without it.

    Raises:
        OSError: the folder cannot be created.
    """

    def __init__(self, base: Path | None = None):
        base = base or shared_memory_folder()
        remove_dead_blocks(base)
        host = re.sub(r"[^\w.]", "_", platform.node())[:40]
        name = f"{PREFIX}{host}-{os.getpid()}-{secrets.token_hex(4)}"
        new = base / f".{name}"  # no other loader takes it for a dead one before it is locked
        try:
            new.mkdir(0o700)
            owner = os.open(new / OWNER, os.O_RDWR | os.O_CREAT, 0o600)
            try_lock(owner)
            self.folder = new.rename(base / name)
        except OSError as error:
            text = f"cannot create {base / name} for the batches of loader processes"
            raise OSError(error.errno, f"{text}: {error.strerror}; use 0 workers") from error
        self._end = weakref.finalize(self, _close, self.folder, owner, os.getpid())

    def close(self) -> None:
        """Free all that is left, also what a killed worker had begun. The exit does the same."""
        self._end()


def _close(folder: Path, owner: int, process: int) -> None:
    if os.getpid() == process:  # not in a forked worker
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


_counter = itertools.count()


def put(folder: Path, array: np.ndarray) -> Block:
    """Write an array to shared memory.

    Raises:
        OSError: the memory is full; nothing of the array is left there.
    """
    path = folder / f"{os.getpid()}-{next(_counter)}"
    array = np.asarray(array, order="C")
    try:
        with path.open("xb") as file:
            file.write(array.reshape(-1).view(np.uint8).data)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"{folder.parent} is full; use fewer workers or a smaller batch "
            "(-o DATASET.num_workers=..., DATASET.batch_size=...), or a larger one "
            "(docker: --shm-size)",
        ) from error
    return path.name, array.shape, array.dtype.str


def take(folder: Path, block: Block) -> np.ndarray:
    """Read an array that `put` wrote, and free its memory."""
    name, shape, dtype = block
    array = np.fromfile(folder / name, dtype).reshape(shape)
    (folder / name).unlink()
    return array


def free(folder: Path, block: Block) -> None:
    """Free an array that nobody reads; it may be gone already."""
    (folder / block[0]).unlink(missing_ok=True)


def shared_memory_folder() -> Path:
    """Where blocks are written."""
    if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK):
        return SHARED_MEMORY
    return Path(tempfile.gettempdir())


def remove_dead_blocks(base: Path) -> None:
    """Remove and log what killed runs of this user left in shared memory."""
    for folder in sorted(base.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):  # of another user, or removed in this moment
            status = folder.lstat()
            if folder.is_symlink() or status.st_uid != os.geteuid():
                continue
            owner = os.open(folder / OWNER, os.O_RDWR)
            try:
                if try_lock(owner):
                    _remove(folder)
            finally:
                os.close(owner)


def _remove(folder: Path) -> None:
    blocks = [path for path in folder.iterdir() if path.name != OWNER]
    num_bytes = sum(path.stat().st_size for path in blocks)
    for path in blocks:
        path.unlink()
    (folder / OWNER).unlink()  # the last one: a folder with it is found again
    folder.rmdir()
    log.logger.info(
        f"removed {folder}: {len(blocks)} blocks ({num_bytes / 2**20:.1f} MB) of a run that was "
        "killed"
    )
