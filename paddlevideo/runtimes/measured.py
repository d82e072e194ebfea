"""`measured.yaml`: how fast the programs of an export are on the machines that measured them.

`tools/benchmark.py inference -m FOLDER` writes it next to model.yaml, and `auto` reads it. It is no
part of the export: without it `auto` has a fixed order. An entry holds for one processor, number of
cores, GPU, set of package versions, and for the weights of the export.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from paddlevideo.config import yaml_text
from paddlevideo.config.shipped import typed
from paddlevideo.cores import num_cores
from paddlevideo.files import atomic_write
from paddlevideo.log import logger
from paddlevideo.processes import processor
from paddlevideo.runtimes.cuda_driver import cuda_gpus
from paddlevideo.runtimes.engines import runtime_version
from paddlevideo.runtimes.manifest import Manifest

FILE = "measured.yaml"
EXACT = 1e-4  # largest relative difference of outputs in fp32; rounding stays below it
MOST_BYTES = 1 << 20
PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "onnxruntime", "onnxruntime-gpu", "openvino")


@dataclass(frozen=True)
class Row:
    """One way to run a program, and how fast it is.

    Args:
        kind: the runtime.
        program: file name.
        sha256: of the program, so that a row of a replaced program does not count.
        device: cpu or gpu.
        precision: as `Options.precision`.
        threads: compute threads on a CPU.
        onednn: as `Options.onednn`.
        clips: per run.
        seconds: per clip, the shortest of the measurement.
        difference: of the output on the golden inputs, see `golden.relative_difference`.
    """

    kind: str
    program: str
    sha256: str
    device: str
    precision: str
    threads: int
    onednn: bool | None
    clips: int
    seconds: float
    difference: float

    def problem(self) -> str:
        """What is wrong with the values of a row from a file; "" if nothing."""
        texts = (self.kind, self.program, self.sha256, self.device, self.precision)
        numbers = (self.seconds, self.difference)
        if not all(isinstance(text, str) for text in texts):
            return "a name is no text"
        if not all(type(number) is int and number > 0 for number in (self.threads, self.clips)):
            return "threads or clips are no number above 0"
        if self.onednn not in (None, True, False):
            return "onednn is neither true nor false"
        if not all(type(number) in (int, float) and number >= 0 for number in numbers):
            return "seconds or difference are no number"
        return ""


def this_machine() -> dict[str, Any]:
    """What the speed of a program depends on, besides the program."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    gpu = next(iter(cuda_gpus()), None)
    if gpu and (library := runtime_version()):
        found["tensorrt"] = ".".join(map(str, library))
    return {"processor": processor(), "cores": num_cores(), "gpu": gpu, "versions": found}


def read_rows(folder: Path, manifest: Manifest) -> list[Row]:
    """The rows of this machine for the programs of an export, fastest first.

    A file that cannot be read is a warning: the programs run without it.
    """
    rows = []
    for entry in _entries(folder):
        if entry.get("machine") == this_machine() and entry.get("weights") == manifest.weights:
            rows = entry["rows"]
    current = [row for row in rows if manifest.files.get(row.program) == row.sha256]
    return sorted(current, key=lambda row: row.seconds)


def write_rows(folder: Path, manifest: Manifest, rows: Iterable[Row]) -> Path:
    """Store the rows of this machine.

    Those of other machines stay, and of this one those of a device and precision that are not
    measured now: only times of one measurement can be compared.

    Raises:
        OSError: the file cannot be written.
    """
    machine, weights, rows = this_machine(), manifest.weights, list(rows)
    now = {(row.device, row.precision) for row in rows}
    entries = [entry for entry in _entries(folder) if entry["weights"] == weights]
    others = [entry for entry in entries if entry["machine"] != machine]
    earlier = [row for entry in entries if entry not in others for row in entry["rows"]]
    kept = [
        row
        for row in earlier
        if (row.device, row.precision) not in now and manifest.files.get(row.program) == row.sha256
    ]
    ordered = sorted([*rows, *kept], key=lambda row: row.seconds)
    entries = [*others, {"machine": machine, "weights": weights, "rows": ordered}]
    content = [{**e, "rows": [asdict(row) for row in e["rows"]]} for e in entries]
    head = (
        "# Speed of the programs next to this file, fastest first: seconds of a clip. "
        "Written by\n# tools/benchmark.py inference -m FOLDER; --backend auto reads it. "
        "It may be deleted.\n"
    )
    with atomic_write(folder / FILE) as temporary:
        text = yaml.safe_dump(content, sort_keys=False, width=300, default_flow_style=None)
        temporary.write_text(head + text, encoding="utf-8")
    return folder / FILE


def best_row(
    rows: Iterable[Row], options: Mapping[str, Any], device: str, most_difference: float = EXACT
) -> Row | None:
    """The fastest row that fits the request, None where there is none.

    Args:
        options: of `open_backend`; a row must agree with those that are set.
        device: cpu or gpu.
        most_difference: on the golden inputs.
    """
    precision = options.get("precision", "fp32")
    wanted = {key: options.get(key) for key in ("threads", "onednn")}
    fitting = [
        row
        for row in rows
        if row.device == device
        and precision in ("auto", row.precision)
        and row.difference <= most_difference
        and all(value in (None, getattr(row, key)) for key, value in wanted.items())
    ]
    return min(fitting, key=lambda row: row.seconds, default=None)


def _entries(folder: Path) -> list[dict[str, Any]]:
    """The entries of the file, with checked rows; empty without a file that can be read."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        content = yaml_text.load_data(yaml_text.read_text(path, MOST_BYTES))
        entries = [{**entry, "rows": [Row(**row) for row in entry["rows"]]} for entry in content]
        problems = [row.problem() for entry in entries for row in entry["rows"]]
        missing = [entry for entry in entries if not {"machine", "weights"} <= entry.keys()]
        if any(problems) or missing:
            raise ValueError(next(filter(None, problems), "machine or weights are missing"))
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        logger.warning(
            f"{path} is ignored: {reason}; write it again with "
            f"{typed('tools/benchmark.py', 'benchmark')} inference"
        )
        return []
    return entries
