"""NeXtVLAD's parts: both conventions, inputs, programs, mixture, weights and their decay."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.losses import mixture_cross_entropy, sigmoid_cross_entropy
from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import TaggerMixture, VideoTagger
from paddlevideo.models.vlad import CONVENTIONS, Stream, UnbiasedNorm, sigmoid
from paddlevideo.models.youtube8m import EIGEN_PARAM
from paddlevideo.solver import ema
from paddlevideo.solver.lr import ExampleDecay

SMALL = {"cluster_size": 8, "groups": 4, "feature_size": 16, "audio_size": 8, "whitening": None}
FRAMES = 12  # most frames of a video here


def small(framework="VideoTagger", num_classes=5, drop_rate=0.5, seed=0, mixture=None, **changes):
    paddle.seed(seed)
    backbone = lookup("backbone", "NeXtVLAD").make(**{**SMALL, "max_frames": FRAMES, **changes})
    head = lookup("head", "NeXtVLADHead").make(
        num_classes=num_classes, hidden_size=16, gating_reduction=4, drop_rate=drop_rate
    )
    return lookup("framework", framework).make(backbone=backbone, head=head, **(mixture or {}))


def batch(counts=(5, 12, 1), frames=FRAMES, seed=0, audio=True):
    rng = np.random.default_rng(seed)
    arrays = {"rgb": rng.integers(0, 256, (len(counts), frames, 16), np.uint8)}
    if audio:
        arrays["audio"] = rng.integers(0, 256, (len(counts), frames, 8), np.uint8)
    return {
        **{name: paddle.to_tensor(array) for name, array in arrays.items()},
        "num_frames": paddle.to_tensor(list(counts)),
    }


def used(model, steps=3):
    """The model after a few batches of training: batch norms that have seen something."""
    model.train()
    for seed in range(steps):
        model(batch(seed=seed + 50))
    return model


# --- what goes in and comes out ---------------------------------------------------------------------------------------------


def test_states_what_it_takes():
    model = small()
    said = {name: (spec.shape, spec.dtype, spec.axes) for name, spec in model.inputs.items()}
    assert said == {
        "rgb": ((None, None, 16), "uint8", "N T D"),
        "audio": ((None, None, 8), "uint8", "N T D"),
        "num_frames": ((None,), "int64", "N"),
    }
    assert (model.num_classes, model.multi_label, model.label_smoothing) == (5, True, 0.0)
    assert list(small(audio_size=0).inputs) == ["rgb", "num_frames"]


def test_official_sizes_by_default():
    backbone = NeXtVLAD()
    assert backbone.out_channels == 36_864
    np.testing.assert_array_equal(backbone.eigen_param.numpy(), EIGEN_PARAM)
    assert EIGEN_PARAM[0] == pytest.approx(3.839, abs=1e-3) and EIGEN_PARAM[-1] == pytest.approx(
        0.124, abs=1e-3
    )
    half = NeXtVLAD(convention="tensorflow")
    assert half.audio.centers.shape == [64, 64] and half.audio.attention.weight.shape == [256, 4]
    assert half.out_channels == 36_864


def test_every_size_is_configurable():
    model = small(cluster_size=6, groups=2, expansion=3, audio_cluster_size=5, audio_groups=4)
    assert model.backbone.video.centers.shape == [6, 24]
    assert model.backbone.audio.centers.shape == [5, 6]
    assert model.head.hidden.weight.shape == [6 * 24 + 5 * 6, 16]
    assert used(model)(batch()).shape == [3, 5]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("framework", ["VideoTagger", "TaggerMixture"])
def test_every_parameter_gets_a_gradient(framework, convention):
    model = small(framework, convention=convention)
    model.train()
    (model(batch((5, 12, 1, 9))) ** 2).mean().backward()
    assert [
        name
        for name, p in model.named_parameters()
        if not p.stop_gradient and (p.grad is None or not p.grad.any())
    ] == []


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("framework", ["VideoTagger", "TaggerMixture"])
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_no_result(framework, convention, training):
    results = []
    for frames in (12, 17) if convention == "paddlecv" or not training else (12,):
        for seed in (1, 2):
            model = used(small(framework, convention=convention, drop_rate=0.0))
            model.train() if training else model.eval()
            first, other = batch(seed=3), batch(frames=frames, seed=seed)
            for name in ("rgb", "audio"):
                for number, count in enumerate((5, 12, 1)):
                    other[name][number, :count] = first[name][number, :count]
            results.append(
                [model(other).numpy(), *(t.numpy() for t in model.state_dict().values())]
            )
    for tensors in zip(*results, strict=True):
        for tensor in tensors[1:]:
            np.testing.assert_allclose(tensor, tensors[0], rtol=0, atol=2e-6)


def test_a_video_alone_is_as_in_a_batch():
    model = used(small())
    model.eval()
    inputs = batch()
    together = model(inputs).numpy()
    for number, count in enumerate((5, 12, 1)):
        alone = {name: tensor[number : number + 1] for name, tensor in inputs.items()}
        alone = {
            name: tensor if name == "num_frames" else tensor[:, :count]
            for name, tensor in alone.items()
        }
        np.testing.assert_allclose(model(alone).numpy()[0], together[number], atol=1e-6)


def test_a_video_without_frames_is_defined():
    model = used(small())
    inputs = batch((0, 12, 0))
    model.train()
    loss = (model(inputs) ** 2).mean()
    loss.backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters() if p.grad is not None)
    model.eval()
    first, _, last = model(inputs).numpy()
    np.testing.assert_array_equal(first, last)
    assert np.isfinite(first).all()
    with pytest.raises(ValueError, match="a training batch in which no video has a frame"):
        model.train()
        model(batch((0, 0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda b: b.pop("audio"),
            r"takes rgb uint8 \[N, T, 16\], audio uint8 \[N, T, 8\].*given rgb, num_frames",
        ),
        (lambda b: b.update(rgb=b["rgb"][:, :, :15]), r"given rgb \[3, 12, 15\]"),
        (
            lambda b: b.update(audio=b["audio"][:, :9]),
            r"all with the same N and T; it was given .*audio \[3, 9, 8\]",
        ),
        (lambda b: b.update(rgb=b["rgb"][0]), r"given rgb \[12, 16\]"),
        (lambda b: b.update(num_frames=b["num_frames"][:2]), r"num_frames \[2\]"),
        (
            lambda b: b.update(num_frames=b["num_frames"] + 1),
            r"num_frames is 2 to 13; a video must have 0 to T = 12 frames",
        ),
        (lambda b: b.update(num_frames=b["num_frames"] - 2), r"num_frames is -1 to 10"),
    ],
)
def test_wrong_inputs(change, message):
    inputs = batch()
    change(inputs)
    with pytest.raises(ValueError, match=message):
        small()(inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 5}, "a feature of 16, expanded 2 times, cannot be divided into 5 groups"),
        ({"cluster_size": 0}, "for 0 clusters"),
        ({"whitening": "youtube8m"}, r"float32 \[1024\], expected floats \[16\], the feature_size"),
        ({"whitening": "no/such.npy"}, "no/such.npy is neither youtube8m nor a .npy file"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("key", "value"), [("drop_rate", 1.0), ("gating_reduction", 0), ("gating_reduction", 17)]
)
def test_wrong_head(key, value):
    with pytest.raises(ValueError, match=f"{key} is {value}"):
        NeXtVLADHead(**{"num_classes": 5, "hidden_size": 16, "gating_reduction": 4, key: value})


def test_whitening_from_a_file(tmp_path):
    factors = np.linspace(0.5, 2, 16)
    np.save(tmp_path / "factors.npy", factors)
    model = small(whitening=str(tmp_path / "factors.npy"))
    frames = model.backbone.frames(batch((12,)))
    expected = (batch((12,))["rgb"].numpy().reshape(-1, 16) * 4.0 / 255 - 2) * factors
    np.testing.assert_allclose(frames.features[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("rows", "at_once"), [(24, False), (25, True)])
def test_products_of_weights_first_change_nothing(rows, at_once):
    """From 24 rows of 16 values on that is less work in training; results and gradients are those of layer by layer."""
    stream = Stream(16, 8, 4, 2, CONVENTIONS["paddlecv"])
    stream.expansion.bias.set_value(paddle.randn(stream.expansion.bias.shape))
    x, ran = paddle.randn([rows, 16]), []
    stream.assignment.register_forward_post_hook(lambda *_: ran.append(1))
    weights = [stream.expansion.weight, stream.expansion.bias, stream.assignment.weight]
    pull = [paddle.randn([rows, 32]), paddle.randn([rows, 32])]
    found = {}
    for training in (True, False):
        stream.training = training
        results = stream.project(x)
        sum((y * g).sum() for y, g in zip(results, pull, strict=True)).backward()
        found[training] = [*(y.numpy() for y in results), *(w.grad.numpy() for w in weights)]
        for w in weights:
            w.clear_gradient(False)
    assert len(ran) == (1 if at_once else 2)
    for one, other in zip(found[True], found[False], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * np.abs(other).max())


def test_sigmoid_of_any_size():
    x = np.array([-1e4, -100, -20, -1, 0, 1e-3, 3, 50, 1e4], np.float32)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(
        sigmoid(paddle.to_tensor(x)).numpy(), expected, rtol=1e-6, atol=1e-27
    )


# --- the two conventions ------------------------------------------------------------------------------------------------------


def normal(x, scale, offset, eps, mean=None, variance=None):
    mean, variance = (x.mean(0), x.var(0)) if mean is None else (mean, variance)
    return (x - mean) / np.sqrt(variance + eps) * scale + offset


def tensorflow_logits(
    state: dict, inputs: dict, max_frames: int, training: bool, seen: dict
) -> np.ndarray:
    """The original's mathematics in float64: frames are padded to `max_frames`, and what pads them counts in statistics."""
    p = {name: array.astype(np.float64) for name, array in state.items()}
    counts = inputs["num_frames"]

    def norm(x, name):
        own = (None, None) if training else (p[f"{name}._mean"], p[f"{name}._variance"])
        seen[name] = (x.mean(0), x.var(0), len(x))
        return normal(x, p[f"{name}.weight"], p[f"{name}.bias"], 1e-3, *own)

    parts = []
    for stream, key in (("video", "rgb"), ("audio", "audio")):
        start, frames = f"backbone.{stream}", inputs[key]
        mask = np.arange(max_frames) < counts[:, None]  # [N, T]
        x = np.zeros((len(counts), max_frames, frames.shape[2]))
        x[:, : frames.shape[1]] = frames * 4.0 / 255 + 4 / 512 - 2
        x = x * mask[..., None]
        x = (x - 4 / 512) * p["backbone.eigen_param"] if key == "rgb" else x
        x = x.reshape(-1, x.shape[-1])
        wide = x @ p[f"{start}.expansion.weight"] + p[f"{start}.expansion.bias"]
        attention = 1 / (
            1 + np.exp(-(wide @ p[f"{start}.attention.weight"] + p[f"{start}.attention.bias"]))
        )
        centers, groups = p[f"{start}.centers"], attention.shape[1]
        logits = norm(wide @ p[f"{start}.assignment.weight"], f"{start}.assignment_norm").reshape(
            len(x), groups, -1
        )
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        alpha = (
            shares / shares.sum(-1, keepdims=True) * (attention * mask.reshape(-1, 1))[..., None]
        )
        alpha, wide = (y.reshape(len(counts), max_frames * groups, -1) for y in (alpha, wide))
        residual = np.einsum("npk,npd->nkd", alpha, wide) - alpha.sum(1)[..., None] * centers
        residual /= np.sqrt(np.maximum((residual**2).sum(-1, keepdims=True), 1e-12))
        parts.append(norm(residual.transpose(0, 2, 1).reshape(len(counts), -1), f"{start}.norm"))
    x = norm(np.concatenate(parts, 1) @ p["head.hidden.weight"], "head.hidden_norm")
    gate = (
        np.maximum(norm(x @ p["head.gate_in.weight"], "head.gate_norm"), 0)
        @ p["head.gate_out.weight"]
    )
    return x / (1 + np.exp(-gate)) @ p["head.classifier.weight"] + p["head.classifier.bias"]


@pytest.mark.parametrize("training", [True, False])
def test_tensorflow_convention(training):
    """Against the formulas of the original, written down a second time: logits, and running statistics of 0.999 a step."""
    model = used(small(convention="tensorflow", drop_rate=0.0), steps=40)
    model.backbone.eigen_param.set_value(np.linspace(3, 0.2, 16).astype(np.float32))
    model.train() if training else model.eval()
    before = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    seen, inputs = {}, batch((5, 9, 1, 8), frames=9)
    expected = tensorflow_logits(
        before, {name: t.numpy() for name, t in inputs.items()}, FRAMES, training, seen
    )
    np.testing.assert_allclose(model(inputs).numpy(), expected, rtol=0, atol=2e-5)
    after = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for name, (mean, variance, count) in seen.items():
        if name == "head.gate_norm":  # TensorFlow's fused kernel
            variance = variance * count / (count - 1)
        for tensor, value in (("_mean", mean), ("_variance", variance)):
            old = before[f"{name}.{tensor}"]
            wanted = 0.999 * old + 0.001 * value if training else old
            np.testing.assert_allclose(
                after[f"{name}.{tensor}"], wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max())
            )


def test_tensorflow_convention_has_an_end():
    model = small(convention="tensorflow")
    model.train()
    with pytest.raises(
        ValueError, match="videos of 13 frames; this convention counts max_frames = 12, increase it"
    ):
        model(batch((5, 6), frames=13))


@pytest.mark.parametrize(
    ("convention", "train_scale", "eval_scale"),
    [("paddlecv", 1.0, 0.75), ("tensorflow", 1 / 0.75, 1.0)],
)
def test_dropout(convention, train_scale, eval_scale):
    head = small(drop_rate=0.25, convention=convention).head
    x = paddle.ones([64, head.hidden.weight.shape[0]])
    head.train()
    dropped = head.dropout(x).numpy()
    np.testing.assert_allclose(np.unique(dropped), [0.0, train_scale], rtol=1e-6)
    assert (dropped > 0).mean() == pytest.approx(0.75, abs=0.03)
    head.eval()
    np.testing.assert_allclose(head.dropout(x).numpy(), eval_scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("convention", "gain", "largest"), [("paddlecv", 2.0, None), ("tensorflow", 2.6, 2.0)]
)
def test_initial_weights(convention, gain, largest):
    backbone = NeXtVLAD(32, 8, feature_size=256, whitening=None, convention=convention)
    fan_in = {"expansion": 256, "attention": 512, "assignment": 512}
    spread = 0.8796 if largest else 1.0  # of a normal distribution that is cut at two deviations
    for name, inputs in fan_in.items():
        layer, std = getattr(backbone.video, name), (gain / inputs) ** 0.5
        assert layer.weight.numpy().std() == pytest.approx(std * spread, rel=0.05), name
        assert layer.bias is None or not layer.bias.any()
        if largest:
            assert np.abs(layer.weight.numpy()).max() <= largest * std * 1.0001
    centers = backbone.video.centers.numpy()  # [32, 64]
    assert centers.std() == pytest.approx(
        (gain / (64 if largest else 32)) ** 0.5 * spread, rel=0.08
    )


def test_running_variance_of_n_minus_1():
    norm, plain = UnbiasedNorm(4, momentum=0.5), paddle.nn.BatchNorm1D(4, momentum=0.5)
    x = paddle.to_tensor(np.random.default_rng(0).standard_normal((6, 4)).astype("float32"))
    np.testing.assert_allclose(norm(x).numpy(), plain(x).numpy(), atol=1e-6)
    np.testing.assert_allclose(
        norm._variance.numpy(), 0.5 + 0.5 * x.numpy().var(0, ddof=1), rtol=1e-5
    )
    np.testing.assert_allclose(norm._mean.numpy(), plain._mean.numpy(), rtol=1e-5)


# --- weight decay, learning rate, loss, average -----------------------------------------------------------------------------


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


def test_rate_follows_examples_whatever_the_batch():
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


def test_rate_needs_the_number_of_examples():
    rule = ExampleDecay(2e-4, decay_examples=2_000_000, iter_step=True)
    assert rule(0.0) == 2e-4
    with pytest.raises(ValueError, match="needs examples_per_epoch"):
        rule(0.5)
    with pytest.raises(ValueError, match="decay_examples is 0"):
        ExampleDecay(2e-4, decay_examples=0)


def test_average_of_weights():
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
    with pytest.raises(ValueError, match=r"of another model: head.hidden.weight is missing, expected"):
        ema.restored(
            model, {key: array for key, array in ema.arrays_of(average).items() if key != name}
        )
    with pytest.raises(ValueError, match="decay is 1.0"):
        ema.Ema(1.0)


# --- the mixture --------------------------------------------------------------------------------------------------------------


def test_mixture_weighs_its_members():
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
    assert np.abs(members[:, 0] - members[:, 1]).max() > 0.1, "twins have weights of their own"
    frames = inputs["rgb"].numpy() * 4.0 / 255 - 2
    sound = inputs["audio"].numpy() * 4.0 / 255 - 2 + 4 / 512
    counts = inputs["num_frames"].tolist()
    mean = np.stack(
        [np.concatenate([x[i, :n].mean(0) for x in (frames, sound)]) for i, n in enumerate(counts)]
    )
    gate = model.gate(model.gate_norm(paddle.to_tensor(mean.astype("float32")))).numpy()
    shares = np.exp(gate) / np.exp(gate).sum(1, keepdims=True)
    np.testing.assert_allclose(
        model(inputs).numpy(), (shares[..., None] * members).sum(1), atol=1e-5
    )


def test_mean_features_of_padded_rows():
    model = used(small("TaggerMixture", convention="tensorflow"))
    backbone, inputs = model.members[0].backbone, batch((5, 9), frames=9)
    backbone.eigen_param.set_value(np.linspace(3, 0.2, 16).astype(np.float32))
    results = []
    for training in (True, False):
        backbone.train() if training else backbone.eval()
        results.append(backbone.mean(backbone.frames(inputs)).numpy())
    frames = (inputs["rgb"].numpy() * 4.0 / 255 - 2) * backbone.eigen_param.numpy()
    row = np.concatenate([frames[0, :5], np.tile(-4 / 512 * backbone.eigen_param.numpy(), (7, 1))])
    for result in results:  # 12 rows a video in both
        np.testing.assert_allclose(result[0, :16], row.mean(0), atol=1e-6)


def test_mixture_refuses():
    with pytest.raises(ValueError, match="num_members is 1"):
        small("TaggerMixture", mixture={"num_members": 1})


# --- programs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["VideoTagger", "TaggerMixture"])
@pytest.mark.parametrize("pir", [0, 1])
def test_programs_give_the_same_logits(framework, pir, tmp_path, root):
    """Both kinds of program, for any number of videos and frames, in Paddle Inference and (of the older one) ONNX Runtime."""
    environment = {**os.environ, "FLAGS_enable_pir_api": str(pir), "PYTHONPATH": str(root)}
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(Path(__file__).with_name("nextvlad_programs.py")),
        framework,
        str(tmp_path),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    differences = [
        float(line.split()[1])
        for line in done.stdout.splitlines()
        if line.startswith("difference ")
    ]
    assert len(differences) >= 3 and max(differences) < 1e-6, done.stdout[-500:]


def test_direct_classes():
    """The package's names, for those who build without a config."""
    backbone, head = NeXtVLAD(**SMALL), NeXtVLADHead(3, 16, 4)
    assert VideoTagger(backbone, head).num_classes == 3
    assert TaggerMixture(backbone.twin(), head.twin()).num_classes == 3
