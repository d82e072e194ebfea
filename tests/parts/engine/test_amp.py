"""Mixed precision on a CPU: the factors of products are rounded to bfloat16."""

import types

import numpy as np
import paddle
from paddle import nn

from paddlevideo.engine import amp


def bfloat16(x):
    """float32 values rounded to the nearest bfloat16, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def settings(on):
    return types.SimpleNamespace(amp=on, amp_level="O1")


def test_rounds_inputs_and_weights_and_keeps_the_parameter():
    paddle.seed(0)
    layer = nn.Sequential(nn.Linear(8, 4))
    weight, x = layer[0].weight, paddle.randn([3, 8])
    with amp.autocast(settings(True), layer):
        y = layer(x)
        y.sum().backward()
    expected = bfloat16(x.numpy()).astype(np.float64) @ bfloat16(weight.numpy())
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-6)
    assert layer[0].weight is weight and weight.grad is not None and "float32" in str(weight.dtype)
    assert np.abs(y.numpy() - layer(x).numpy()).max() > 1e-5  # nothing is rounded outside


def test_changes_nothing_when_off():
    layer, x = nn.Sequential(nn.Linear(8, 4)), paddle.randn([3, 8])
    with amp.autocast(settings(False), layer):
        assert (layer(x) == nn.functional.linear(x, layer[0].weight, layer[0].bias)).all()


def test_restores_the_weights_after_an_error():
    layer = nn.Sequential(nn.Linear(8, 4))
    weight = layer[0].weight
    try:
        with amp.autocast(settings(True), layer):
            layer(paddle.randn([3, 7]))
    except ValueError:
        pass
    assert layer[0].weight is weight
