"""`SubBatchNorm3D`: batch norm over parts of a batch."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlevideo.models.layers import SubBatchNorm3D


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def new_norm(splits=1, channels=5, layer=SubBatchNorm3D, **arguments):
    norm = layer(channels, **({"splits": splits} if layer is SubBatchNorm3D else {}), **arguments)
    rng = np.random.default_rng(3)
    norm.weight.set_value(rng.standard_normal(channels).astype("float32"))
    norm.bias.set_value(rng.standard_normal(channels).astype("float32"))
    return norm


def varied(n, seed=0):
    """Clips whose channels differ in mean and variance."""
    scale, shift = noise(n, 5, 1, 1, 1, seed=seed + 10), noise(n, 5, 1, 1, 1, seed=seed + 20)
    return noise(n, 5, 2, 3, 4, seed=seed) * scale + 3 * shift


def step(norm, x):
    """(output, gradients of input, scale and offset) of a training step."""
    norm.train()
    norm.clear_gradients()
    x = x.detach()
    x.stop_gradient = False
    y = norm(x)
    (y * noise(*y.shape, seed=7)).sum().backward()
    return [t.numpy() for t in (y, x.grad, norm.weight.grad, norm.bias.grad)]


def test_one_split_is_bit_identical_to_batch_norm():
    plain, ours = new_norm(layer=nn.BatchNorm3D), new_norm(1)
    assert list(plain.state_dict()) == list(ours.state_dict())
    for seed in range(3):
        for a, b in zip(step(plain, varied(6, seed)), step(ours, varied(6, seed)), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(plain.state_dict().values(), ours.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    plain.eval(), ours.eval()
    np.testing.assert_array_equal(plain(varied(6)), ours(varied(6)))


@pytest.mark.parametrize("splits", [2, 3, 6])
def test_normalizes_each_part_separately(splits):
    x = varied(6)
    y, x_grad, *gradients = step(new_norm(splits), x)
    noises = noise(*x.shape, seed=7)
    totals = [0, 0]
    for part in range(splits):
        alone = new_norm(layer=nn.BatchNorm3D)
        clip = x[part::splits].detach()
        clip.stop_gradient = False
        out = alone(clip)
        (out * noises[part::splits]).sum().backward()
        np.testing.assert_allclose(y[part::splits], out, atol=1e-5)
        np.testing.assert_allclose(
            x_grad[part::splits], clip.grad, atol=1e-4 * np.abs(x_grad).max()
        )
        totals = [
            t + g.numpy() for t, g in zip(totals, (alone.weight.grad, alone.bias.grad), strict=True)
        ]
    for found, expected in zip(gradients, totals, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(y - step(new_norm(1), x)[0]).max() > 0.1  # differs from plain batch norm


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_running_statistics_are_those_of_the_complete_batch(momentum):
    plain, split = new_norm(layer=nn.BatchNorm3D, momentum=momentum), new_norm(2, momentum=momentum)
    for number, splits in enumerate([2, 4, 1, 4, 2]):  # splits change in place
        split.splits = splits
        for norm in (plain, split):
            step(norm, varied(8, seed=number))
    for name in ("_mean", "_variance"):
        np.testing.assert_allclose(getattr(split, name), getattr(plain, name), rtol=1e-5, atol=1e-6)
    assert {name: t.shape for name, t in split.state_dict().items()} == {
        n: t.shape for n, t in plain.state_dict().items()
    }
    assert split._mean.stop_gradient and split._variance.stop_gradient


def test_running_statistics_follow_the_formula():
    norm, x = new_norm(3, momentum=0.0), varied(6)
    step(norm, x)
    parts = np.stack([x.numpy()[part::3] for part in range(3)])  # [3, 2, C, T, H, W]
    means, variances = parts.mean((1, 3, 4, 5)), parts.var((1, 3, 4, 5))
    np.testing.assert_allclose(norm._mean, means.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm._variance, variances.mean(0) + means.var(0), rtol=1e-4)


def test_evaluation_accepts_any_batch_size():
    norm = new_norm(4)
    step(norm, varied(8))
    norm.eval()
    plain = new_norm(layer=nn.BatchNorm3D)
    plain.set_state_dict(norm.state_dict())
    plain.eval()
    np.testing.assert_array_equal(norm(varied(3)), plain(varied(3)))


def test_splits_in_a_program_for_training():
    eager, static = new_norm(2), new_norm(2)
    program = paddle.jit.to_static(static, full_graph=True)
    for seed in range(2):
        for a, b in zip(step(eager, varied(4, seed)), step(program, varied(4, seed)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(eager.state_dict().values(), static.state_dict().values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
