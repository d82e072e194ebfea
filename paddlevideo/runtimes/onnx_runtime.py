"""ONNX Runtime."""

import importlib.util
from typing import Any

import numpy as np

from paddlevideo.runtimes.base import (
    Backend,
    BackendError,
    Options,
    Program,
    precision_here,
    reason,
)
from paddlevideo.sample import Arrays, InputSpec

# ONNX Runtime does not report the number of GPUs. Any number is tried; the session then shows
# whether its GPU is in use.
ANY_GPU = 1024


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime; it computes in the precision of the program, float32."""

    kind = "onnxruntime"
    suffixes = (".onnx",)
    auto_priority = 2
    concurrent = True  # a session keeps no arrays between runs

    def __init__(self, program: Program, options: Options):
        super().__init__(program, options)
        import onnxruntime  # an optional extra

        fix = "use fp32, or backend openvino" if options.precision != "fp16" else "use fp32"
        self.precision = precision_here(options, ("fp32",), "onnxruntime", fix)
        has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        number = options.gpu(ANY_GPU if has_cuda else 0, "this build of onnxruntime")
        providers: list[Any] = ["CPUExecutionProvider"]
        if number is not None:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
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
        on_gpu = self._session.get_providers()[0] == "CUDAExecutionProvider"
        if number is not None and not on_gpu and options.device != "auto":
            raise BackendError(
                f"onnxruntime cannot use {options.device}; install the CUDA and cuDNN versions "
                "that it needs, or use device cpu"
            )
        self.name = f"ONNX Runtime on {f'gpu:{number}' if on_gpu else 'cpu'}"
        self.inputs = {port.name: _input_spec(port) for port in self._session.get_inputs()}

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("onnxruntime") else "pip install onnxruntime"

    def compute(self, arrays: Arrays) -> np.ndarray:
        outputs = self._session.run(None, {name: arrays[name] for name in self.inputs})
        return np.asarray(outputs[0])


def _input_spec(port: Any) -> InputSpec:
    """The name, shape and type of an input; a free size is a text or below 1 in ONNX."""
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in port.shape)
    return InputSpec(shape, _numpy_dtype(port.type), "")


def _numpy_dtype(onnx_type: str) -> str:
    """NumPy's name of a type: "tensor(float)" -> "float32"."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
