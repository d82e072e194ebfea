"""The part of a job that runs in the cluster: Ray Data moves units through the stages.

It is an actor, so that a driver outside of the cluster (ray://) works in the same way, the memory
of the driver does not grow with the work, and a round that no longer moves is ended by ending it.
"""

import pickle
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from paddlevideo.scale.stages import Pair, Stage, run_unit

PROTOCOL = 5  # of pickle; arrays are copied once
QUEUED_PER_WORKER = 2  # units that wait in a worker


def pack(pairs: Sequence[Pair]) -> bytes:
    return pickle.dumps(list(pairs), PROTOCOL)


def unpack(data: bytes) -> list[Pair]:
    """(index, item or result) of a unit; the data are from this program or its workers."""
    return pickle.loads(data)


class ActorTries:
    """`Tries` whose counts are in an actor, so that they outlive a worker.

    Args:
        actor: a handle of `CountTries`.
    """

    def __init__(self, actor: Any):
        self._actor = actor

    def begin(self, key: Hashable) -> int:
        import ray

        return ray.get(self._actor.begin.remote(key))

    def end(self, key: Hashable) -> None:
        self._actor.end.remote(key)


def table(unit: int, packed: bytes, seconds: float = 0.0) -> Any:
    """A unit as an Arrow table of one row: a block of Ray Data, and so a task of its own.

    Args:
        seconds: what the unit took in its slowest stage.
    """
    import pyarrow

    columns = {
        "unit": pyarrow.array([unit], pyarrow.int64()),
        "data": pyarrow.array([packed], pyarrow.large_binary()),
        "seconds": pyarrow.array([seconds], pyarrow.float64()),
    }
    return pyarrow.table(columns)


def rows(batch: Any) -> Iterator[tuple[int, bytes, float]]:
    """(unit, its packed items, seconds) of a table."""
    for row in zip(batch["unit"], batch["data"], batch["seconds"], strict=True):
        unit, packed, seconds = (value.as_py() for value in row)
        yield unit, packed, seconds


def run_table(
    batch: Any, stage: Stage, actor: Any, run: Callable[[list], list] | None = None
) -> Any:
    """The results of a unit, a table as its items are."""
    ((unit, packed, seconds),) = rows(batch)
    run = run or build(stage)
    start = time.perf_counter()
    results = pack(run_unit(stage, run, unit, unpack(packed), ActorTries(actor)))
    return table(unit, results, max(seconds, time.perf_counter() - start))


def build(stage: Stage) -> Callable[[list], list]:
    """What a stage builds; if that fails, a function that raises the reason for each item.

    A constructor of an actor that fails would be tried again, and its error would be lost.
    """
    try:
        return stage.build()
    except Exception as error:
        reason = error

    def fail(items: list) -> list:
        raise reason

    return fail


class Worker:
    """A worker of a stage that keeps what `build` made, such as a network."""

    def __init__(self, stage: Stage, actor: Any):
        self._stage, self._actor = stage, actor
        self._run = build(stage)

    def __call__(self, batch: Any) -> Any:
        return run_table(batch, self._stage, self._actor, self._run)


class Conductor:
    """Runs a round.

    Args:
        stages: in their order.
        units: number -> packed items.
        actor: a handle of `CountTries`.
    """

    def __init__(self, stages: Sequence[Stage], units: dict[int, bytes], actor: Any):
        self._results = stream(stages, units, actor)

    def next(self) -> tuple[int, bytes, float] | None:
        """(unit, its packed results, seconds), in the order of completion; None at the end."""
        return next(self._results, None)


def stream(
    stages: Sequence[Stage], units: dict[int, bytes], actor: Any
) -> Iterator[tuple[int, bytes, float]]:
    """Run units through the stages with Ray Data."""
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    # Each block is a row. So the limits of Ray Data on blocks that wait are limits on units, and
    # memory stays bounded.
    context.target_max_block_size = context.target_min_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    with ray.data.DataContext.current(context):
        data = ray.data.from_arrow([table(unit, packed) for unit, packed in units.items()])
        for stage in stages:
            data = _add(data, stage, actor)
    for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from rows(batch)


def _add(data: Any, stage: Stage, actor: Any) -> Any:
    import ray.data

    common = {
        "batch_size": 1,
        "batch_format": "pyarrow",
        "num_cpus": stage.num_cpus,
        "num_gpus": stage.num_gpus,
    }
    if stage.keeps:
        pool = ray.data.ActorPoolStrategy(
            min_size=stage.least,
            max_size=stage.most,
            max_tasks_in_flight_per_actor=QUEUED_PER_WORKER,
        )
        return data.map_batches(
            Worker, fn_constructor_args=(stage, actor), compute=pool, max_restarts=-1, **common
        )
    pool = ray.data.TaskPoolStrategy(stage.most)
    arguments = {"stage": stage, "actor": actor}
    # Tasks and actors whose options are equal would become one stage; `max_retries` prevents it.
    return data.map_batches(run_table, fn_kwargs=arguments, compute=pool, max_retries=-1, **common)
