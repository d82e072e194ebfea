"""Golden inputs: fixed samples whose outputs are compared between a model and its programs."""

import math
import os
from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from paddlevideo.exporting.program import ExportError
from paddlevideo.log import LINES, logger
from paddlevideo.runtimes.base import BackendError, NotFiniteError
from paddlevideo.runtimes.choose import RUNTIMES, find_program, open_program
from paddlevideo.runtimes.golden import golden_difference, relative_difference
from paddlevideo.runtimes.measured import EXACT
from paddlevideo.sample import Arrays, InputSpec

__all__ = ["golden_inputs", "relative_difference", "verify"]

BLOCK = 16  # side of a block of equal pixels; blocks keep golden.npz small
MOST_ROUNDED = 2e-2  # largest difference of a runtime that rounds float32 products to TF32
Differences = dict[str, float | str]  # {runtime: relative difference, or why there is none}


def golden_inputs(sample: Mapping[str, np.ndarray], number: int = 2) -> Arrays:
    """Fixed samples with the shapes and types of the given one, [number, ...]; two alternate.

    Floats are standard normal noise, and bytes are uniform. Other integers are counts, and noise
    would be invalid: they are those of the sample, and half of them. Images consist of blocks.
    """
    rng, arrays = np.random.default_rng(0), {}
    for name, array in sample.items():
        if array.dtype == np.uint8 and array.ndim >= 4:
            arrays[name] = _byte_images(rng, array.shape)
        elif array.dtype == np.uint8:
            arrays[name] = rng.integers(0, 256, (2, *array.shape), np.uint8)
        elif array.dtype.kind in "iu":
            arrays[name] = np.stack([array, (array + 1) // 2])
        else:
            arrays[name] = _noise(rng, array.shape)
    if number == 2:
        return arrays
    rows = np.arange(number) % 2
    return {name: array[rows] for name, array in arrays.items()}


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise float32 [2, *shape]; images consist of blocks of one value."""
    blocks = [2, *shape]
    for axis in (-1, -2) if len(shape) >= 3 else ():
        blocks[axis] = -(-shape[axis] // BLOCK)
    array = rng.standard_normal(blocks).astype(np.float32)
    if len(shape) >= 3:
        array = array.repeat(BLOCK, -1).repeat(BLOCK, -2)[..., : shape[-2], : shape[-1]]
    return np.ascontiguousarray(array)


def _byte_images(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform bytes [2, *shape] for images [..., H, W, 3], in blocks of one color."""
    *others, height, width, channels = shape
    blocks = (2, *others, -(-height // BLOCK), -(-width // BLOCK), channels)
    array = rng.integers(0, 256, blocks, np.uint8).repeat(BLOCK, -2).repeat(BLOCK, -3)
    return np.ascontiguousarray(array[..., :height, :width, :])


# --- programs ---------------------------------------------------------------------------------


def verify(
    programs: list[Path],
    inputs: Mapping[str, InputSpec],
    golden: Arrays,
    expected: np.ndarray,
    output: str,
) -> dict[str, Differences]:
    """Run programs on the golden inputs in every runtime of this machine that reads them.

    A runtime that reads only some programs may fail to open one. On a GPU that rounds float32
    products to TF32, a larger difference is a warning.

    Args:
        inputs: of the programs; with a free batch they also run on the first sample alone.
        output: the name of what the programs return.

    Returns:
        {file name: {runtime: relative difference, or why there is none}}; the log has the table.

    Raises:
        ExportError: a difference is above 1e-4, or nothing can run a program.
    """
    table: dict[str, Differences] = {}
    rounded: set[tuple[str, str]] = set()
    for file in programs:
        table[file.name] = row = {}
        for kind, device in _runtimes_for(file.suffix):
            name = kind if device == "cpu" else f"{kind} {device}"
            row[name], rounds = _difference(file, kind, device, inputs, golden, expected)
            if rounds:
                rounded.add((file.name, name))
    lines = [f"{output} differ from the model's, relative to the largest, by:"]
    width = max(map(len, table))
    for file, row in table.items():
        texts = [f"{name} {_text(value)}" for name, value in row.items()]
        lines.append(f"  {file.ljust(width)}  {', '.join(texts)}")
    logger.info("\n".join(lines), extra=LINES)
    for file, row in table.items():
        _check(file, row, output, {name for program, name in rounded if program == file})
    return table


def _runtimes_for(suffix: str) -> list[tuple[str, str]]:
    """(runtime, device) for each that this machine has and that reads the programs."""
    return [
        (kind, device)
        for kind, runtime in RUNTIMES.items()
        if suffix in runtime.suffixes and not runtime.missing()
        for device in runtime.auto_rank
        if device == "cpu" or runtime.has_gpu()
    ]


def _difference(
    file: Path,
    kind: str,
    device: str,
    inputs: Mapping[str, InputSpec],
    golden: Arrays,
    expected: np.ndarray,
) -> tuple[float | str, bool]:
    """(the difference, or why there is none; whether the runtime rounds float32)."""
    try:
        program = replace(find_program(file, kind), inputs=inputs)
        backend = open_program(kind, program, {"device": device, "max_batch": len(expected)})
    except BackendError as error:
        # The folder is a temporary one, and the text is kept in the manifest.
        return str(error).replace(f"{file.parent}{os.sep}", ""), False
    try:
        any_batch = all(spec.shape[0] is None for spec in inputs.values())
        difference = golden_difference(backend, golden, expected, any_batch)
    except NotFiniteError:
        return float("nan"), False
    except BackendError as error:
        return f"{file.name}: {error}", False
    return float(f"{difference:.3g}"), backend.rounds_fp32


def _check(file: str, row: Differences, output: str, rounded: Set[str]) -> None:
    """Check the differences of one program.

    Args:
        rounded: the runtimes that round float32.

    Raises:
        ExportError: see `verify`.
    """
    for name, value in row.items():
        limit = MOST_ROUNDED if name in rounded else EXACT
        kind, _, device = name.partition(" ")
        if isinstance(value, str):
            problem = value
            allowed = device or not RUNTIMES[kind].reads_all
        else:
            problem = f"{file}: {output} differ by {value:.1e} of the largest ({name})"
            if math.isnan(value):
                problem = f"{file}: {output} are NaN or infinite ({name})"
            allowed = value <= limit  # NaN is above
            if value <= EXACT:
                continue
        if not allowed:
            raise ExportError(
                f"{problem}; rounding explains at most {limit:g}, so nothing was exported; "
                "--verify=False writes the programs without this check"
            )
        logger.warning(problem)
    if not any(isinstance(value, float) for value in row.values()):
        raise ExportError(
            f"{file}: no runtime of this machine can run it to verify it, so nothing was "
            "exported; --verify=False writes the programs without this check"
        )


def _text(value: float | str) -> str:
    return "cannot read it" if isinstance(value, str) else f"{value:.1e}"
