"""A feature set at a URL: it is made in a folder of the cache, and stored when the run ends."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from paddlevideo.files import cache_folder
from paddlevideo.log import logger
from paddlevideo.remote import (
    RemoteError,
    check_storable,
    exists,
    is_url,
    join_path,
    local_copy,
    local_folder,
    names_below,
    path_name,
    put_file,
    remove,
    shown,
)


@contextlib.contextmanager
def local_set(out: str | Path) -> Iterator[Path]:
    """The folder in which a feature set is made; `out` itself where it is local.

    That of a URL begins with the files that are stored there. What is new or has changed is stored
    when the block ends, also after an error or Ctrl-C, so that the next run continues, on any
    machine. What a killed run has made stays in the folder, for the next run on this machine.

    Raises:
        RemoteError, AccessError: the URL cannot be read or written.
    """
    if not is_url(out):
        yield Path(out)
        return
    url = str(out).rstrip("/")
    check_storable(url)
    cache = cache_folder()
    if cache is None:
        raise RemoteError(
            f"{shown(url)}: it is made in a folder of this machine first, and there is no home "
            "folder; name one with PADDLEVIDEO_HOME"
        )
    work = cache / "features" / hashlib.sha256(url.encode()).hexdigest()[:20] / path_name(url)
    work.mkdir(parents=True, exist_ok=True)
    stored = {name for name in names_below(url) if "/" not in name}
    before = {}
    for name in stored:  # what a killed run has left here is later, and is stored again
        if not (work / name).exists():
            shutil.copyfile(local_copy(join_path(url, name)), work / name)
            before[name] = _state(work / name)
    try:
        yield work
    finally:
        _store(work, url, before, stored)
    shutil.rmtree(work.parent)


def _store(work: Path, url: str, before: dict[str, tuple[int, int]], stored: set[str]) -> None:
    """Store what has changed; the shards come before the file that lists the failures in them."""
    names = [path.name for path in work.iterdir() if path.is_file() and path.name[:1] != "."]
    changed = [name for name in names if before.get(name) != _state(work / name)]
    for name in sorted(changed, key=lambda name: (not name.endswith(".tfrecord"), name)):
        put_file(work / name, join_path(url, name))
    for name in stored - set(names):
        remove(join_path(url, name))
    if changed:
        logger.info(f"{len(changed)} files are stored in {shown(url)}")


def _state(file: Path) -> tuple[int, int]:
    """(inode, time of change)."""
    status = file.stat()
    return status.st_ino, status.st_mtime_ns


def local_features(folder: str | Path) -> Path:
    """The files of a feature set that describe it: recipe, codecs, class names. Those of a URL are
    copied to the cache.

    Raises:
        MissingError, RemoteError, AccessError: see `remote.local_folder`.
    """
    if not is_url(folder):
        return Path(folder)
    names = ("extractor.json", "fitted.npz", "labels.txt", "whitening.npy")
    there = [name for name in names if exists(join_path(folder, name))]
    return local_folder(folder, there)
