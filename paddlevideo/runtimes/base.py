"""The runtimes behind `open_backend`: each opens a program and turns named arrays into logits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import paddle

from paddlevideo.sample import Arrays, InputSpec


class BackendError(ValueError):
    """A backend that is not available here, or a program that it cannot open or run."""


class Backend(Protocol):
    """A program that is ready to run.

    Attributes:
        name: which runtime, on what.
        inputs: what it takes, by name; shape () and dtype "" where the runtime does not tell.
    """

    name: str
    inputs: dict[str, InputSpec]

    def run(self, arrays: Arrays) -> np.ndarray:
        """Named arrays `[N, ...]` of the types in `inputs` -> logits float32 [N, K].

        Raises:
            BackendError: names, types or shapes that the program does not take.
        """
        ...


@dataclass(frozen=True)
class Options:
    """How to run.

    Args:
        device: auto (a GPU where the runtime has one; eager: Paddle's present device), cpu, gpu, gpu:1.
        precision: fp16 computes in bfloat16 on a CPU; int8 is not supported.
        threads: of a CPU; None for all cores that this process may use.
        max_batch: clips in the largest `run`, which TensorRT must know beforehand.
        gpu_mem: of Paddle's memory pool at the start (MB).
        ir_optim: let Paddle Inference rewrite the program.
        onednn: Paddle Inference, or a built model, uses oneDNN on a CPU; None is on.
        quiet: no log lines of Paddle Inference's own.
    """

    device: str = "auto"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    threads: int | None = None
    max_batch: int = 1
    gpu_mem: int = 8000
    ir_optim: bool = True
    onednn: bool | None = None
    quiet: bool = True

    def __post_init__(self):
        if self.precision == "int8":
            raise BackendError(
                "int8 needs a program that was quantised with calibration data, and export writes none; use fp32 or fp16"
            )
        if self.device.partition(":")[0] not in ("auto", "cpu", "gpu"):
            raise BackendError(
                f"device is {self.device!r}, expected auto, cpu, gpu or gpu:<number>"
            )

    @property
    def num_threads(self) -> int:
        if self.threads:
            return self.threads
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )

    def gpu(self, available: int, who: str) -> int | None:
        """The GPU number to use, None for the CPU.

        Args:
            available: how many GPUs the runtime can use.
        """
        kind, _, number = self.device.partition(":")
        if kind == "cpu" or (kind == "auto" and not available):
            return None
        if int(number or 0) >= available:
            raise BackendError(
                f"{who} can use {available or 'no'} GPU here, and device {self.device!r} was asked for; use device cpu"
            )
        return int(number or 0)


@dataclass(frozen=True)
class Program:
    """The files of a program, and what it takes, by name, where a model.yaml tells that."""

    model: Path
    params: Path | None
    inputs: Mapping[str, InputSpec]


def check_inputs(arrays: Arrays, inputs: Mapping[str, InputSpec]) -> None:
    """
    Raises:
        BackendError: `arrays` are not what the program takes.
    """
    for name, spec in inputs.items():
        if name not in arrays or not _fits(arrays[name], spec):
            wanted = (
                f"{spec.dtype} {['any' if s is None else s for s in spec.shape] if spec.shape else ''}".strip()
                or "an array"
            )
            had = f"only {', '.join(arrays) or 'nothing'}"
            came = f"{arrays[name].dtype} {list(arrays[name].shape)}" if name in arrays else had
            raise BackendError(f"the program takes {name} as {wanted}; it was given {came}")


def _fits(array: np.ndarray, spec: InputSpec) -> bool:
    if spec.dtype not in ("", str(array.dtype)):
        return False
    same_axes = array.ndim == len(spec.shape)
    return not spec.shape or (
        same_axes and all(s in (None, g) for g, s in zip(array.shape, spec.shape, strict=True))
    )


def reason(error: BaseException) -> str:
    """The telling line of a C++ library's message: Paddle begins it with an error class in brackets, others end with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    return next((line for line in lines if line.startswith("(")), lines[-1])


def paddle_gpus() -> int:
    return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
