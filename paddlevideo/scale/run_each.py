"""`processes.run_each` on a cluster: the same function, the same results."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paddlevideo.scale.cluster import Cluster
from paddlevideo.scale.engine import Engine
from paddlevideo.scale.flags import Place
from paddlevideo.scale.stages import EachItem, Stage, crash

FIRST_UNIT = 4  # items that are sent together until it is known how long they take
MAX_UNIT = 2000


@dataclass(frozen=True)
class RunOnCluster:
    """A function with the arguments and the results of `processes.run_each`.

    Args:
        cluster: an open connection.
        place: what each worker gets.
        max_unit: items that are sent together, at most.
    """

    cluster: Cluster
    place: Place
    max_unit: int = MAX_UNIT

    def __call__(
        self,
        function: Callable[[Any], Any],
        items: Sequence,
        num_workers: int | None = None,
        label: str = "",
        show: bool = True,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the item, `function(item)` or a `Crash`) in the order of completion.

        Args:
            num_workers: of this machine, and without effect here.

        Raises:
            ValueError: the cluster has no room for a worker.
            OSError: the cluster is gone, or its workers end again and again.
        """
        if not items:
            return
        place = self.place
        stage = Stage(
            label or "items",
            EachItem(function),
            crash,
            place.num_cpus,
            place.num_gpus,
            place.least,
            place.most,
        )
        engine = Engine(self.cluster, [stage], label or "items", show=show)
        size = min(FIRST_UNIT, self.max_unit)
        yield from engine.run(enumerate(items), size, len(items), self.max_unit)
