"""Losses and batch accuracies against PaddleVideo's numbers."""

import numpy as np
import paddle
import pytest

from paddlevideo import losses

LAM = 0.3  # share of the first labels in PaddleVideo's mixed batches


@pytest.fixture(scope="module")
def golden(goldens):
    arrays = np.load(goldens / "paddlevideo" / "losses_golden.npz")
    return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def batch(golden):
    """logits, other logits, labels, other labels"""
    return [paddle.to_tensor(golden[name]) for name in "abyz"]


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("mode", ["train", "valid"])
def test_cross_entropy(golden, batch, eps, mode):
    logits, _, labels, _ = batch
    loss = losses.cross_entropy(logits, labels, eps if mode == "train" else 0.0)
    top = [losses.top_k_accuracy(logits, labels, k) for k in (1, 5)]
    numbers = [float(x) for x in (loss, *top)]
    np.testing.assert_allclose(numbers, golden[f"ce_eps{eps}_{mode}"], rtol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_mixed_cross_entropy(golden, batch, eps):
    logits, _, labels, others = batch
    pairs = [[losses.top_k_accuracy(logits, y, k) for y in (labels, others)] for k in (1, 5)]
    top = [LAM * first + (1 - LAM) * second for first, second in pairs]
    loss = losses.mixed_cross_entropy(logits, labels, others, LAM, eps)
    numbers = [float(x) for x in (loss, *top)]
    np.testing.assert_allclose(numbers, golden[f"mixup_eps{eps}_train"], rtol=1e-6)


def test_mutual_loss(golden, batch):
    logits, other, _, _ = batch
    for pair, name in (((logits, other), "dml"), ((other, logits), "dml_swapped")):
        assert float(losses.mutual_loss(*pair)) == pytest.approx(float(golden[name]), rel=1e-6)


def test_cross_entropy_agrees_up_to_paddlevideo_s_cutoff(golden):
    """PaddleVideo cuts off at 64; this package agrees there and is exact beyond."""
    logits = paddle.to_tensor(golden["cpu_softmax_in"])
    edge, beyond = (
        float(losses.cross_entropy(logits, paddle.to_tensor([label]))) for label in (3, 5)
    )
    assert edge == pytest.approx(float(golden["cpu_ce_of_last"]), rel=1e-6)
    assert beyond == pytest.approx(200, rel=1e-5)


def test_losses_of_a_distillation(golden, batch):
    """The losses that a distillation config lists, on PaddleVideo's logits."""
    student, teacher, labels, others = batch
    logits, smoothing = {"Student": student, "Teacher": teacher}, {"Student": 0.0, "Teacher": 0.0}
    unmixed = {"label": labels.reshape([-1])}
    mixed = {
        **unmixed,
        "labels_a": labels.reshape([-1]),
        "labels_b": others.reshape([-1]),
        "lam": paddle.full([6], LAM),
    }
    ce = losses.DistillationCELoss(["Student", "GroundTruth"])
    for data, name in ((unmixed, "distill_ce"), (mixed, "distill_ce_mixup")):
        loss = float(ce(logits, data, smoothing))
        assert loss == pytest.approx(float(golden[name]), rel=1e-6)
    for pair, name in ((["Student", "Teacher"], "dml"), (["Teacher", "Student"], "dml_swapped")):
        loss = losses.DistillationDMLLoss(pair)(logits, unmixed, smoothing)
        assert float(loss) == pytest.approx(float(golden[name]), rel=1e-6)
