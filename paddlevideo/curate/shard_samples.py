"""The samples that go into shards: their keys, labels and files."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from paddlevideo import files
from paddlevideo.curate.batch_jobs import CRASHED
from paddlevideo.curate.resize import WriteResized
from paddlevideo.curate.tar_writer import Member
from paddlevideo.data.datasets import RecordList
from paddlevideo.log import error_text, logger
from paddlevideo.media.frame_files import frame_files
from paddlevideo.media.tar_files import file_state
from paddlevideo.processes import Crash, run_each
from paddlevideo.remote import is_url, path_name, path_suffix, shown
from paddlevideo.sample import DecodeError, Record

MAX_KEY = 200  # characters
NUM_THREADS = 8


@dataclass(frozen=True)
class SampleJob:
    """A record to put into a shard.

    Args:
        key: of the sample.
        record: where its files are.
        texts: {kind: content} of `.cls` and `.json`.
    """

    key: str
    record: Record
    texts: dict[str, str]

    @property
    def source(self) -> str:
        return self.record.path


def sample_jobs(data: RecordList, has_names: bool, shuffle_seed: int | None) -> list[SampleJob]:
    """The samples in the order of the shards."""
    counts: dict[str, int] = {}
    jobs = []
    for record in data.records:
        key = sample_key(record.id)
        counts[key] = counts.get(key, 0) + 1
        while counts[key] > 1:
            key = f"{key}_{counts[key]}"
            counts[key] = counts.get(key, 0) + 1
        jobs.append(SampleJob(key, record, label_texts(record, data.class_names, has_names)))
    if len({record.path for record in data.records}) < len(jobs):
        logger.warning("files that occur in several lines of the list are stored several times")
    if shuffle_seed is None:
        return jobs
    return [jobs[index] for index in np.random.default_rng(shuffle_seed).permutation(len(jobs))]


def sample_key(name: str) -> str:
    """The key of a sample: its path in the list, without suffix, and with `_` for dots."""
    path = PurePosixPath(shown(name).replace("\\", "/"))
    parts = list(path.with_suffix("").parts)
    if path.is_absolute() or ".." in parts or (parts[:1] and parts[0].endswith(":")):
        parts = [part for part in parts[-2:] if part not in ("/", "..") and part[-1:] != ":"]
    *folders, base = parts or ["sample"]
    key = "/".join([*folders, base.replace(".", "_").strip() or "sample"])
    if key.startswith("__") and key.endswith("__"):
        key = f"sample{key}"  # WebDataset leaves out names of this form
    return key if len(key) <= MAX_KEY else key[-MAX_KEY:].lstrip("/")


def label_texts(
    record: Record, class_names: Sequence[str] | None, has_names: bool
) -> dict[str, str]:
    """The contents of `.cls`, the class id, and of `.json`, what the list says of the record."""

    def written(label: int) -> int | str:
        return class_names[label] if has_names and class_names else label

    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    if record.labels is not None:
        values["labels"] = [written(label) for label in record.labels]
    elif record.label is not None:
        values["label"] = written(record.label)
        texts["cls"] = str(record.label)
    values["path"] = shown(record.id)  # without a signature
    for name in ("start_sec", "end_sec", "num_frames", "source"):
        if (value := getattr(record, name)) is not None:
            values[name] = value
    return {**texts, "json": json.dumps(values)}


def measure(job: SampleJob) -> tuple[Member, ...] | str:
    """The files of a sample with their sizes, or why it cannot be used."""
    path = job.source
    try:
        if job.record.frame_pattern is None:
            return (_member(path, path_suffix(path).removeprefix(".")),)
        if is_url(path):
            return "a folder of frames at a URL; copy it to this machine first"
        names = frame_files(os.listdir(path), job.record.frame_pattern)
        wanted = names[: job.record.num_frames]
        if not names or len(wanted) < (job.record.num_frames or 0):
            return f"{len(names)} frames in it, expected {job.record.num_frames or 'at least 1'}"
        return tuple(_member(os.path.join(path, name), _image_kind(name)) for name in wanted)
    except (OSError, DecodeError) as error:
        return error_text(error) or type(error).__name__


def _member(path: str, kind: str) -> Member:
    """
    Raises:
        OSError, DecodeError: there is no such file, or it is empty.
    """
    if not is_url(path) and not os.path.isfile(path):
        raise DecodeError("a folder, not a file" if os.path.isdir(path) else "no such file")
    size, version = file_state(path)
    if size is None:
        raise DecodeError("its server does not say how large it is; copy it to this machine first")
    if not size:
        raise DecodeError(f"{path_name(path)} is empty (0 bytes)")
    return Member(kind, path, size, version)


def _image_kind(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return f"{stem.replace('.', '_')}{suffix.lower()}"


def resized(
    good: list[tuple[SampleJob, tuple[Member, ...]]],
    folder: Path,
    short_side: int,
    num_workers: int,
) -> tuple[list[tuple[SampleJob, tuple[Member, ...]]], list[tuple[str, str]]]:
    """Write smaller copies of the videos, where they are missing.

    Returns:
        the samples with their copies; (source, reason) of those that failed.
    """
    targets = [str(folder / f"{text_digest([members, short_side])}.mp4") for _, members in good]
    todo = {target: members[0].path for target, (_, members) in zip(targets, good, strict=True)}
    files.remove_leftovers(folder)
    write = functools.partial(_resize, short_side)
    results = run_all(write, list(todo.items()), num_workers, "resize")
    reasons = dict(zip(todo, results, strict=True))
    kept, failed = [], []
    for (job, _), target in zip(good, targets, strict=True):
        if reasons[target]:
            failed.append((shown(job.source), reasons[target]))
        else:
            copy = replace(_member(target, "mp4"), version=0)  # written again, it is equal
            kept.append((job, (copy,)))
    return kept, failed


def _resize(short_side: int, job: tuple[str, str]) -> str:
    """Write one copy; return why it failed, or ""."""
    target, source = job
    if os.path.exists(target):
        return ""
    try:
        WriteResized(short_side)(source, target)
    except (DecodeError, OSError) as error:
        return error_text(error) or type(error).__name__
    # An unexpected error in one file must not end the run. It is reported and counted.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def measure_all(jobs: Sequence[SampleJob]) -> list[tuple[Member, ...] | str]:
    """`measure` for each job, in threads, which mostly wait for the disk."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(measure, jobs))


def run_all(function: Callable, items: list, num_workers: int, label: str) -> list:
    """The results of a function in the order of the items.

    Args:
        num_workers: 1 works in this process; more processes report the item that crashes one.
    """
    results: list[Any] = [None] * len(items)
    for index, result in run_each(function, items, num_workers if num_workers > 1 else 0, label):
        results[index] = CRASHED if isinstance(result, Crash) else result
    return results


def text_digest(values: Any) -> str:
    """A name for values, by what `repr` writes of them."""
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:32]
