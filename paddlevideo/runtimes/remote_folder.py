"""Exported models that are URLs: fetched to the cache as whole folders."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paddlevideo.log import logger
from paddlevideo.remote import (
    MissingError,
    RemoteError,
    check_storable,
    exists,
    is_url,
    join_path,
    local_copy,
    local_folder,
    parent_path,
    path_name,
    path_suffix,
    put_file,
    shown,
)
from paddlevideo.runtimes.base import BackendError
from paddlevideo.runtimes.manifest import EXPORT_DIR, FILE, read_manifest

# Of files that are a program, or belong to one.
PROGRAM_SUFFIXES = (".json", ".onnx", ".pdmodel", ".xml")


def local_model(model: str) -> Path:
    """The files of an exported model in the cache.

    Args:
        model: URL of an exported folder, of the run with `inference/` in it, or of a program, whose
            folder is fetched.

    Raises:
        BackendError: there is no model.
        AccessError: see `remote.local_copy`.
    """
    is_program = path_suffix(model) in PROGRAM_SUFFIXES
    try:
        if is_program:
            return _folder(parent_path(model)) / path_name(model)
        return _folder(model.rstrip("/"))
    except (MissingError, RemoteError) as error:
        raise BackendError(f"{error}; give the URL of an exported folder") from error


@contextmanager
def writable_model(model: str | Path) -> Iterator[Path]:
    """The folder of an exported model, to write files into it.

    That of a URL is a copy; when the block ends without an error, what is new or has changed in it
    is stored, its model.yaml last.

    Raises:
        BackendError, AccessError: see `local_model`.
        RemoteError: it cannot be stored, as on a web server.
    """
    if not is_remote(model):
        yield Path(model)
        return
    url = _export_url(str(model))
    check_storable(url)
    with tempfile.TemporaryDirectory(prefix="paddlevideo-") as work:
        folder = Path(work, path_name(url))
        # A file in the cache may be linked from several places, so it is not written.
        shutil.copytree(local_model(url), folder, ignore=shutil.ignore_patterns(".*"))
        before = _states(folder)
        yield folder
        changed = [name for name, state in _states(folder).items() if before.get(name) != state]
        for name in sorted(changed, key=lambda name: name == FILE):
            put_file(folder / name, join_path(url, name))


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    """{name: (inode, time of change)} of the files in a folder."""
    found = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def _export_url(url: str) -> str:
    """The URL of an exported folder, which may be that of the run with the folder in it."""
    url = url.rstrip("/")
    inside = join_path(url, EXPORT_DIR)
    return inside if not exists(join_path(url, FILE)) and exists(join_path(inside, FILE)) else url


def _folder(url: str) -> Path:
    folder = _export_url(url)
    if exists(join_path(folder, FILE)):
        # The description names the files, so that nothing has to list the folder.
        manifest = read_manifest(local_copy(join_path(folder, FILE)).parent)
        assert manifest is not None
        logger.info(f"fetching {shown(folder)}, or comparing the copy in the cache")
        return local_folder(folder, [FILE, *manifest.files])
    return local_folder(url)


def is_remote(model: object) -> bool:
    """Whether a model is given by URL."""
    return isinstance(model, str) and is_url(model)
