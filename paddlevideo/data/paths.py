"""Which files there are: listing folders, the splits of a data set that is one folder, and what a relative path means."""

import itertools
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from paddlevideo.data.lists import DatasetError, Row
from paddlevideo.log import logger
from paddlevideo.media.containers import VIDEO_SUFFIXES, has_audio_suffix
from paddlevideo.sample import Record

LABELS = "labels.txt"


# Where the list of a split may be, in this order.
LIST_SUFFIXES = (".csv", ".jsonl", ".list", ".txt")


OTHER_NAMES = {"val": ("val", "valid", "validation"), "valid": ("val", "valid", "validation")}


def split_under(root: str | Path, split: str) -> dict[str, str]:
    """Where the split of a data set that is one folder is: `file_path`, and `data_prefix` for a list.

    A list `<split>.csv`, `.jsonl`, `.list` or `.txt` in the folder, or a folder `<split>/<class>/`.

    Args:
        split: train, valid (also called val) or test.

    Raises:
        DatasetError: there is none; says what makes one.
    """
    names = OTHER_NAMES.get(split, (split,))
    for name in names:
        for suffix in LIST_SUFFIXES:
            if Path(root, name + suffix).is_file():
                return {"file_path": str(Path(root, name + suffix)), "data_prefix": str(root)}
    for name in names:
        if Path(root, name).is_dir():
            return {"file_path": str(Path(root, name))}
    if not Path(root).is_dir():
        raise DatasetError(f"{root}: no such folder")
    share = " --test_share 0.1" if split == "test" else ""
    raise DatasetError(
        f"{root}: no {names[0]}.csv in it; make one with: python tools/check_data.py {root}{share}"
    )


def class_names_under(root: str | Path) -> str | None:
    """The file of class names in a data set that is one folder, None where there is none."""
    return next(
        (str(path) for path in (Path(root, LABELS), Path(root, "labels.json")) if path.is_file()),
        None,
    )


# Folder and column names of the splits as people write them -> ours.
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def plain(text: str) -> str:
    """Text without the differences that one does not see: capitals, and how accents are written."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normalized_name(name: str) -> str:
    """A class name without what people write differently: `Air_Drumming`, air-drumming, air drumming."""
    return re.sub(r"[\s_-]+", " ", plain(name)).strip()


TRIED = 20  # paths of a list, to see which folder they are relative to


def find_videos(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES:
                yield Path(parent, name)


def find_frame_folders(folder: Path, first: str) -> Iterator[Path]:
    """Folders below that hold the picture `first`."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if first in names:
            yield Path(parent)


def base_folder(rows: list[Row], file: Path, data_prefix: str | None) -> str:
    """The folder that all relative paths of a list are joined to; the first one that is there decides between the two usual
    folders (of a few, so that a list whose files are all missing is not searched to its end)."""
    if data_prefix:
        return data_prefix
    relative = (row.path for row in rows if not os.path.isabs(row.path))
    for path in itertools.islice(relative, TRIED):
        if os.path.exists(path):
            return ""
        if (file.parent / path).exists():
            logger.info("%s: paths are relative to its own folder", file)
            return str(file.parent)
    return ""


def check_paths(records: list[Record], source: str, base: str) -> None:
    """Stop where none of a few records, spread over the list, is there: then the folder is wrong, not a file."""
    some = records[:: max(1, len(records) // 10)]
    if not any(os.path.exists(record.path) for record in some):
        where = (
            f"data_prefix {base!r}"
            if base
            else f"the current directory {os.getcwd()} and the list's own folder"
        )
        raise DatasetError(
            f"{source}: none of its files is there (tried {len(some)} of {len(records)}, first {records[0].path!r}), "
            f"relative to {where}; set data_prefix to the folder that holds them"
        )


def find_audio_files(folder: Path) -> Iterator[Path]:
    """Features, sounds and videos below a folder, sorted; hidden names left out."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".") and has_audio_suffix(name)
        )
