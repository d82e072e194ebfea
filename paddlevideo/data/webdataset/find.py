"""Which tar shards a path means.

It is one of
- a pattern with braces, `train-{000000..000099}.tar` or `{train,extra}-000000.tar`, each of which
  must exist;
- a glob, `train-*.tar`;
- a folder: the *.tar files in it, at any depth;
- a list (.txt, .list) with the path of a shard on each line;
- one shard.

Each of them may be a URL (remote/): `s3://bucket/train-{000000..000099}.tar`.
"""

import glob
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from paddlevideo.config.shipped import typed
from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Problems, read_path_list
from paddlevideo.data.paths import base_folder, glob_files, list_files
from paddlevideo.remote import (
    RemoteError,
    glob_url,
    is_url,
    join_path,
    list_url,
    local_copy,
    parent_path,
    path_suffix,
    shown,
    without_query,
)

SUFFIX = ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
LIST_SUFFIXES = (".txt", ".list")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
MAX_SHARDS = 1_000_000  # of a pattern


def names_shards(path: str) -> bool:
    """Whether a path means tar shards by its name: a shard, or a pattern of them."""
    return without_query(path).lower().endswith((SUFFIX, *PACKED))


def find_tars(file_path: str, data_prefix: str | None = None) -> list[str]:
    """The shards that a path means, in the order of a list or pattern, otherwise sorted.

    Args:
        data_prefix: folder that the paths of a list are relative to; None as in `base_folder`.

    Raises:
        DatasetError: there are none, or some of them do not exist.
    """
    if without_query(file_path).lower().endswith(PACKED):
        raise DatasetError(
            f"{shown(file_path)}: a compressed tar, of which single samples cannot be read; "
            "unpack it to a .tar (gunzip), or write shards with "
            f"{typed('tools/data/make_shards.py', 'data shards')}"
        )
    if is_url(file_path):
        return _at_url(file_path, data_prefix)
    path = Path(file_path)
    if path.is_dir():
        found = [str(file) for file in list_files(path, (SUFFIX,))]
        if not found:
            raise DatasetError(f"{file_path}: no *.tar in this folder")
        return found
    if not path.exists() and BRACES.search(file_path):
        return _existing(file_path, list(expand_braces(file_path)))
    if not path.exists() and glob.has_magic(file_path):
        return _matching(file_path, glob_files(file_path))
    if not path.exists():
        raise DatasetError(
            f"{file_path}: no such file or folder; set file_path to shards such as "
            "'shards/train-{000000..000099}.tar', a folder, or a list of shards"
        )
    return [file_path] if path.suffix.lower() == SUFFIX else _in_list(path, data_prefix)


def _at_url(url: str, data_prefix: str | None) -> list[str]:
    """`find_tars` for a URL. Whether the shards of a pattern exist shows when they are read."""
    try:
        if BRACES.search(url):
            return list(dict.fromkeys(expand_braces(url)))
        if set("*[") & set(without_query(url)):
            return _matching(url, glob_url(url))
        if path_suffix(url) == SUFFIX:
            return [url]
        if path_suffix(url) in LIST_SUFFIXES:
            return _in_list(local_copy(url), data_prefix or parent_path(url), url)
        return list_url(url, (SUFFIX,))
    except RemoteError as error:
        raise DatasetError(f"{shown(url)}: no shards: {error}") from error


def _matching(pattern: str, matches: list[str]) -> list[str]:
    if not matches:
        raise DatasetError(f"{shown(pattern)}: no file matches this pattern")
    return matches


def expand_braces(pattern: str) -> Iterator[str]:
    """The names of a pattern: `{08..11}` counts with as many digits, `{a,b}` lists.

    Raises:
        DatasetError: a range that counts down, or more than MAX_SHARDS names.
    """
    parts: list[list[str]] = []
    total, end = 1, 0
    for match in BRACES.finditer(pattern):
        first, last, words = match.groups()
        if words is not None:
            names = words.split(",")
        else:
            if int(last) < int(first):
                raise DatasetError(
                    f"{shown(pattern)}: {match[0]} counts down; write the smaller first"
                )
            count = int(last) - int(first) + 1
            if count > MAX_SHARDS:
                raise DatasetError(f"{shown(pattern)}: {match[0]} means {count} shards")
            names = [f"{int(first) + step:0{len(first)}}" for step in range(count)]
        total *= len(names)
        if total > MAX_SHARDS:
            raise DatasetError(f"{shown(pattern)}: it means more than {MAX_SHARDS} shards")
        parts += [[pattern[end : match.start()]], names]
        end = match.end()
    parts.append([pattern[end:]])
    return ("".join(words) for words in itertools.product(*parts))


def _existing(pattern: str, paths: list[str]) -> list[str]:
    """
    Raises:
        DatasetError: some of the paths do not exist.
    """
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        names = ", ".join(missing[:MAX_SHOWN])
        more = f", ... ({len(missing)} in total)" if len(missing) > MAX_SHOWN else ""
        raise DatasetError(
            f"{pattern}: {len(missing)} of {len(paths)} shards do not exist: {names}{more}"
        )
    return list(dict.fromkeys(paths))


def _in_list(file: Path, data_prefix: str | None, name: str = "") -> list[str]:
    """The shards of a list, one on each line.

    Args:
        name: of the list, where the file is a copy of it.
    """
    lines = [readings[0][:2] for readings in read_path_list(file, "a shard, or a list of shards")]
    if not lines:
        raise DatasetError(
            f"{shown(name or file)}: no shards in this list; write the path of one on each line"
        )
    local = [path for _, path in lines if not is_url(path)]
    base = base_folder(local, file, data_prefix)
    problems, line_of_path = Problems(shown(name or file)), {}
    for line, written in lines:
        path = join_path(base, written)
        if not names_shards(written):
            problems.add(line, f"{shown(written)} is not a shard (.tar)")
        elif path in line_of_path:
            text = (
                f"{shown(written)} is already on line {line_of_path[path]}; its samples would count"
            )
            problems.add(line, f"{text} twice")
        elif not is_url(path) and not os.path.isfile(path):
            where = f"in {base}" if base else "in the working directory"
            text = f"no file {written} {where}; set data_prefix to the folder that contains it"
            problems.add(line, text)
        line_of_path.setdefault(path, line)
    problems.stop()
    return list(line_of_path)
