"""Items per second that the engine of bulk work allows, and the memory of its driver."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from paddlevideo.benchmarks.measure import Group, Row
from paddlevideo.scale.cluster import connected
from paddlevideo.scale.flags import place
from paddlevideo.scale.simulation import Step, simulate

SHOWN = 10  # lines about memory


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The group of tools/benchmark.py scale."""
    where = place(args)
    if where.is_local:
        raise ValueError("this measures a cluster; give --on ray, or an address")
    every = max(1, args.items // SHOWN)
    with connected(where.on) as cluster:
        job = simulate(
            cluster,
            where,
            args.out or folder / "parts",
            args.items,
            args.item_ms / 1000,
            args.unit,
            every,
        )
        steps = []
        for step in job:
            print(text(step), flush=True)
            steps.append(step)
    if not steps:
        raise ValueError(f"{args.out}: all results are there already; give another folder")
    last = steps[-1]
    low, high = min(s.memory for s in steps), max(s.memory for s in steps)
    note = f"driver {low >> 20} to {high >> 20} MiB"
    row = Row("engine", [last.seconds], last.seconds, last.done / last.seconds, 1.0, 1.0, 1.0, note)
    title = f"{args.items} synthetic items, first units of {args.unit}, "
    title += f"{args.item_ms:g} ms in each stage"
    yield Group(title, "item", last.done, [row])


def text(step: Step) -> str:
    """A line about a step."""
    rate = step.done / max(step.seconds, 1e-9)
    return (
        f"{step.done:>10} items  {step.seconds:8.1f} s  {rate:8.0f} per second  "
        f"driver {step.memory / 2**20:.0f} MiB"
    )
