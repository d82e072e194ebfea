"""Split names, listing the files of a folder, and what the relative paths of a list mean.

Training, prediction, checks, data preparation and feature extraction all use these rules.
"""

import fnmatch
import glob
import itertools
import os
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from paddlevideo.config.shipped import typed
from paddlevideo.data.lists import DatasetError
from paddlevideo.log import logger
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from paddlevideo.media.frame_files import numbered_images
from paddlevideo.remote import (
    exists,
    is_file,
    is_folder,
    is_url,
    join_path,
    list_url,
    parent_path,
    shown,
)
from paddlevideo.sample import Record
from paddlevideo.urls import is_web

# --- splits ---------------------------------------------------------------------------------------

SPLITS = ("train", "valid", "test")
# Split names that people write -> the name that this package uses.
SPLIT_OF_ALIAS = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validate": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
# Suffixes of the list of a split, tried in this order.
LIST_SUFFIXES = (".csv", ".jsonl", ".list", ".txt")


def split_name(text: str) -> str | None:
    """The split with this name, in any case: one of `SPLITS`, or None for another text."""
    return SPLIT_OF_ALIAS.get(text.strip().lower())


def list_name(split: str) -> str:
    """The name of a split in files on disk: `val` for "valid" (`val.csv`, column `split`)."""
    return "val" if split == "valid" else split


def split_under(root: str | Path, split: str) -> dict[str, str]:
    """Find a split in a data set that is one folder: `file_path`, and `data_prefix` for a list.

    The split is a list `<split>.csv`, `.jsonl`, `.list` or `.txt` in the folder, or a folder
    `<split>/<class>/`. The validation split may be called val, valid or validation.

    Raises:
        DatasetError: the split does not exist; the message names the command that makes it.
    """
    names = ("val", "valid", "validation") if split_name(split) == "valid" else (split,)
    for name, suffix in itertools.product(names, LIST_SUFFIXES):
        if is_file(join_path(root, name + suffix)):
            return {"file_path": join_path(root, name + suffix), "data_prefix": str(root)}
    for name in names:
        if is_folder(join_path(root, name)):
            return {"file_path": join_path(root, name)}
    if not is_folder(root):
        raise DatasetError(f"{root}: no such folder")
    if split == "test":
        raise DatasetError(_no_test_split(root))
    check = typed("tools/check_data.py", "check-data")
    raise DatasetError(f"{root}: no {names[0]}.csv in it; make one with: {check} {root}")


def _no_test_split(root: str | Path) -> str:
    """The message about a missing test set. A test needs a trained model, which knows this data."""
    other = ""
    for name, suffix in itertools.product(("val", "valid", "validation"), (*LIST_SUFFIXES, "")):
        if not other and Path(root, name + suffix).exists():
            path = Path(root, name + suffix)
            other = f", or test on the validation clips: -o DATASET.test.file_path={path}"
    check = typed("tools/check_data.py", "check-data")
    place, later = "give a folder per class: -o DATASET.test.file_path=FOLDER", ""
    if is_folder(join_path(root, "train")):
        place = f"put them into {root}/test/<class>/"
    elif is_url(root) or any(path.is_dir() for path in Path(root).iterdir()):
        later = f"{check} {root} --test_share 0.1"
    else:  # lists of videos in another folder
        later = f"{check} FOLDER_OF_VIDEOS --out {root} --test_share 0.1"
    return (
        f"{root}: no test.csv in it. A model that was trained on this folder may know clips that "
        f"are drawn from it now, so use other videos: {place}{other}"
        + (f". For the next training, draw a test set first: {later}" if later else "")
    )


# --- files below a folder -------------------------------------------------------------------------


def walk_folders(
    folder: str | Path,
    on_error: Callable[[OSError], object] | None = None,
    skip: Path | None = None,
) -> Iterator[tuple[Path, list[str]]]:
    """(folder, sorted names of its files) for a folder and all folders below it.

    Hidden names are left out. Symbolic links are followed, except a link to a folder above and a
    link to a folder that was visited before, so no file is listed twice. The files of a folder come
    before those of its sub-folders.

    Args:
        on_error: called with the error of a folder that cannot be read; None ignores it.
        skip: a folder that is not visited.
    """
    start = Path(folder).resolve()
    known = (start, *start.parents, *([skip.resolve()] if skip else ()))
    visited = {_identity(path) for path in known} - {None}
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        new_folders = []
        for name in sorted(folders):
            identity = _identity(os.path.join(parent, name))
            if name.startswith(".") or identity in visited:
                continue
            if identity is not None:
                visited.add(identity)
            new_folders.append(name)
        folders[:] = new_folders
        yield Path(parent), sorted(name for name in names if not name.startswith("."))


def _identity(path: str | Path) -> tuple[int, int] | None:
    """(device, inode) of a folder; None if it does not exist or the file system has no inodes."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None


def list_files(
    folder: str | Path, suffixes: Collection[str], skip: Path | None = None
) -> Iterator[Path]:
    """Files with these suffixes (lower case, with the dot) at any depth, in the order of
    `walk_folders`."""
    for parent, names in walk_folders(folder, skip=skip):
        for name in names:
            if os.path.splitext(name)[1].lower() in suffixes:
                yield parent / name


def glob_files(pattern: str) -> list[str]:
    """Files that match a pattern, sorted; `**` stands for folders at any depth.

    Folders below `**` are visited as by `walk_folders`, so a link to a folder above does not repeat
    their files. Python's `glob` follows such a link about forty times, and two of them for ever.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(name for name in glob.glob(pattern) if os.path.isfile(name))
    depth = parts.index("**")
    found = set()
    for start in glob.glob(str(Path(*parts[:depth]))):
        for parent, names in walk_folders(start):
            folders = parent.relative_to(start).parts
            found.update(
                str(parent / name)
                for name in names
                if _match((*folders, name), parts[depth:]) and (parent / name).is_file()
            )
    return sorted(found)


def _match(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the names of a path match those of a pattern."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_match(path[start:], pattern[1:]) for start in range(len(path) + 1))
    first = bool(path) and fnmatch.fnmatchcase(path[0], pattern[0])
    return first and _match(path[1:], pattern[1:])


def remote_paths(root: str, suffixes: Collection[str] | None = None) -> list[str]:
    """Paths of the files below a folder that is a URL, in the order of `walk_folders`.

    Args:
        suffixes: as of `list_files`; None for all files.

    Raises:
        MissingError, RemoteError, AccessError: see `remote.list_url`.
    """
    start = len(root.rstrip("/")) + 1

    def order(path: str) -> list[tuple[int, str]]:
        *folders, name = path.split("/")
        return [*((1, folder) for folder in folders), (0, name)]

    return sorted((url[start:] for url in list_url(root, suffixes)), key=order)


def remote_names(root: str, suffixes: Collection[str] | None = None) -> list[str]:
    """`remote_paths` as a list next to the files names them: `a b.mp4` for `a%20b.mp4` on a web
    server. `join_path` encodes them again."""
    paths = remote_paths(root, suffixes)
    return [urllib.parse.unquote(path) for path in paths] if is_web(root) else paths


def remote_frame_folders(paths: Iterable[str], pattern: str) -> list[str]:
    """The folders among these paths of files that `find_frame_folders` would find."""
    names: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        names.setdefault(folder, []).append(name)
    folders = sorted(names, key=lambda path: path.split("/"))
    first = {pattern.format(0), pattern.format(1)}
    fitting = [folder for folder in folders if not first.isdisjoint(names[folder])]
    return fitting or [folder for folder in folders if numbered_images(names[folder])]


def find_videos(folder: str | Path) -> Iterator[Path]:
    """Video files below a folder."""
    return list_files(folder, VIDEO_SUFFIXES)


def find_audio_files(folder: str | Path) -> Iterator[Path]:
    """Audio features (.npy), audio files and videos below a folder."""
    return list_files(folder, (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES))


def find_frame_folders(folder: str | Path, pattern: str) -> list[Path]:
    """Folders that contain the first file, number 0 or 1, that `pattern` names, as `img_{:05}.jpg`;
    if there are none, folders with numbered images of any name."""
    first = {pattern.format(0), pattern.format(1)}
    folders = list(walk_folders(folder))
    fitting = [parent for parent, names in folders if not first.isdisjoint(names)]
    return fitting or [parent for parent, names in folders if numbered_images(names)]


# --- relative paths of a list ---------------------------------------------------------------------

NUM_TRIED = 20  # paths of a list that decide which folder its paths are relative to


def base_folder(
    paths: Iterable[str],
    list_file: str | Path,
    prefix: str | Path | None = None,
    *,
    limit: int | None = NUM_TRIED,
    fix: str = "set data_prefix to the folder that contains the files",
) -> str:
    """The folder that the relative paths of a list start from; "" for the working directory.

    It is `prefix` if given. Otherwise the first path that exists decides: next to the list, or in
    the working directory. A path that exists in both, as two different files, is an error. Those of
    a list that is a URL start next to it.

    Args:
        paths: as written in the list; absolute ones are ignored.
        limit: number of relative paths to try, so that a list whose files are all missing is not
            searched to its end; None tries all.
        fix: what the error message advises.

    Raises:
        DatasetError: a path means two different files.
    """
    if prefix:
        return str(prefix)
    if is_url(list_file):
        return parent_path(list_file)
    base, folder = None, Path(list_file).parent
    relative = (path for path in paths if not os.path.isabs(path) and not is_url(path))
    for path in itertools.islice(relative, limit):
        next_to_list = os.path.join(folder, path)
        is_next_to_list, is_in_working_dir = os.path.exists(next_to_list), os.path.exists(path)
        if is_next_to_list and is_in_working_dir and not os.path.samefile(next_to_list, path):
            raise DatasetError(
                f"{list_file}: {path!r} is both {os.path.abspath(next_to_list)} and "
                f"{os.path.abspath(path)}, which are different files; {fix}"
            )
        if base is None and is_in_working_dir:
            base = ""
        elif base is None and is_next_to_list:
            base = str(folder)
    if base:
        logger.info("%s: paths are relative to its own folder", list_file)
    return base or ""


def check_paths(records: Sequence[Record], source: str, base: str) -> None:
    """Check that at least one of a few records, spread over the list, exists.

    If none does, the folder is wrong rather than a single file.

    Args:
        base: the folder that the paths start from, as from `base_folder`.

    Raises:
        DatasetError: none exists.
        RemoteError, AccessError: a server cannot be asked.
    """
    tried = records[:: max(1, len(records) // 10)]
    if any(exists(record.path) for record in tried):
        return
    if base:
        start = f"data_prefix {base!r}"
    else:
        start = f"the list's own folder and the working directory {os.getcwd()}"
    raise DatasetError(
        f"{source}: none of its files exists (tried {len(tried)} of {len(records)}, first "
        f"{shown(records[0].path)!r}), relative to {start}; "
        "set data_prefix to the folder that contains them"
    )
