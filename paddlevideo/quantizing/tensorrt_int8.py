"""Measures the ranges of a program's activations on a GPU, for int8 in TensorRT."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddlevideo.exporting.program import ExportError
from paddlevideo.files import remove_leftovers, temporary_name
from paddlevideo.runtimes.base import BackendError, Options, Program, reason
from paddlevideo.runtimes.engines import FOLDER, runtime_version
from paddlevideo.runtimes.manifest import FILE as MANIFEST
from paddlevideo.runtimes.tensorrt import TensorRTBackend, required_gpu, use_engines, use_shapes
from paddlevideo.runtimes.tensorrt_int8 import CACHE, TABLES, tables_folder, tables_of
from paddlevideo.sample import Arrays

FACTS = "calibration.json"  # how the tables were made, next to them
WORKSPACE = "measuring"


class Measuring(TensorRTBackend):
    """A .pdmodel that computes in fp32, while Paddle measures its activations in each run.

    A run takes one clip: TensorRT measures at one batch size, and the ranges hold for any.
    """

    kind = ""  # not for open_backend

    def select_device(
        self, config: Any, program: Program, options: Options, number: int | None
    ) -> None:
        number = required_gpu(options, number)
        use_engines(config, program, options, number, keep=False)
        use_shapes(config, program, options, number, program.model.parent)

    def close(self) -> None:
        """End, whereupon Paddle writes the tables."""
        del self._predictor


def int8_folder(program: Program) -> Path:
    """The folder of the tables of a program, which fit the installed TensorRT."""
    return tables_folder(program, runtime_version())


def has_tables(program: Program) -> bool:
    """Whether the ranges of a program were measured."""
    return bool(tables_of(int8_folder(program)))


@contextlib.contextmanager
def measured(program: Program, clips: Iterable[Arrays]) -> Iterator[Program]:
    """A copy of a program with the ranges of its activations, measured on the clips.

    Where the block succeeds, the ranges and the engines that were built in it are kept next to the
    program, in place of earlier ones.

    Args:
        program: a .pdmodel in an exported folder.
        clips: inputs of the program for one clip each.

    Raises:
        ExportError: Paddle measured nothing.
        BackendError: the program cannot be opened or run.
    """
    parent = program.model.parent / FOLDER
    parent.mkdir(exist_ok=True)
    remove_leftovers(parent, {WORKSPACE})
    work = temporary_name(parent / WORKSPACE)
    work.mkdir(0o700)
    try:
        copy = _copied(program, work)
        backend = _opened(copy)
        try:
            for arrays in clips:
                backend.run(arrays)
        finally:
            backend.close()  # while its folder is there
        cache = work / CACHE
        if not list(cache.glob(TABLES)):
            raise ExportError(
                f"{program.model}: TensorRT measured no activations, so there is no int8; "
                "use precision fp16"
            )
        folder = int8_folder(copy)
        folder.parent.mkdir()
        os.replace(cache, folder)
        yield copy
        for made in sorted(folder.parent.iterdir()):
            target = parent / made.name
            if target.exists():
                os.replace(target, work / made.name)
            os.replace(made, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _opened(program: Program) -> Measuring:
    try:
        return Measuring(program, Options("gpu", "int8", max_batch=1))
    except (RuntimeError, OSError, SystemError, MemoryError) as error:
        raise BackendError(f"{program.model}: tensorrt cannot open it: {reason(error)}") from error


def _copied(program: Program, folder: Path) -> Program:
    """The program in another folder: Paddle writes the tables next to it."""
    files = [file for file in (program.model, program.params) if file]
    model, *params = (Path(shutil.copy(file, folder / file.name)) for file in files)
    shutil.copy(program.model.parent / MANIFEST, folder)  # it has the sizes of the inputs
    return replace(program, model=model, params=params[0] if params else None)
