"""Weights that follow from a tensor's name and shape, as every reference model was filled.

A tensor starts as standard normal numbers from `default_rng(crc32(name))` in float64. Filters and
matrices are scaled to the variance 2 / fan_in, vectors by the role that the end of the name shows.
The result is rounded to float32 once.
"""

import zlib

import numpy as np

TAME = np.float32(2.0**-8)


def paddle_tensor(name: str, shape, tame: bool = False) -> np.ndarray:
    """Return a tensor by its name in PaddleVideo; linear weights are [in, out].

    Args:
        tame: scale the classifier's weight by 2**-8. The logits' standard deviation falls from
            hundreds to about 1, so a softmax over them is not one-hot.
    """
    shape = tuple(int(size) for size in shape)
    fan_in = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
    tensor = _scaled(name, shape, fan_in, mean="_mean", variance="_variance")
    is_classifier = len(shape) == 2 and name.startswith(("head.", "Teacher.1."))
    return tensor * TAME if tame and is_classifier else tensor


def torch_tensor(name: str, shape) -> np.ndarray:
    """Return a tensor by its name in MMAction2 or AVSlowFast; linear weights are [out, in]."""
    shape = tuple(int(size) for size in shape)
    fan_in = int(np.prod(shape[1:]))
    return _scaled(name, shape, fan_in, mean="running_mean", variance="running_var")


def _scaled(name: str, shape: tuple, fan_in: int, mean: str, variance: str) -> np.ndarray:
    """Return the float32 tensor; `mean` and `variance` end the names of running statistics.

    Raises:
        ValueError: the rule has no value for a vector or scalar of this name.
    """
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) >= 2:
        tensor = normal * np.sqrt(2.0 / fan_in)
    elif len(shape) == 1 and name.endswith((mean, "bias")):
        tensor = 0.1 * normal
    elif len(shape) == 1 and name.endswith(variance):
        tensor = 1.0 + 0.1 * np.abs(normal)
    elif len(shape) == 1 and name.endswith("weight"):
        tensor = 1.0 + 0.1 * normal
    else:
        raise ValueError(f"no fill rule for tensor {name!r} of shape {list(shape)}")
    return tensor.astype(np.float32)
