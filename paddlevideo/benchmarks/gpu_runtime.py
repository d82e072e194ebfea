"""One runtime on one device, in a process of its own: its logits, and how long a run takes.

    python -m paddlevideo.benchmarks.gpu_runtime JOB.json    # prints MARK and one line of JSON

A GPU library may end its process, and then only this one ends.
"""

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo import dist
from paddlevideo.engine.build import load_config
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import GOLDEN
from paddlevideo.exporting.golden import relative_difference
from paddlevideo.runtimes.choose import open_backend

MARK = "gpu-check: "
WARM_UP, ROUNDS = 3, 20  # runs before the clock starts, and timed ones


@dataclass(frozen=True)
class Job:
    """What to run.

    Args:
        folder: the exported model.
        kind: of the runtime.
        suffix: of the program; "" for a built model.
        config, weights: of the built model.
    """

    folder: str
    kind: str
    suffix: str
    device: str
    precision: str
    config: str
    weights: str


def measure(job: Job) -> dict[str, Any]:
    """Run the golden samples of an export.

    Returns:
        `backend`: its name; `difference`: of the logits from the model's on a CPU, relative to the
        largest; `same_top1`: whether both samples have the same best class; `seconds`: of one run
        on one sample, the median.

    Raises:
        ValueError: the runtime cannot open or run the program.
    """
    with np.load(Path(job.folder) / GOLDEN) as file:
        golden = dict(file)
    logits = golden.pop("logits")
    options: dict[str, Any] = {"device": job.device, "precision": job.precision}
    if job.suffix:
        model = next(iter(sorted(Path(job.folder).glob(f"*{job.suffix}"))), None)
        if model is None:
            raise ValueError(f"{job.folder}: no {job.suffix} in it")
        backend = open_backend(model, job.kind, max_batch=len(logits), **options)
    else:
        dist.choose_device(job.device != "cpu")
        model, _ = trained_model(load_config(job.config), job.weights)
        backend = open_backend(model, job.kind, max_batch=len(logits), **options)
    found = backend.run(golden)
    first = {name: array[:1] for name, array in golden.items()}
    for _ in range(WARM_UP):
        backend.run(first)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        backend.run(first)
        seconds.append(time.perf_counter() - start)
    return {
        "backend": backend.name,
        "difference": float(relative_difference(found, logits)),
        "same_top1": bool((found.argmax(1) == logits.argmax(1)).all()),
        "seconds": statistics.median(seconds),
    }


def write_job(job: Job, path: Path) -> None:
    """Write a job for the child process."""
    path.write_text(json.dumps(asdict(job)), encoding="utf-8")


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        print(MARK + json.dumps(measure(Job(**given))), flush=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
