"""Paddle Inference, which uses oneDNN on a CPU."""

from typing import Any, ClassVar

import numpy as np
from paddle import inference

from paddlevideo import dist, paddle_internals
from paddlevideo.runtimes.base import Backend, BackendError, Options, Program
from paddlevideo.sample import Arrays, InputSpec

# The first byte of a program. Paddle crashes on a file that is something else.
FIRST_BYTE = {".pdmodel": b"\n", ".json": b"{"}
UNKNOWN = InputSpec((), "", "")


class PaddleBackend(Backend):
    """Paddle Inference."""

    kind = "paddle"
    suffixes = (".pdmodel", ".json")
    auto_rank: ClassVar = {"cpu": 2, "gpu": 2}
    title = "Paddle Inference"

    def __init__(self, program: Program, options: Options):
        super().__init__(program, options)
        with program.model.open("rb") as file:
            if file.read(1) != FIRST_BYTE[program.model.suffix]:
                raise BackendError(f"{program.model}: not a Paddle program")
        config = inference.Config(str(program.model), str(program.params))
        if options.quiet:
            config.disable_glog_info()
        config.switch_ir_optim(options.ir_optim)
        config.enable_memory_optim()
        if program.model.suffix == ".json":
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        number = options.gpu(dist.num_gpus(), "this build of Paddle")
        self.select_device(config, program, options, number)
        device = "cpu with oneDNN" if config.mkldnn_enabled() else "cpu"
        if number is not None:
            device = f"gpu:{number}"
        self.name = f"{self.title} on {device}"
        with paddle_internals.keep_num_threads():  # it leaves one thread, as a run does
            self._predictor = inference.create_predictor(config)
        # Before the first run Paddle reports float32 for every input, so it is not asked.
        names = self._predictor.get_input_names()
        self.inputs = {name: program.inputs.get(name, UNKNOWN) for name in names}

    @classmethod
    def has_gpu(cls) -> bool:
        return dist.num_gpus() > 0

    def select_device(
        self, config: Any, program: Program, options: Options, number: int | None
    ) -> None:
        """Configure GPU `number`, or the CPU for None.

        Args:
            config: an `inference.Config`.

        Raises:
            BackendError: the options do not work on this device.
        """
        if number is None:
            _use_cpu(config, options)
        else:
            config.enable_use_gpu(options.gpu_mem, number, precision_type(options))

    def compute(self, arrays: Arrays) -> np.ndarray:
        for name in self.inputs:
            handle = self._predictor.get_input_handle(name)
            handle.copy_from_cpu(np.ascontiguousarray(arrays[name]))
        with paddle_internals.keep_num_threads():
            self._predictor.run()
        output = self._predictor.get_output_names()[0]
        return self._predictor.get_output_handle(output).copy_to_cpu()


def precision_type(options: Options) -> inference.PrecisionType:
    """Paddle's constant for the precision."""
    half = options.precision == "fp16"
    return inference.PrecisionType.Half if half else inference.PrecisionType.Float32


def _use_cpu(config: Any, options: Options) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(options.num_threads)
    if options.onednn is False:
        config.disable_mkldnn()
    elif options.onednn:
        config.enable_mkldnn()
    if options.precision == "fp16":
        if not config.mkldnn_enabled():
            raise BackendError(
                "fp16 on a CPU needs oneDNN, which computes it in bfloat16; "
                "use fp32 or leave oneDNN on"
            )
        config.enable_mkldnn_bfloat16()
    if config.mkldnn_enabled():
        # oneDNN keeps a compiled program per shape, and a smaller last batch is another shape.
        config.set_mkldnn_cache_capacity(10)
