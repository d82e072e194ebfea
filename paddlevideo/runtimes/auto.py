"""What `auto` tries: the fastest way that was measured on this machine, else a fixed order.

| device | order                              |
| ---    | ---                                |
| CPU    | OpenVINO, Paddle, ONNX Runtime     |
| GPU    | TensorRT, Paddle, ONNX Runtime     |

Of these, the runtimes that this machine has, and that can open a program of the folder. The rank of
a runtime is its `auto_rank`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paddlevideo.runtimes.base import Backend, Options
from paddlevideo.runtimes.measured import EXACT, Row, best_row

# Largest relative difference of outputs on the golden inputs that `--precision auto` accepts.
MOST_LOSS = 0.05
# What `--precision auto` tries where nothing was measured.
LOWER = {"cpu": "bf16", "gpu": "fp16"}


@dataclass(frozen=True)
class Try:
    """A way to open a program.

    Args:
        kind: the runtime.
        options: of it.
        row: what was measured for it, None where nothing was.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    row: Row | None = None


def by_rank(runtimes: Mapping[str, type[Backend]], device: str) -> list[str]:
    """The kinds that `auto` tries on a device, cpu or gpu, the preferred one first."""
    ranked = [kind for kind, runtime in runtimes.items() if device in runtime.auto_rank]
    return sorted(ranked, key=lambda kind: runtimes[kind].auto_rank[device])


def devices(wanted: str) -> list[tuple[str, str]]:
    """[(cpu or gpu, the option `device`)] that a request stands for, the preferred one first."""
    name = wanted.partition(":")[0]
    if name == "auto":
        return [("gpu", "gpu"), ("cpu", "cpu")]
    return [(name, wanted)]


def tries(
    runtimes: Mapping[str, type[Backend]],
    kinds: Sequence[str],
    options: Mapping[str, Any],
    rows: Iterable[Row],
    most_difference: float = EXACT,
) -> list[Try]:
    """The ways to open a program, the preferred one first.

    Args:
        kinds: the runtimes to choose from, those that this machine has.
        options: of `open_backend`; what they set stays.
        rows: measured on this machine.
        most_difference: of a measured row, on the golden inputs.
    """
    wanted = Options(**{**options, "precision": "fp32"})
    rows = [row for row in rows if row.kind in kinds] if wanted.ir_optim else []
    measured: list[tuple[float, Try]] = []
    found: list[Try] = []
    for device, option in devices(wanted.device):
        row = best_row(rows, options, device, most_difference)
        if row:
            found.append(Try(row.kind, _measured(options, wanted, row, option), row))
            measured.append((row.seconds, found[-1]))
        for kind in by_rank(runtimes, device):
            if kind not in kinds or (option != wanted.device and not _has(runtimes[kind], device)):
                continue
            found.append(Try(kind, {**options, "device": option}))
    if not measured or found[0] is not measured[0][1]:
        return found  # a device that was not measured comes first
    fastest = min(measured, key=lambda pair: pair[0])[1]
    return [fastest, *(attempt for attempt in found if attempt is not fastest)]


def _has(runtime: type[Backend], device: str) -> bool:
    return device == "cpu" or runtime.has_gpu()


def _measured(
    options: Mapping[str, Any], wanted: Options, row: Row, device: str
) -> Mapping[str, Any]:
    """The options of a measured row."""
    own = {"precision": row.precision, "threads": row.threads, "onednn": row.onednn}
    batch = max(wanted.max_batch, row.clips)
    return {**options, **own, "device": device, "max_batch": batch}
