"""Ranks that are threads of this process, for tests of what ranks compare with each other."""

import threading
from collections.abc import Callable
from typing import Any

from paddlevideo import dist

LIMIT = 30  # seconds; ranks that wait longer call different functions


def run_ranks(monkeypatch, function: Callable[[int], Any], world: int = 2) -> list[Any]:
    """`function(rank)` on each rank: what it returns, or the error that it raises."""
    local, barrier = threading.local(), threading.Barrier(world)
    given: list[Any] = [None] * world
    results: list[Any] = [None] * world

    def gather(value: Any) -> list[Any]:
        given[local.rank] = value
        barrier.wait(LIMIT)
        values = list(given)
        barrier.wait(LIMIT)
        return values

    def run(rank: int) -> None:
        local.rank = rank
        try:
            results[rank] = function(rank)
        except Exception as error:
            results[rank] = error

    with monkeypatch.context() as patch:
        patch.setattr(dist, "rank", lambda: local.rank)
        patch.setattr(dist, "is_main", lambda: local.rank == 0)
        patch.setattr(dist, "world_size", lambda: world)
        patch.setattr(dist, "gather", gather)
        patch.setattr(dist, "broadcast_bytes", lambda content, source: gather(content)[source])
        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results
