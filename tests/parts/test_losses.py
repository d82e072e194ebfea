"""Losses against their formulas in NumPy."""

import numpy as np
import paddle
import pytest

from paddlevideo import losses


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 9)) * 3, rng.integers(0, 9, 6), rng.integers(0, 9, 6)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def tensor(x):
    return paddle.to_tensor(x.astype("float32") if x.dtype == np.float64 else x)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_one_hot_soft_and_mixed_labels(batch, smoothing):
    logits, a, b = batch
    soft = [(1 - smoothing) * np.eye(9)[y] + smoothing / 9 for y in (a, b)]
    expected = [-(s * log_softmax(logits)).sum(1).mean() for s in soft]
    x, a, b = tensor(logits), tensor(a), tensor(b)
    for loss in (
        losses.cross_entropy(x, a, smoothing),
        losses.cross_entropy(x, a.unsqueeze(1), smoothing),
        losses.soft_cross_entropy(x, tensor(soft[0])),
    ):
        assert float(loss) == pytest.approx(expected[0], rel=1e-6)
    mixed = losses.mixed_cross_entropy(x, a, b, 0.3, smoothing)
    assert float(mixed) == pytest.approx(0.3 * expected[0] + 0.7 * expected[1], rel=1e-6)


def test_a_mixed_loss_with_share_1_is_the_cross_entropy(batch):
    x, a, b = (tensor(array) for array in batch)
    expected = losses.cross_entropy(x, a, 0.1)
    assert float(losses.mixed_cross_entropy(x, a, b, 1.0, 0.1)) == float(expected)


def test_a_batch_decides_between_mixed_and_unmixed_labels(batch):
    x, a, b = (tensor(array) for array in batch)
    unmixed = losses.batch_cross_entropy(x, {"label": a}, 0.1)
    assert float(unmixed) == float(losses.cross_entropy(x, a, 0.1))
    labels = {"label": a, "labels_a": a, "labels_b": b, "lam": paddle.full([6], 0.25)}
    mixed = losses.batch_cross_entropy(x, labels, 0.1)
    assert float(mixed) == float(losses.mixed_cross_entropy(x, a, b, labels["lam"][0], 0.1))


def test_the_gradient_is_softmax_minus_target(batch):
    logits, a, _ = batch
    x = tensor(logits)
    x.stop_gradient = False
    losses.cross_entropy(x, tensor(a), 0.1).backward()
    expected = (np.exp(log_softmax(logits)) - (0.9 * np.eye(9)[a] + 0.1 / 9)) / 6
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-7)


def test_the_loss_of_a_target_far_below_the_best_is_exact():
    loss = losses.cross_entropy(paddle.to_tensor([[0.0, -500.0]]), paddle.to_tensor([1]))
    assert float(loss) == 500.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_give_a_float32_loss(batch, dtype):
    logits, a, _ = batch
    half = tensor(logits).astype(dtype)
    loss = losses.cross_entropy(half, tensor(a))
    assert loss.dtype == paddle.float32
    assert float(loss) == float(losses.cross_entropy(half.astype("float32"), tensor(a)))


def test_mutual_loss_is_symmetric_and_gives_both_sides_gradients(batch):
    logits, other = (tensor(x) for x in (batch[0], batch[0][::-1].copy()))
    logits.stop_gradient = other.stop_gradient = False
    loss = losses.mutual_loss(logits, other)
    p, q = (np.exp(log_softmax(x.numpy().astype("float64"))) for x in (logits, other))
    assert float(loss) == pytest.approx(((p - q) * np.log(p / q)).sum(1).mean() / 2, rel=1e-5)
    assert float(losses.mutual_loss(other, logits)) == pytest.approx(float(loss), rel=1e-6)
    assert float(losses.mutual_loss(logits, logits)) == 0
    loss.backward()
    assert logits.grad.any() and other.grad.any()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_rejects_a_temperature_that_is_not_above_0(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}; it must be above 0"):
        losses.DistillationKLLoss(["Student", "Teacher"], temperature)


def test_top_k_accuracy():
    logits = paddle.to_tensor([[0.1, 0.9, 0.5], [0.5, 0.5, 0.5], [float("nan"), 0.0, 0.0]])
    labels = paddle.to_tensor([2, 1, 1])
    # Rank 1; rank 1, because the lower of tied classes ranks first; a row without an order.
    assert float(losses.top_k_accuracy(logits, labels, 1)) == 0
    assert float(losses.top_k_accuracy(logits, labels, 2)) == pytest.approx(2 / 3)
    assert float(losses.top_k_accuracy(logits, labels, 5)) == pytest.approx(2 / 3)
