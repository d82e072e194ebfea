"""ONNX Runtime."""

from typing import Any

import numpy as np

from paddlevideo.runtimes.base import BackendError, Options, Program, check_inputs, reason
from paddlevideo.sample import Arrays, InputSpec

MANY = 1024


class OnnxRuntimeBackend:
    """ONNX Runtime; it computes in the precision of the program, float32."""

    def __init__(self, program: Program, options: Options):
        import onnxruntime  # an optional extra

        if options.precision != "fp32":
            raise BackendError(
                f"onnxruntime computes in fp32, as the program was exported; it has no {options.precision} here"
            )
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
            self._session = onnxruntime.InferenceSession(
                str(program.model), settings, providers=providers
            )
        except Exception as error:  # its errors have no base class of their own
            raise BackendError(
                f"{program.model}: onnxruntime cannot open it: {reason(error)}"
            ) from error
        on_gpu = self._session.get_providers()[0] == "CUDAExecutionProvider"
        if number is not None and not on_gpu and options.device != "auto":
            raise BackendError(
                f"onnxruntime cannot use {options.device} (are CUDA and cuDNN of its version there?); use device cpu"
            )
        self.name = f"ONNX Runtime on {f'gpu:{number}' if on_gpu else 'cpu'}"
        self.inputs = {
            i.name: InputSpec(
                tuple(size if isinstance(size, int) and size > 0 else None for size in i.shape),
                _onnx_dtype(i.type),
                "",
            )
            for i in self._session.get_inputs()
        }

    def run(self, arrays: Arrays) -> np.ndarray:
        check_inputs(arrays, self.inputs)
        return self._session.run(None, {name: arrays[name] for name in self.inputs})[0]


def _onnx_dtype(told: str) -> str:
    """ "tensor(float)" -> "float32"; the others are called as NumPy calls them."""
    name = told.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
