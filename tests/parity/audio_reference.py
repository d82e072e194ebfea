"""Audio models with the references' weights, the cost of a forward pass, and comparisons."""

import json
import math
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import paddle
from paddle import nn

from paddlevideo.models.convert import convert_state_dict
from paddlevideo.models.layers import Conv2D, Conv3D, SubBatchNorm3D
from paddlevideo.weights import load_into
from tests.parity.fill import torch_tensor


def manifest(goldens: Path, name: str) -> dict:
    """Return the names and shapes of the tensors of a reference model, and their counts."""
    return json.loads((goldens / "audio" / f"manifest_{name}.json").read_text())


def fill(goldens: Path, model, name: str, source: str) -> None:
    """Load the reference's weights into a model through the converter.

    Every tensor of the reference must have a counterpart in the model and the other way round.
    """
    reference = manifest(goldens, name)
    arrays = {key: torch_tensor(key, shape) for key, shape in reference["manifest"]}
    account = load_into(model, convert_state_dict(arrays, source), name)
    assert len(account.loaded) == reference["tensors"] == len(arrays)
    assert num_parameters(model) == reference["parameters"]


def num_parameters(model) -> int:
    """Count the trainable parameters of a model."""
    return sum(int(p.size) for p in model.parameters() if not p.stop_gradient)


@contextmanager
def counted():
    """Count the multiplications of forward passes inside the block, as fvcore does in evaluation.

    The dict that it gives has the multiplications of convolutions under "conv", and two for each
    output of a batch norm under "norm". Convolutions return zeros, so that counting is fast.
    """
    counts = {"conv": 0, "norm": 0}

    def count_conv(self, x):
        axes = len(x.shape) - 2
        strides, pads = (np.broadcast_to(v, axes).tolist() for v in (self._stride, self._padding))
        sizes = zip(x.shape[2:], self._kernel_size, strides, pads, strict=True)
        out_sizes = [(size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes]
        out_shape = [x.shape[0], self._out_channels, *out_sizes]
        counts["conv"] += math.prod(out_shape) * math.prod(self.weight.shape[1:])
        return paddle.zeros(out_shape, x.dtype)

    def count_norm(self, x):
        counts["norm"] += 2 * int(x.size)
        return x

    counting_forwards = {
        Conv2D: count_conv,
        Conv3D: count_conv,
        nn.Conv2D: count_conv,
        nn.Conv3D: count_conv,
        nn.BatchNorm2D: count_norm,
        SubBatchNorm3D: count_norm,
    }
    with ExitStack() as stack:
        for layer, forward in counting_forwards.items():
            stack.enter_context(mock.patch.object(layer, "forward", forward))
        stack.enter_context(paddle.no_grad())
        yield counts


def close(actual, expected, share: float = 1e-5) -> None:
    """Assert that all differences are below `share` of the standard deviation of `expected`."""
    expected = np.asarray(expected).reshape(actual.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=share * expected.std())
