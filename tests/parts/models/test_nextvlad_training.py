"""Training of NeXtVLAD: weight decay, learning rate, losses, average of weights, mixture."""

import numpy as np
import paddle
import pytest

from paddlevideo.losses import mixture_cross_entropy, sigmoid_cross_entropy
from paddlevideo.solver import ema
from paddlevideo.solver.lr import ExampleDecay
from tests.parts.models.nextvlad_models import batch, small, used

# --- weight decay, learning rate, loss, average ---------------------------------------------------


def test_weight_decay_of_the_classifier_only():
    decayed = {
        name: p.regularizer._coeff
        for name, p in small().named_parameters()
        if p.regularizer is not None
    }
    assert decayed == {"head.classifier.weight": 1e-5, "head.classifier.bias": 1e-5}


def test_loss_is_a_sum_over_classes_and_a_mean_over_videos():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 4, (3, 7)), rng.integers(0, 2, (3, 7))
    p = 1 / (1 + np.exp(-logits))
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum(1).mean()
    for kind in ("uint8", "int64", "float32"):
        found = sigmoid_cross_entropy(
            paddle.to_tensor(logits.astype("float32")), paddle.to_tensor(labels.astype(kind))
        )
        assert float(found) == pytest.approx(expected, rel=1e-6)


def test_loss_does_not_saturate():
    logits = paddle.to_tensor([[300.0, -300.0]], stop_gradient=False)
    loss = sigmoid_cross_entropy(logits, paddle.to_tensor([[0, 1]]))
    loss.backward()
    assert float(loss) == 600.0
    np.testing.assert_allclose(logits.grad.numpy(), [[1.0, -1.0]])


def test_loss_of_a_mixture():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 3, (4, 3, 6)), rng.integers(0, 2, (4, 6))

    def soft(x):
        powers = np.exp(x / 2.0 - (x / 2.0).max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    p, q = soft(logits[:, :1]), soft(logits[:, 1:])
    divergence = (p * np.log(p / q)).sum((1, 2)).mean()
    tensor = paddle.to_tensor(logits.astype("float32"))
    own = [float(sigmoid_cross_entropy(tensor[:, i], paddle.to_tensor(labels))) for i in range(3)]
    loss, first = mixture_cross_entropy(tensor, paddle.to_tensor(labels), 2.0, 4.0)
    assert float(first) == pytest.approx(own[0])
    assert float(loss) == pytest.approx(sum(own) + 4 * divergence, rel=1e-6)


def test_learning_rate_depends_on_examples_not_on_batches():
    for per_epoch in (160 * 24_305, 1024 * 3797, 96 * 40_509):
        rule = ExampleDecay(
            2e-4, decay_examples=2_000_000, examples_per_epoch=per_epoch, iter_step=True
        )
        for decays in (1, 2, 11):
            at = decays * 2_000_000
            assert rule((at - 1) / per_epoch) == pytest.approx(2e-4 * 0.8 ** (decays - 1))
            assert rule(at / per_epoch) == pytest.approx(2e-4 * 0.8**decays)
    short = {"decay_examples": 10, "gamma": 0.5, "max_decays": 3, "examples_per_epoch": 20}
    for iter_step, rates in (
        (True, [1, 1, 0.5, 0.25, 0.125, 0.125]),
        (False, [1, 1, 1, 0.25, 0.25, 0.125]),
    ):
        rule = ExampleDecay(1.0, iter_step=iter_step, **short)
        assert [rule(epoch) for epoch in (0, 0.45, 0.5, 1, 1.5, 9)] == rates


def test_learning_rate_needs_the_number_of_examples():
    rule = ExampleDecay(2e-4, decay_examples=2_000_000, iter_step=True)
    assert rule(0.0) == 2e-4
    with pytest.raises(ValueError, match="needs examples_per_epoch"):
        rule(0.5)
    with pytest.raises(ValueError, match="decay_examples is 0"):
        ExampleDecay(2e-4, decay_examples=0)


def test_ema_of_weights():
    model, rule = used(small()), ema.Ema(decay=0.9)
    assert [rule.decay_at(step) for step in (1, 8, 1000)] == [2 / 11, 0.5, 0.9]
    assert ema.Ema(0.9, warm_up=False).decay_at(1) == 0.9
    average, name = ema.start(model), "head.hidden.weight"
    expected, rng = average[name].numpy().copy(), np.random.default_rng(0)
    weight = model.head.hidden.weight
    for step in range(1, 4):
        weight.set_value(rng.standard_normal(weight.shape).astype("float32"))
        decay = rule.decay_at(step)
        ema.update(average, model, decay)
        expected = decay * expected + (1 - decay) * weight.numpy()
    np.testing.assert_allclose(average[name].numpy(), expected, atol=1e-6)
    own = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), ema.averaged(model, average):
        np.testing.assert_array_equal(model.head.hidden.weight.numpy(), average[name].numpy())
        raise KeyboardInterrupt
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), own[key])
    again = ema.restored(model, ema.arrays_of(average))
    assert all((again[key].numpy() == average[key].numpy()).all() for key in average)
    with pytest.raises(
        ValueError, match=r"of another model: head.hidden.weight is missing, expected"
    ):
        ema.restored(
            model, {key: array for key, array in ema.arrays_of(average).items() if key != name}
        )
    with pytest.raises(ValueError, match="decay is 1.0"):
        ema.Ema(1.0)


# --- the mixture ----------------------------------------------------------------------------------


def test_mixture_weights_its_members():
    model = used(small("TaggerMixture", mixture={"num_members": 4, "temperature": 2.0}))
    assert (len(model.members), model.temperature, model.distillation, model.num_classes) == (
        4,
        2.0,
        4.0,
        5,
    )
    model.train()
    assert model(batch()).shape == [3, 5, 5]
    model.eval()
    inputs = batch()
    members = np.stack([member(inputs).numpy() for member in model.members], 1)  # [N, M, K]
    assert np.abs(members[:, 0] - members[:, 1]).max() > 0.1, "members have different weights"
    frames = inputs["rgb"].numpy() * 4.0 / 255 - 2
    audio = inputs["audio"].numpy() * 4.0 / 255 - 2 + 4 / 512
    counts = inputs["num_frames"].tolist()
    mean = np.stack(
        [np.concatenate([x[i, :n].mean(0) for x in (frames, audio)]) for i, n in enumerate(counts)]
    )
    gate = model.gate(model.gate_norm(paddle.to_tensor(mean.astype("float32")))).numpy()
    shares = np.exp(gate) / np.exp(gate).sum(1, keepdims=True)
    np.testing.assert_allclose(
        model(inputs).numpy(), (shares[..., None] * members).sum(1), atol=1e-5
    )


def test_mean_counts_padding():
    model = used(small("TaggerMixture", convention="tensorflow"))
    backbone, inputs = model.members[0].backbone, batch((5, 9), frames=9)
    backbone.eigen_param.set_value(np.linspace(3, 0.2, 16).astype(np.float32))
    results = []
    for training in (True, False):
        backbone.train() if training else backbone.eval()
        results.append(backbone.mean(backbone.frames(inputs)).numpy())
    frames = (inputs["rgb"].numpy() * 4.0 / 255 - 2) * backbone.eigen_param.numpy()
    row = np.concatenate([frames[0, :5], np.tile(-4 / 512 * backbone.eigen_param.numpy(), (7, 1))])
    for result in results:  # 12 rows per video in both
        np.testing.assert_allclose(result[0, :16], row.mean(0), atol=1e-6)


def test_a_mean_of_more_rows_than_the_convention_counts_is_that_of_all():
    model = used(small("TaggerMixture", convention="tensorflow"))
    model.eval()
    backbone, inputs = model.members[0].backbone, batch((5, 15), frames=15)  # it counts 12
    result = backbone.mean(backbone.frames(inputs)).numpy()
    frames = inputs["rgb"].numpy() * 4.0 / 255 - 2
    padded = np.concatenate([frames[0, :5], np.full((7, 16), -4 / 512)])
    for row, expected in zip(result, (padded, frames[1]), strict=True):
        np.testing.assert_allclose(row[:16], expected.mean(0), atol=1e-6)


def test_a_mixture_learns_with_class_weights():
    model = used(small("TaggerMixture"))
    rng = np.random.default_rng(0)
    outputs = paddle.to_tensor(rng.normal(0, 2, (3, 4, 5)).astype("float32"))
    given = {"label": paddle.to_tensor(rng.integers(0, 2, (3, 5)))}
    weights = paddle.to_tensor(np.array([1, 4, 0.5, 2, 3], np.float32))
    plain, weighted = (
        model.losses(outputs, batch) for batch in (given, {**given, "class_weights": weights})
    )
    own = [
        float(sigmoid_cross_entropy(outputs[:, i], given["label"], w))
        for w in (None, weights)
        for i in range(4)
    ]
    assert float(weighted["mixture_loss"]) == pytest.approx(own[4])
    difference = float(weighted["loss"]) - float(plain["loss"])
    assert difference == pytest.approx(sum(own[4:]) - sum(own[:4]), rel=1e-4) and difference > 1


def test_mixture_rejects_a_single_member():
    with pytest.raises(ValueError, match="num_members is 1"):
        small("TaggerMixture", mixture={"num_members": 1})
