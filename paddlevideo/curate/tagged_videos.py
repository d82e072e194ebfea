"""Find the videos to extract features from, and their labels: files, folders, lists and tables.

A line of a list is `path`, or `path label`. Commas separate the labels of a multi-label video:
`clips/a.mp4 3,17`. Labels are class ids or class names, of one kind in all inputs. Tables are those
of `DATASET` (`path,label` or `path,labels`). A folder is a folder per class if all of its videos
are in subfolders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from paddlevideo.config.registry import nearest
from paddlevideo.data.datasets import Split, rows_of_split
from paddlevideo.data.labels import is_integer, labels_of
from paddlevideo.data.lists import (
    MAX_SHOWN,
    DatasetError,
    Problems,
    Row,
    header_of,
    read_lines,
    read_path_list,
    read_rows,
)
from paddlevideo.data.paths import base_folder, check_paths, find_videos, remote_names
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.remote import is_folder
from paddlevideo.sample import Record
from paddlevideo.urls import as_path, is_url, join_path, parent_path, path_name, path_suffix, shown

TABLES = (".jsonl", ".ndjson")
EXPECTED = "videos, folders, or lists with `path` or `path label` on each line"


@dataclass(frozen=True)
class TaggedVideo:
    """A video and its labels.

    Args:
        record: its `id` is the name of the video in a shard.
        labels: class ids, sorted.
    """

    record: Record
    labels: tuple[int, ...] = ()


def find_tagged(
    inputs: Sequence[str],
    class_names: list[str] | None = None,
    with_labels: bool = True,
    split: Split | None = None,
) -> tuple[list[TaggedVideo], list[str] | None]:
    """Find the videos of all inputs, in order.

    Args:
        inputs: video files, folders, lists or tables (.txt, .list, .csv, .jsonl), or their URLs.
        class_names: in the order of their ids; None sorts the names that occur.
        with_labels: False ignores labels and the names of class folders.
        split: selects rows of a table that has a column split.

    Returns:
        (videos, class names); the names are None if labels are ids, or if there are none.

    Raises:
        DatasetError: no videos, an unknown label, or the same video twice.
    """
    entries: list[_Entry] = []
    for text in inputs:
        path = as_path(text)
        if is_folder(path):
            entries += _in_folder(path, text)
        elif path_suffix(path) in VIDEO_SUFFIXES:
            entries.append(_Entry(Row(0, path_name(path), ""), (), parent_path(path), text))
        else:
            entries += _listed(path, text, split)
    ids, class_names = _class_ids(entries, class_names) if with_labels else ({}, class_names)
    # Videos are named by their paths as written. If these are ambiguous, because several inputs
    # have a "0000.mp4", the names include the folders.
    has_equal_names = len({entry.name for entry in entries}) < len(entries)
    videos: dict[str, TaggedVideo] = {}
    for entry in entries:
        name, row = entry.full_name if has_equal_names else entry.name, entry.row
        if name in videos:
            raise DatasetError(
                f"{entry.location}: {name} occurs twice; its features would count twice"
            )
        labels = {ids[label] for label in entry.labels} if with_labels else set()
        record = Record(entry.path, None, name, None, row.start_sec, row.end_sec)
        videos[name] = TaggedVideo(record, tuple(sorted(labels)))
    check_paths([video.record for video in videos.values()], ", ".join(inputs), "")
    return list(videos.values()), class_names


@dataclass(frozen=True)
class _Entry:
    """A video as an input names it.

    Args:
        row: path and times.
        labels: as written.
        base: folder that the path is relative to.
        source: the input.
    """

    row: Row
    labels: tuple[str, ...]
    base: str
    source: str

    @property
    def path(self) -> str:
        path = join_path(self.base, self.row.path)
        return path if is_url(path) else str(Path(path))

    @property
    def _span(self) -> str:
        """The part of the video, such as "#0.5-2"; "" for the complete video."""
        start, end = self.row.start_sec, self.row.end_sec
        if start is None and end is None:
            return ""
        return f"#{start or 0:g}-{'end' if end is None else f'{end:g}'}"

    @property
    def name(self) -> str:
        return self.row.path + self._span

    @property
    def full_name(self) -> str:
        return self.path + self._span

    @property
    def location(self) -> str:
        """Where the input names it: file:line, or the path in a folder."""
        if self.row.line:
            return f"{self.source}:{self.row.line}"
        return f"{self.source}: {self.row.path}"


def _in_folder(folder: str | Path, text: str) -> list[_Entry]:
    if is_url(folder):
        paths = [PurePosixPath(name) for name in remote_names(str(folder), VIDEO_SUFFIXES)]
    else:
        paths = [path.relative_to(folder) for path in find_videos(folder)]
    if not paths:
        raise DatasetError(
            f"{shown(folder)}: no video in this folder; known suffixes: {' '.join(VIDEO_SUFFIXES)}"
        )
    has_classes = all(len(path.parts) > 1 for path in paths)
    return [
        _Entry(Row(0, p.as_posix(), ""), (p.parts[0],) if has_classes else (), str(folder), text)
        for p in paths
    ]


def _listed(file: str | Path, text: str, split: Split | None) -> list[_Entry]:
    """Read a list or table; the labels of a list are optional."""
    lines = read_lines(file, f"give {EXPECTED}", f"give {EXPECTED}")
    if path_suffix(file) in TABLES or header_of(shown(file), lines, False, True):
        rows, problems = read_rows(file, with_num_frames=False, multi_label=True)
        problems.stop()
        rows = rows_of_split(rows, split, problems)
    else:
        rows = _rows_of_list(file)
    base = base_folder([row.path for row in rows], file, fix="write absolute paths into the list")
    return [_Entry(row, labels_of(row), base, text) for row in rows]


def _rows_of_list(file: str | Path) -> list[Row]:
    """Read a list of lines `path` or `path label`.

    Raises:
        DatasetError: a line without the path of a video, or no lines.
    """
    rows, problems = [], Problems(shown(file))
    for readings in read_path_list(file, EXPECTED):
        row = next((row for row in readings if _is_video(row.path)), None)
        if row is None:
            number, line = readings[0][:2]
            problems.add(number, f"{line!r} is not the path of a video, with or without labels")
        else:
            labels = (word.strip() for word in row.label.split(","))
            rows.append(Row(row.line, row.path, "", labels=tuple(filter(None, labels))))
    problems.stop()
    if not rows:
        raise DatasetError(
            f"{shown(file)}: no videos in this list; expected `path` or `path label` on each line"
        )
    return rows


def _is_video(path: str) -> bool:
    return path.lower().endswith(VIDEO_SUFFIXES)


def _class_ids(
    entries: list[_Entry], names: list[str] | None
) -> tuple[dict[str, int], list[str] | None]:
    """Number the labels: (label as written -> class id, class names).

    Raises:
        DatasetError: ids and names are mixed, an id is out of range, or a name is unknown.
    """
    first = {label: entry.location for entry in reversed(entries) for label in entry.labels}
    # The name of a class folder is never an id, even "101".
    has_folders = any(entry.labels and not entry.row.line for entry in entries)
    numbers = [] if has_folders else [label for label in first if is_integer(label)]
    if numbers and len(numbers) < len(first):
        name, number = next(label for label in first if label not in numbers), numbers[0]
        raise DatasetError(
            f"{first[name]}: label {name!r} is a class name, but {number!r} ({first[number]}) "
            "is an id; use one kind"
        )
    if numbers:
        ids = {label: int(label) for label in numbers}
        limit = len(names) if names is not None else max(*ids.values(), 0) + 1
        wrong = {
            label: f"label {label}, expected an id of 0 .. {limit - 1}"
            for label in ids
            if not 0 <= ids[label] < limit
        }
    else:
        names = sorted(first) if names is None and first else names
        ids = {name: number for number, name in enumerate(names or [])}
        wrong = {
            label: f"unknown class {label!r}{nearest(label, list(ids)[:1000])}"
            for label in first.keys() - ids.keys()
        }
    if wrong:
        lines = sorted(f"{first[label]}: {text}" for label, text in wrong.items())
        rest = [f"... and {len(lines) - MAX_SHOWN} more"] if len(lines) > MAX_SHOWN else []
        raise DatasetError("\n".join(lines[:MAX_SHOWN] + rest))
    return ids, names
