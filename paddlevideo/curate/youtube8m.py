"""What is done to YouTube-8M once, before training: every record checked, lists, class names, pickles made TFRecord."""

import csv
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo import log
from paddlevideo.data.lists import MAX_SHOWN, DatasetError
from paddlevideo.data.youtube8m import pickles, shards
from paddlevideo.data.youtube8m.dataset import FeatureDecoder
from paddlevideo.data.youtube8m.tfrecord import encode_example, printable_id, write_payloads
from paddlevideo.files import atomic_write, check_writable
from paddlevideo.sample import DecodeError, Record

# How a split's shards are called, and the list that is made of them.
SPLITS = {"train": "train.list", "val": "val.list", "test": "test.list"}


def in_processes(
    work: Callable[[Any], Any], items: Sequence[Any], num_workers: int | None, label: str
) -> Iterator[tuple[Any, Any]]:
    """(item, `work(item)`) as they are done, with a progress bar; one worker is this process."""
    workers = min(num_workers or os.cpu_count() or 1, len(items))
    with log.progress(total=len(items), label=label) as bar:
        if workers <= 1:
            for item in items:
                yield item, work(item)
                bar.update()
            return
        # Spawned, not forked: a copy of a process whose libraries run threads may hang.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(work, item): item for item in items}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
                bar.update()


# --- checking --------------------------------------------------------------------------------------------------------


@dataclass
class ShardReport:
    """What is in a shard.

    Args:
        stamp: None where the file cannot be opened.
        num_frames: of all its videos.
        no_frames, cut: videos without frames, and with more than are used.
        num_labels: of all videos; `unlabelled` have none.
        ids: bytes [records that could be read].
        problems: the first of them, with file and byte; `num_problems` is how many there are.
    """

    path: str
    stamp: shards.ShardStamp | None = None
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    num_frames: int = 0
    no_frames: int = 0
    cut: int = 0
    num_labels: int = 0
    unlabelled: int = 0
    max_label: int = -1
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, "S1"))
    problems: list[str] = field(default_factory=list)
    num_problems: int = 0

    def wrong(self, text: str) -> None:
        self.num_problems += 1
        if len(self.problems) < MAX_SHOWN:
            self.problems.append(f"{self.path}: {text}")


def check_shard(path: str, decoder: FeatureDecoder) -> ShardReport:
    """Read every record of a shard as training does, its check sum included."""
    report, ids = ShardReport(path), []
    try:
        report.stamp = shards.ShardStamp.of(path)
        report.offsets, problem = shards.look_up(path)
    except (DatasetError, OSError) as error:
        report.stamp = None
        report.wrong(str(error).removeprefix(f"{path}: "))
        return report
    if not len(report.offsets):
        report.wrong(problem)
    for offset in report.offsets.tolist():
        try:
            example = decoder.read(Record(path, offset=offset))
        except DecodeError as error:
            report.wrong(str(error))
            continue
        count = min(map(len, example.features.values()))
        report.num_frames += count
        report.no_frames += count == 0
        report.cut += count > decoder.max_frames
        report.num_labels += len(example.labels)
        report.unlabelled += not len(example.labels)
        report.max_label = max(report.max_label, int(example.labels.max(initial=-1)))
        ids.append(example.id)
    report.ids = np.array(ids, "S") if ids else report.ids
    return report


def check(
    paths: Sequence[str], decoder: FeatureDecoder, num_workers: int | None = None
) -> list[ShardReport]:
    """A report of each shard, in the order of `paths`."""
    done = dict(in_processes(partial(check_shard, decoder=decoder), paths, num_workers, "shards"))
    return [done[path] for path in paths]


def doubled_ids(reports: Sequence[ShardReport]) -> list[str]:
    """Videos that are in the shards more than once, and where."""
    every = np.concatenate([report.ids for report in reports]) if reports else np.zeros(0, "S1")
    names, counts = np.unique(every[every != b""], return_counts=True)
    twice = names[counts > 1]
    told = []
    for name in twice[:MAX_SHOWN]:
        where = ", ".join([report.path for report in reports if (report.ids == name).any()][:4])
        told.append(
            f"{printable_id(bytes(name))} is there {counts[names == name][0]} times: {where}"
        )
    rest = len(twice) - len(told)
    return told + ([f"... and {rest} more videos that are there more than once"] if rest else [])


def problems(reports: Sequence[ShardReport]) -> list[str]:
    """What is wrong, a line each; of a shard the first of it."""
    told = []
    for report in reports:
        rest = report.num_problems - len(report.problems)
        told += report.problems + ([f"{report.path}: ... and {rest} more records"] if rest else [])
    return told + doubled_ids(reports)


def summary(reports: Sequence[ShardReport], max_frames: int) -> list[str]:
    """Counts over all shards, a line each."""
    total = Counter()
    for one in reports:
        total.update(
            {
                "records": len(one.offsets),
                "read": len(one.ids),
                "frames": one.num_frames,
                "none": one.no_frames,
                "cut": one.cut,
            }
        )
        total.update(
            {"labels": one.num_labels, "unlabelled": one.unlabelled, "wrong": one.num_problems}
        )
    read, top = max(1, total["read"]), max((report.max_label for report in reports), default=-1)
    lines = [
        f"{len(reports)} shards, {total['records']} videos, {total['frames']} frames ({total['frames'] / read:.1f} a video)",
        f"{total['labels']} labels ({total['labels'] / read:.2f} a video){f', the largest is {top}' if top >= 0 else ''}",
    ]
    notes = {
        "unlabelled": "have no labels, as in a test split",
        "none": "have no frames: the model answers from its biases alone",
        "cut": f"have more than {max_frames} frames: the first {max_frames} are used",
    }
    return lines + [f"{total[key]} videos {text}" for key, text in notes.items() if total[key]]


def write_checked_index(index_file: str, reports: Sequence[ShardReport]) -> None:
    """Keep where the records are, of the shards that could be opened, so that training need not look them up."""
    usable = [report for report in reports if report.stamp is not None]
    stamps = [report.stamp for report in usable if report.stamp is not None]
    shards.write_index(index_file, [r.path for r in usable], stamps, [r.offsets for r in usable])


def check_and_tell(
    file_path: str,
    decoder: FeatureDecoder,
    index_file: str | None = None,
    num_workers: int | None = None,
) -> list[str]:
    """Check shards, print what is in them and write their index; returns what is wrong.

    Raises:
        DatasetError: nothing there.
        OSError: the index cannot be written; said before the work.
    """
    paths, index_file = shards.find_shards(file_path), index_file or shards.index_name(file_path)
    if index_file:
        check_writable(index_file)
    reports = check(paths, decoder, num_workers)
    print("\n".join(summary(reports, decoder.max_frames)))
    if index_file:
        write_checked_index(index_file, reports)
        print(f"where the records are: {index_file}")
    return problems(reports)


# --- lists, class names, conversion -------------------------------------------------------------------------------------


def write_lists(folder: Path, out: Path) -> dict[str, int]:
    """Lists of a folder's train*, val* and test* shards, with paths relative to the lists; how many shards are in each.

    Raises:
        DatasetError: no shards, or none with such names.
    """
    found = shards.find_shards(str(folder))
    counts = {}
    for split, name in SPLITS.items():
        mine = [path for path in found if os.path.basename(path).lower().startswith(split)]
        if mine:
            with atomic_write(out / name) as temporary:
                temporary.write_text(
                    "".join(f"{os.path.relpath(path, out)}\n" for path in mine), encoding="utf-8"
                )
            counts[str(out / name)] = len(mine)
    if not counts:
        raise DatasetError(
            f"{folder}: no shard's name begins with {', '.join(SPLITS)}; the first is {os.path.basename(found[0])}"
        )
    return counts


def class_names(vocabulary: Path) -> list[str]:
    """Class names in the order of their ids, from the data set's vocabulary.csv (columns Index, KnowledgeGraphId, Name).

    A class without a name, and all but the first of those with the same name, carry their knowledge graph id.

    Raises:
        DatasetError: no such table, or ids that are not 0 .. K - 1.
    """
    try:
        with vocabulary.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DatasetError(
            f"{vocabulary}: no such file; it is the vocabulary.csv of the data set"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{vocabulary}: not a table of text: {error}") from None
    if not rows or not {"Index", "Name"} <= set(rows[0]):
        came = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise DatasetError(
            f"{vocabulary}: expected columns Index, KnowledgeGraphId, Name, ...; got {came}"
        )
    by_id = {row["Index"].strip(): row for row in rows if row["Index"]}
    if len(by_id) != len(rows) or by_id.keys() != {str(number) for number in range(len(rows))}:
        raise DatasetError(f"{vocabulary}: Index must be 0 .. {len(rows) - 1}, each once")
    names: dict[str, None] = {}
    for number in range(len(rows)):
        row = by_id[str(number)]
        name, key = (
            " ".join((row["Name"] or "").split()),
            row.get("KnowledgeGraphId") or f"class {number}",
        )
        name = (f"{name} ({key})" if name in names else name) or key
        names[f"{name} ({number})" if name in names else name] = None
    return list(names)


def write_class_names(vocabulary: Path, out: Path) -> int:
    """Write `id name` lines, as DATASET.class_names takes them; returns how many classes there are."""
    names = class_names(vocabulary)
    with atomic_write(out) as temporary:
        temporary.write_text(
            "".join(f"{number} {name}\n" for number, name in enumerate(names)), encoding="utf-8"
        )
    return len(names)


def convert_group(job: tuple[str, tuple[str, ...]], features: tuple[str, ...]) -> int | str:
    """(TFRecord file, pickles) -> how many videos were written, or what was wrong (and then there is no file)."""
    target, sources = job
    examples = (one for source in sources for one in pickles.read_examples(source, features))
    try:
        return write_payloads(
            target, (encode_example(one.id, one.labels, one.features) for one in examples)
        )
    except (DecodeError, ValueError, OSError) as error:
        return log.error_text(error)


def convert(
    paths: Sequence[str],
    out: Path,
    features: Sequence[str],
    group: int = 1,
    num_workers: int | None = None,
) -> dict[str, int | str]:
    """Convert pickles: TFRecord file -> number of its videos or what was wrong, of each that is not there yet.

    Args:
        group: pickles that go into one file; more than one where a pickle is a single video.

    Raises:
        DatasetError: two pickles would become the same file.
    """
    if group > 1:
        parts = [tuple(paths[i : i + group]) for i in range(0, len(paths), group)]
        jobs = [(str(out / f"part{number:05}.tfrecord"), part) for number, part in enumerate(parts)]
    else:
        jobs = [(str(out / f"{Path(path).stem}.tfrecord"), (path,)) for path in paths]
    name, count = Counter(target for target, _ in jobs).most_common(1)[0]
    if count > 1:
        raise DatasetError(
            f"{count} pickles would become {name}; convert one folder at a time, or set a group"
        )
    wanted = [job for job in jobs if not os.path.exists(job[0])]
    done = in_processes(
        partial(convert_group, features=tuple(features)), wanted, num_workers, "pickles"
    )
    return {target: result for (target, _), result in done}


def convert_and_tell(
    file_path: str,
    out: Path,
    features: Sequence[str],
    group: int = 1,
    num_workers: int | None = None,
) -> list[str]:
    """Convert pickles and print how many videos there were; returns what is wrong.

    Raises:
        DatasetError: nothing there, or two pickles would become the same file.
    """
    done = convert(shards.find_shards(file_path), out, features, group, num_workers)
    videos = [count for count in done.values() if isinstance(count, int)]
    print(f"{out}: {len(videos)} files with {sum(videos)} videos written")
    return [
        f"{target} was not written: {why}" for target, why in done.items() if isinstance(why, str)
    ]
