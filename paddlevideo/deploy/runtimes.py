"""The runtimes behind `open_backend`: each opens a program and turns named arrays into logits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import paddle
from paddle import inference

from paddlevideo import onednn
from paddlevideo.sample import InputSpec

Arrays = dict[str, np.ndarray]
MANY = 1024


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
            raise BackendError(f"device is {self.device!r}, expected auto, cpu, gpu or gpu:<number>")

    @property
    def num_threads(self) -> int:
        if self.threads:
            return self.threads
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

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


def _check(arrays: Arrays, inputs: Mapping[str, InputSpec]) -> None:
    """
    Raises:
        BackendError: `arrays` are not what the program takes.
    """
    for name, spec in inputs.items():
        if name not in arrays or not _fits(arrays[name], spec):
            wanted = (
                f"{spec.dtype} {['any' if s is None else s for s in spec.shape] if spec.shape else ''}".strip() or "an array"
            )
            had = f"only {', '.join(arrays) or 'nothing'}"
            came = f"{arrays[name].dtype} {list(arrays[name].shape)}" if name in arrays else had
            raise BackendError(f"the program takes {name} as {wanted}; it was given {came}")


def _fits(array: np.ndarray, spec: InputSpec) -> bool:
    if spec.dtype not in ("", str(array.dtype)):
        return False
    same_axes = array.ndim == len(spec.shape)
    return not spec.shape or (same_axes and all(s in (None, g) for g, s in zip(array.shape, spec.shape, strict=True)))


def reason(error: BaseException) -> str:
    """The telling line of a C++ library's message: Paddle begins it with an error class in brackets, others end with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if line.startswith("(")), lines[-1])


class EagerBackend:
    """The model itself, run operation by operation."""

    def __init__(self, model: paddle.nn.Layer, options: Options):
        if options.device != "auto":  # a built model is where it was made
            number = options.gpu(_paddle_gpus(), "this build of Paddle")
            paddle.set_device("cpu" if number is None else f"gpu:{number}")
        paddle.base.core.set_num_threads(options.num_threads)
        model.eval()
        self._model, self._half, self._onednn = model, options.precision == "fp16", options.onednn is not False
        self._half_dtype = "float16" if paddle.get_device().startswith("gpu") else "bfloat16"
        self.name = f"eager on {paddle.get_device()}"
        self.inputs = dict(model.inputs)

    def run(self, arrays: Arrays) -> np.ndarray:
        _check(arrays, self.inputs)
        onednn.use(self._onednn)
        with paddle.no_grad(), paddle.amp.auto_cast(enable=self._half, dtype=self._half_dtype):
            return self._model({name: paddle.to_tensor(arrays[name]) for name in self.inputs}).astype("float32").numpy()


class PaddleBackend:
    """Paddle Inference, alone or with TensorRT (written to its documentation; not run by us, for want of such a build)."""

    def __init__(self, program: Program, options: Options, tensorrt: bool = False):
        with program.model.open("rb") as file:
            if file.read(1) != {".pdmodel": b"\n", ".json": b"{"}[program.model.suffix]:  # Paddle would crash on it
                raise BackendError(f"{program.model}: not a Paddle program")
        config = inference.Config(str(program.model), str(program.params))
        if options.quiet:
            config.disable_glog_info()
        config.switch_ir_optim(options.ir_optim)
        config.enable_memory_optim()
        if program.model.suffix == ".json":
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        number = options.gpu(_paddle_gpus(), "this build of Paddle")
        if tensorrt:
            _set_tensorrt(config, program, options, number)
        elif number is not None:
            config.enable_use_gpu(options.gpu_mem, number, _paddle_precision(options))
        else:
            _set_cpu(config, options)
        where = f"gpu:{number}" if number is not None else "cpu with oneDNN" if config.mkldnn_enabled() else "cpu"
        self.name = f"Paddle Inference{' + TensorRT' if tensorrt else ''} on {where}"
        self._predictor = inference.create_predictor(config)
        unknown = InputSpec((), "", "")  # before the first run Paddle says float32 of all
        self.inputs = {name: program.inputs.get(name, unknown) for name in self._predictor.get_input_names()}

    def run(self, arrays: Arrays) -> np.ndarray:
        _check(arrays, self.inputs)
        for name in self.inputs:
            self._predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(arrays[name]))
        self._predictor.run()
        return self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()


def _paddle_gpus() -> int:
    return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0


def _paddle_precision(options: Options):
    return inference.PrecisionType.Half if options.precision == "fp16" else inference.PrecisionType.Float32


def _set_cpu(config, options: Options) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(options.num_threads)
    if options.onednn is False:
        config.disable_mkldnn()
    elif options.onednn:
        config.enable_mkldnn()
    if options.precision == "fp16":
        if not config.mkldnn_enabled():
            raise BackendError("fp16 on a CPU needs oneDNN, which computes it in bfloat16; use fp32 or leave oneDNN on")
        config.enable_mkldnn_bfloat16()
    if config.mkldnn_enabled():
        config.set_mkldnn_cache_capacity(10)  # a last, smaller batch is a shape of its own


def _set_tensorrt(config, program: Program, options: Options, number: int | None) -> None:
    """Engines for 1 to `max_batch` clips. A clip's segments join the batch inside the graph, so they do not count here."""
    if number is None:
        raise BackendError("TensorRT runs on a GPU, and the CPU was chosen; use --use_gpu=True, or backend paddle")
    if not program.inputs or any(None in spec.shape[1:] for spec in program.inputs.values()):
        raise BackendError(
            f"{program.model}: TensorRT needs all sizes of the inputs but the batch, from a model.yaml beside the program; "
            "end PIPELINE.test with a crop and export again"
        )
    config.enable_use_gpu(options.gpu_mem, number)
    config.enable_tensorrt_engine(
        workspace_size=1 << 30,
        max_batch_size=options.max_batch,
        min_subgraph_size=3,
        precision_mode=_paddle_precision(options),
        use_static=False,
        use_calib_mode=False,
    )
    least, most = ({name: [n, *spec.shape[1:]] for name, spec in program.inputs.items()} for n in (1, options.max_batch))
    config.set_trt_dynamic_shape_info(least, most, most)


class OnnxRuntimeBackend:
    """ONNX Runtime; it computes in the precision of the program, float32."""

    def __init__(self, program: Program, options: Options):
        import onnxruntime  # an optional extra

        if options.precision != "fp32":
            raise BackendError(f"onnxruntime computes in fp32, as the program was exported; it has no {options.precision} here")
        # It does not count GPUs; whether one could be used shows when the session is made.
        able = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        number = options.gpu(MANY if able else 0, "this build of onnxruntime")
        providers: list[Any] = ["CPUExecutionProvider"]
        if number is not None:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.num_threads
        settings.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(program.model), settings, providers=providers)
        except Exception as error:  # its errors have no base class of their own
            raise BackendError(f"{program.model}: onnxruntime cannot open it: {reason(error)}") from error
        on_gpu = self._session.get_providers()[0] == "CUDAExecutionProvider"
        if number is not None and not on_gpu and options.device != "auto":
            raise BackendError(
                f"onnxruntime cannot use {options.device} (are CUDA and cuDNN of its version there?); use device cpu"
            )
        self.name = f"ONNX Runtime on {f'gpu:{number}' if on_gpu else 'cpu'}"
        self.inputs = {
            i.name: InputSpec(
                tuple(size if isinstance(size, int) and size > 0 else None for size in i.shape), _onnx_dtype(i.type), ""
            )
            for i in self._session.get_inputs()
        }

    def run(self, arrays: Arrays) -> np.ndarray:
        _check(arrays, self.inputs)
        return self._session.run(None, {name: arrays[name] for name in self.inputs})[0]


def _onnx_dtype(told: str) -> str:
    """ "tensor(float)" -> "float32"; the others are called as NumPy calls them."""
    name = told.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


class OpenVINOBackend:
    """OpenVINO; the precision is set, because it would choose a lower one by itself on some processors."""

    def __init__(self, program: Program, options: Options):
        import openvino  # an optional extra

        core = openvino.Core()
        gpus = [name for name in core.available_devices if name.startswith("GPU")]
        # An integrated GPU is no gain that one could rely on: it is used only where it is asked for.
        number = None if options.device == "auto" else options.gpu(len(gpus), "openvino")
        device = "CPU" if number is None else gpus[number]
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self._hint(core, device, options)}
        if device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = options.num_threads
        model = self._read(core, program)
        self._compiled = core.compile_model(model, device, settings)
        self.name = f"OpenVINO on {device.lower()}"
        self.inputs = {
            port.any_name: InputSpec(
                tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape),
                str(port.element_type.to_dtype()),
                "",
            )
            for port in self._compiled.inputs
        }

    @staticmethod
    def _read(core, program: Program):
        try:
            return core.read_model(str(program.model), *([str(program.params)] if program.params else []))
        except RuntimeError as error:
            hint = (
                "" if program.model.suffix == ".onnx" else "; it reads more of ONNX than of Paddle: export with --format onnx"
            )
            raise BackendError(f"{program.model}: openvino cannot open it: {reason(error)}{hint}") from error

    @staticmethod
    def _hint(core, device: str, options: Options) -> str:
        if options.precision == "fp32":
            return "f32"
        able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        for name, hint in (("FP16", "f16"), ("BF16", "bf16")):
            if name in able:
                return hint
        raise BackendError(f"openvino can do {', '.join(able)} on this {device}, not fp16; use fp32")

    def run(self, arrays: Arrays) -> np.ndarray:
        _check(arrays, self.inputs)
        return np.array(self._compiled({name: arrays[name] for name in self.inputs})[0])
