"""Files that are stored: an object appears or is replaced as a whole, when all of it is there."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from paddlevideo.files import atomic_write, machine
from paddlevideo.remote.access import (
    MissingError,
    RemoteError,
    attempts,
    call,
    file_system,
    forget,
    get_info,
    request,
)
from paddlevideo.remote.copies import HOUR, SLOWEST
from paddlevideo.urls import is_url, is_web, join_path, path_name, scheme, shown

# Whose objects appear as a whole.
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "oss", "tos", "abfs", "az", "memory")


def check_storable(path: str | Path) -> None:
    """
    Raises:
        RemoteError: the address of a web server, whose files can only be read.
    """
    if is_web(path):
        raise RemoteError(
            f"{shown(path)}: files of web servers can only be read; give a local path, or the URL "
            "of an object store, as s3://bucket/folder"
        )


def put_file(source: Path, url: str) -> None:
    """Store a local file; an earlier one is replaced as a whole, when all has arrived.

    Raises:
        RemoteError, AccessError: see `access.request`.
    """
    check_storable(url)
    found, path = file_system(url)
    seconds = 60 + source.stat().st_size / SLOWEST

    def once() -> None:
        if scheme(url) in OBJECT_STORES:
            call(found, "put_file", str(source), path, seconds=seconds)
            return
        found.makedirs(found._parent(path), exist_ok=True)
        temporary = f"{path}.{machine()}-{os.getpid()}.tmp"
        call(found, "put_file", str(source), temporary, seconds=seconds)
        if found.exists(path):
            found.rm_file(path)
        found.mv(temporary, path)

    attempts(url, once)
    forget(url)


def put_folder(source: Path, url: str, last: Sequence[str] = ()) -> None:
    """Store all files below a local folder, without hidden ones.

    Args:
        last: names of files that come after all others, as the one that describes them.
    """
    paths = (path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file())
    names = [path.as_posix() for path in paths if not any(p.startswith(".") for p in path.parts)]
    for name in sorted(names, key=lambda name: name in last):
        put_file(source / name, join_path(url, name))


@contextlib.contextmanager
def written(path: str | Path, last: Sequence[str] = ()) -> Iterator[Path]:
    """A local path to write in place of `path`, a file or a folder.

    If `path` is a URL, what was written is stored when the block ends without an error. A local
    path is yielded as it is.

    Args:
        last: of a folder, the names of files that are stored after all others.
    """
    if not is_url(path):
        yield Path(path)
        return
    check_storable(path)
    with tempfile.TemporaryDirectory(prefix="paddlevideo-") as folder:
        local = Path(folder, path_name(path))
        yield local
        if local.is_dir():
            put_folder(local, str(path), last)
        elif local.exists():
            put_file(local, str(path))


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """`files.atomic_write` of a local file or of one at a URL: a path to write; a block without
    errors makes it the file `path`.

    Raises:
        OSError: it cannot be written; an earlier file is unchanged. Of a URL see `access.request`.
    """
    with written(path) if is_url(path) else atomic_write(path) as temporary:
        yield temporary


def remove(path: str | Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing where there is none.

    Raises:
        OSError: it cannot be removed. Of a URL see `access.request`.
    """
    if not is_url(path):
        local = Path(path)
        if local.is_dir() and not local.is_symlink():
            shutil.rmtree(local)
        else:
            local.unlink(missing_ok=True)
        return
    check_storable(path)
    url = str(path)
    with contextlib.suppress(MissingError):
        request(url, "rm", recursive=get_info(url, fresh=True).is_folder, seconds=HOUR)
    forget(url)
