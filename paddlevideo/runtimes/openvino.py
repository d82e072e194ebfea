"""OpenVINO."""

from typing import Any

import numpy as np

from paddlevideo.runtimes.base import BackendError, Options, Program, check_inputs, reason
from paddlevideo.sample import Arrays, InputSpec


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
                tuple(
                    None if size.is_dynamic else size.get_length() for size in port.partial_shape
                ),
                str(port.element_type.to_dtype()),
                "",
            )
            for port in self._compiled.inputs
        }

    @staticmethod
    def _read(core, program: Program):
        try:
            return core.read_model(
                str(program.model), *([str(program.params)] if program.params else [])
            )
        except RuntimeError as error:
            hint = (
                ""
                if program.model.suffix == ".onnx"
                else "; it reads more of ONNX than of Paddle: export with --format onnx"
            )
            raise BackendError(
                f"{program.model}: openvino cannot open it: {reason(error)}{hint}"
            ) from error

    @staticmethod
    def _hint(core, device: str, options: Options) -> str:
        if options.precision == "fp32":
            return "f32"
        able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        for name, hint in (("FP16", "f16"), ("BF16", "bf16")):
            if name in able:
                return hint
        raise BackendError(
            f"openvino can do {', '.join(able)} on this {device}, not fp16; use fp32"
        )

    def run(self, arrays: Arrays) -> np.ndarray:
        check_inputs(arrays, self.inputs)
        return np.array(self._compiled({name: arrays[name] for name in self.inputs})[0])
