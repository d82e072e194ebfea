"""Read and list files, remote or local."""

import io
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from paddlevideo.remote.access import MissingError, file_system, get_info, request
from paddlevideo.remote.block_cache import BLOCK
from paddlevideo.remote.copies import HOUR, find_files
from paddlevideo.remote.url_file import UrlFile
from paddlevideo.urls import is_url, is_web, path_suffix, scheme, shown


def open_url(path: str | Path) -> BinaryIO:
    """A file for reading in binary mode, seekable. Of a remote one, what is read is transferred, in
    blocks, with read-ahead where it is read on and on.

    Raises:
        MissingError, RemoteError, AccessError: see `access.request`. Reads raise them, too.
        OSError: a local file cannot be opened.
    """
    if not is_url(path):
        return open(path, "rb")
    return io.BufferedReader(UrlFile(str(path)), BLOCK)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises as `open_url`."""
    with open_url(path) as file:
        return file.read()


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder.

    Raises:
        RemoteError, AccessError: the server cannot be asked; see `access.request`.
    """
    if not is_url(path):
        return os.path.exists(path)
    try:
        get_info(str(path))
    except MissingError:
        return False
    return True


def file_identity(path: str | Path) -> tuple[int | None, str | int]:
    """Size (bytes) and version of a file; of a local one the time when it was changed.

    Raises:
        OSError, RemoteError, AccessError: there is no such file, or it cannot be asked for.
    """
    if is_url(path):
        info = get_info(str(path))
        return info.size, info.version
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def absolute_path(path: str | Path) -> str:
    """A path that does not depend on the working directory."""
    return str(path) if is_url(path) else os.path.abspath(path)


def is_folder(path: str | Path) -> bool:
    """Whether there is such a folder. An address of a web server is one if it ends with a slash.

    Raises:
        RemoteError, AccessError: see `exists`.
    """
    if not is_url(path):
        return os.path.isdir(path)
    if is_web(path):
        return str(path).endswith("/")
    try:
        return get_info(str(path)).is_folder
    except MissingError:
        return False


def is_file(path: str | Path) -> bool:
    """Whether there is such a file.

    Raises:
        RemoteError, AccessError: see `exists`.
    """
    if not is_url(path):
        return os.path.isfile(path)
    return not is_folder(path) and exists(path)


def list_url(url: str | Path, suffixes: Collection[str] | None = None) -> list[str]:
    """The files below a folder at any depth, sorted, without hidden ones.

    Args:
        suffixes: in lower case with the dot; None for all files.

    Raises:
        MissingError: there is no such folder, or it is empty.
        RemoteError, AccessError: see `access.request`; or a web server without a page that lists
            the folder.
    """
    url = str(url)
    paths = find_files(url)
    if not paths:
        raise MissingError(f"{shown(url)}: no such folder, or no file in it")
    start = _start(url.rstrip("/"))
    urls = [_url(start, path) for path, root in paths if not _is_hidden(path[len(root) :])]
    return [each for each in urls if suffixes is None or path_suffix(each) in suffixes]


def names_below(url: str) -> set[str]:
    """The paths of the files below a folder, relative to it; none where there is no folder.

    Raises:
        RemoteError, AccessError: see `access.request`.
    """
    try:
        return {os.path.relpath(path, root) for path, root in find_files(url.rstrip("/"))}
    except MissingError:
        return set()


def glob_url(pattern: str) -> list[str]:
    """The files that match a pattern, sorted, without hidden ones; `**` stands for folders at any
    depth.

    Raises:
        RemoteError, AccessError: see `access.request`.
    """
    try:
        entries = request(pattern, "glob", detail=True, seconds=HOUR)
    except MissingError:
        return []
    files = [name for name, entry in sorted(entries.items()) if entry.get("type") != "directory"]
    # The folders before the first wildcard are given: they may be hidden.
    given = re.split(r"[*?\[]", file_system(pattern)[1])[0].rpartition("/")[0]
    return [_url(_start(pattern), name) for name in files if not _is_hidden(name[len(given) :])]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _start(url: str) -> str:
    """What is before the paths of its file system in a URL: `s3://`, `hdfs://server:port`."""
    _, path = file_system(url)
    return url.removesuffix(path) if url.endswith(path) else f"{scheme(url)}://"


def _url(start: str, path: str) -> str:
    return path if is_url(path) else start + path
