"""The interface of a runtime: it opens a program and turns named arrays into logits."""

import contextlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from paddlevideo import dist
from paddlevideo.cores import num_cores
from paddlevideo.log import logger
from paddlevideo.sample import Arrays, InputSpec

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEVICE = re.compile(r"(auto|cpu|gpu)(:\d*)?")


class BackendError(ValueError):
    """A runtime that is not available on this machine, or a program that it cannot open or run."""


@dataclass(frozen=True)
class Program:
    """The files of an exported program.

    Args:
        model: the program.
        params: its weights; None where the program contains them.
        inputs: its inputs, by name; empty without a model.yaml that describes it.
    """

    model: Path
    params: Path | None
    inputs: Mapping[str, InputSpec]


@dataclass(frozen=True)
class Options:
    """How to run. A runtime ignores the options that do not apply to it.

    Args:
        device: auto, cpu, gpu or gpu:<number>. auto is a GPU if the runtime can use one; a built
            model stays on Paddle's current device.
        precision: fp32, fp16, bf16 or int8. int8 needs what tools/quantize.py wrote. A runtime
            that lacks it raises an error; see `precision_here` for fp16 on a CPU.
        threads: compute threads on a CPU; None for all cores that this process may use.
        max_batch: the largest number of clips in one `run`.
        gpu_mem: initial GPU memory pool (MB).
        ir_optim: let the runtime optimize the program.
        onednn: use oneDNN on a CPU; None for the default of the runtime, which is on.
        quiet: hide the runtime's own log lines.
    """

    device: str = "auto"
    precision: Precision = "fp32"
    threads: int | None = None
    max_batch: int = 1
    gpu_mem: int = 8000
    ir_optim: bool = True
    onednn: bool | None = None
    quiet: bool = True

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise BackendError(f"precision is {self.precision!r}, expected {', '.join(PRECISIONS)}")
        if not DEVICE.fullmatch(self.device):
            raise BackendError(
                f"device is {self.device!r}, expected auto, cpu, gpu or gpu:<number>"
            )

    @property
    def num_threads(self) -> int:
        """Compute threads on a CPU."""
        return self.threads or num_cores()

    def gpu(self, num_available: int, runtime: str) -> int | None:
        """The GPU number to use; None for the CPU.

        Args:
            num_available: how many GPUs the runtime can use.
            runtime: its name in the error message.

        Raises:
            BackendError: there is no such GPU.
        """
        kind, _, number = self.device.partition(":")
        if kind == "cpu" or (kind == "auto" and not num_available):
            return None
        number = number or dist.assigned_gpu()
        number = int(number) if number.isdigit() else 0
        if number >= num_available:
            raise BackendError(
                f"{runtime} can use {num_available or 'no'} GPU here, but device {self.device!r} "
                "was requested; use device cpu"
            )
        return number


class Backend:
    """A runtime. An instance is an opened program or model that is ready to run.

    A subclass has a file of its own in this folder and is found by its `kind`. It is
    created from `(program, options)`; the program is a `Program` or, with `runs_models`, a built
    model. It implements `compute`, which `run` calls.

    Any number of threads may share an instance. Their runs take turns, unless the runtime itself
    keeps the arrays of concurrent runs apart (`concurrent`).

    Attributes:
        kind: name of the runtime, as `--backend` takes it.
        suffixes: of the programs that it reads, the preferred one first.
        int8_suffixes: of the int8 programs of tools/quantize.py that it reads.
        runs_models: whether it runs built models in place of programs.
        auto_rank: {cpu or gpu: rank among the runtimes that `auto` tries there, 1 first}.
        concurrent: whether `compute` may run in several threads at once.
        reads_all: whether it can open every program with its suffixes that export writes.
        name: runtime, device, and precision other than fp32 of this instance, for people.
        precision: what this instance computes in.
        rounds_fp32: whether fp32 is rounded: products on a GPU that has TF32, if it is on.
        num_threads: its compute threads on a CPU.
        inputs: inputs of this program, by name; shape () and dtype "" where the runtime does not
            know them.
        num_outputs: outputs of this program; with 2, `run_frames` gives the second.
        clips_per_run: clips per `run` at which this choice was measured as the fastest; None where
            nothing was measured.
    """

    kind: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = ()
    int8_suffixes: ClassVar[tuple[str, ...]] = ()
    runs_models: ClassVar[bool] = False
    auto_rank: ClassVar[Mapping[str, int]] = {}
    concurrent: ClassVar[bool] = False
    reads_all: ClassVar[bool] = True

    name: str
    precision: Precision = "fp32"
    rounds_fp32: bool = False
    inputs: dict[str, InputSpec]
    clips_per_run: int | None = None
    num_outputs: int = 1

    def __init__(self, program: Any, options: Options):
        self._turn = threading.Lock()
        self.precision = options.precision
        self.num_threads = options.num_threads

    @classmethod
    def missing(cls) -> str:
        """What this machine lacks for the runtime, and how to get it; "" where it can run."""
        return ""

    @classmethod
    def has_gpu(cls) -> bool:
        """Whether the runtime may run on a GPU of this machine."""
        return False

    @classmethod
    def reads(cls, precision: str) -> tuple[str, ...]:
        """Suffixes of the programs that it reads for a precision, the preferred one first."""
        return cls.int8_suffixes if precision == "int8" else cls.suffixes

    def run(self, arrays: Arrays) -> np.ndarray:
        """Run the program.

        Args:
            arrays: each input [N, ...], with the shape and type in `inputs`.

        Returns:
            logits, float32 [N, K].

        Raises:
            BackendError: an input is missing, or has another type or shape; or the runtime fails,
                for example because there is too little memory.
            NotFiniteError: the logits are NaN or infinite.
        """
        return self._run(self.compute, arrays)

    def run_frames(self, arrays: Arrays) -> np.ndarray:
        """Run the program for the logits of each frame; see `Manifest.frame_logits`.

        Args:
            arrays: each input [N, S, ...], with the shape and type in `inputs`.

        Returns:
            logits, float32 [N, S, K].

        Raises:
            BackendError, NotFiniteError: as `run`.
        """
        return self._run(self.compute_frames, arrays)

    def _run(self, compute: Callable[[Arrays], np.ndarray], arrays: Arrays) -> np.ndarray:
        check_inputs(arrays, self.inputs)
        try:
            with contextlib.nullcontext() if self.concurrent else self._turn:
                logits = compute(arrays)
        except ValueError:
            raise
        except Exception as error:  # the errors of runtimes share no base class
            raise BackendError(f"{self.name} cannot run it: {_reason_of_run(error)}") from error
        return finite(logits, self.name)

    def compute_frames(self, arrays: Arrays) -> np.ndarray:
        """`run_frames`, as `compute` is `run`; for programs of two outputs."""
        raise NotImplementedError(f"{type(self).__name__}.compute_frames")

    def compute(self, arrays: Arrays) -> np.ndarray:
        """`run`, for arrays that fit `inputs`; without `concurrent`, one call at a time."""
        raise NotImplementedError(f"{type(self).__name__}.compute")


def precision_here(
    options: Options, supported: Sequence[Precision], where: str, fix: str = ""
) -> Precision:
    """The precision to compute in: the requested one.

    fp16 is bf16 where the device has only that, because it has this meaning in PaddleVideo's
    command lines for a CPU; a line in the log says so.

    Args:
        supported: what the runtime computes in on this device.
        where: names both in messages.
        fix: how to get the requested one.

    Raises:
        BackendError: it is not supported.
    """
    asked = options.precision
    if asked in supported:
        return asked
    if asked == "fp16" and "bf16" in supported:
        logger.warning(f"precision fp16: {where} has no fp16 and computes in bf16 instead")
        return "bf16"
    raise BackendError(
        f"{where} computes in {', '.join(supported)}, but precision {asked} was requested"
        f"{'; ' if fix else ''}{fix}"
    )


def _reason_of_run(error: Exception) -> str:
    """Why a run failed, and what to do where memory is the reason."""
    text = reason(error)
    if isinstance(error, MemoryError) or re.search(r"out of memory|alloc", str(error), re.I):
        return f"{text}; use fewer clips per run (DATASET.views_per_step)"
    return text


def with_precision(name: str, precision: Precision) -> str:
    """The name of a runtime, with a precision other than fp32."""
    return name if precision == "fp32" else f"{name}, {precision}"


def gpu_name(number: int, precision: Precision) -> str:
    """The name of a GPU of Paddle, with what it makes of fp32."""
    rounds = precision == "fp32" and dist.has_tf32(number)
    return f"gpu:{number}, fp32 rounded to TF32" if rounds else f"gpu:{number}"


class NotFiniteError(BackendError):
    """Logits that are NaN or infinite."""


def finite(logits: np.ndarray, name: str) -> np.ndarray:
    """The logits, checked.

    Args:
        name: of the runtime.

    Raises:
        NotFiniteError: they are not finite.
    """
    if np.isfinite(logits).all():
        return logits
    raise NotFiniteError(
        f"{name} returned NaN or infinity: the weights are broken, or an input has values that the "
        "model cannot take"
    )


def check_inputs(arrays: Arrays, inputs: Mapping[str, InputSpec]) -> None:
    """Check arrays against the inputs of a program.

    Raises:
        BackendError: an input is missing, or has another type or shape.
    """
    for name, spec in inputs.items():
        if name in arrays and _fits(arrays[name], spec):
            continue
        shape = ["any" if size is None else size for size in spec.shape]
        expected = f"{spec.dtype} {shape if shape else ''}".strip() or "an array"
        given = f"only {', '.join(arrays) or 'nothing'}"
        if name in arrays:
            given = f"{arrays[name].dtype} {list(arrays[name].shape)}"
        raise BackendError(f"the program takes {name} as {expected}; it was given {given}")


def _fits(array: np.ndarray, spec: InputSpec) -> bool:
    if spec.dtype not in ("", str(array.dtype)):
        return False
    if not spec.shape:
        return True
    return array.ndim == len(spec.shape) and all(
        size in (None, given) for given, size in zip(array.shape, spec.shape, strict=True)
    )


def reason(error: BaseException) -> str:
    """The most useful line of an error message of a C++ library.

    That is the line that starts with an error class in parentheses, as in Paddle's messages, or
    else the last line.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("(")]
    return [type(error).__name__, *lines[-1:], *marked[:1]][-1]
