"""Exported models that are URLs: fetched to the cache as whole folders."""

from pathlib import Path

from paddlevideo.log import logger
from paddlevideo.remote import (
    MissingError,
    RemoteError,
    exists,
    is_url,
    join_path,
    local_copy,
    local_folder,
    parent_path,
    path_name,
    path_suffix,
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


def _folder(url: str) -> Path:
    inside = join_path(url, EXPORT_DIR)
    for folder in (url, inside):
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
