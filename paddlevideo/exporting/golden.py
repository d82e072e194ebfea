"""Golden inputs: fixed samples whose logits are compared between a model and its programs."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.sample import Arrays

BLOCK = 16  # side of a block of equal pixels; blocks keep golden.npz small


def golden_inputs(sample: Mapping[str, np.ndarray]) -> Arrays:
    """Two fixed samples with the shapes and types of the given one, [2, ...].

    Floats are standard normal noise, and bytes are uniform. Other integers are counts, and noise
    would be invalid: they are those of the sample, and half of them.
    """
    rng, arrays = np.random.default_rng(0), {}
    for name, array in sample.items():
        if array.dtype == np.uint8:
            arrays[name] = rng.integers(0, 256, (2, *array.shape), np.uint8)
        elif array.dtype.kind in "iu":
            arrays[name] = np.stack([array, (array + 1) // 2])
        else:
            arrays[name] = _noise(rng, array.shape)
    return arrays


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise float32 [2, *shape]; images consist of blocks of one value."""
    blocks = [2, *shape]
    for axis in (-1, -2) if len(shape) >= 3 else ():
        blocks[axis] = -(-shape[axis] // BLOCK)
    array = rng.standard_normal(blocks).astype(np.float32)
    if len(shape) >= 3:
        array = array.repeat(BLOCK, -1).repeat(BLOCK, -2)[..., : shape[-2], : shape[-1]]
    return np.ascontiguousarray(array)


def relative_difference(values: np.ndarray, expected: np.ndarray) -> float:
    """max |values - expected| / max |expected|.

    It is infinite where the shapes differ or a value is not finite.
    """
    if values.shape != expected.shape or not np.isfinite(values).all():
        return float("inf")
    scale = np.abs(expected).max()
    return float(np.abs(values.astype(np.float64) - expected).max() / (scale or 1.0))
