"""A long video: what overlapping windows cost next to windows without overlap, and the memory."""

import argparse
import resource
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.exported import model_of
from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.predict.predictor import Predictor
from paddlevideo.timelines.timeline import Timeline


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py timeline."""
    records = records_of(args.videos, folder, args.clips, tuple(args.size), args.frames, args.gop)
    paths = list(dict.fromkeys(record.path for record in records))
    predictor = Predictor(model_of(args, folder), backend=args.backend, threads=args.threads)
    yield run(predictor, paths, args.window, args.overlap, args.rounds)


def run(
    predictor: Predictor, paths: list[str], window: float, overlaps: list[float], rounds: int
) -> Group:
    """All windows of some videos, with each overlap.

    Args:
        window: length of a window (s).
        overlaps: shares of a window that the next one has too, 0 to below 1.

    Raises:
        ValueError: an overlap is out of range.
        DecodeError: a video cannot be decoded.
    """
    wrong = [overlap for overlap in overlaps if not 0 <= overlap < 1]
    if wrong:
        raise ValueError(f"--overlap {wrong[0]:g}: expected a share from 0 to below 1")
    seconds: dict[str, float] = {}
    num_windows: dict[str, int] = {}
    variants = []
    for overlap in overlaps:
        timeline = Timeline(predictor, window, window * (1 - overlap))
        name = f"{100 * overlap:.0f} % overlap"

        def job(timeline: Timeline = timeline, name: str = name) -> None:
            seconds[name], num_windows[name] = 0.0, 0
            for path in paths:
                end = 0.0
                for scored in timeline.windows(path):
                    num_windows[name] += 1
                    end = scored.end
                seconds[name] += end

        variants.append(Variant(name, timed(job)))
    variants[0].seconds()  # opens files and programs, and gives the length of the videos
    title = f"timelines, {predictor.backend.name}, windows of {window:g} s"
    length = next(iter(seconds.values()))
    group = measure(title, "second", length, variants, rounds)
    first = group.rows[0].median
    notes = {
        row.name: f"{num_windows[row.name]} windows, {row.median / first:.2f} times the first row"
        for row in group.rows
    }
    notes[group.rows[-1].name] += f"; at most {peak_megabytes():.0f} MB in this process"
    return replace(group, rows=[replace(row, note=notes[row.name]) for row in group.rows])


def peak_megabytes() -> float:
    """The largest memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
