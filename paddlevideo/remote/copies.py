"""Copies of whole files in the cache: lists, weights, exported folders.

A copy is `urls/<digest of the folder's URL>/<name>` in the cache folder, with the version of the
file in `.version-<name>`. It is used again while the server states that version. Copies that were
not used for a day are removed where all together exceed `COPIES` bytes.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from paddlevideo.files import atomic_write, cache_folder
from paddlevideo.remote.access import (
    Info,
    MissingError,
    RemoteError,
    file_system,
    get_info,
    request,
)
from paddlevideo.remote.block_cache import note_of, remove_oldest
from paddlevideo.urls import is_url, is_web, join_path, parent_path, path_name, shown
from paddlevideo.zoo.cache import alone
from paddlevideo.zoo.download import DownloadError, download, finish

COPIES = 20_000_000_000
DAY, HOUR = 24 * 3600, 3600  # seconds
SLOWEST = 100_000  # bytes per second; a slower transfer is given up


def copies_folder() -> Path:
    """The folder of the copies, which need not exist.

    Raises:
        RemoteError: there is no home folder.
    """
    folder = cache_folder()
    if folder is None:
        raise RemoteError(
            "remote files need a cache, and there is no home folder for it; name a folder with "
            "PADDLEVIDEO_HOME"
        )
    return folder / "urls"


def local_copy(path: str | Path) -> Path:
    """The complete file, in the cache; a local path is returned as it is.

    Of several processes that ask for a file, one fetches it and the others wait.

    Raises:
        MissingError, RemoteError, AccessError: it cannot be had; see `access.request`.
        OSError: the cache cannot be written, or is full.
    """
    if not is_url(path):
        return Path(path)
    url = str(path)
    folder = copies_folder()
    target = folder / _digest(parent_path(url) if not is_web(url) else url) / _file_name(url)
    info = get_info(url, fresh=True)
    if info.is_folder:
        raise RemoteError(f"{shown(url)}: a folder, expected a file")
    if not _is_current(target, info):
        with alone(target):
            if not _is_current(target, info):
                _fetch(url, target, info)
        remove_oldest(folder, COPIES, 0.9 * COPIES, min_age=DAY)
    with contextlib.suppress(OSError):
        os.utime(target)
    return target


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _file_name(url: str) -> str:
    name = path_name(url).replace("/", "_").replace("\0", "_") or "file"
    return f"_{name}" if name.startswith(".") else name


def _is_current(target: Path, info: Info) -> bool:
    try:
        known = json.loads(Path(note_of(target)).read_text(encoding="utf-8"))
        size = target.stat().st_size
    except (OSError, ValueError):
        return False
    return bool(info.version) and known == info.version and info.size in (None, size)


def _fetch(url: str, target: Path, info: Info) -> None:
    Path(note_of(target)).unlink(missing_ok=True)
    if is_web(url):
        try:
            part, _ = download(url, target)
        except DownloadError as error:
            kind = MissingError if error.status in (404, 410) else RemoteError
            raise kind(str(error)) from error
        finish(part, target)
    else:
        size = info.size or 0
        free = shutil.disk_usage(target.parent).free
        if size > free:
            raise OSError(
                f"{target.parent} has room for {free / 1e6:.1f} MB, and {shown(url)} has "
                f"{size / 1e6:.1f} MB; make room, or choose another folder with PADDLEVIDEO_HOME"
            )
        with atomic_write(target) as temporary:
            request(url, "get_file", str(temporary), seconds=60 + size / SLOWEST)
            if info.size not in (None, temporary.stat().st_size):
                raise RemoteError(f"{shown(url)}: it changed while it was fetched; run it again")
    with atomic_write(Path(note_of(target))) as temporary:
        temporary.write_text(json.dumps(info.version), encoding="utf-8")


def local_folder(path: str | Path, names: Sequence[str] | None = None) -> Path:
    """All files of a folder, in the cache; a local path is returned as it is.

    Files that the remote folder does not have any more are removed from the copy.

    Args:
        names: of the files in it; None asks the server, which a web server may not answer.

    Raises:
        MissingError: the folder has no files.
        RemoteError, AccessError: see `access.request`.
    """
    if not is_url(path):
        return Path(path)
    url = str(path).rstrip("/")
    if names is None:
        names = [os.path.relpath(path, root) for path, root in find_files(url)]
    if not names:
        raise MissingError(f"{shown(url)}: no such folder, or no file in it")
    folder = copies_folder() / _digest(url)
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise RemoteError(f"{shown(url)}: a file in it is called {name!r}")
        copy = local_copy(join_path(url, name))
        _link(copy, folder / name)
    for old in [file for file in folder.rglob("*") if file.is_file()]:
        hidden = any(part.startswith(".") for part in old.relative_to(folder).parts)
        if not hidden and old.relative_to(folder).as_posix() not in names:
            old.unlink()
    return folder


def find_files(url: str) -> list[tuple[str, str]]:
    """(path in the file system, path of the folder) of all files below a folder, sorted."""
    _, root = file_system(url)
    root = root.rstrip("/")
    entries = request(url, "find", detail=True, seconds=HOUR)
    return [
        (path, root)
        for path, entry in sorted(entries.items())
        if entry.get("type") != "directory" and path.rstrip("/") != root
    ]


def _link(copy: Path, target: Path) -> None:
    """Let a file of a folder be the copy."""
    if copy == target:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if target.samefile(copy):
            return
    with atomic_write(target) as temporary:
        try:
            os.link(copy, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(copy, temporary)
