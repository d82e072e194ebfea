"""Audio models filled as the references were, and the cost of a forward pass."""

import importlib.util
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


def goldens(shared: Path) -> Path:
    return shared / "parity" / "audio"


def rule(shared: Path):
    """(name, shape) -> the reference's array."""
    spec = importlib.util.spec_from_file_location("audio_fill", goldens(shared) / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.value


def manifest(shared: Path, name: str) -> dict:
    return json.loads((goldens(shared) / f"manifest_{name}.json").read_text())


def fill(shared: Path, model, name: str, source: str) -> None:
    """Give a model the reference's weights through the converter; each tensor of one must have its place in the other."""
    entries, value = manifest(shared, name), rule(shared)
    arrays = {key: value(key, tuple(shape)) for key, shape in entries["manifest"]}
    account = load_into(model, convert_state_dict(arrays, source), name)
    assert len(account.loaded) == entries["tensors"] == len(arrays)
    assert num_parameters(model) == entries["parameters"]


def num_parameters(model) -> int:
    return sum(int(p.size) for p in model.parameters() if not p.stop_gradient)


@contextmanager
def counted():
    """Counts multiplications in the dict it gives: of convolutions, which then cost nothing (their outputs are zeros), and two
    for each number that a batch norm puts out, as fvcore counts them in evaluation."""
    counts = {"conv": 0, "norm": 0}

    def zeros(self, x):
        axes = len(x.shape) - 2
        steps, pads = (np.broadcast_to(v, axes).tolist() for v in (self._stride, self._padding))
        sizes = zip(x.shape[2:], self._kernel_size, steps, pads, strict=True)
        out = [
            x.shape[0],
            self._out_channels,
            *((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes),
        ]
        counts["conv"] += math.prod(out) * math.prod(self.weight.shape[1:])
        return paddle.zeros(out, x.dtype)

    def same(self, x):
        counts["norm"] += 2 * int(x.size)
        return x

    stand_ins = {
        Conv2D: zeros,
        Conv3D: zeros,
        nn.Conv2D: zeros,
        nn.Conv3D: zeros,
        nn.BatchNorm2D: same,
        SubBatchNorm3D: same,
    }
    with ExitStack() as stack:
        for layer, forward in stand_ins.items():
            stack.enter_context(mock.patch.object(layer, "forward", forward))
        stack.enter_context(paddle.no_grad())
        yield counts


def close(found, expected, share: float = 1e-5) -> None:
    """Agreement to a share of the standard deviation of what is expected."""
    expected = np.asarray(expected).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * expected.std())
