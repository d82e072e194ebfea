"""int8 in TensorRT: the ranges of a program's activations, which Paddle measures on a GPU.

Paddle writes a table of ranges for each engine of a program. The tables fit a program and a version
of TensorRT, whatever the GPU and the number of clips. tools/quantize.py --backend tensorrt makes
them and keeps them in `engines/`, next to the engines; opening in int8 needs them.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlevideo.config.shipped import typed
from paddlevideo.runtimes.base import BackendError, Program
from paddlevideo.runtimes.engines import FOLDER, name_of
from paddlevideo.runtimes.manifest import sha256

TABLES, ENGINES = "trt_calib_*", "trt_serialized_*"  # what Paddle calls the files
CACHE = "_opt_cache"  # where Paddle writes tables, next to the program


def tables_folder(program: Program, library: Any) -> Path:
    """Where the tables of a program are kept; they need not be there.

    Args:
        library: version of TensorRT's library.
    """
    name = name_of(program, "int8", {"library": library})
    return program.model.parent / FOLDER / name


def tables_of(folder: Path) -> Mapping[str, str]:
    """{file name: SHA-256} of the tables in a folder."""
    return {file.name: sha256(file) for file in sorted(folder.glob(TABLES))}


def required_tables(program: Program, library: Any) -> Path:
    """The folder of the tables of a program.

    Raises:
        BackendError: there are none.
    """
    folder = tables_folder(program, library)
    if not tables_of(folder):
        quantize = typed("tools/quantize.py", "quantize")
        raise BackendError(
            f"{program.model}: TensorRT needs the ranges of its activations for int8, which are "
            f"not in {folder}; measure them on this GPU: {quantize} -m {program.model.parent} "
            "--videos LIST --backend tensorrt"
        )
    return folder


def copy_tables(source: Path, target: Path) -> None:
    """Copy the tables of a folder into another, which may have them."""
    for name in tables_of(source):
        temporary = target / f".{name}.{os.getpid()}"
        shutil.copyfile(source / name, temporary)
        os.replace(temporary, target / name)


def check_engines(folder: Path, model: Path) -> None:
    """Check that Paddle has built the engines of a program with the tables in its folder.

    Without a table for an engine, Paddle would measure ranges again, and compute in fp32.

    Raises:
        BackendError: it has not.
    """
    num_tables = len(tables_of(folder))
    num_engines = len(list(folder.glob(ENGINES)))
    if num_engines < num_tables or not num_tables:
        raise BackendError(
            f"{model}: Paddle built {num_engines} int8 engines from {num_tables} tables of ranges "
            f"in {folder}; measure them again with --overwrite, or use fp16"
        )
