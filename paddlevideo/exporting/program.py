"""Writes a model as a static program. Run as a process of its own, because Paddle decides at its import which kind it writes:

FLAGS_enable_pir_api=0 python -m paddlevideo.exporting.program JOB.yaml
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
import yaml

from paddlevideo.config.check import config_from_data
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.sample import InputSpec
from paddlevideo.weights import load_into

# ONNX operators up to this version; ONNX Runtime and OpenVINO run them all.
OPSET = 13


class ExportError(ValueError):
    """A model that could not be exported, or whose program does not compute what the model does."""


@dataclass(frozen=True)
class Job:
    """What to write.

    Args:
        config: the config as plain data; `source` names it in messages.
        weights: the weight file.
        inputs: name -> shape, None where free.
        stem: the files' path without suffix.
        onnx: also convert the program to `<stem>.onnx`.
    """

    config: Mapping[str, Any]
    source: str
    num_classes: int
    weights: str
    inputs: dict[str, list[int | None]]
    dtypes: dict[str, str]
    stem: str
    onnx: bool = False

    @classmethod
    def of(
        cls,
        data,
        source,
        num_classes,
        weights,
        inputs: Mapping[str, InputSpec],
        stem: Path,
        onnx: bool = False,
    ) -> "Job":
        shapes = {name: list(spec.shape) for name, spec in inputs.items()}
        dtypes = {name: spec.dtype for name, spec in inputs.items()}
        return cls(data, source, num_classes, str(weights), shapes, dtypes, str(stem), onnx)


def run(job: Job, pir: bool) -> None:
    """Do a job in a process of its own: `.json` + `.pdiparams` with `pir`, else `.pdmodel` + `.pdiparams` + `.pdiparams.info`.

    Raises:
        ExportError: with the last lines of what that process said.
    """
    package = Path(__file__).resolve().parents[2]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "FLAGS_enable_pir_api": str(int(pir)),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    file = Path(f"{job.stem}.job.yaml")
    file.write_text(yaml.safe_dump(vars(job)), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(file)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    file.unlink()
    if done.returncode:
        said = "\n  ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-12:])
        kind = "PIR program" if pir else "program"
        raise ExportError(
            f"the {kind} could not be written (exit code {done.returncode}):\n  {said}"
        )


def write(job: Job) -> None:
    """The work itself, in the kind of program that this process is set to."""
    paddle.set_device("cpu")
    model = build_model(config_from_data(dict(job.config), job.source), job.num_classes)
    load_into(model, read_model(job.weights)[0], job.weights)
    model.eval()
    specs = {n: paddle.static.InputSpec(shape, job.dtypes[n], n) for n, shape in job.inputs.items()}
    paddle.jit.save(model, job.stem, input_spec=[specs])
    if job.onnx:
        import paddle2onnx  # an optional extra

        program = next(p for p in (f"{job.stem}.pdmodel", f"{job.stem}.json") if Path(p).exists())
        paddle2onnx.export(
            program, f"{job.stem}.pdiparams", f"{job.stem}.onnx", opset_version=OPSET
        )


if __name__ == "__main__":
    write(Job(**yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))))
