"""Paddle Inference with TensorRT."""

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import paddle
from paddle import inference

from paddlevideo import dist, paddle_internals
from paddlevideo.files import atomic_write, temporary_name
from paddlevideo.log import logger
from paddlevideo.runtimes.base import BackendError, Options, Program
from paddlevideo.runtimes.engines import engine_folder, gpu_facts, shape_ranges
from paddlevideo.runtimes.paddle_inference import PaddleBackend, precision_type

SHAPES_FILE = "shapes.pbtxt"  # ranges of shapes of all tensors, which Paddle collects in two runs
CONVERTED = "converted"  # stem of a .json program that contains engines
WORKSPACE = 1 << 30  # bytes
MIN_OPERATORS = 3  # smaller parts of a program stay with Paddle
PRECISIONS = ("fp32", "fp16")


class TensorRTBackend(PaddleBackend):
    """Paddle Inference with TensorRT.

    A .pdmodel gets its engines when it is opened; a .json program is converted once. Both are kept
    in `engines/` next to the program. Tests run it against a double of Paddle's GPU build, and its
    settings were accepted by a CUDA build; it has never run on a GPU.
    """

    kind = "tensorrt"
    suffixes = (".pdmodel", ".json")
    auto_rank: ClassVar = {"gpu": 1}
    title = "Paddle Inference + TensorRT"

    def __init__(self, program: Program, options: Options):
        if program.model.suffix == ".json":
            number = required_gpu(options, options.gpu(dist.num_gpus(), "this build of Paddle"))
            program = converted(program, options, number)
        super().__init__(program, options)

    @classmethod
    def missing(cls) -> str:
        if not paddle.is_compiled_with_cuda():
            return (
                f"this paddlepaddle {paddle.__version__} is the CPU build; "
                "install paddlepaddle-gpu with TensorRT"
            )
        build = library_version(inference.get_trt_compile_version)
        if build == (0, 0, 0):
            return f"paddlepaddle-gpu {paddle.__version__} was built without TensorRT"
        if library_version(inference.get_trt_runtime_version) in (None, (0, 0, 0)):
            name = ".".join(["TensorRT", *map(str, build or ())]).replace("T.", "T ", 1)
            return (
                f"the {name} library is not installed: pip install tensorrt, or add the folder "
                "of libnvinfer to LD_LIBRARY_PATH"
            )
        number, lack = dist.count_gpus()
        return "" if number else lack

    def select_device(
        self, config: Any, program: Program, options: Options, number: int | None
    ) -> None:
        if program.model.suffix == ".json":  # it contains the engines
            config.enable_use_gpu(options.gpu_mem, required_gpu(options, number))
        else:
            use_tensorrt(config, program, options, number)


def library_version(read: Callable[[], tuple[int, int, int]]) -> tuple[int, int, int] | None:
    """The version that a function of Paddle reports; None where the library cannot be loaded.

    A GPU build raises where TensorRT's library is not installed.
    """
    try:
        return read()
    except (RuntimeError, OSError):
        return None


def required_gpu(options: Options, number: int | None) -> int:
    """The number of the GPU.

    Raises:
        BackendError: there is no GPU to run on, or TensorRT cannot compute in this precision.
    """
    if number is None:
        raise BackendError(
            "TensorRT runs on a GPU, but the CPU was chosen; use --use_gpu=True or backend paddle"
        )
    if options.precision not in PRECISIONS:
        raise BackendError(
            f"TensorRT runs these programs in {' or '.join(PRECISIONS)}, not {options.precision}"
        )
    return number


def use_tensorrt(config: Any, program: Program, options: Options, number: int | None) -> None:
    """Configure TensorRT engines for 1 to `max_batch` clips.

    Args:
        config: an `inference.Config`.
        number: of the GPU.

    Raises:
        BackendError: there is no GPU, or the sizes of the inputs are not known.
    """
    number = required_gpu(options, number)
    ranges = shape_ranges(program, options.max_batch)
    folder = engine_folder(program, "tensorrt", engine_settings(options, ranges, number))
    config.enable_use_gpu(options.gpu_mem, number)
    config.enable_tensorrt_engine(
        workspace_size=WORKSPACE,
        max_batch_size=options.max_batch,
        min_subgraph_size=MIN_OPERATORS,
        precision_mode=precision_type(options),
        use_static=folder is not None,
        use_calib_mode=False,
    )
    config.set_trt_dynamic_shape_info(
        {name: shapes.least for name, shapes in ranges.items()},
        {name: shapes.most for name, shapes in ranges.items()},
        {name: shapes.usual for name, shapes in ranges.items()},
    )
    if folder is None:
        return
    config.set_optim_cache_dir(str(folder))
    # An operator that TensorRT lacks splits the program, and the tensors between the parts need
    # ranges of shapes, too.
    shapes_file = folder / SHAPES_FILE
    if not shapes_file.exists():
        collect_shapes(program, options, number, shapes_file)
    config.enable_tuned_tensorrt_dynamic_shape(str(shapes_file), True)


def engine_settings(options: Options, ranges: Any, number: int) -> dict[str, Any]:
    """All that an engine depends on besides the program."""
    library = library_version(inference.get_trt_runtime_version)
    return {"precision": options.precision, "shapes": ranges, "library": library} | gpu_facts(
        number
    )


def collect_shapes(program: Program, options: Options, number: int | None, file: Path) -> None:
    """Run a .pdmodel on the smallest and the largest batch; Paddle notes the shapes of all tensors.

    Args:
        number: of the GPU; None runs on the CPU.
        file: what is written.
    """
    with atomic_write(file) as temporary:
        _collect_shapes(program, options, number, temporary)


def _collect_shapes(program: Program, options: Options, number: int | None, file: Path) -> None:
    config = inference.Config(str(program.model), str(program.params))
    config.disable_glog_info()
    if number is None:
        config.disable_gpu()
    else:
        config.enable_use_gpu(options.gpu_mem, number)
    config.collect_shape_range_info(str(file))
    ranges = shape_ranges(program, options.max_batch)
    with paddle_internals.keep_num_threads():
        predictor = inference.create_predictor(config)
        for batch in ("least", "most"):
            for name, shapes in ranges.items():
                dtype = program.inputs[name].dtype
                # One frame, where an input counts frames: a video without frames has no shape.
                array = np.ones(getattr(shapes, batch), dtype)
                predictor.get_input_handle(name).copy_from_cpu(array)
            predictor.run()
        del predictor  # writes the file


def converted(program: Program, options: Options, number: int) -> Program:
    """A .json program whose parts are TensorRT engines; converted once, and kept.

    Raises:
        BackendError: this build cannot convert, or the program cannot be converted.
    """
    if importlib.util.find_spec("paddle.tensorrt") is None:
        raise BackendError(
            f"{program.model}: this paddlepaddle {paddle.__version__} has no paddle.tensorrt, "
            "which converts .json programs; export with --format pdmodel"
        )
    ranges = shape_ranges(program, options.max_batch)
    folder = engine_folder(program, "converted", engine_settings(options, ranges, number))
    if folder is None:
        raise BackendError(
            f"{program.model.parent}: a .json program is converted to a file, but the folder "
            "cannot be written; copy the export elsewhere, or export with --format pdmodel"
        )
    if not (folder / f"{CONVERTED}.json").exists():
        logger.info(f"converting {program.model} for TensorRT, once; this takes minutes ...")
        work = temporary_name(folder / "work")
        work.mkdir()
        try:
            _convert(program, options, ranges, number, work / CONVERTED)
            os.replace(work / f"{CONVERTED}.pdiparams", folder / f"{CONVERTED}.pdiparams")
            os.replace(work / f"{CONVERTED}.json", folder / f"{CONVERTED}.json")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    model = folder / f"{CONVERTED}.json"
    return replace(program, model=model, params=model.with_suffix(".pdiparams"))


def _convert(program: Program, options: Options, ranges: Any, number: int, stem: Path) -> None:
    """Write `<stem>.json` and `<stem>.pdiparams`."""
    library: Any = importlib.import_module("paddle.tensorrt.export")
    inputs = [
        library.Input(
            min_input_shape=tuple(shapes.least),
            max_input_shape=tuple(shapes.most),
            optim_input_shape=tuple(shapes.usual),
            input_data_type=program.inputs[name].dtype,
            # Random integers that count frames must fit every video.
            input_range=None if "float" in program.inputs[name].dtype else (1, 2),
            name=name,
        )
        for name, shapes in ranges.items()
    ]
    half = options.precision == "fp16"
    settings = library.TensorRTConfig(
        inputs=inputs,
        min_subgraph_size=MIN_OPERATORS,
        save_model_dir=str(stem),
        precision_mode=library.PrecisionMode.FP16 if half else library.PrecisionMode.FP32,
        workspace_size=WORKSPACE,
    )
    before = paddle.get_device()
    paddle.set_device(f"gpu:{number}")  # Paddle itself builds the engines on GPU 0
    try:
        library.convert(str(program.model.with_suffix("")), settings)
    except ImportError as error:
        raise BackendError(f"{program.model}: {error}; pip install tensorrt") from error
    finally:
        paddle.set_device(before)
