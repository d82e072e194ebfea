"""A folder of videos: predict, and what it overlaps: decoding alone and the network alone."""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.exported import model_of
from paddlevideo.benchmarks.measure import Group, Variant, measure
from paddlevideo.cores import num_cores
from paddlevideo.predict.ahead import default_workers
from paddlevideo.predict.predictor import Predictor
from paddlevideo.sample import DecodeError, Record, Sample

MAX_SAMPLES = 16  # in memory for the network alone, which takes them in turn


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py predict."""
    records = records_of(args.videos, folder, args.clips, tuple(args.size), args.frames, args.gop)
    paths = list(dict.fromkeys(record.path for record in records))
    predictor = Predictor(model_of(args, folder), backend=args.backend, threads=args.threads)
    yield run(predictor, paths, args.batch_size, args.decode_workers, args.rounds)


def run(
    predictor: Predictor, paths: list[str], batch_size: int | None, workers: int | None, rounds: int
) -> Group:
    """All videos of a folder, each once.

    Args:
        batch_size, workers: see `Predictor.predict`.

    Raises:
        DecodeError: a video cannot be decoded.
    """
    workers = default_workers() if workers is None else workers
    batch = predictor.limit_batch(batch_size, len(paths))
    samples = [
        checked(*pair) for pair in predictor.samples(paths[: max(batch, MAX_SAMPLES)], workers)
    ]

    def network() -> None:
        left = itertools.islice(itertools.cycle(samples), len(paths))
        while part := list(itertools.islice(left, batch)):
            exhaust(predictor.score(part))

    jobs: dict[str, Callable[[], None]] = {
        "predict": lambda: exhaust(predictor.predict(paths, batch, workers=workers)),
        "one after the other": lambda: exhaust(predictor.predict(paths, batch, workers=0)),
        "decode alone": lambda: exhaust(predictor.samples(paths, workers)),
        "network alone": network,
    }
    cpu_seconds: dict[str, float] = {}
    variants = [Variant(name, timed_cpu(name, job, cpu_seconds)) for name, job in jobs.items()]
    title = (
        f"predict, {predictor.backend.name}, {batch} video(s) together, {workers} decode workers"
    )
    return with_notes(measure(title, "video", len(paths), variants, rounds), cpu_seconds)


def with_notes(group: Group, cpu_seconds: dict[str, float]) -> Group:
    """The group with the busy cores of each row, and how close predict comes to what it overlaps.

    Args:
        cpu_seconds: of each variant in the last round.
    """
    median = {row.name: row.median for row in group.rows}
    slower = max(median["decode alone"], median["network alone"])
    work = (cpu_seconds["decode alone"] + cpu_seconds["network alone"]) / num_cores()
    notes = {name: f"{cpu_seconds[name] / row:.1f} cores busy" for name, row in median.items()}
    ratio = median["predict"] / slower
    notes["predict"] += f"; {ratio:.2f} times the slower one alone"
    if work > slower:
        share = median["predict"] / work
        notes["predict"] += f"; {share:.2f} times the work of both spread over all cores"
    return replace(group, rows=[replace(row, note=notes[row.name]) for row in group.rows])


def timed_cpu(
    name: str, job: Callable[[], None], cpu_seconds: dict[str, float]
) -> Callable[[], float]:
    """A function that does a job, keeps its CPU seconds, and returns its seconds."""

    def run() -> float:
        start, cpu = time.perf_counter(), time.process_time()
        job()
        cpu_seconds[name] = time.process_time() - cpu
        return time.perf_counter() - start

    return run


def checked(record: Record, sample: Sample | str) -> tuple[Record, Sample]:
    """The pair, where the sample is one.

    Raises:
        DecodeError: it is the reason why there is none.
    """
    if isinstance(sample, str):
        raise DecodeError(f"{record.location}: {sample}; take it out of the folder")
    return record, sample


def exhaust(items: Iterator) -> None:
    """Read all items."""
    for _ in items:
        pass
