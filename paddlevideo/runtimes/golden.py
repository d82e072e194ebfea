"""`golden.npz`: fixed inputs of an exported model, and what the model computes from them."""

from pathlib import Path

import numpy as np

from paddlevideo.runtimes.base import Backend
from paddlevideo.runtimes.manifest import Manifest, check_files
from paddlevideo.sample import Arrays

FILE = "golden.npz"
OUTPUTS = ("logits", "probabilities")  # the array with the output of the model has one of the names


def read_golden(folder: Path, manifest: Manifest) -> tuple[Arrays, np.ndarray] | None:
    """The inputs and the output of the model, None where the export has none.

    Raises:
        ManifestError: the file is missing, or not the one that model.yaml describes.
        ValueError: it has no output.
    """
    if FILE not in manifest.files:
        return None
    check_files(manifest, [folder / FILE])
    with np.load(folder / FILE) as file:
        arrays = dict(file)
    output = next((name for name in OUTPUTS if name in arrays), None)
    if output is None:
        raise ValueError(f"{folder / FILE}: it has no {' or '.join(OUTPUTS)}; export again")
    expected = arrays.pop(output)
    return arrays, expected


def golden_difference(
    backend: Backend, inputs: Arrays, expected: np.ndarray, any_batch: bool = True
) -> float:
    """Run a program on all golden samples together and, if it takes any batch, on the first alone.

    Returns:
        the larger `relative_difference`.
    """
    difference = relative_difference(backend.run(inputs), expected)
    if not any_batch or len(expected) == 1:
        return difference
    first = {name: array[:1] for name, array in inputs.items()}
    return max(difference, relative_difference(backend.run(first), expected[:1]))


def relative_difference(values: np.ndarray, expected: np.ndarray) -> float:
    """max |values - expected| / max |expected|.

    It is infinite where the shapes differ or a value is not finite.
    """
    if values.shape != expected.shape or not np.isfinite(values).all():
        return float("inf")
    scale = np.abs(expected).max()
    return float(np.abs(values.astype(np.float64) - expected).max() / (scale or 1.0))
