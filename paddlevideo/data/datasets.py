"""From a list file or a folder to records. Nothing here opens a video.

`file_path` is one of
- a list: a line is `path label` for videos, `folder num_frames label` for folders of frames; the label is the last word, so
  that a path may hold spaces. PaddleVideo's lists, also those named .csv, are of this kind.
- a table: .jsonl, or a comma-separated file whose first line names its columns: `path,label[,start_sec,end_sec][,num_frames]`,
  and where it holds several splits, `split`.
- a folder per class: `root/<class>/**/*.mp4`, or `root/<class>/<video>/img_00001.jpg` for frames.

A label is a class id or a class name, one kind in a whole list. Class names are sorted; their place is their id. Where videos
have several, a list has commas between them, and a table a column `labels`: a JSON list, or text with `;` between them.
"""

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from paddlevideo.config.registry import nearest, register
from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Problems, Row, read_rows
from paddlevideo.data.orders import BalancedOrder, TrainOrder
from paddlevideo.data.paths import (
    base_folder,
    check_paths,
    find_frame_folders,
    find_videos,
    list_name,
    split_name,
)
from paddlevideo.sample import BatchShape, Record

IGNORED = {
    "num_retries": "a file that fails is replaced, counted and named; see max_failures",
    "test_mode": "the section (train, valid, test) tells",
}
Split = Literal["train", "valid", "test"]
SEVERAL_IDS = re.compile(r"\d+(,\d+)+")


@dataclass(frozen=True)
class RecordList:
    """Records and the names of their classes (None where labels are plain ids).

    `balanced`: an epoch draws each class equally often.
    """

    records: list[Record]
    class_names: list[str] | None = None
    balanced: bool = field(default=False, kw_only=True)

    @property
    def max_label(self) -> int:
        """The largest class id, -1 where no record has one."""
        several = (label for r in self.records for label in r.labels or ())
        return max(
            itertools.chain((r.label for r in self.records if r.label is not None), several),
            default=-1,
        )

    def order(
        self,
        cycle: tuple[BatchShape, ...],
        seed: int,
        rank: int,
        world_size: int,
        max_batches: int | None,
    ) -> TrainOrder:
        """The order of training; arguments as of `TrainOrder`."""
        size = (len(self.records), cycle, seed, rank, world_size, max_batches)
        if not self.balanced:
            return TrainOrder(*size)
        return BalancedOrder(
            *size,
            labels=tuple(-1 if record.label is None else record.label for record in self.records),
        )


@register("dataset", ignores=IGNORED)
@dataclass(frozen=True)
class VideoDataset:
    """Video files.

    Args:
        file_path: a list, a table or a folder per class; see the module.
        data_prefix: folder that the paths in a list are relative to. Without it they are relative to the current directory,
            as in PaddleVideo, or, where the first one is not there, to the list's own folder.
        suffix: put behind each path of a list, as ".mp4".
        max_failures: files that may fail to decode in training: a share of the records below 1, a count from 1 on.
        on_error: replace a file that fails by another one, stop (fail), or leave it out and count it (skip; wrong in testing).
            None: replace in training, fail in testing.
        multi_label: a video may have several labels, or none: `path 3,17` in a list, a column `labels` in a table (`run;jump`,
            in .jsonl a list). DATASET.multi_label says it for all splits.
        split: take the rows of a table whose column `split` says so; the section's own name unless given.
    """

    file_path: str
    data_prefix: str | None = None
    suffix: str = ""
    max_failures: float | int = 0.01
    on_error: Literal["replace", "fail", "skip"] | None = None
    multi_label: bool = False
    split: Split | None = None

    def __post_init__(self):
        check_max_failures(self.max_failures)

    def load(self, class_names: list[str] | None = None) -> RecordList:
        """The records.

        Args:
            class_names: name of each class id, where another split or a file gives them.

        Raises:
            DatasetError: the file is missing, empty or wrong; all its problems are named.
        """
        root = Path(self.file_path)
        if root.is_dir():
            rows, problems = list(class_folder_rows(root, find_videos)), Problems(self.file_path)
            if not rows:
                raise no_class_folders(root, "<class>/*.mp4 (any video format)")
            return make_records(
                each_alone(rows, self.multi_label), problems, class_names, str(root)
            )
        rows, problems = read_rows(root, with_num_frames=False, multi_label=self.multi_label)
        rows = each_alone(rows_of(rows, self.split, problems), self.multi_label)
        if self.suffix:
            rows = [row._replace(path=row.path + self.suffix) for row in rows]
        return make_records(
            rows, problems, class_names, base_folder(paths_of(rows), root, self.data_prefix)
        )


@register("dataset", ignores=IGNORED)
@dataclass(frozen=True)
class SFVideoDataset(VideoDataset):
    """Video files, as VideoDataset; the section of a test may also say how many views a video has.

    Args:
        num_ensemble_views: clips of a video, for the sampler of this split's pipeline.
        num_spatial_crops: crops of a clip, for its MultiCrop.
    """

    num_ensemble_views: int = 1
    num_spatial_crops: int = 1


@register("dataset", ignores=IGNORED)
@dataclass(frozen=True)
class FrameDataset:
    """Folders of frames, decoded by FrameDecoder.

    Args:
        file_path: a list, a table or a folder per class; see the module.
        data_prefix: as in VideoDataset.
        suffix: names the pictures of a folder by `.format(number)`, numbers from 1.
        max_failures: as in VideoDataset.
        on_error: as in VideoDataset.
        multi_label, split: as in VideoDataset.
    """

    file_path: str
    data_prefix: str | None = None
    suffix: str = "img_{:05}.jpg"
    max_failures: float | int = 0.01
    on_error: Literal["replace", "fail", "skip"] | None = None
    multi_label: bool = False
    split: Split | None = None

    def __post_init__(self):
        check_max_failures(self.max_failures)
        try:
            varies = self.suffix.format(1) != self.suffix.format(2)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"suffix {self.suffix!r} is no pattern of numbered pictures, as 'img_{{:05}}.jpg': {error}"
            ) from error
        if not varies:
            raise ValueError(
                f"suffix {self.suffix!r} has no place for the number; write it as 'img_{{:05}}.jpg'"
            )

    def load(self, class_names: list[str] | None = None) -> RecordList:
        """The records; as VideoDataset.load."""
        root = Path(self.file_path)
        if root.is_dir():
            first = self.suffix.format(1)
            rows, problems = (
                list(class_folder_rows(root, lambda folder: find_frame_folders(folder, first))),
                Problems(str(root)),
            )
            if not rows:
                raise no_class_folders(root, f"<class>/<video>/{first}")
            return make_records(
                each_alone(rows, self.multi_label), problems, class_names, str(root), self.suffix
            )
        rows, problems = read_rows(root, with_num_frames=True, multi_label=self.multi_label)
        rows = each_alone(rows_of(rows, self.split, problems), self.multi_label)
        return make_records(
            rows,
            problems,
            class_names,
            base_folder(paths_of(rows), root, self.data_prefix),
            self.suffix,
        )


def check_max_failures(limit: float | int) -> None:
    if limit < 0 or (limit >= 1 and limit != int(limit)):
        raise ValueError(
            f"max_failures is {limit}; give a share of the files in 0 .. 1, or a whole number of files"
        )


def class_folder_rows(root: Path, find) -> Iterator[Row]:
    """Rows of `root/<class>/...`; `find(class folder)` gives paths. Sorted, hidden names left out."""
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            for path in find(entry):
                yield Row(0, path.relative_to(root).as_posix(), entry.name)


def no_class_folders(root: Path, layout: str) -> DatasetError:
    inside = sorted(os.listdir(root))[:3]
    found = f"found {', '.join(inside)}" if inside else "it is empty"
    return DatasetError(
        f"{root}: no records in this folder: expected {root.name}/{layout}, {found}"
    )


def rows_of(rows: list[Row], split: Split | None, problems: Problems) -> list[Row]:
    """The rows of a split, where a column of that name says which; all of them where there is none.

    Raises:
        DatasetError: the column is there and `split` is not known, or no row has it.
    """
    if not any(row.split for row in rows):
        return rows
    if split is None:
        raise DatasetError(
            f"{problems.source}: it has a column split, and nothing says which is wanted: split: train, valid or test"
        )
    names = [split_name(row.split or "") for row in rows]
    for row, name in zip(rows, names, strict=True):
        if name is None:
            problems.add(
                row.line,
                f"split {row.split!r}, expected train, val or test"
                if row.split
                else "no split; other lines have one",
            )
    problems.stop()
    wanted = split_name(split)
    found = [row for row, name in zip(rows, names, strict=True) if name == wanted]
    if not found:
        there = ", ".join(f"{count} {list_name(name)}" for name, count in Counter(names).items())
        raise DatasetError(
            f"{problems.source}: no line has split {list_name(wanted)}; there are {there}"
        )
    return found


def each_alone(rows: list[Row], multi_label: bool) -> list[Row]:
    """Rows as a data set of several labels has them: also those that were written with one."""
    return (
        [r if r.labels is not None else r._replace(labels=(r.label,)) for r in rows]
        if multi_label
        else rows
    )


def paths_of(rows: list[Row]) -> Iterator[str]:
    return (row.path for row in rows)


def labels_of(row: Row) -> tuple[str, ...]:
    return (row.label,) if row.labels is None else row.labels


def make_records(
    rows: list[Row],
    problems: Problems,
    class_names: list[str] | None,
    base: str,
    frame_pattern: str | None = None,
) -> RecordList:
    """Rows -> records with class ids. A folder's name is always a class name, even "101".

    Raises:
        DatasetError: the gathered problems, or labels that are mixed, negative or unknown.
    """
    written = [(row, label) for row in rows for label in labels_of(row)]
    by_id = {label: is_integer(label) for row, label in written if row.line}
    kinds = set(by_id.values())
    if not written:
        raise DatasetError(f"{problems.source}: not one of {len(rows)} records has a label")
    if kinds == {True}:
        ids = {label: int(label) for label in by_id}
        check_ids(rows, ids, class_names, problems)
    elif kinds == {True, False}:
        (row, label), kind = written[0], by_id[written[0][1]]
        odd, strange = next((row, label) for row, label in written if by_id[label] != kind)
        first, other = ("id", "name") if kind else ("name", "id")
        problems.add(
            odd.line,
            f"label {strange!r} is a class {other}, but line {row.line} has a class {first}; use one kind",
        )
        problems.stop()
    else:
        several = next(
            (
                pair
                for pair in written
                if pair[0].line and pair[0].labels is None and SEVERAL_IDS.fullmatch(pair[1])
            ),
            None,
        )
        if several and class_names is None:
            problems.add(
                several[0].line,
                f"label {several[1]!r} is a list of class ids, which needs DATASET.multi_label: true",
            )
            problems.stop()
        class_names = (
            class_names if class_names is not None else sorted({label for _, label in written})
        )
        ids = {name: number for number, name in enumerate(class_names)}
        unknown = {label for _, label in written} - ids.keys()
        hint = (
            {name: nearest(name, list(ids)[:1000]) for name in sorted(unknown)[:MAX_SHOWN]}
            if unknown
            else {}
        )
        for row, label in written if unknown else ():
            if label in unknown:
                problems.add(row.line, f"{row.path}: unknown class {label!r}{hint.get(label, '')}")
    problems.stop()
    records = []
    for row in rows:
        label = ids[row.label] if row.labels is None else None
        several = None if row.labels is None else tuple(sorted(ids[text] for text in row.labels))
        part = (row.num_frames, row.start_sec, row.end_sec, frame_pattern)
        records.append(Record(os.path.join(base, row.path), label, row.path, *part, labels=several))
    check_paths(records, problems.source, base)
    return RecordList(records, class_names)


def is_integer(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def check_ids(
    rows: list[Row], ids: dict[str, int], class_names: list[str] | None, problems: Problems
) -> None:
    """Note every row whose class id is below 0 or has no name."""
    limit = math.inf if class_names is None else len(class_names)
    wrong = {label for label, number in ids.items() if not 0 <= number < limit}
    for row, label in (
        ((each, label) for each in rows for label in labels_of(each)) if wrong else ()
    ):
        if label in wrong:
            why = (
                "class ids count from 0"
                if ids[label] < 0
                else f"there are {limit} class names, ids end at {limit - 1}"
            )
            problems.add(row.line, f"label {label}: {why}")
