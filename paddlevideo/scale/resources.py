"""Compare what a job asks for with what a cluster has, before the job starts.

A job that asks for more waits for ever without a message: so it is an error here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paddlevideo.scale.stages import Stage


@dataclass(frozen=True)
class Node:
    """A machine of a cluster: CPUs and GPUs that Ray may use."""

    cpus: float
    gpus: float = 0.0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> "Node":
        return cls(resources.get("CPU", 0.0), resources.get("GPU", 0.0))

    def text(self) -> str:
        gpus = f" and {_count(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{_count(self.cpus, 'CPU')}{gpus}"

    def holds(self, stage: Stage) -> bool:
        # Ray counts in steps of 0.0001.
        return self.cpus - stage.num_cpus > -1e-6 and self.gpus - stage.num_gpus > -1e-6

    def without(self, stage: Stage) -> "Node":
        return Node(self.cpus - stage.num_cpus, self.gpus - stage.num_gpus)


def fit(stages: Sequence[Stage], nodes: Sequence[Node]) -> list[Stage]:
    """The stages with their largest number of workers that the cluster can hold.

    All stages run at once, so the least workers of all of them need room at the same time.

    Args:
        nodes: with all that they have, also what other jobs use now.

    Raises:
        ValueError: the job can never run on these nodes.
    """
    for stage in stages:
        if not any(node.holds(stage) for node in nodes):
            raise ValueError(
                f"a worker for {stage.name} asks for {_need(stage)}, and no node has that; the "
                f"cluster has {cluster_text(nodes)}: lower --num_cpus or --num_gpus, or add a node"
            )
    free = list(nodes)
    wanted = [stage for stage in stages for _ in range(stage.least)]
    for stage in sorted(wanted, key=lambda s: (s.num_gpus, s.num_cpus), reverse=True):
        if not _place(stage, free):
            needs = ", ".join(f"{s.least} for {s.name} with {_need(s)} each" for s in stages)
            raise ValueError(
                f"the job needs at least these workers at once: {needs}; the cluster has only "
                f"{cluster_text(nodes)}: lower --num_cpus, --num_gpus or --actors, or add a node"
            )
    return [_with_most(stage, stages, free) for stage in stages]


def _place(stage: Stage, free: list[Node]) -> bool:
    """Take room for a worker where the least is left; False if there is none."""
    fitting = [number for number, node in enumerate(free) if node.holds(stage)]
    if not fitting:
        return False
    number = min(fitting, key=lambda i: (free[i].gpus, free[i].cpus))
    free[number] = free[number].without(stage)
    return True


def _with_most(stage: Stage, stages: Sequence[Stage], free: Sequence[Node]) -> Stage:
    """The stage with `most` from the room that the least workers of all stages leave."""
    left, count = list(free), stage.least
    while (stage.most is None or count < stage.most) and _place(stage, left):
        count += 1
    return replace(stage, most=count)


def plan_text(stages: Sequence[Stage], nodes: Sequence[Node], free_cpus: float) -> str:
    """One line about a job: its workers, and what the cluster has."""
    parts = [
        f"{stage.name}: {stage.least} to {stage.most} workers of {_need(stage)}" for stage in stages
    ]
    total = sum(node.cpus for node in nodes)
    busy = "" if total - free_cpus < 0.5 else f", of which {total - free_cpus:g} CPUs are in use"
    return f"{'; '.join(parts)}; the cluster has {cluster_text(nodes)}{busy}"


def cluster_text(nodes: Sequence[Node]) -> str:
    """The nodes of a cluster as text, equal ones together."""
    if not nodes:
        return "no node"
    counts: dict[Node, int] = {}
    for node in nodes:
        counts[node] = counts.get(node, 0) + 1
    parts = [f"{_count(number, 'node')} with {node.text()}" for node, number in counts.items()]
    return ", ".join(parts)


def _need(stage: Stage) -> str:
    return Node(stage.num_cpus, stage.num_gpus).text()


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
