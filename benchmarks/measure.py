"""Variants of one piece of work, timed in turn: on a noisy machine only ratios from the same minutes mean something.

Every round runs each variant once, in an order that moves on by one from round to round. A ratio is the median, over the
rounds, of the baseline's time by the variant's time in that round; the smallest and the largest are told with it.
"""

import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddlevideo.engine.runfile import versions

Job = Callable[[], Any]


@dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Args:
        seconds: does it once and returns how long that took (s).
        note: makes the last column when the measurement is over, from this variant's median (s).
    """

    name: str
    seconds: Callable[[], float]
    note: Callable[[float], str] = lambda median: ""


def timed(job: Job) -> Callable[[], float]:
    """`job` -> the seconds that a call of it takes."""

    def run() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    return run


@dataclass(frozen=True)
class Row:
    """Medians over the rounds; `ratio` is how many times as fast as the baseline: 2 takes half the time."""

    name: str
    seconds: list[float]
    median: float  # s
    rate: float  # units per second
    ratio: float
    lowest: float
    highest: float
    note: str


@dataclass(frozen=True)
class Group:
    """Variants of the same work. `unit` is what a call makes `count` of; the first row is the baseline."""

    title: str
    unit: str
    count: float
    rows: list[Row] = field(default_factory=list)

    def text(self) -> str:
        """The group as an aligned table."""
        head = ("", "ratio", "lowest - highest", f"{self.unit}s/s", f"ms/{self.unit}", "")
        lines = [head]
        for row in self.rows:
            each = row.median / self.count * 1000
            spread = f"{row.lowest:.2f} - {row.highest:.2f}"
            lines.append(
                (row.name, f"{row.ratio:.2f}", spread, _short(row.rate), _short(each), row.note)
            )
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        shown = []
        for line in lines:
            cells = [
                line[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(line[1:5], widths[1:5], strict=True)),
                line[5],
            ]
            shown.append("  ".join(cells).rstrip())
        return "\n".join(
            [f"{self.title} ({len(self.rows[0].seconds)} rounds)", *(f"  {line}" for line in shown)]
        )


def measure(title: str, unit: str, count: float, variants: list[Variant], rounds: int) -> Group:
    """Time the variants in turn, after one call of each that is not counted.

    Args:
        unit, count: what one call makes how many of, as "clip", 16.
        variants: the first is the baseline.

    Raises:
        ValueError: fewer than one round, or nothing to compare.
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
    rows, base = [], times[variants[0].name]
    for variant in variants:
        mine = times[variant.name]
        ratios = sorted(b / m for b, m in zip(base, mine, strict=True))
        median = statistics.median(mine)
        rows.append(
            Row(
                variant.name,
                mine,
                median,
                count / median,
                statistics.median(ratios),
                ratios[0],
                ratios[-1],
                variant.note(median),
            )
        )
    return Group(title, unit, count, rows)


def machine() -> dict[str, Any]:
    """What the numbers belong to: processor, cores that this process may use, load of the last minute, versions."""
    model = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        model = next(
            (
                line.split(":", 1)[1].strip()
                for line in about.read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {"processor": model, "cores": cores, "load": load, "versions": versions()}


def write_json(path: Path, groups: list[Group]) -> None:
    content = {"machine": machine(), "groups": [asdict(group) for group in groups]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


# --- processes of their own ------------------------------------------------------------------------------------------


class Child:
    """A fresh process with its own environment, which waits and does one of its jobs when told.

    Args:
        make: called there as `make(*arguments)`, gives the jobs by name. A function of a module, so that it can be sent.
        environment: set before anything is imported there.
    """

    def __init__(
        self,
        make: Callable[..., Mapping[str, Job]],
        arguments: tuple,
        environment: Mapping[str, str],
    ):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        with _environment(environment):
            self._process = context.Process(
                target=_serve, args=(theirs, make, arguments), daemon=True
            )
            self._process.start()
        theirs.close()

    def __call__(self, job: str) -> tuple[float, Any]:
        """(seconds, what the job returned).

        Raises:
            ChildProcessError: the process ended, or the job failed there.
        """
        # OpenMP's idle threads spin for 0.2 s, and MKL takes fewer threads where it sees others run.
        time.sleep(0.3)
        try:
            self._pipe.send(job)
            seconds, value, error = self._pipe.recv()
        except (EOFError, OSError) as ended:
            self._process.join(5)
            raise ChildProcessError(
                f"the process that was to do {job!r} ended with exit code {self._process.exitcode}"
            ) from ended
        if error:
            raise ChildProcessError(f"{job!r} failed: {error}")
        return seconds, value

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe, make, arguments) -> None:
    jobs, error = {}, ""
    try:
        jobs = make(*arguments)
    except Exception as failed:  # told to the process that waits for it, with its first job
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
