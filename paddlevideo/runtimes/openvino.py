"""OpenVINO."""

import importlib.util
from typing import Any, ClassVar

import numpy as np

from paddlevideo.runtimes.base import Backend, BackendError, Options, Program, reason
from paddlevideo.sample import Arrays, InputSpec


class OpenVINOBackend(Backend):
    """OpenVINO. The precision is always set; on some processors the default is below fp32."""

    kind = "openvino"
    suffixes = (".onnx", ".pdmodel")
    auto_rank: ClassVar = {"cpu": 1}
    reads_all = False  # it lacks some of Paddle's operators

    def __init__(self, program: Program, options: Options):
        super().__init__(program, options)
        import openvino  # an optional extra

        core = openvino.Core()
        gpus = [name for name in core.available_devices if name.startswith("GPU")]
        # An integrated GPU may be slower than the CPU, so it is used only on request.
        number = None if options.device == "auto" else options.gpu(len(gpus), "openvino")
        device = "CPU" if number is None else gpus[number]
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _precision_hint(core, device, options)
        }
        if device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = options.num_threads
        self._compiled = core.compile_model(_read(core, program), device, settings)
        self.name = f"OpenVINO on {device.lower()}"
        self.inputs = {port.any_name: _input_spec(port) for port in self._compiled.inputs}

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("openvino") else "pip install openvino"

    def compute(self, arrays: Arrays) -> np.ndarray:
        return np.array(self._compiled({name: arrays[name] for name in self.inputs})[0])


def _read(core: Any, program: Program) -> Any:
    files = [str(file) for file in (program.model, program.params) if file]
    try:
        return core.read_model(*files)
    except RuntimeError as error:
        fix = ""
        if program.model.suffix != ".onnx":
            fix = "; it supports more operators in ONNX programs: export with --format onnx"
        raise BackendError(
            f"{program.model}: openvino cannot open it: {reason(error)}{fix}"
        ) from error


def _precision_hint(core: Any, device: str, options: Options) -> str:
    if options.precision == "fp32":
        return "f32"
    supported = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    for name, hint in (("FP16", "f16"), ("BF16", "bf16")):
        if name in supported:
            return hint
    raise BackendError(
        f"openvino supports {', '.join(supported)} on this {device}, not fp16; use fp32"
    )


def _input_spec(port: Any) -> InputSpec:
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return InputSpec(shape, str(port.element_type.to_dtype()), "")
