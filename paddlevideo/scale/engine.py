"""Runs items through stages on a cluster, in rounds of many units.

The driver holds the items of one round, packed, and the results that have just arrived. A round
whose workers are lost, or that no longer moves after a node was lost, is begun again with the
units that are left; a unit that comes twice counts once. So each item has one result.
"""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from paddlevideo import log
from paddlevideo.log import logger
from paddlevideo.scale.cluster import Cluster
from paddlevideo.scale.conductor import Conductor, pack, unpack
from paddlevideo.scale.resources import fit, plan_text
from paddlevideo.scale.stages import CountTries, Pair, Stage, settled

MIN_ROUND, UNITS_PER_WORKER = 2000, 100  # units of a round
ROUND_BYTES = 32 << 20  # items of a round, packed, at most
TRIAL_UNITS = 4  # per worker, in the first round of a job that has to find the size of its units
UNIT_SECONDS = 2.0  # what a unit takes in its slowest stage; Ray itself spends 0.1 s on each
UNITS_PER_SECOND = 10.0  # of all workers, at most: one process, the conductor, handles all units
WORTH_A_TRIAL = 4  # times larger units at least, because workers start again in each round
LAST_UNITS = 8  # per worker, at least, so that all workers end at about the same time
STALL_SECONDS = 60.0  # without a result, until the nodes are compared with those at the start
NODE_SECONDS = 600.0  # how long a running job waits for nodes
MAX_STALLS = 3  # rounds in a row that end without a single result
PROGRESS_SECONDS = 30.0
WATCH_SECONDS = 3.0  # from one look at the nodes to the next


class Engine:
    """Runs a job.

    Args:
        cluster: an open connection.
        stages: in their order.
        label: of the progress.
        failed: whether the result of an item is a failure, for the progress; None if only the
            caller knows.

    Raises:
        ValueError: the cluster can never run the job.
    """

    def __init__(
        self,
        cluster: Cluster,
        stages: Sequence[Stage],
        label: str = "items",
        failed: Callable[[Any], bool] | None = None,
        show: bool = True,
    ):
        self._cluster, self._wanted, self._label = cluster, stages, label
        self._failed, self._show = failed, show
        self._stages = fit(stages, cluster.nodes())
        text = plan_text(self._stages, cluster.nodes(), cluster.free_cpus())
        logger.info(f"{cluster.name}: {text}")
        tries = cluster.ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(CountTries)
        self._tries = tries.options(scheduling_strategy=cluster.here()).remote()
        self._reason = ""

    def run(
        self,
        pairs: Iterable[Pair],
        unit_size: int,
        total: int | None = None,
        max_unit: int = 0,
    ) -> Iterator[Pair]:
        """Yield (index, result) of each item once, in the order of completion.

        Args:
            pairs: (index, item), read as they are needed.
            unit_size: items that are sent and run together.
            total: number of items, for the progress and for `max_unit`.
            max_unit: items that can be sent together; 0 for `unit_size`. A long job measures its
                items in a short first round, and then sends as many as take UNIT_SECONDS, or
                longer where many workers would ask for too many units per second.

        Raises:
            OSError: the cluster is gone, or its workers end again and again without a result.
            Exception: what the function of an item raised.
        """
        pairs, numbers = iter(pairs), itertools.count()
        workers = sum(stage.most or 1 for stage in self._stages)
        count = full = max(MIN_ROUND, UNITS_PER_WORKER * workers)
        if max_unit and total is not None:
            max_unit = max(1, min(max_unit, total // (LAST_UNITS * workers)))
            unit_size = min(unit_size, max_unit)
        if adapts := max_unit >= WORTH_A_TRIAL * unit_size:
            count = TRIAL_UNITS * workers
        with Progress(self._label, total, self._show, self._failed) as progress:
            while left := _units(pairs, numbers, unit_size, count):
                times = []  # of an item, in each unit
                for results, seconds in self._rounds(left):
                    times.append(seconds / len(results))
                    found = settled(results)
                    progress.add([result for _, result in found])
                    yield from found
                if adapts:
                    # The median leaves out the units for which a worker imported its libraries.
                    wanted = max(UNIT_SECONDS, workers / UNITS_PER_SECOND)
                    fitting = wanted / max(statistics.median(times), 1e-6)
                    unit_size, count = max(1, min(max_unit, int(fitting))), full

    def _rounds(self, left: dict[int, bytes]) -> Iterator[tuple[list[Pair], float]]:
        """The results of all units, and the seconds that each took in its slowest stage.

        It begins again with what is left where workers are lost.
        """
        stalls = 0
        while left:
            before = len(left)
            for unit, data, seconds in self._round(left):
                if left.pop(unit, None) is not None:
                    yield unpack(data), seconds
            stalls = stalls + 1 if len(left) == before else 0
            if left and stalls >= MAX_STALLS:
                raise OSError(
                    f"{self._cluster.name}: the workers ended {stalls} times without a result"
                    f"{self._reason}; check the memory of the nodes and the logs of Ray on them, "
                    "then run the same command again: it continues"
                )

    def _round(self, left: dict[int, bytes]) -> Iterator[tuple[int, bytes, float]]:
        """Results of units, until all are done or the round no longer moves."""
        ray, watch = self._cluster.ray, NodeWatch(self._cluster)
        self._stages = self._plan()
        actor = ray.remote(num_cpus=0)(Conductor)
        actor = actor.options(scheduling_strategy=self._cluster.here())
        conductor = actor.remote(self._stages, dict(left), self._tries)
        try:
            waiting, since = conductor.next.remote(), time.monotonic()
            while True:
                done, _ = ray.wait([waiting], timeout=WATCH_SECONDS)
                watch.report()
                if done:
                    if (result := ray.get(waiting)) is None:
                        return
                    yield result
                    waiting, since = conductor.next.remote(), time.monotonic()
                elif time.monotonic() - since > STALL_SECONDS and self._has_lost_room():
                    logger.warning("the work does not move on with fewer nodes; planning it again")
                    return
        except ray.exceptions.RayError as error:
            self._reason = f" ({_last_line(error)})"
            logger.warning(f"a part of the work was lost and runs again{self._reason}")
        finally:
            with contextlib.suppress(Exception):  # it may have ended itself
                ray.kill(conductor)

    def _plan(self) -> list[Stage]:
        """The stages on the nodes that are there now; waits for nodes where the job has no room.

        Raises:
            OSError: no node came back.
        """
        start, is_logged = time.monotonic(), False
        while True:
            try:
                return fit(self._wanted, self._cluster.nodes())
            except ValueError as error:
                if time.monotonic() - start > NODE_SECONDS:
                    again = "add nodes, then run the same command again: it continues"
                    raise OSError(f"too few nodes are left: {error}; {again}") from error
                if not is_logged:
                    logger.warning(f"waiting for nodes: {error}")
                is_logged = True
                time.sleep(WATCH_SECONDS)

    def _has_lost_room(self) -> bool:
        """Whether the workers that were planned no longer fit on the nodes that are left."""
        try:
            now = fit(self._wanted, self._cluster.nodes())
        except ValueError:
            return True
        planned = [stage.most or 0 for stage in self._stages]
        return any((s.most or 0) < most for s, most in zip(now, planned, strict=True))

    def num_repeated(self) -> int:
        """How often a unit or an item was begun again because its worker or node was lost."""
        return self._cluster.ray.get(self._tries.num_repeated.remote())


class NodeWatch:
    """Logs nodes that are lost or new, as often as WATCH_SECONDS."""

    def __init__(self, cluster: Cluster):
        self._cluster, self._nodes, self._last = cluster, cluster.node_ids(), time.monotonic()

    def report(self) -> None:
        if time.monotonic() - self._last < WATCH_SECONDS:
            return
        now, self._last = self._cluster.node_ids(), time.monotonic()
        if gone := len(self._nodes - now):
            logger.warning(f"{gone} node(s) lost, {len(now)} left; what ran there runs again")
        if new := len(now - self._nodes):
            logger.info(f"{new} node(s) joined, there are {len(now)} now")
        self._nodes = now


class Progress:
    """A bar on a terminal, else a line now and then: done, per second, failed.

    Args:
        label: what is counted.
        total: their number; None if it is not known.
        show: False for neither bar nor lines.
        is_failed: whether a result is a failure; None leaves their number out.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        show: bool = True,
        is_failed: Callable[[Any], bool] | None = None,
    ):
        self._label, self._total, self._show, self._is_failed = label, total, show, is_failed
        self._done = self._failed = 0
        self._start = self._last = time.monotonic()
        self._bar = log.progress(total=total, label=label, show=show)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._show and self._done:
            logger.info(self.text())

    def add(self, results: Sequence) -> None:
        """Count results."""
        self._done += len(results)
        if self._is_failed:
            self._failed += sum(map(self._is_failed, results))
            self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        self._bar.update(len(results))
        if self._show and self._bar.disable and time.monotonic() - self._last > PROGRESS_SECONDS:
            self._last = time.monotonic()
            logger.info(self.text())

    def text(self) -> str:
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        of = f" of {self._total}" if self._total is not None else ""
        failed = f", {self._failed} failed" if self._is_failed else ""
        return f"{self._done}{of} {self._label}, {rate:.3g} per second{failed}"


def _units(
    pairs: Iterator[Pair], numbers: Iterator[int], size: int, count: int
) -> dict[int, bytes]:
    """The next `count` units of `size` items: number -> bytes, which need little memory."""
    units, held = {}, 0
    while len(units) < count and held < ROUND_BYTES:
        unit = list(itertools.islice(pairs, size))
        if not unit:
            break
        data = units[next(numbers)] = pack(unit)
        held += len(data)
    return units


def _last_line(error: Exception) -> str:
    """The last line of an error of Ray: those before are its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
