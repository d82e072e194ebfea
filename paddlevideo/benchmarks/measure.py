"""Times variants of the same work in turn, and reports medians and ratios.

On a noisy machine, times from different minutes cannot be compared. So every round runs each
variant once, and each round starts with the next variant. A ratio is the time of the baseline
divided by the time of the variant in the same round; the table has its median over the rounds, its
minimum and its maximum.
"""

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddlevideo.cores import num_cores
from paddlevideo.engine.runfile import versions
from paddlevideo.processes import processor

# Seconds before a job: idle OpenMP threads spin for 0.2 s, and MKL uses fewer threads while others
# run.
PAUSE = 0.3

Job = Callable[[], Any]


@dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Args:
        seconds: does the work once and returns how long it took (s).
        note: the last column of the table, computed at the end from the variant's median (s).
    """

    name: str
    seconds: Callable[[], float]
    note: Callable[[float], str] = lambda median: ""


def timed(job: Job) -> Callable[[], float]:
    """A function that calls `job` and returns the seconds that it took."""

    def run() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    return run


@dataclass(frozen=True)
class Row:
    """The times of one variant.

    Args:
        seconds: of each round.
        median: of `seconds`.
        rate: units per second.
        ratio: speed relative to the baseline, median over the rounds; 2 takes half the time.
        lowest, highest: of the ratios.
    """

    name: str
    seconds: list[float]
    median: float
    rate: float
    ratio: float
    lowest: float
    highest: float
    note: str

    @classmethod
    def of(
        cls, name: str, seconds: list[float], base: list[float], count: float, note: str
    ) -> "Row":
        """The row of these times.

        Args:
            base: seconds of the baseline in each round.
            count: units of work of each call.
        """
        ratios = sorted(b / s for b, s in zip(base, seconds, strict=True))
        median = statistics.median(seconds)
        middle = statistics.median(ratios)
        return cls(name, seconds, median, count / median, middle, ratios[0], ratios[-1], note)


@dataclass(frozen=True)
class Group:
    """Variants of the same work; the first row is the baseline.

    Args:
        unit, count: the work of one call, as "clip", 16.
    """

    title: str
    unit: str
    count: float
    rows: list[Row] = field(default_factory=list)

    def text(self) -> str:
        """The group as an aligned table."""
        head = ("", "ratio", "lowest - highest", f"{self.unit}s/s", f"ms/{self.unit}", "")
        lines: list[tuple[str, ...]] = [head]
        for row in self.rows:
            milliseconds = _short(row.median / self.count * 1000)
            spread = f"{row.lowest:.2f} - {row.highest:.2f}"
            numbers = (f"{row.ratio:.2f}", spread, _short(row.rate), milliseconds)
            lines.append((row.name, *numbers, row.note))
        name_width, *widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)]
        table = [f"{self.title} ({len(self.rows[0].seconds)} rounds)"]
        for name, *numbers, note in lines:
            columns = [c.rjust(width) for c, width in zip(numbers, widths, strict=True)]
            table.append("  ".join(["", name.ljust(name_width), *columns, note]).rstrip())
        return "\n".join(table)


def measure(title: str, unit: str, count: float, variants: list[Variant], rounds: int) -> Group:
    """Time the variants in turn, after one call of each that is not counted.

    Args:
        unit, count: the work of one call, as "clip", 16.
        variants: the first is the baseline.

    Raises:
        ValueError: there is no round or no variant.
    """
    if rounds < 1 or not variants:
        raise ValueError(
            f"{title}: {rounds} rounds of {len(variants)} variants; at least one of each is needed"
        )
    for variant in variants:
        variant.seconds()
    times: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for number in range(rounds):
        first = number % len(variants)
        for variant in variants[first:] + variants[:first]:
            times[variant.name].append(variant.seconds())
    base = times[variants[0].name]
    rows = []
    for variant in variants:
        seconds = times[variant.name]
        note = variant.note(statistics.median(seconds))
        rows.append(Row.of(variant.name, seconds, base, count, note))
    return Group(title, unit, count, rows)


def machine() -> dict[str, Any]:
    """The machine of the numbers: processor, usable cores, load of the last minute, versions."""
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {"processor": processor(), "cores": num_cores(), "load": load, "versions": versions()}


def write_json(path: Path, groups: list[Group]) -> None:
    """Write the machine and all times."""
    content = {"machine": machine(), "groups": [asdict(group) for group in groups]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


# --- child processes ------------------------------------------------------------------------------


class Child:
    """A new process with its own environment, which does its jobs on request.

    Args:
        make: `make(*arguments)` is called in the process and returns its jobs by name. It is a
            function of a module, so that it can be pickled.
        environment: variables that are set before the process imports anything.
    """

    def __init__(
        self,
        make: Callable[..., Mapping[str, Job]],
        arguments: tuple,
        environment: Mapping[str, str],
    ):
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        with _environment(environment):
            self._process = context.Process(
                target=_serve, args=(child_end, make, arguments), daemon=True
            )
            self._process.start()
        child_end.close()

    def __call__(self, job: str) -> tuple[float, Any]:
        """Do a job; returns its seconds and its value.

        Raises:
            ChildProcessError: the process ended, or the job failed.
        """
        time.sleep(PAUSE)
        try:
            self._pipe.send(job)
            seconds, value, error = self._pipe.recv()
        except (EOFError, OSError) as ended:
            self._process.join(5)
            raise ChildProcessError(
                f"the process for {job!r} ended with exit code {self._process.exitcode}"
            ) from ended
        if error:
            raise ChildProcessError(f"{job!r} failed: {error}")
        return seconds, value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe, make, arguments) -> None:
    jobs, error = {}, ""
    try:
        jobs = make(*arguments)
    except Exception as failed:  # reported with the first job
        error = f"{type(failed).__name__}: {failed}"
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        start, value = time.perf_counter(), None
        try:
            value = None if error else jobs[name]()
            pipe.send((time.perf_counter() - start, value, error))
        except Exception as failed:
            pipe.send((0.0, None, f"{type(failed).__name__}: {failed}"))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
