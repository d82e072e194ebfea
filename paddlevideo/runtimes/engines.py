"""What runtimes that build engines for one GPU need: ranges of shapes, and a folder to keep them.

An engine takes seconds to minutes to build. It fits one program, one kind of GPU, one version of
the library, one precision and one range of shapes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import paddle
from paddle import inference

from paddlevideo.log import logger
from paddlevideo.runtimes.base import BackendError, Program
from paddlevideo.runtimes.manifest import sha256

FOLDER = "engines"  # next to the program


class ShapeRange(NamedTuple):
    """The smallest, the most frequent and the largest shape of an input."""

    least: list[int]
    usual: list[int]
    most: list[int]


def shape_ranges(program: Program, max_batch: int) -> dict[str, ShapeRange]:
    """The shapes of each input for 1 to `max_batch` clips, from model.yaml; engines suit `most`.

    A program with a fixed batch has one shape.

    A clip's segments join the batch axis inside the program, so they do not count here.

    Raises:
        BackendError: a size is not known.
    """
    if not program.inputs or any(None in spec.shape[1:] for spec in program.inputs.values()):
        raise BackendError(
            f"{program.model}: TensorRT needs the input sizes, all but the batch, from a "
            "model.yaml next to the program; end PIPELINE.test with a crop and export again"
        )
    ranges = {}
    for name, spec in program.inputs.items():
        sizes = [int(size) for size in spec.shape[1:] if size is not None]
        fixed = spec.shape[0]
        least, most = (1, max_batch) if fixed is None else (fixed, fixed)
        ranges[name] = ShapeRange([least, *sizes], [most, *sizes], [most, *sizes])
    return ranges


def engine_folder(program: Program, runtime: str, settings: Mapping[str, object]) -> Path | None:
    """The folder for the engines of a program; None where nothing can be written.

    Args:
        settings: all else that an engine depends on, such as precision, shapes and versions.
    """
    folder = program.model.parent / FOLDER / name_of(program, runtime, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning(f"{folder}: {error.strerror}; engines are built again in every process")
        return None
    if not os.access(folder, os.W_OK):
        logger.warning(f"{folder} is read-only; engines are built again in every process")
        return None
    return folder


def name_of(program: Program, kind: str, settings: Mapping[str, object]) -> str:
    """The name of a folder for what fits these files and settings only."""
    files = [sha256(file) for file in (program.model, program.params) if file]
    text = json.dumps({"files": files, **settings}, sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def library_version(read: Callable[[], tuple[int, int, int]]) -> tuple[int, int, int] | None:
    """The version that a function of Paddle reports; None where the library cannot be loaded.

    A GPU build raises where TensorRT's library is not installed.
    """
    try:
        return read()
    except (RuntimeError, OSError):
        return None


def runtime_version() -> tuple[int, int, int] | None:
    """The version of TensorRT's library that is installed; None where it cannot be loaded."""
    return library_version(inference.get_trt_runtime_version)


def gpu_facts(number: int) -> dict[str, str]:
    """Name and compute capability of a GPU that Paddle can use, and the version of Paddle."""
    gpu = paddle.device.cuda.get_device_properties(number)
    return {
        "gpu": gpu.name,
        "capability": f"{gpu.major}.{gpu.minor}",
        "paddle": paddle.__version__,
    }
