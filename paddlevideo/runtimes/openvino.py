"""OpenVINO."""

import contextlib
import ctypes
import functools
import gc
import importlib.util
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from paddlevideo.config.shipped import typed
from paddlevideo.paddle_internals import limit_has_bfloat16
from paddlevideo.runtimes.base import (
    Backend,
    BackendError,
    Options,
    Precision,
    Program,
    precision_here,
    reason,
    with_precision,
)
from paddlevideo.sample import Arrays, InputSpec

# What OpenVINO calls a precision: in its list of capabilities, and as a hint. The parts of an int8
# program that are not quantized are computed in fp32.
CAPABILITIES: dict[Precision, str] = {
    "fp32": "FP32",
    "fp16": "FP16",
    "bf16": "BF16",
    "int8": "INT8",
}
HINTS: dict[Precision, str] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


_lock = threading.Lock()


def openvino_core() -> Any:
    """The `openvino.Core` of this process.

    A core gives the main thread a stack for signal handlers and takes it back when it ends. Of two
    cores, the second may leave that of the first behind, which is freed: the next signal, as
    Ctrl-C, then crashes the process. So there is one, and it does not end.
    """
    with _lock:
        return _make_core()


@functools.cache
def _make_core() -> Any:
    import openvino  # an optional extra

    return openvino.Core()


@contextlib.contextmanager
def other_cores() -> Iterator[None]:
    """Give this thread the stack of its signals back after a library made cores of its own."""
    openvino_core()
    stack = SignalStack.current()
    try:
        yield
    finally:
        gc.collect()  # a core that ends later would change the stack again
        if stack is not None:
            stack.use()


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux: where the handlers of a thread's signals run."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )

    @classmethod
    def current(cls) -> "SignalStack | None":
        """That of this thread; None on other systems."""
        if sys.platform != "linux":
            return None
        stack = cls()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
        return stack

    def use(self) -> None:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(self), None)


class OpenVINOBackend(Backend):
    """OpenVINO. The precision is always set; on some processors the default is below fp32.

    It reads int8 programs that tools/quantize.py wrote.
    """

    kind = "openvino"
    suffixes = (".onnx", ".pdmodel")
    int8_suffixes = (".xml",)
    auto_rank: ClassVar = {"cpu": 1}
    reads_all = False  # it lacks some of Paddle's operators

    def __init__(self, program: Program, options: Options):
        super().__init__(program, options)
        core = openvino_core()
        gpus = _gpus(core)
        # An integrated GPU may be slower than the CPU, so it is used only on request.
        number = None if options.device == "auto" else options.gpu(len(gpus), "openvino")
        device = "CPU" if number is None else gpus[number]
        where = f"OpenVINO on {device.lower()}"
        supported = _precisions(core, device)
        self.precision = precision_here(options, supported, where, "use one of these")
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[self.precision]}
        if device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = options.num_threads
        model = _read(core, program)
        _check_quantized(program, model, self.precision)
        self._compiled = core.compile_model(model, device, settings)
        self.name = with_precision(where, self.precision)
        self.num_outputs = len(self._compiled.outputs)
        self.inputs = {port.any_name: _input_spec(port) for port in self._compiled.inputs}

    @classmethod
    def has_gpu(cls) -> bool:
        return bool(_gpus(openvino_core()))

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("openvino") else "pip install openvino"

    def compute(self, arrays: Arrays) -> np.ndarray:
        return self._output(arrays, 0)

    def compute_frames(self, arrays: Arrays) -> np.ndarray:
        return self._output(arrays, 1)

    def _output(self, arrays: Arrays, number: int) -> np.ndarray:
        return np.array(self._compiled({name: arrays[name] for name in self.inputs})[number])


def _gpus(core: Any) -> list[str]:
    return [name for name in core.available_devices if name.startswith("GPU")]


def _read(core: Any, program: Program) -> Any:
    files = [str(file) for file in (program.model, program.params) if file]
    try:
        return core.read_model(*files)
    except RuntimeError as error:
        fix = ""
        if program.model.suffix == ".xml":
            fix = f"; quantize the model again: {_quantize()} --overwrite"
        elif program.model.suffix != ".onnx":
            fix = "; it supports more operators in ONNX programs: export with --format onnx"
        raise BackendError(
            f"{program.model}: openvino cannot open it: {reason(error)}{fix}"
        ) from error


def _precisions(core: Any, device: str) -> tuple[Precision, ...]:
    """What a device computes in."""
    supported = set(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
    if device == "CPU" and not limit_has_bfloat16():
        supported -= {"BF16", "FP16"}  # it looks at the processor alone
    return tuple(precision for precision, name in CAPABILITIES.items() if name in supported)


def _check_quantized(program: Program, model: Any, precision: Precision) -> None:
    """Check that a program is quantized if, and only if, the precision is int8.

    OpenVINO computes a quantized program in int8, whatever the hint is.

    Raises:
        BackendError: it is not so.
    """
    quantized = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
    if quantized and precision != "int8":
        raise BackendError(
            f"{program.model}: a quantized program, which is computed in int8, but precision "
            f"{precision} was requested; use --precision int8"
        )
    if precision == "int8" and not quantized:
        raise BackendError(
            f"{program.model}: not a quantized program, so it cannot be computed in int8; "
            f"quantize the model again: {_quantize()} --overwrite"
        )


def _quantize() -> str:
    return typed("tools/quantize.py", "quantize")


def _input_spec(port: Any) -> InputSpec:
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return InputSpec(shape, str(port.element_type.to_dtype()), "")
