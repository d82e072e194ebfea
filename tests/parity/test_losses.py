"""Losses and batch accuracies against the reference's numbers."""

import numpy as np
import paddle
import pytest

from paddlevideo import losses

LAM = 0.3  # share of the first labels in the reference's mixed batches


@pytest.fixture(scope="module")
def golden(shared):
    arrays = np.load(shared / "parity" / "paddlevideo" / "losses_golden.npz")
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
    np.testing.assert_allclose(
        [float(x) for x in (loss, *top)], golden[f"ce_eps{eps}_{mode}"], rtol=1e-6
    )


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_mixed(golden, batch, eps):
    logits, _, labels, others = batch
    right = [[losses.top_k_accuracy(logits, y, k) for y in (labels, others)] for k in (1, 5)]
    top = [LAM * first + (1 - LAM) * second for first, second in right]
    loss = losses.mixed_cross_entropy(logits, labels, others, LAM, eps)
    np.testing.assert_allclose(
        [float(x) for x in (loss, *top)], golden[f"mixup_eps{eps}_train"], rtol=1e-6
    )


def test_mutual_loss(golden, batch):
    logits, other, _, _ = batch
    assert float(losses.mutual_loss(logits, other)) == pytest.approx(float(golden["dml"]), rel=1e-6)
    assert float(losses.mutual_loss(other, logits)) == pytest.approx(
        float(golden["dml_swapped"]), rel=1e-6
    )


def test_up_to_the_reference_s_floor(golden):
    """The reference cuts off at 64; ours agrees at the edge and goes on exactly."""
    logits = paddle.to_tensor(golden["cpu_softmax_in"])
    edge, beyond = (
        float(losses.cross_entropy(logits, paddle.to_tensor([label]))) for label in (3, 5)
    )
    assert edge == pytest.approx(float(golden["cpu_ce_of_last"]), rel=1e-6)
    assert beyond == pytest.approx(200, rel=1e-5)


def test_distillation(golden, batch):
    """The loss components of a distillation's config, on the reference's scores."""
    student, teacher, labels, others = batch
    logits, smoothing = {"Student": student, "Teacher": teacher}, {"Student": 0.0, "Teacher": 0.0}
    plain = {"label": labels.reshape([-1])}
    mixed = {
        **plain,
        "labels_a": labels.reshape([-1]),
        "labels_b": others.reshape([-1]),
        "lam": paddle.full([6], LAM),
    }
    ce = losses.DistillationCELoss(["Student", "GroundTruth"])
    assert float(ce(logits, plain, smoothing)) == pytest.approx(
        float(golden["distill_ce"]), rel=1e-6
    )
    assert float(ce(logits, mixed, smoothing)) == pytest.approx(
        float(golden["distill_ce_mixup"]), rel=1e-6
    )
    for pair, name in ((["Student", "Teacher"], "dml"), (["Teacher", "Student"], "dml_swapped")):
        found = losses.DistillationDMLLoss(pair)(logits, plain, smoothing)
        assert float(found) == pytest.approx(float(golden[name]), rel=1e-6)
