"""Turn a list, a table or a folder into records. No video is opened here.

`file_path` is one of
- a list: a line is `path label` for videos, and `folder num_frames label` for folders of frames.
  The label is the last word, so a path may contain spaces. PaddleVideo's lists are of this kind,
  also those named .csv.
- a table: .jsonl, or a file with commas, semicolons or tabs whose first line names its columns,
  `path,label[,start_sec,end_sec][,num_frames]`, and `split` if it holds several splits. Common
  other names of the columns are known, and the header may be missing; see table_header.py.
- a folder per class: `root/<class>/**/*.mp4`, or `root/<class>/<video>/img_00001.jpg` for frames.

A label is a class id or a class name, the same kind throughout a list. The id of a class name is
its index among the sorted names. In multi-label data, a list has commas between the labels, and a
table has a column `labels`: a JSON list, or text with `;` between the labels.
"""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from paddlevideo.config.registry import register
from paddlevideo.data.labels import label_ids, labels_of
from paddlevideo.data.lists import DatasetError, Problems, Row, read_rows
from paddlevideo.data.orders import BalancedOrder, TrainOrder
from paddlevideo.data.paths import (
    base_folder,
    check_paths,
    find_frame_folders,
    find_videos,
    list_name,
    remote_frame_folders,
    remote_names,
    split_name,
)
from paddlevideo.log import logger
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.media.frame_files import naming_note
from paddlevideo.plain_text import file_line
from paddlevideo.remote import as_path, is_folder, is_url, join_path, list_url, path_name, shown
from paddlevideo.sample import BatchShape, Record

IGNORED = {
    "num_retries": "a file that fails is replaced, counted and named; see max_failures",
    "test_mode": "the section (train, valid, test) decides",
}
Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class RecordList:
    """Records, and the names of their classes (None if labels are plain ids).

    Attributes:
        balanced: an epoch draws each class equally often.
        repeats: how many times an epoch draws each record.
    """

    records: list[Record]
    class_names: list[str] | None = None
    balanced: bool = field(default=False, kw_only=True)
    repeats: int = field(default=1, kw_only=True)

    @property
    def max_label(self) -> int:
        """The largest class id, -1 if no record has one."""
        single = (record.label for record in self.records if record.label is not None)
        multiple = (label for record in self.records for label in record.labels or ())
        return max(itertools.chain(single, multiple), default=-1)

    def order(
        self,
        cycle: tuple[BatchShape, ...],
        seed: int,
        rank: int,
        world_size: int,
        max_batches: int | None,
    ) -> TrainOrder:
        """The order of training; arguments as of `TrainOrder`."""
        count = len(self.records) * self.repeats
        arguments = (count, cycle, seed, rank, world_size, max_batches)
        if not self.balanced:
            return TrainOrder(*arguments)
        labels = [-1 if record.label is None else record.label for record in self.records]
        return BalancedOrder(*arguments, labels=tuple(labels * self.repeats))


# --- data sets that a config names ----------------------------------------------------------------


@register("dataset", ignores=IGNORED)
@dataclass(frozen=True)
class VideoDataset:
    """Video files.

    Args:
        file_path: a list, a table, or a folder with one sub-folder per class; see the module. It
            may be a URL, and so may the paths in a list.
        data_prefix: folder, or URL of one, that the relative paths of a list start from. Without it
            they start from the list's own folder or the working directory; see
            `paths.base_folder`.
        suffix: appended to each path of a list, for example ".mp4".
        max_failures: how many files may fail to decode in training: a share of the records if below
            1, otherwise a count.
        on_error: replace a file that fails by another one, stop (fail), or leave it out (skip;
            counted as wrong in a test). None: replace in training, fail in a test.
        multi_label: a video has any number of labels: `path 3,17` in a list, a column `labels` in a
            table. Set DATASET.multi_label for all splits.
        split: use the rows of a table with this value in the column `split`. The default is the
            name of the section.
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
        """Read the records.

        Args:
            class_names: name of each class id, if another split or a file defines them.

        Raises:
            DatasetError: the file is missing, empty or wrong; the message has all its problems.
        """
        root = as_path(self.file_path)
        if is_folder(root):
            rows = list(class_folder_rows(root, find_videos, VIDEO_SUFFIXES))
            problems = Problems(shown(root))
            if not rows:
                raise no_class_folders(root, "<class>/*.mp4 (any video format)")
            rows = with_label_lists(rows, self.multi_label)
            return make_records(rows, problems, class_names, str(root))
        rows, problems = read_rows(root, with_num_frames=False, multi_label=self.multi_label)
        rows = with_label_lists(rows_of_split(rows, self.split, problems), self.multi_label)
        if self.suffix:
            rows = [row._replace(path=row.path + self.suffix) for row in rows]
        base = base_folder((row.path for row in rows), root, self.data_prefix)
        return make_records(rows, problems, class_names, base)


@register("dataset", ignores=IGNORED)
@dataclass(frozen=True)
class SFVideoDataset(VideoDataset):
    """Video files, as in VideoDataset; the test section may also set the views of a video.

    Args:
        num_ensemble_views: clips per video, for the sampler of this split's pipeline.
        num_spatial_crops: crops per clip, for its MultiCrop.
    """

    num_ensemble_views: int = 1
    num_spatial_crops: int = 1


@register("dataset", ignores=IGNORED)
@dataclass(frozen=True)
class FrameDataset:
    """Folders of frames, decoded by FrameDecoder.

    Args:
        file_path: a list, a table, or a folder with one sub-folder per class; see the module.
        data_prefix: as in VideoDataset.
        suffix: file name of a frame, by `.format(number)` with numbers from 1.
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
            has_number = self.suffix.format(1) != self.suffix.format(2)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"suffix {self.suffix!r} is not a pattern of numbered frames such as "
                f"'img_{{:05}}.jpg': {error}"
            ) from error
        if not has_number:
            raise ValueError(
                f"suffix {self.suffix!r} does not contain the frame number; "
                "write it as 'img_{:05}.jpg'"
            )

    def load(self, class_names: list[str] | None = None) -> RecordList:
        """Read the records; as `VideoDataset.load`."""
        root = as_path(self.file_path)
        if is_folder(root):
            find = functools.partial(find_frame_folders, pattern=self.suffix)
            rows = list(class_folder_rows(root, find, frame_pattern=self.suffix))
            problems = Problems(shown(root))
            if not rows:
                raise no_class_folders(root, f"<class>/<video>/{self.suffix.format(1)}")
            rows = with_label_lists(rows, self.multi_label)
            return make_records(rows, problems, class_names, str(root), self.suffix)
        rows, problems = read_rows(root, with_num_frames=True, multi_label=self.multi_label)
        rows = with_label_lists(rows_of_split(rows, self.split, problems), self.multi_label)
        base = base_folder((row.path for row in rows), root, self.data_prefix)
        return make_records(rows, problems, class_names, base, self.suffix)


def check_max_failures(limit: float | int) -> None:
    """
    Raises:
        ValueError: neither a share nor a count.
    """
    if limit < 0 or (limit >= 1 and limit != int(limit)):
        raise ValueError(
            f"max_failures is {limit}; expected a share of the files below 1, or an integer count"
        )


# --- rows -----------------------------------------------------------------------------------------


def class_folder_rows(
    root: str | Path,
    find: Callable[[Path], Iterable[Path]],
    suffixes: Collection[str] = (),
    frame_pattern: str | None = None,
) -> Iterator[Row]:
    """Rows of `root/<class>/...`, sorted by class; `find(class folder)` gives the paths.

    Hidden folders are left out.

    Args:
        suffixes, frame_pattern: files or frames that `find` looks for, for a root that is a URL.
    """
    if is_url(root):
        paths = remote_names(str(root), None if frame_pattern else suffixes)
        for label, group in itertools.groupby(paths, lambda path: path.split("/")[0]):
            inside = [path for path in group if "/" in path]
            if frame_pattern:
                inside = remote_frame_folders(inside, frame_pattern)
            yield from (Row(0, path, file_line(label)) for path in inside)
        return
    root = Path(root)
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            for path in find(entry):
                yield Row(0, path.relative_to(root).as_posix(), file_line(entry.name))


def no_class_folders(root: str | Path, layout: str) -> DatasetError:
    """The error for a folder without records; `layout` is what `root` should contain."""
    names = list_url(root) if is_url(root) else os.listdir(root)
    content = ", ".join(sorted(names)[:3])
    found = f"found {content}" if content else "it is empty"
    return DatasetError(
        f"{shown(root)}: no records in this folder: expected {path_name(root)}/{layout}, {found}"
    )


def rows_of_split(rows: list[Row], split: Split | None, problems: Problems) -> list[Row]:
    """The rows of a split in a table with a column `split`; all rows of any other list.

    Raises:
        DatasetError: a table with that column, but `split` is None, a row has no valid split, or no
            row has the wanted one.
    """
    if not any(row.split for row in rows):
        return rows
    if split is None:
        raise DatasetError(
            f"{problems.source}: it has a column split; choose one with split: train, valid or test"
        )
    splits = [split_name(row.split or "") for row in rows]
    for row, found in zip(rows, splits, strict=True):
        if found is None and row.split:
            problems.add(row.line, f"split {row.split!r}, expected train, val or test")
        elif found is None:
            problems.add(row.line, "no split; other lines have one")
    problems.stop()
    kept = [row for row, found in zip(rows, splits, strict=True) if found == split]
    if not kept:
        counts = Counter(list_name(found) for found in splits if found)
        available = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise DatasetError(
            f"{problems.source}: no line has split {list_name(split)}; there are {available}"
        )
    return kept


def with_label_lists(rows: list[Row], multi_label: bool) -> list[Row]:
    """In multi-label data, rows with `labels` in place of a single label; others unchanged."""
    if not multi_label:
        return rows
    return [row if row.labels is not None else row._replace(labels=(row.label,)) for row in rows]


# --- records --------------------------------------------------------------------------------------


def make_records(
    rows: list[Row],
    problems: Problems,
    class_names: list[str] | None,
    base: str,
    frame_pattern: str | None = None,
) -> RecordList:
    """Turn rows into records with class ids.

    Args:
        problems: those found so far.
        class_names: in the order of their ids; None sorts the names in the rows, if they are names.
        base: folder that the paths start from.
        frame_pattern: file name of a frame, for folders of frames.

    Raises:
        DatasetError: the collected problems; mixed, negative or unknown labels; or no file exists.
    """
    ids, class_names = label_ids(rows, problems, class_names)
    problems.stop()
    records = []
    for row in rows:
        label = ids[row.label] if row.labels is None else None
        labels = None if row.labels is None else tuple(sorted(ids[text] for text in row.labels))
        records.append(
            Record(
                path=join_path(base, row.path),
                label=label,
                id=row.path,
                num_frames=row.num_frames,
                start_sec=row.start_sec,
                end_sec=row.end_sec,
                frame_pattern=frame_pattern,
                labels=labels,
                source=row.source,
            )
        )
    check_paths(records, problems.source, base)
    if frame_pattern and (note := naming_note(records[0].path, frame_pattern)):
        logger.info(f"{problems.source}: {note}; the others are read in the same way")
    if note := repeats_note(rows):
        logger.warning(f"{problems.source}: {note}")
    return RecordList(records, class_names)


def repeats_note(rows: Sequence[Row]) -> str:
    """A warning if clips occur in several rows, "" if none does."""
    numbers: dict[tuple, list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault((row.path, row.start_sec, row.end_sec), []).append(number)
    repeated = [[rows[i] for i in group] for group in numbers.values() if len(group) > 1]
    if not repeated:
        return ""
    differ = [group for group in repeated if len({labels_of(row) for row in group}) > 1]
    group = (differ or repeated)[0]
    lines = ", ".join(f"line {row.line} label {';'.join(labels_of(row))}" for row in group[:3])
    text = f"{len(repeated)} clip(s) occur more than once, and count as often"
    text += f"; {len(differ)} of them with different labels" if differ else ""
    return f"{text}; first {shown(group[0].path)!r} ({lines})"
