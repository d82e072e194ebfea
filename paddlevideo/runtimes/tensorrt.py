"""Paddle Inference with TensorRT."""

from typing import Any, ClassVar

import paddle
from paddle import inference

from paddlevideo.runtimes.base import BackendError, Options, Program
from paddlevideo.runtimes.paddle_inference import PaddleBackend, precision_type


class TensorRTBackend(PaddleBackend):
    """Paddle Inference with TensorRT.

    It follows Paddle's documentation, but has never run: no build of Paddle with TensorRT was
    available.
    """

    kind = "tensorrt"
    suffixes = (".pdmodel",)
    auto_rank: ClassVar = {"gpu": 1}
    title = "Paddle Inference + TensorRT"

    @classmethod
    def missing(cls) -> str:
        if not paddle.is_compiled_with_cuda():
            return (
                f"this paddlepaddle {paddle.__version__} is the CPU build; "
                "install paddlepaddle-gpu with TensorRT"
            )
        version = inference.get_trt_compile_version()
        if version == (0, 0, 0):
            return f"paddlepaddle-gpu {paddle.__version__} was built without TensorRT"
        if inference.get_trt_runtime_version() == (0, 0, 0):
            return f"the TensorRT {'.'.join(map(str, version))} library is not installed"
        return ""

    def select_device(
        self, config: Any, program: Program, options: Options, number: int | None
    ) -> None:
        use_tensorrt(config, program, options, number)


def use_tensorrt(config: Any, program: Program, options: Options, number: int | None) -> None:
    """Configure TensorRT engines for 1 to `max_batch` clips.

    A clip's segments join the batch axis inside the program, so they do not count here.

    Args:
        config: an `inference.Config`.
        number: of the GPU.

    Raises:
        BackendError: there is no GPU to run on, or the sizes of the inputs are not known.
    """
    if number is None:
        raise BackendError(
            "TensorRT runs on a GPU, but the CPU was chosen; use --use_gpu=True or backend paddle"
        )
    if not program.inputs or any(None in spec.shape[1:] for spec in program.inputs.values()):
        raise BackendError(
            f"{program.model}: TensorRT needs the input sizes, all but the batch, from a "
            "model.yaml next to the program; end PIPELINE.test with a crop and export again"
        )
    config.enable_use_gpu(options.gpu_mem, number)
    config.enable_tensorrt_engine(
        workspace_size=1 << 30,
        max_batch_size=options.max_batch,
        min_subgraph_size=3,
        precision_mode=precision_type(options),
        use_static=False,
        use_calib_mode=False,
    )
    smallest, largest = (
        {name: [batch, *spec.shape[1:]] for name, spec in program.inputs.items()}
        for batch in (1, options.max_batch)
    )
    config.set_trt_dynamic_shape_info(smallest, largest, largest)
