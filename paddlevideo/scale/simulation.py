"""A job with synthetic items and a network that only waits: what the engine itself costs.

It has the stages, the parts and the manifest of a prediction. tools/benchmark.py scale measures it,
and the trials with killed processes run it.
"""

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paddlevideo.files import json_text
from paddlevideo.scale.cluster import Cluster
from paddlevideo.scale.engine import Engine
from paddlevideo.scale.flags import Place
from paddlevideo.scale.parts import PartFiles
from paddlevideo.scale.run_each import FIRST_UNIT, MAX_UNIT
from paddlevideo.scale.stages import Stage

EVERY = 997  # one in so many items is a failure


@dataclass(frozen=True)
class Wait:
    """Builds a function that returns its items after a while.

    Args:
        seconds: per item.
    """

    seconds: float

    def __call__(self) -> Callable[[list[str]], list[str]]:
        def run(items: list[str]) -> list[str]:
            time.sleep(self.seconds * len(items))
            return items

        return run


@dataclass(frozen=True)
class Score(Wait):
    """Builds a network: items -> lines that depend on nothing but the item."""

    def __call__(self) -> Callable[[list[str]], list[str]]:
        def run(items: list[str]) -> list[str]:
            time.sleep(self.seconds * len(items))
            return [line_of(item) for item in items]

        return run


def line_of(item: str) -> str:
    """The result of an item as JSON."""
    number = zlib.crc32(item.encode())
    if number % EVERY == 0:
        return json_text({"input_path": item, "error": "decode: damaged"})
    scores = [round((number >> shift & 255) / 255, 4) for shift in (0, 8, 16)]
    return json_text({"input_path": item, "class_ids": [number % 400], "scores": scores})


def crashed(item: str) -> str:
    return json_text({"input_path": item, "error": "crash"})


def synthetic_items(count: int) -> Iterator[str]:
    """Names of videos, one at a time."""
    return (f"videos/{number // 1000:06}/{number % 1000:03}.mp4" for number in range(count))


@dataclass(frozen=True)
class Step:
    """How far a job is.

    Args:
        done: number of items of this run.
        seconds: since the start.
        memory: of the driver (bytes).
    """

    done: int
    seconds: float
    memory: int


def simulate(
    cluster: Cluster,
    place: Place,
    folder: Path,
    count: int,
    item_seconds: float = 0.0,
    unit: int = FIRST_UNIT,
    every: int = 10_000,
) -> Iterator[Step]:
    """Run the job, or continue it, and yield how far it is after each `every` items.

    Args:
        folder: of the parts.
        count: number of items.
        item_seconds: how long decoding and the network wait, each.
        unit: items that are sent together at first; more where they are fast.

    Raises:
        ValueError, OSError: as of `PartFiles` and `Engine`.
    """
    start = time.perf_counter()
    with PartFiles(folder, f"simulation {count}", synthetic_items(count), count) as parts:
        stages = [
            Stage("decoding", Wait(item_seconds), crashed, place.num_cpus),
            Stage(
                "the network",
                Score(item_seconds),
                crashed,
                place.num_cpus,
                place.num_gpus,
                place.least,
                place.most,
                keeps=True,
            ),
        ]
        engine = Engine(cluster, stages, "items", failed=lambda line: '"error"' in line)
        left = parts.num_left
        pairs = parts.left(synthetic_items(count))
        results = engine.run(pairs, unit, left, MAX_UNIT)
        for done, (index, line) in enumerate(results, 1):
            parts.add(index, line)
            if done % every == 0 or done == left:
                yield Step(done, time.perf_counter() - start, memory())


def memory() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(sizes[0]) * 1024 if sizes else 0
