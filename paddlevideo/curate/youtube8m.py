"""Prepare YouTube-8M: check all records, write lists and class names, convert pickles."""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from paddlevideo import log
from paddlevideo.cores import num_cores
from paddlevideo.data.lists import MAX_SHOWN, DatasetError
from paddlevideo.data.youtube8m import pickles, shards
from paddlevideo.data.youtube8m.find import find_shards
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder
from paddlevideo.data.youtube8m.sequence_example import encode_example, printable_id
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.files import atomic_write, check_writable
from paddlevideo.plain_text import file_line
from paddlevideo.processes import Crash, run_each
from paddlevideo.sample import DecodeError, Record

# First part of a shard's file name -> the list of these shards.
LISTS = {"train": "train.list", "val": "val.list", "test": "test.list"}
GROUPS = "groups.json"  # what each file of a group of pickles is made of
CRASHED = "the process that read it crashed"


def _num_processes(num_workers: int | None, num_items: int) -> int:
    """Return the processes for `run_each`, 0 (this process) if one would do.

    Args:
        num_workers: as given by the user, None or 0 for one per core.
    """
    processes = min(num_workers or num_cores(), num_items)
    return processes if processes > 1 else 0


# --- check ---------------------------------------------------------------------------------------


@dataclass
class ShardReport:
    """The content of a shard.

    Args:
        stamp: None if the file cannot be opened.
        offsets: int64 [num_records].
        num_frames: of all videos.
        num_without_frames: videos without frames.
        num_truncated: videos with more frames than are used.
        num_labels: of all videos.
        num_unlabeled: videos without labels.
        max_label: -1 if there are no labels.
        ids: bytes [number of readable records].
        problems: the first problems, each with file and byte.
        num_problems: number of all problems.
    """

    path: str
    stamp: shards.ShardStamp | None = None
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    num_frames: int = 0
    num_without_frames: int = 0
    num_truncated: int = 0
    num_labels: int = 0
    num_unlabeled: int = 0
    max_label: int = -1
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, "S1"))
    problems: list[str] = field(default_factory=list)
    num_problems: int = 0

    def add_problem(self, text: str) -> None:
        self.num_problems += 1
        if len(self.problems) < MAX_SHOWN:
            self.problems.append(f"{self.path}: {text}")


def check_shard(path: str, decoder: FeatureDecoder) -> ShardReport:
    """Read every record of a shard as training does, and verify its CRC."""
    report, ids = ShardReport(path), []
    try:
        report.stamp = shards.ShardStamp.of(path)
        report.offsets, problem = shards.find_offsets(path)
    except (DatasetError, OSError) as error:
        report.stamp = None
        report.add_problem(str(error).removeprefix(f"{path}: "))
        return report
    if not len(report.offsets):
        report.add_problem(problem)
    for offset in report.offsets.tolist():
        try:
            example = decoder.read(Record(path, offset=offset))
        except DecodeError as error:
            report.add_problem(str(error))
            continue
        num_frames = min(map(len, example.features.values()))
        report.num_frames += num_frames
        report.num_without_frames += num_frames == 0
        report.num_truncated += num_frames > decoder.max_frames
        report.num_labels += len(example.labels)
        report.num_unlabeled += not len(example.labels)
        report.max_label = max(report.max_label, int(example.labels.max(initial=-1)))
        ids.append(example.id)
    report.ids = np.array(ids, "S") if ids else report.ids
    return report


def check(
    paths: Sequence[str], decoder: FeatureDecoder, num_workers: int | None = None
) -> list[ShardReport]:
    """Check all shards; return a report for each, in the order of `paths`."""
    work, reports = partial(check_shard, decoder=decoder), {}
    processes = _num_processes(num_workers, len(paths))
    for index, result in run_each(work, paths, processes, "shards"):
        if isinstance(result, Crash):
            result = ShardReport(paths[index])
            result.add_problem(CRASHED)
        reports[index] = result
    return [reports[index] for index in range(len(paths))]


def duplicate_ids(reports: Sequence[ShardReport]) -> list[str]:
    """Describe the videos that occur more than once, one line each."""
    ids = np.concatenate([report.ids for report in reports]) if reports else np.zeros(0, "S1")
    names, counts = np.unique(ids[ids != b""], return_counts=True)
    names, counts = names[counts > 1], counts[counts > 1]
    lines = []
    for name, count in zip(names[:MAX_SHOWN], counts.tolist(), strict=False):
        paths = [report.path for report in reports if (report.ids == name).any()]
        lines.append(f"{printable_id(bytes(name))} occurs {count} times: {', '.join(paths[:4])}")
    rest = len(names) - len(lines)
    return lines + ([f"... and {rest} more videos that occur more than once"] if rest else [])


def problems(reports: Sequence[ShardReport]) -> list[str]:
    """Describe the first problems of each shard and the duplicate videos, one line each."""
    lines = []
    for report in reports:
        lines += report.problems
        if rest := report.num_problems - len(report.problems):
            lines.append(f"{report.path}: ... and {rest} more records")
    return lines + duplicate_ids(reports)


def summary(reports: Sequence[ShardReport], max_frames: int) -> list[str]:
    """Describe the counts over all shards, one line each."""
    num_videos = sum(len(report.offsets) for report in reports)
    num_read = max(1, sum(len(report.ids) for report in reports))
    num_frames = sum(report.num_frames for report in reports)
    num_labels = sum(report.num_labels for report in reports)
    max_label = max((report.max_label for report in reports), default=-1)
    largest = f", the largest is {max_label}" if max_label >= 0 else ""
    lines = [
        f"{len(reports)} shards, {num_videos} videos, {num_frames} frames "
        f"({num_frames / num_read:.1f} per video)",
        f"{num_labels} labels ({num_labels / num_read:.2f} per video){largest}",
    ]
    notes = [
        (sum(report.num_unlabeled for report in reports), "have no labels, as in a test split"),
        (
            sum(report.num_without_frames for report in reports),
            "have no frames: the model predicts from its biases alone",
        ),
        (
            sum(report.num_truncated for report in reports),
            f"have more than {max_frames} frames: only the first {max_frames} are used",
        ),
    ]
    return lines + [f"{count} videos {text}" for count, text in notes if count]


def write_checked_index(index_file: str, reports: Sequence[ShardReport]) -> None:
    """Write the record offsets of the readable shards, so that training need not find them again.

    Raises:
        OSError: the file cannot be written.
    """
    usable = [report for report in reports if report.stamp is not None]
    stamps = [report.stamp for report in usable if report.stamp is not None]
    shards.write_index(index_file, [r.path for r in usable], stamps, [r.offsets for r in usable])


def check_and_report(
    file_path: str,
    decoder: FeatureDecoder,
    index_file: str | None = None,
    num_workers: int | None = None,
) -> list[str]:
    """Check shards, print a summary, write their index, and return the problems.

    Raises:
        DatasetError: no shards.
        OSError: the index cannot be written; raised before the check starts.
    """
    paths, index_file = find_shards(file_path), index_file or shards.index_name(file_path)
    if index_file:
        check_writable(index_file)
    reports = check(paths, decoder, num_workers)
    log.show(*summary(reports, decoder.max_frames))
    if index_file:
        write_checked_index(index_file, reports)
        log.show(f"index of the records: {index_file}")
    return problems(reports)


# --- lists and class names -----------------------------------------------------------------------


def write_lists(folder: Path, out: Path) -> dict[str, int]:
    """Write train.list, val.list and test.list of the train*, val* and test* shards of a folder.

    The paths in a list are relative to it.

    Returns:
        list file -> number of shards in it.

    Raises:
        DatasetError: no shards, or none with such a name.
    """
    paths = find_shards(str(folder))
    counts = {}
    for prefix, list_name in LISTS.items():
        of_split = [path for path in paths if os.path.basename(path).lower().startswith(prefix)]
        if of_split:
            lines = "".join(f"{os.path.relpath(path, out)}\n" for path in of_split)
            with atomic_write(out / list_name) as temporary:
                temporary.write_text(lines, encoding="utf-8")
            counts[str(out / list_name)] = len(of_split)
    if not counts:
        raise DatasetError(
            f"{folder}: no shard name begins with {', '.join(LISTS)}; "
            f"the first shard is {os.path.basename(paths[0])}"
        )
    return counts


def class_names(vocabulary: Path) -> list[str]:
    """Read the class names, in the order of their ids, from the vocabulary.csv of the data set.

    The file has the columns Index, KnowledgeGraphId and Name. A class without a name gets its
    knowledge graph id as name. If classes share a name, all but the first get the id appended.

    Raises:
        DatasetError: no such table, or ids other than 0 .. K - 1.
    """
    try:
        with vocabulary.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DatasetError(
            f"{vocabulary}: no such file; expected the vocabulary.csv of the data set"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{vocabulary}: not a CSV file in UTF-8: {error}") from None
    if not rows or not {"Index", "Name"} <= set(rows[0]):
        came = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise DatasetError(
            f"{vocabulary}: expected the columns Index, KnowledgeGraphId, Name, ...; got {came}"
        )
    by_id = {row["Index"].strip(): row for row in rows if row["Index"]}
    if len(by_id) != len(rows) or by_id.keys() != {str(number) for number in range(len(rows))}:
        raise DatasetError(f"{vocabulary}: Index must be 0 .. {len(rows) - 1}, each once")
    names: dict[str, None] = {}
    for number in range(len(rows)):
        row = by_id[str(number)]
        key = row.get("KnowledgeGraphId") or f"class {number}"
        name = " ".join((row["Name"] or "").split())
        if name in names:
            name = f"{name} ({key})"
        name = name or key
        if name in names:
            name = f"{name} ({number})"
        names[name] = None
    return list(names)


def write_class_names(vocabulary: Path, out: Path) -> int:
    """Write lines `id name` for DATASET.class_names, and return the number of classes.

    Raises:
        DatasetError: as `class_names`.
    """
    names = class_names(vocabulary)
    with atomic_write(out) as temporary:
        temporary.write_text(
            "".join(f"{number} {file_line(name)}\n" for number, name in enumerate(names)),
            encoding="utf-8",
        )
    return len(names)


# --- convert pickles -----------------------------------------------------------------------------


def convert_group(job: tuple[str, tuple[str, ...]], features: tuple[str, ...]) -> int | str:
    """Convert the pickles of one TFRecord file.

    Args:
        job: (TFRecord file, pickles).

    Returns:
        the number of videos, or the reason why no file was written.
    """
    target, sources = job
    videos = (video for source in sources for video in pickles.read_examples(source, features))
    payloads = (encode_example(video.id, video.labels, video.features) for video in videos)
    try:
        return write_payloads(target, payloads)
    except (DecodeError, ValueError, OSError) as error:
        return log.error_text(error)


def check_groups(jobs: Sequence[tuple[str, tuple[str, ...]]], features: Sequence[str]) -> None:
    """Write down which pickles each TFRecord file is made of; its name only counts the groups.

    Raises:
        DatasetError: one that exists was made of other pickles, or with other features.
    """
    file = Path(jobs[0][0]).with_name(GROUPS)
    try:
        before = dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    except (ValueError, TypeError):
        raise DatasetError(f"{file}: damaged; convert to another folder") from None
    made_of = {}
    for target, sources in jobs:
        name, text = Path(target).name, repr((list(map(os.path.basename, sources)), *features))
        made_of[name] = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        if before.get(name, made_of[name]) != made_of[name] and os.path.exists(target):
            raise DatasetError(
                f"{target} exists, and was made of other pickles, or with another --group or "
                "--features; convert to another folder, or delete what is in it"
            )
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(before | made_of, indent=1) + "\n", encoding="utf-8")


def convert(
    paths: Sequence[str],
    out: Path,
    features: Sequence[str],
    group: int = 1,
    num_workers: int | None = None,
) -> dict[str, int | str]:
    """Convert pickles to TFRecord files that do not exist yet.

    Args:
        group: pickles per TFRecord file; use more than 1 if each pickle holds a single video.

    Returns:
        TFRecord file -> number of videos, or the reason why it was not written.

    Raises:
        DatasetError: two pickles would become the same file, or a group is another than that of
            the file that exists.
    """
    if group > 1:
        groups = [tuple(paths[i : i + group]) for i in range(0, len(paths), group)]
        jobs = [(str(out / f"part{i:05}.tfrecord"), sources) for i, sources in enumerate(groups)]
    else:
        jobs = [(str(out / f"{Path(path).stem}.tfrecord"), (path,)) for path in paths]
    name, count = Counter(target for target, _ in jobs).most_common(1)[0]
    if count > 1:
        raise DatasetError(
            f"{count} pickles would become {name}; convert one folder at a time, or set --group"
        )
    if group > 1:
        check_groups(jobs, features)
    missing = [job for job in jobs if not os.path.exists(job[0])]
    work, results = partial(convert_group, features=tuple(features)), {}
    processes = _num_processes(num_workers, len(missing))
    for index, result in run_each(work, missing, processes, "pickles"):
        results[missing[index][0]] = CRASHED if isinstance(result, Crash) else result
    return results


def convert_and_report(
    file_path: str,
    out: Path,
    features: Sequence[str],
    group: int = 1,
    num_workers: int | None = None,
) -> list[str]:
    """Convert pickles, print the number of videos, and return the problems.

    Raises:
        DatasetError: no pickles, or two of them would become the same file.
    """
    done = convert(find_shards(file_path), out, features, group, num_workers)
    videos = [count for count in done.values() if isinstance(count, int)]
    log.show(f"{out}: {len(videos)} files with {sum(videos)} videos written")
    failed = {target: reason for target, reason in done.items() if isinstance(reason, str)}
    return [f"{target} was not written: {reason}" for target, reason in failed.items()]
