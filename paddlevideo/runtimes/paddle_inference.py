"""Paddle Inference, alone (oneDNN on a CPU) or with TensorRT."""

import numpy as np
from paddle import inference

from paddlevideo.runtimes.base import BackendError, Options, Program, check_inputs, paddle_gpus
from paddlevideo.sample import Arrays, InputSpec


class PaddleBackend:
    """Paddle Inference, alone or with TensorRT (written to its documentation; not run by us, for want of such a build)."""

    def __init__(self, program: Program, options: Options, tensorrt: bool = False):
        with program.model.open("rb") as file:
            if (
                file.read(1) != {".pdmodel": b"\n", ".json": b"{"}[program.model.suffix]
            ):  # Paddle would crash on it
                raise BackendError(f"{program.model}: not a Paddle program")
        config = inference.Config(str(program.model), str(program.params))
        if options.quiet:
            config.disable_glog_info()
        config.switch_ir_optim(options.ir_optim)
        config.enable_memory_optim()
        if program.model.suffix == ".json":
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        number = options.gpu(paddle_gpus(), "this build of Paddle")
        if tensorrt:
            _set_tensorrt(config, program, options, number)
        elif number is not None:
            config.enable_use_gpu(options.gpu_mem, number, _paddle_precision(options))
        else:
            _set_cpu(config, options)
        where = (
            f"gpu:{number}"
            if number is not None
            else "cpu with oneDNN"
            if config.mkldnn_enabled()
            else "cpu"
        )
        self.name = f"Paddle Inference{' + TensorRT' if tensorrt else ''} on {where}"
        self._predictor = inference.create_predictor(config)
        unknown = InputSpec((), "", "")  # before the first run Paddle says float32 of all
        self.inputs = {
            name: program.inputs.get(name, unknown) for name in self._predictor.get_input_names()
        }

    def run(self, arrays: Arrays) -> np.ndarray:
        check_inputs(arrays, self.inputs)
        for name in self.inputs:
            self._predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(arrays[name]))
        self._predictor.run()
        return self._predictor.get_output_handle(
            self._predictor.get_output_names()[0]
        ).copy_to_cpu()


def _paddle_precision(options: Options):
    return (
        inference.PrecisionType.Half
        if options.precision == "fp16"
        else inference.PrecisionType.Float32
    )


def _set_cpu(config, options: Options) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(options.num_threads)
    if options.onednn is False:
        config.disable_mkldnn()
    elif options.onednn:
        config.enable_mkldnn()
    if options.precision == "fp16":
        if not config.mkldnn_enabled():
            raise BackendError(
                "fp16 on a CPU needs oneDNN, which computes it in bfloat16; use fp32 or leave oneDNN on"
            )
        config.enable_mkldnn_bfloat16()
    if config.mkldnn_enabled():
        config.set_mkldnn_cache_capacity(10)  # a last, smaller batch is a shape of its own


def _set_tensorrt(config, program: Program, options: Options, number: int | None) -> None:
    """Engines for 1 to `max_batch` clips. A clip's segments join the batch inside the graph, so they do not count here."""
    if number is None:
        raise BackendError(
            "TensorRT runs on a GPU, and the CPU was chosen; use --use_gpu=True, or backend paddle"
        )
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
    least, most = (
        {name: [n, *spec.shape[1:]] for name, spec in program.inputs.items()}
        for n in (1, options.max_batch)
    )
    config.set_trt_dynamic_shape_info(least, most, most)
