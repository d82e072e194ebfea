"""ONNX Runtime."""

import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from paddlevideo.runtimes.base import (
    Backend,
    BackendError,
    Options,
    Precision,
    Program,
    precision_here,
    reason,
)
from paddlevideo.runtimes.cuda_driver import cuda_gpus
from paddlevideo.runtimes.engines import engine_folder, shape_ranges
from paddlevideo.sample import Arrays, InputSpec

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime; float32, or float16 in TensorRT engines.

    Tests check the settings for a GPU; it has never run on one.
    """

    kind = "onnxruntime"
    suffixes = (".onnx",)
    auto_rank: ClassVar = {"cpu": 3, "gpu": 3}
    concurrent = True  # a session keeps no arrays between runs

    def __init__(self, program: Program, options: Options):
        super().__init__(program, options)
        import onnxruntime  # an optional extra

        available = onnxruntime.get_available_providers()
        count = len(cuda_gpus()) if CUDA in available else 0
        number = options.gpu(count, "this build of onnxruntime")
        preload = vars(onnxruntime).get("preload_dlls")  # since 1.21
        if number is not None and preload:
            preload()  # libraries of CUDA that pip installed
        providers: list[Any] = ["CPUExecutionProvider"]
        self.precision = _precision(options, number, available)
        if self.precision == "fp16" and number is not None:
            engines = (TENSORRT, tensorrt_settings(program, options, number))
            providers = [engines, (CUDA, cuda_settings(number)), *providers]
        elif number is not None:
            providers.insert(0, (CUDA, cuda_settings(number)))
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.num_threads
        settings.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(program.model), settings, providers=providers
            )
        except Exception as error:  # onnxruntime's errors share no base class
            raise BackendError(
                f"{program.model}: onnxruntime cannot open it: {reason(error)}"
            ) from error
        used = self._session.get_providers()
        # A provider that does not start is left out without an error.
        if options.precision == "fp16" and TENSORRT not in used:
            raise BackendError(
                f"onnxruntime cannot use {TENSORRT}, which fp16 needs; install the TensorRT "
                "version of its release notes, or use fp32"
            )
        on_gpu = used[0] in (CUDA, TENSORRT)
        if number is not None and not on_gpu and options.device != "auto":
            raise BackendError(
                f"onnxruntime cannot use {options.device}; install the CUDA and cuDNN versions "
                "that it needs, or use device cpu"
            )
        engines = " with TensorRT fp16" if used[0] == TENSORRT else ""
        self.name = f"ONNX Runtime on {f'gpu:{number}' if on_gpu else 'cpu'}{engines}"
        self.num_outputs = len(self._session.get_outputs())
        self.inputs = {port.name: _input_spec(port) for port in self._session.get_inputs()}

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("onnxruntime") else "pip install onnxruntime"

    @classmethod
    def has_gpu(cls) -> bool:
        import onnxruntime  # an optional extra

        return CUDA in onnxruntime.get_available_providers() and bool(cuda_gpus())

    def compute(self, arrays: Arrays) -> np.ndarray:
        return np.asarray(self._outputs(arrays)[0])

    def compute_frames(self, arrays: Arrays) -> np.ndarray:
        return np.asarray(self._outputs(arrays)[1])

    def _outputs(self, arrays: Arrays) -> Sequence[Any]:
        return self._session.run(None, {name: arrays[name] for name in self.inputs})


def cuda_settings(number: int) -> dict[str, Any]:
    """Settings of the CUDA provider. TF32 would round the factors of products to 10 bits."""
    return {"device_id": number, "use_tf32": 0}


def tensorrt_settings(program: Program, options: Options, number: int) -> dict[str, Any]:
    """Settings of the TensorRT provider: fp16 engines for 1 to `max_batch` clips, which are kept.

    Raises:
        BackendError: the sizes of the inputs are not known.
    """
    import onnxruntime

    ranges = shape_ranges(program, options.max_batch)
    settings: dict[str, Any] = {"device_id": number, "trt_fp16_enable": True}
    for word, field in (("min", "least"), ("opt", "usual"), ("max", "most")):
        texts = (
            f"{name}:{'x'.join(map(str, getattr(shapes, field)))}"
            for name, shapes in ranges.items()
        )
        settings[f"trt_profile_{word}_shapes"] = ",".join(texts)
    # ONNX Runtime itself names an engine after the kind of GPU and the version of TensorRT.
    key = {"shapes": ranges, "precision": "fp16", "onnxruntime": onnxruntime.__version__}
    folder = engine_folder(program, "onnxruntime", key)
    if folder is not None:
        settings["trt_engine_cache_enable"] = settings["trt_timing_cache_enable"] = True
        settings["trt_engine_cache_path"] = settings["trt_timing_cache_path"] = str(folder)
    return settings


def _precision(options: Options, number: int | None, available: Sequence[str]) -> Precision:
    """The precision to compute in.

    Args:
        number: of the GPU, None for the CPU.
        available: providers of this build.

    Raises:
        BackendError: the program cannot be computed in the one that is asked for.
    """
    has_engines = number is not None and TENSORRT in available
    fix = "use fp32, or backend openvino"
    if options.precision == "fp16":
        has = ", ".join(available)
        fix = f"fp16 needs a GPU and a build with {TENSORRT}, this one has {has}; use fp32"
    supported: tuple[Precision, ...] = ("fp32", "fp16") if has_engines else ("fp32",)
    return precision_here(options, supported, "onnxruntime", fix)


def _input_spec(port: Any) -> InputSpec:
    """The name, shape and type of an input; a free size is a text or below 1 in ONNX."""
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in port.shape)
    return InputSpec(shape, _numpy_dtype(port.type), "")


def _numpy_dtype(onnx_type: str) -> str:
    """NumPy's name of a type: "tensor(float)" -> "float32"."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
