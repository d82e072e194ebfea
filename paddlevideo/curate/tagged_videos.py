"""Videos and their tags, for features that are made of them: files, folders, lists and tables.

A line of a list is `path`, or `path label` with one label, or several with commas between them: `clips/a.mp4 3,17`. Labels are
class ids or class names, one kind throughout. Tables are those of `DATASET` (`path,label` or `path,labels`). A folder whose
videos all lie in folders of their own has those for classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlevideo.config.registry import nearest
from paddlevideo.data.datasets import Split, is_integer, labels_of, rows_of
from paddlevideo.data.lists import (
    MAX_SHOWN,
    DatasetError,
    Problems,
    Row,
    header,
    read_lines,
    read_path_list,
    read_rows,
)
from paddlevideo.data.paths import base_folder, check_paths, find_videos
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.sample import Record

TABLES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class TaggedVideo:
    """A video with the ids of its classes, in order; `record.id` is what it is called in a shard."""

    record: Record
    labels: tuple[int, ...] = ()


def find_tagged(
    inputs: Sequence[str],
    class_names: list[str] | None = None,
    with_labels: bool = True,
    split: Split | None = None,
) -> tuple[list[TaggedVideo], list[str] | None]:
    """(the videos that paths mean, in order; the names of the classes, None where labels are plain ids or absent).

    Args:
        inputs: video files, folders, lists (.txt, .list, .csv, .jsonl).
        class_names: the names in the order of their ids; None takes those that there are, sorted.
        with_labels: False takes no notice of labels and of folders' names.
        split: which rows of a table with a column of that name.

    Raises:
        DatasetError: no video there, a label that is not known, or a video that is there twice.
    """
    found: list[_Found] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found += _in_folder(path, text)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            found.append(_Found(Row(0, path.name, ""), (), str(path.parent), text))
        else:
            found += _listed(path, text, split)
    ids, class_names = _class_ids(found, class_names) if with_labels else ({}, class_names)
    wholes = len({one.name for one in found}) < len(
        found
    )  # several inputs may each have a "0000.mp4"
    seen: dict[str, TaggedVideo] = {}
    for one in found:
        name, row = one.place if wholes else one.name, one.row
        if name in seen:
            raise DatasetError(
                f"{one.where}: {name} is there twice; its features would count twice"
            )
        record = Record(one.path, None, name, None, row.start_sec, row.end_sec)
        seen[name] = TaggedVideo(
            record, tuple(sorted({ids[label] for label in one.labels})) if with_labels else ()
        )
    check_paths([video.record for video in seen.values()], ", ".join(inputs), "")
    return list(seen.values()), class_names


@dataclass(frozen=True)
class _Found:
    """A video as it was given: its row, what its labels are called, the folder that its path is relative to, and by what."""

    row: Row
    labels: tuple[str, ...]
    base: str
    source: str

    @property
    def path(self) -> str:
        return str(Path(self.base, self.row.path))

    @property
    def _part(self) -> str:
        start, end = self.row.start_sec, self.row.end_sec
        return (
            ""
            if start is None and end is None
            else f"#{start or 0:g}-{'end' if end is None else f'{end:g}'}"
        )

    @property
    def name(self) -> str:
        return self.row.path + self._part

    @property
    def place(self) -> str:
        return self.path + self._part

    @property
    def where(self) -> str:
        return (
            f"{self.source}:{self.row.line}" if self.row.line else f"{self.source}: {self.row.path}"
        )


def _in_folder(folder: Path, text: str) -> list[_Found]:
    paths = [path.relative_to(folder) for path in find_videos(folder)]
    if not paths:
        raise DatasetError(
            f"{folder}: no video in this folder; known suffixes: {' '.join(VIDEO_SUFFIXES)}"
        )
    of_classes = all(len(path.parts) > 1 for path in paths)
    return [
        _Found(Row(0, p.as_posix(), ""), (p.parts[0],) if of_classes else (), str(folder), text)
        for p in paths
    ]


EXPECTED = "videos, folders, or lists with `path` or `path label` on each line"


def _listed(file: Path, text: str, split: Split | None) -> list[_Found]:
    """The videos of a list or table; labels are optional in a list."""
    lines = read_lines(file, f"give {EXPECTED}", f"give {EXPECTED}")
    if file.suffix.lower() in TABLES or header(lines[0]):
        rows, problems = read_rows(file, with_num_frames=False, multi_label=True)
        problems.stop()
        rows = rows_of(rows, split, problems)
    else:
        rows = _rows_of_list(file)
    base = base_folder([row.path for row in rows], file, fix="write absolute paths into the list")
    return [_Found(row, labels_of(row), base, text) for row in rows]


def _rows_of_list(file: Path) -> list[Row]:
    """
    Raises:
        DatasetError: a line without a video's path, or no line at all.
    """
    rows, problems = [], Problems(str(file))
    for readings in read_path_list(file, EXPECTED):
        row = next((row for row in readings if _is_video(row.path)), None)
        if row is None:
            number, line = readings[0][:2]
            problems.add(
                number, f"{line!r} is not a video's path, with or without labels behind it"
            )
        else:
            labels = (word.strip() for word in row.label.split(","))
            rows.append(Row(row.line, row.path, "", labels=tuple(filter(None, labels))))
    problems.stop()
    if not rows:
        raise DatasetError(
            f"{file}: no videos in this list; a line is the path of one, perhaps with labels behind it"
        )
    return rows


def _is_video(path: str) -> bool:
    return path.lower().endswith(VIDEO_SUFFIXES)


def _class_ids(
    found: list[_Found], names: list[str] | None
) -> tuple[dict[str, int], list[str] | None]:
    """(label as written -> class id, names of the classes)."""
    where = {label: one.where for one in reversed(found) for label in one.labels}
    of_folders = any(one.labels and not one.row.line for one in found)
    numbers = (
        [] if of_folders else [label for label in where if is_integer(label)]
    )  # a folder "101" is a name
    if numbers and len(numbers) < len(where):
        odd = next(label for label in where if label not in numbers)
        told = f"{where[odd]}: label {odd!r} is a class name, but {numbers[0]!r} ({where[numbers[0]]}) an id; use one kind"
        raise DatasetError(told)
    if numbers:
        ids = {label: int(label) for label in numbers}
        limit = len(names) if names is not None else max(*ids.values(), 0) + 1
        wrong = {
            label: f"label {label}, ids are 0 .. {limit - 1}"
            for label in ids
            if not 0 <= ids[label] < limit
        }
    else:
        names = sorted(where) if names is None and where else names
        ids = {name: number for number, name in enumerate(names or [])}
        wrong = {
            label: f"unknown class {label!r}{nearest(label, list(ids)[:1000])}"
            for label in where.keys() - ids.keys()
        }
    if wrong:
        told = sorted(f"{where[label]}: {text}" for label, text in wrong.items())
        raise DatasetError(
            "\n".join(
                told[:MAX_SHOWN]
                + ([f"... and {len(told) - MAX_SHOWN} more"] if len(told) > MAX_SHOWN else [])
            )
        )
    return ids, names
