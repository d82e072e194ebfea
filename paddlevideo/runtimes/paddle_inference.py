"""Paddle Inference, which uses oneDNN on a CPU."""

from typing import Any, ClassVar

import numpy as np
import paddle
from paddle import inference

from paddlevideo import dist, paddle_internals
from paddlevideo.runtimes.base import (
    Backend,
    BackendError,
    Options,
    Precision,
    Program,
    gpu_name,
    precision_here,
    reason,
    with_precision,
)
from paddlevideo.sample import Arrays, InputSpec

# The first byte of a program. Paddle crashes on a file that is something else.
FIRST_BYTE = {".pdmodel": b"\n", ".json": b"{"}
UNKNOWN = InputSpec((), "", "")
# The type of an operator in a .pdmodel, which is a protobuf message: tag, length, text.
CONV3D = b"\x1a\x06conv3d"
# Operators of a .pdmodel that Paddle computes in bf16 on a CPU. It has more, but some of these lack
# a kernel, or pass bf16 on to operators that do not take it.
BF16_OPERATORS = {"conv2d", "fused_conv2d", "fc", "matmul", "matmul_v2"}


class PaddleBackend(Backend):
    """Paddle Inference."""

    kind = "paddle"
    suffixes = (".pdmodel", ".json")
    auto_rank: ClassVar = {"cpu": 2, "gpu": 2}
    title = "Paddle Inference"

    @classmethod
    def reads(cls, precision: str) -> tuple[str, ...]:
        # A .json is computed in bf16 entirely, a .pdmodel only in part.
        lower = ("bf16",) if paddle.is_compiled_with_cuda() else ("bf16", "fp16")
        suffixes = super().reads(precision)
        return tuple(sorted(suffixes)) if precision in lower else suffixes

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
        self.precision = options.precision
        self.select_device(config, program, options, number)
        device = "cpu with oneDNN" if config.mkldnn_enabled() else "cpu"
        if number is not None:
            device = gpu_name(number, self.precision)
            self.rounds_fp32 = dist.has_tf32(number)
        self.name = with_precision(f"{self.title} on {device}", self.precision)
        with paddle_internals.keep_num_threads():  # it leaves one thread, as a run does
            self._predictor = inference.create_predictor(config)
        self.num_outputs = len(self._predictor.get_output_names())
        # Before the first run Paddle reports float32 for every input, so it is not asked.
        names = self._predictor.get_input_names()
        self.inputs = {name: program.inputs.get(name, UNKNOWN) for name in names}

    @classmethod
    def has_gpu(cls) -> bool:
        return dist.num_gpus() > 0

    def select_device(
        self, config: Any, program: Program, options: Options, number: int | None
    ) -> None:
        """Configure GPU `number`, or the CPU for None, and set `precision`.

        Args:
            config: an `inference.Config`.

        Raises:
            BackendError: the options do not work on this device.
        """
        if number is None:
            self.precision = _use_cpu(config, program, options)
        else:
            config.enable_use_gpu(options.gpu_mem, number, precision_type(options))

    def compute(self, arrays: Arrays) -> np.ndarray:
        return self._output(arrays, 0)

    def compute_frames(self, arrays: Arrays) -> np.ndarray:
        return self._output(arrays, 1)

    def _output(self, arrays: Arrays, number: int) -> np.ndarray:
        for name in self.inputs:
            handle = self._predictor.get_input_handle(name)
            handle.copy_from_cpu(np.ascontiguousarray(arrays[name]))
        try:
            with paddle_internals.keep_num_threads():
                self._predictor.run()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            if self.precision == "fp32":
                raise
            raise BackendError(
                f"{self.name} cannot run this program: {reason(error)}; use precision fp32, or "
                "backend openvino"
            ) from error
        output = self._predictor.get_output_names()[number]
        return self._predictor.get_output_handle(output).copy_to_cpu()


def precision_type(options: Options) -> inference.PrecisionType:
    """Paddle's constant for the precision on a GPU.

    Raises:
        BackendError: it is not one that Paddle computes in there.
    """
    precision = precision_here(options, ("fp32", "fp16"), "Paddle on a GPU", "use one of these")
    half = precision == "fp16"
    return inference.PrecisionType.Half if half else inference.PrecisionType.Float32


def _use_cpu(config: Any, program: Program, options: Options) -> Precision:
    """Configure the CPU.

    Returns:
        the precision to compute in.

    Raises:
        BackendError: the requested one is not supported.
    """
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(options.num_threads)
    if options.onednn is False:
        config.disable_mkldnn()
    elif options.onednn:
        config.enable_mkldnn()
    missing = _missing_for_bf16(config, program)
    supported: tuple[Precision, ...] = ("fp32",) if missing else ("fp32", "bf16")
    fix = missing if options.precision in ("fp16", "bf16") else "use one of these"
    precision = precision_here(options, supported, "Paddle Inference on this cpu", fix)
    if precision == "bf16":
        config.enable_mkldnn_bfloat16()
        if program.model.suffix == ".pdmodel":
            config.set_bfloat16_op(BF16_OPERATORS)
    if config.mkldnn_enabled():
        # oneDNN keeps a compiled program per shape, and a smaller last batch is another shape.
        config.set_mkldnn_cache_capacity(10)
    return precision


def _missing_for_bf16(config: Any, program: Program) -> str:
    """Why a program cannot be computed in bf16 on this CPU, and what to do; "" where it can."""
    if not paddle_internals.has_bfloat16():
        return "bf16 needs a processor with AVX512-BF16; use fp32"
    if not config.mkldnn_enabled():
        return "bf16 needs oneDNN; leave it on (--enable_mkldnn=True), or use fp32"
    if program.model.suffix == ".pdmodel" and CONV3D in program.model.read_bytes():
        return (
            "it computes the 3-D convolutions of a .pdmodel in fp32; export with --format pir, or "
            "use fp32 or backend openvino"
        )
    return ""
