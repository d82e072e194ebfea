"""Which shards of frame features a path means.

It is one of
- a list: the path of a shard on each line, as in PaddleCV's train.list;
- a folder: its *.tfrecord files at any depth, or its *.pkl files if there are no *.tfrecord files;
- a glob such as "data/yt8m/train*.tfrecord";
- one shard.

Each of them may be a URL (remote/). A shard is a TFRecord file or a pickle of PaddleCV's converter;
its first bytes decide which.
"""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from paddlevideo.data.lists import DatasetError, Problems, read_path_list
from paddlevideo.data.paths import base_folder, glob_files, list_files
from paddlevideo.data.youtube8m import tfrecord
from paddlevideo.log import logger
from paddlevideo.remote import (
    RemoteError,
    glob_url,
    is_folder,
    is_url,
    join_path,
    list_url,
    path_suffix,
    shown,
    without_query,
)

SUFFIXES = (".tfrecord", ".tfrecords")
PICKLES = (".pkl", ".pickle")
COMPRESSED = "compressed with gzip, so single records cannot be read; unpack it with gunzip"


def find_shards(file_path: str, data_prefix: str | None = None) -> list[str]:
    """Return the paths of the shards, in the order of a list, otherwise sorted.

    Args:
        file_path: a list, a folder, a glob or a shard.
        data_prefix: folder that the paths of a list are relative to; None as in `base_folder`.

    Raises:
        DatasetError: no shards. For a list, the message names every wrong line.
    """
    if is_url(file_path):
        return _at_url(file_path, data_prefix)
    path = Path(file_path)
    if path.is_dir():
        return _of_one_kind(path, map(str, list_files(path, SUFFIXES + PICKLES)))
    if not path.exists() and glob.has_magic(file_path):
        matches = glob_files(file_path)
        if not matches:
            raise DatasetError(f"{file_path}: no file matches this pattern")
        return matches
    if not path.exists():
        raise DatasetError(
            f"{file_path}: no such file or folder; "
            "set file_path to a list of shards, a folder, a glob or a shard"
        )
    with path.open("rb") as file:
        first = file.read(4096)
    kind = kind_of(first)
    if path.suffix.lower() in SUFFIXES + PICKLES or kind in ("tfrecord", "pickle"):
        return [str(path)]
    if kind == COMPRESSED:
        raise DatasetError(f"{path}: {kind}")
    return _in_list(path, data_prefix)


def _at_url(url: str, data_prefix: str | None) -> list[str]:
    """`find_shards` for a URL. Whether the shards of a list exist shows when they are read."""
    try:
        if path_suffix(url) in SUFFIXES + PICKLES and not set("*[") & set(without_query(url)):
            return [url]
        if set("*[") & set(without_query(url)):
            return _of_one_kind(url, glob_url(url))
        if is_folder(url):
            return _of_one_kind(url, list_url(url, SUFFIXES + PICKLES))
        return _in_list(url, data_prefix)
    except RemoteError as error:
        raise DatasetError(f"{shown(url)}: no shards: {error}") from error


def _of_one_kind(folder: str | Path, found: Iterable[str]) -> list[str]:
    """The TFRecord files among those of a folder, or its pickles if there are no TFRecord files."""
    paths = list(found)
    tfrecords = [path for path in paths if path_suffix(path) in SUFFIXES]
    pickles = [path for path in paths if path_suffix(path) in PICKLES]
    if not paths:
        raise DatasetError(
            f"{shown(folder)}: no shards in this folder; their names end in .tfrecord (or .pkl)"
        )
    if tfrecords and pickles:
        message = "%s: %d .tfrecord files are used, %d .pkl files are not"
        logger.info(message, shown(folder), len(tfrecords), len(pickles))
    return tfrecords or pickles


def _in_list(file: str | Path, data_prefix: str | None) -> list[str]:
    """Read a list with the path of a shard on each line."""
    lines = [readings[0][:2] for readings in read_path_list(file, "a shard, or a list of shards")]
    if not lines:
        raise DatasetError(
            f"{shown(file)}: no shards in this list; write the path of one on each line"
        )
    base = base_folder([path for _, path in lines], file, data_prefix)
    problems = Problems(shown(file))
    line_of_path: dict[str, int] = {}
    for line, written in lines:
        path = join_path(base, written)
        if path in line_of_path:
            problems.add(
                line,
                f"{shown(written)} is already on line {line_of_path[path]}; its videos would "
                "count twice",
            )
        elif not is_url(path) and not os.path.isfile(path):
            where = f"in {base}" if base else "in the working directory"
            problems.add(
                line,
                f"no file {written} {where}; set data_prefix to the folder that contains the files",
            )
        line_of_path.setdefault(path, line)
    problems.stop()
    return list(line_of_path)


def kind_of(first: bytes) -> str:
    """Identify a file by its first bytes: "tfrecord", "pickle", or why it is not a shard."""
    if len(first) >= tfrecord.HEADER.size:
        crc = tfrecord.HEADER.unpack_from(first)[1]
        if tfrecord.masked_crc(first[:8]) == crc:
            return "tfrecord"
    if first[:2] == b"\x1f\x8b":
        return COMPRESSED
    if (first[:1] == b"\x80" and first[1:2] in b"\2\3\4\5") or first[:3] in (b"(lp", b"(dp"):
        return "pickle"
    # The last character may be cut off, so up to 3 bytes may be missing from the text.
    text = first[:40].decode("utf-8", "ignore")
    if len(text.encode()) > len(first[:40]) - 4 and "".join(text.split()).isprintable():
        return f"not a TFRecord file but text that begins with {text[:20]!r}"
    return "not a TFRecord file, or its first record's header is damaged"
