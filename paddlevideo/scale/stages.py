"""What a worker does: the stages of the work on each item, in units of a few items.

A unit whose worker died is tried again, then item by item, so that the item that ends its process
is found. Such an item gets the result of `Stage.crashed`, and the work continues. Nothing here
needs Ray; engine.py runs it on a cluster.
"""

import pickle
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from paddlevideo.processes import Crash

# A node that is lost ends its workers, too. So an item counts as one that ends its process only
# after it was alone in a worker that died, so many times.
MAX_DEATHS = 3

Pair = tuple[int, Any]  # index of an item, and the item or its result


@dataclass(frozen=True)
class Stage:
    """One step of the work on each item, with workers of its own.

    Args:
        name: what it does, for people.
        build: called once in each worker; returns the function: items -> their results, in order.
        crashed: item -> its result, if the item ends the process of its worker.
        num_cpus, num_gpus: of each worker.
        least, most: number of workers; `most` None for as many as fit.
        keeps: whether a worker keeps what `build` made, such as a network. Otherwise `build` is
            called for each unit.
    """

    name: str
    build: Callable[[], Callable[[list], list]]
    crashed: Callable[[Any], Any]
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    least: int = 1
    most: int | None = None
    keeps: bool = False


@dataclass(frozen=True)
class EachItem:
    """A function for one item as one for several.

    Args:
        function: a picklable function for one item.
    """

    function: Callable[[Any], Any]

    def __call__(self) -> Callable[[list], list]:
        return lambda items: [self.function(item) for item in items]


@dataclass(frozen=True)
class Raised:
    """The result of an item whose function raised an exception, which the driver raises again."""

    error: Exception


@dataclass(frozen=True)
class Ended:
    """A final result, which the next stages leave as it is."""

    result: Any


def crash(item: Any) -> Ended:
    """The `Crash` of an item that ended its process, as `processes.run_each` yields it."""
    return Ended(Crash())


class Tries(Protocol):
    """Counts what was begun and not ended, since a worker that dies ends nothing."""

    def begin(self, key: Hashable) -> int:
        """The number of the try, from 1."""
        ...

    def end(self, key: Hashable) -> None: ...


class CountTries:
    """`Tries` in one process; on a cluster an actor holds it.

    Attributes:
        repeated: how many units were begun again.
    """

    def __init__(self):
        self._open: Counter[Hashable] = Counter()
        self.repeated = 0

    def begin(self, key: Hashable) -> int:
        self._open[key] += 1
        self.repeated += self._open[key] > 1
        return self._open[key]

    def end(self, key: Hashable) -> None:
        self._open.pop(key, None)

    def num_repeated(self) -> int:
        return self.repeated


def run_unit(
    stage: Stage, run: Callable[[list], list], unit: int, pairs: Sequence[Pair], tries: Tries
) -> list[Pair]:
    """The results of a unit, in the order of its items.

    Args:
        run: what `stage.build` returned.
        unit: its number.
        pairs: (index, item); what an earlier stage ended is passed on.
        tries: knows whether a worker died on this unit before.
    """
    waiting = [(index, item) for index, item in pairs if not isinstance(item, Ended)]
    results: dict[int, Any] = {i: item for i, item in pairs if isinstance(item, Ended)}
    key = (stage.name, unit)
    if tries.begin(key) == 1:
        found = call(run, [item for _, item in waiting])
        results |= {index: result for (index, _), result in zip(waiting, found, strict=True)}
    else:
        for index, item in waiting:
            results[index] = _run_alone(stage, run, (*key, index), item, tries)
    tries.end(key)
    return [(index, results[index]) for index, _ in pairs]


def _run_alone(
    stage: Stage, run: Callable[[list], list], key: Hashable, item: Any, tries: Tries
) -> Any:
    if tries.begin(key) > MAX_DEATHS:
        result = stage.crashed(item)
    else:
        (result,) = call(run, [item])
    tries.end(key)
    return result


def call(run: Callable[[list], list], items: list) -> list:
    """The results of items; an exception is the result of all of them."""
    if not items:
        return []
    try:
        results = run(items)
        assert len(results) == len(items), f"{len(results)} results of {len(items)} items"
    except Exception as error:  # the driver raises it, as run_each does
        return [Ended(Raised(_portable(error)))] * len(items)
    return results


def _portable(error: Exception) -> Exception:
    """An exception that can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def settled(pairs: Iterable[Pair]) -> list[Pair]:
    """Results of the last stage, without `Ended`.

    Raises:
        Exception: what the function of an item raised.
    """
    found = []
    for index, result in pairs:
        result = result.result if isinstance(result, Ended) else result
        if isinstance(result, Raised):
            raise result.error
        found.append((index, result))
    return found
