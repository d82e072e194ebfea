"""Paddle Inference with TensorRT."""

import importlib
import importlib.util
import os
import shutil
import tempfile
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
from paddlevideo.runtimes.engines import (
    engine_folder,
    gpu_facts,
    library_version,
    runtime_version,
    shape_ranges,
)
from paddlevideo.runtimes.paddle_inference import PaddleBackend
from paddlevideo.runtimes.tensorrt_int8 import (
    check_engines,
    copy_tables,
    required_tables,
    tables_of,
)

SHAPES_FILE = "shapes.pbtxt"  # ranges of shapes of all tensors, which Paddle collects in two runs
CONVERTED = "converted"  # stem of a .json program that contains engines
WORKSPACE = 1 << 30  # bytes
MIN_OPERATORS = 3  # smaller parts of a program stay with Paddle
# What is not quantized is computed in fp16 by an engine of int8.
PRECISIONS = {
    "fp32": inference.PrecisionType.Float32,
    "fp16": inference.PrecisionType.Half,
    "int8": inference.PrecisionType.Int8,
}


class TensorRTBackend(PaddleBackend):
    """Paddle Inference with TensorRT.

    A .pdmodel gets its engines when it is opened; a .json program is converted once. Both are kept
    in `engines/` next to the program. int8 takes a .pdmodel, and the ranges of its activations that
    tools/quantize.py measured. Tests run it against a double of Paddle's GPU build, and its
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
        self._engines: Path | None = None
        self._temporary: Any = None  # a folder for the life of this instance
        super().__init__(program, options)
        if self.precision == "int8" and self._engines:
            check_engines(self._engines, program.model)

    @classmethod
    def reads(cls, precision: str) -> tuple[str, ...]:
        return (".pdmodel",) if precision == "int8" else cls.suffixes

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
        if runtime_version() in (None, (0, 0, 0)):
            name = ".".join(["TensorRT", *map(str, build or ())]).replace("T.", "T ", 1)
            return (
                f"the {name} library is not found: install it, and add the folder with "
                "libnvinfer.so to LD_LIBRARY_PATH (pip's tensorrt calls it libnvinfer.so.10; "
                "link it there)"
            )
        number, lack = dist.count_gpus()
        return "" if number else lack

    def select_device(
        self, config: Any, program: Program, options: Options, number: int | None
    ) -> None:
        if program.model.suffix == ".json":  # it contains the engines
            config.enable_use_gpu(options.gpu_mem, required_gpu(options, number))
            return
        number = required_gpu(options, number)
        tables = None
        if options.precision == "int8":
            tables = required_tables(program, runtime_version())
        settings = engine_settings(program, options, number, tables)
        folder = engine_folder(program, "tensorrt", settings)
        if tables is not None:  # Paddle reads them from where it keeps the engines
            if folder is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="paddlevideo-engines-")
                folder = Path(self._temporary.name)
            copy_tables(tables, folder)
        self._engines = folder
        use_engines(config, program, options, number, keep=folder is not None)
        if folder is not None:
            config.set_optim_cache_dir(str(folder))
            use_shapes(config, program, options, number, folder)


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
            f"TensorRT computes in {', '.join(PRECISIONS)}, not in {options.precision}"
        )
    return number


def use_engines(config: Any, program: Program, options: Options, number: int, keep: bool) -> None:
    """Configure TensorRT engines for 1 to `max_batch` clips.

    Args:
        config: an `inference.Config`.
        number: of the GPU.
        keep: write the engines to the folder that Paddle uses as a cache.

    Raises:
        BackendError: the sizes of the inputs are not known.
    """
    ranges = shape_ranges(program, options.max_batch)
    config.enable_use_gpu(options.gpu_mem, number)
    config.enable_tensorrt_engine(
        workspace_size=WORKSPACE,
        max_batch_size=options.max_batch,
        min_subgraph_size=MIN_OPERATORS,
        precision_mode=PRECISIONS[options.precision],
        use_static=keep,
        use_calib_mode=options.precision == "int8",  # reads tables, or measures them
    )
    config.set_trt_dynamic_shape_info(
        {name: shapes.least for name, shapes in ranges.items()},
        {name: shapes.most for name, shapes in ranges.items()},
        {name: shapes.usual for name, shapes in ranges.items()},
    )


def use_shapes(config: Any, program: Program, options: Options, number: int, folder: Path) -> None:
    """Configure the ranges of shapes inside the program, which a file in the folder keeps.

    An operator that TensorRT lacks splits the program, and the tensors between the parts need
    ranges of shapes, too.
    """
    file = folder / SHAPES_FILE
    if not file.exists():
        collect_shapes(program, options, number, file)
    config.enable_tuned_tensorrt_dynamic_shape(str(file), True)


def engine_settings(
    program: Program, options: Options, number: int, tables: Path | None = None
) -> dict[str, Any]:
    """All that an engine depends on besides the program.

    Args:
        tables: the folder of the ranges of activations, for int8.

    Raises:
        BackendError: the sizes of the inputs are not known.
    """
    return {
        "precision": options.precision,
        "shapes": shape_ranges(program, options.max_batch),
        "library": runtime_version(),
        "tf32": dist.has_tf32(number),
        "tables": tables_of(tables) if tables else None,
        **gpu_facts(number),
    }


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
    if options.precision == "int8":
        raise BackendError(
            f"{program.model}: int8 engines are built from a .pdmodel; export with --format pdmodel"
        )
    if importlib.util.find_spec("paddle.tensorrt") is None:
        raise BackendError(
            f"{program.model}: this paddlepaddle {paddle.__version__} has no paddle.tensorrt, "
            "which converts .json programs; export with --format pdmodel"
        )
    folder = engine_folder(program, "converted", engine_settings(program, options, number))
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
            _convert(program, options, number, work / CONVERTED)
            os.replace(work / f"{CONVERTED}.pdiparams", folder / f"{CONVERTED}.pdiparams")
            os.replace(work / f"{CONVERTED}.json", folder / f"{CONVERTED}.json")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    model = folder / f"{CONVERTED}.json"
    return replace(program, model=model, params=model.with_suffix(".pdiparams"))


def _convert(program: Program, options: Options, number: int, stem: Path) -> None:
    """Write `<stem>.json` and `<stem>.pdiparams`."""
    try:
        library: Any = importlib.import_module("paddle.tensorrt.export")  # it imports tensorrt
    except ImportError as error:
        raise BackendError(f"{program.model}: {error}; pip install tensorrt") from error
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
        for name, shapes in shape_ranges(program, options.max_batch).items()
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
    finally:
        paddle.set_device(before)
