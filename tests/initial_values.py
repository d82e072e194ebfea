"""Models without initial values, for tests that set every value, or read names and shapes."""

import contextlib
from collections.abc import Iterator

import paddle
import pytest


@contextlib.contextmanager
def zeros_as_initial_values() -> Iterator[None]:
    """Start weights as zeros; random ones of a network of full size take a second.

    `paddle.LazyGuard` is faster still, but leaves tensors without memory.
    """

    def gaussian(shape, mean, std, seed, dtype, place):
        return paddle.zeros(shape, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paddle._C_ops, "gaussian", gaussian)
        yield
