"""Writes a model as a static program, in a process of its own.

    FLAGS_enable_pir_api=0 python -m paddlevideo.exporting.program JOB.yaml

Paddle reads that flag only when it is imported: 1 writes `.json` programs, 0 `.pdmodel` programs.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
import yaml

from paddlevideo import paddle_internals
from paddlevideo.config.check import config_from_data
from paddlevideo.config.yaml_text import MAX_DATA, load_data, read_text
from paddlevideo.engine.build import build_model, build_pipeline
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.exporting.video_program import VideoProgram
from paddlevideo.sample import InputSpec
from paddlevideo.weights import load_into

OPSET = 13  # version of the ONNX operators; ONNX Runtime and OpenVINO run all of this version
ERROR_LINES = 12  # lines of a failed process that an error message shows


class ExportError(ValueError):
    """A model that could not be exported, or whose program computes other logits."""


@dataclass(frozen=True)
class Job:
    """What to write.

    Args:
        config: the config as plain data.
        source: names the config in error messages.
        weights: the weight file.
        inputs: shape of each input, by name; None for a free size.
        dtypes: name of the type of each input, by name.
        stem: path of the files, without suffix.
        onnx: also convert the program to `<stem>.onnx`.
        preprocess: write a `VideoProgram`.
        frame_logits: the program also returns the logits of each frame, see `Manifest`.
    """

    config: Mapping[str, Any]
    source: str
    num_classes: int
    weights: str
    inputs: dict[str, list[int | None]]
    dtypes: dict[str, Any]
    stem: str
    onnx: bool = False
    preprocess: bool = False
    frame_logits: bool = False

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        source: str | Path,
        num_classes: int,
        weights: str | Path,
        inputs: Mapping[str, InputSpec],
        stem: Path,
    ) -> "Job":
        """A job as plain data, which can be written as YAML."""
        shapes = {name: list(spec.shape) for name, spec in inputs.items()}
        dtypes: dict[str, Any] = {name: spec.dtype for name, spec in inputs.items()}
        return cls(config, str(source), num_classes, str(weights), shapes, dtypes, str(stem))


def run(job: Job, pir: bool) -> None:
    """Do a job in a new process.

    Args:
        pir: write `.json` and `.pdiparams`, else `.pdmodel`, `.pdiparams` and `.pdiparams.info`.

    Raises:
        ExportError: with the last lines that the process printed.
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
        printed = done.stderr.strip() or done.stdout.strip()
        last_lines = "\n  ".join(printed.splitlines()[-ERROR_LINES:])
        kind = "PIR program" if pir else "program"
        raise ExportError(
            f"the {kind} could not be written (exit code {done.returncode}):\n  {last_lines}"
        )


def write(job: Job) -> None:
    """Write the program, in the kind that this process is set to."""
    paddle.set_device("cpu")
    cfg = config_from_data(dict(job.config), job.source)
    model = build_model(cfg, job.num_classes)
    load_into(model, read_model(job.weights)[0], job.weights)
    model.eval()
    model.merge_branches()
    network: Any = model
    if job.preprocess:
        pipeline: Any = build_pipeline(cfg, "test")
        sizes = [size for size in job.inputs["frames"][1:] if size]
        network = VideoProgram(model, pipeline.batch_transforms, sizes)
    if job.frame_logits:
        network.forward = network.with_frame_logits  # the names of the tensors stay the same
    specs = {
        name: paddle.static.InputSpec(shape, job.dtypes[name], name)
        for name, shape in job.inputs.items()
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        paddle_internals.translated_code_in(folder),
        paddle_internals.stacks_without_source(),
    ):
        paddle.jit.save(network, job.stem, input_spec=[specs])
    if job.onnx:
        import paddle2onnx  # an optional extra

        written = next(p for p in (f"{job.stem}.pdmodel", f"{job.stem}.json") if Path(p).exists())
        paddle2onnx.export(
            written, f"{job.stem}.pdiparams", f"{job.stem}.onnx", opset_version=OPSET
        )


def main(file: str) -> None:
    """Do the job of a file."""
    write(Job(**load_data(read_text(Path(file), MAX_DATA))))


if __name__ == "__main__":
    main(sys.argv[1])
