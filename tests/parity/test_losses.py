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


# --- PP-TSMv2 and its teacher ---------------------------------------------------------------------

STUDENT, TEACHER = (["Student", "GroundTruth"], ["Teacher", "GroundTruth"])
PAIR = ["Student", "Teacher"]
TRAIN = (
    losses.DistillationCELoss(STUDENT),
    losses.DistillationCELoss(TEACHER),
    losses.DistillationDMLLoss(PAIR),
)
NO_SMOOTHING = {"Student": 0.0, "Teacher": 0.0}


@pytest.fixture(scope="module")
def v2(goldens):
    arrays = np.load(goldens / "paddlevideo/losses_pptsm_golden.npz")
    return {name: arrays[name] for name in arrays.files}


@pytest.fixture
def scores(v2):
    """{model: logits [4, 400]} with gradients."""
    pair = {"Student": v2["student"], "Teacher": v2["teacher"]}
    return {name: paddle.to_tensor(array, stop_gradient=False) for name, array in pair.items()}


@pytest.mark.parametrize("kind", ["plain", "mixup"])
def test_losses_of_pp_tsm_v2_add_up(v2, scores, kind):
    y, z = (paddle.to_tensor(v2[name]) for name in "yz")
    batch = {"label": y}
    if kind == "mixup":
        batch = {"labels_a": y, "labels_b": z, "lam": paddle.to_tensor(v2["lam"])}
    student, teacher, mutual = (float(loss(scores, batch, NO_SMOOTHING)) for loss in TRAIN)
    assert student == pytest.approx(float(v2[f"ce_student_{kind}"]), rel=1e-6)
    assert student == pytest.approx(float(v2[f"total_val_{kind}"]), rel=1e-6)
    assert teacher == pytest.approx(float(v2[f"ce_teacher_{kind}"]), rel=1e-6)
    total = float(v2[f"total_train_{kind}"])
    assert student + teacher + mutual == pytest.approx(total, rel=1e-6)


def test_both_models_get_the_gradients_of_the_reference(v2, scores):
    loss = losses.DistillationDMLLoss(PAIR)(scores, {}, NO_SMOOTHING)
    assert float(loss) == pytest.approx(float(v2["dml"]), rel=1e-6)
    loss.backward()
    for name, key in (("Student", "dml_grad_student"), ("Teacher", "dml_grad_teacher")):
        bound = 1e-5 * np.abs(v2[key]).max()
        np.testing.assert_allclose(scores[name].grad.numpy(), v2[key], rtol=0, atol=bound)


def test_variants_of_mutual_learning(v2, scores):
    student, teacher = scores["Student"], scores["Teacher"]
    half = losses.DistillationDMLLoss(PAIR, loss_weight=0.5)
    weighted = half.loss_weight * float(half(scores, {}, NO_SMOOTHING))
    assert weighted == pytest.approx(float(v2["dml_weight_half"]), rel=1e-6)
    by_sigmoid = losses.DistillationDMLLoss(PAIR, act="sigmoid")(scores, {}, NO_SMOOTHING)
    assert float(by_sigmoid) == pytest.approx(float(v2["dml_sigmoid"]), rel=1e-6)
    assert float(losses.mutual_loss(student, student)) == float(v2["dml_same"])
    swapped = losses.mutual_loss(teacher, student)
    assert float(swapped) == pytest.approx(float(v2["dml"]), rel=1e-6)
