"""NeXtVLAD: inputs, outputs, both conventions, programs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import TaggerMixture, VideoTagger
from paddlevideo.models.vlad import CONVENTIONS, Stream, UnbiasedNorm, sigmoid
from paddlevideo.models.youtube8m import EIGEN_PARAM
from tests.parts.models.nextvlad_models import FRAMES, SMALL, batch, small, used

# --- inputs and outputs ---------------------------------------------------------------------------


def test_describes_its_inputs():
    model = small()
    described = {name: (spec.shape, spec.dtype, spec.axes) for name, spec in model.inputs.items()}
    assert described == {
        "rgb": ((None, None, 16), "uint8", "N T D"),
        "audio": ((None, None, 8), "uint8", "N T D"),
        "num_frames": ((None,), "int64", "N"),
    }
    assert (model.num_classes, model.multi_label, model.label_smoothing) == (5, True, 0.0)
    assert list(small(audio_size=0).inputs) == ["rgb", "num_frames"]


def test_default_sizes_are_the_official_ones():
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


def test_logits_do_not_depend_on_the_batch():
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


def test_video_without_frames_has_finite_logits():
    model = used(small())
    inputs = batch((0, 12, 0))
    model.train()
    loss = (model(inputs) ** 2).mean()
    loss.backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters() if p.grad is not None)
    model.eval()
    first, _, last = model(inputs).numpy()
    np.testing.assert_allclose(first, last, atol=1e-6)
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
def test_rejects_wrong_inputs(change, message):
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
def test_rejects_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("key", "value"), [("drop_rate", 1.0), ("gating_reduction", 0), ("gating_reduction", 17)]
)
def test_rejects_wrong_heads(key, value):
    with pytest.raises(ValueError, match=f"{key} is {value}"):
        NeXtVLADHead(**{"num_classes": 5, "hidden_size": 16, "gating_reduction": 4, key: value})


def test_reads_whitening_from_a_file(tmp_path):
    factors = np.linspace(0.5, 2, 16)
    np.save(tmp_path / "factors.npy", factors)
    model = small(whitening=str(tmp_path / "factors.npy"))
    frames = model.backbone.frames(batch((12,)))
    expected = (batch((12,))["rgb"].numpy().reshape(-1, 16) * 4.0 / 255 - 2) * factors
    np.testing.assert_allclose(frames.features[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("rows", "at_once"), [(24, False), (25, True)])
def test_multiplying_weights_first_changes_no_result(rows, at_once):
    """From 25 rows on, training multiplies the weights first; the results are the same."""
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


# --- the two conventions --------------------------------------------------------------------------


def normal(x, scale, offset, eps, mean=None, variance=None):
    mean, variance = (x.mean(0), x.var(0)) if mean is None else (mean, variance)
    return (x - mean) / np.sqrt(variance + eps) * scale + offset


def tensorflow_logits(
    state: dict, inputs: dict, max_frames: int, training: bool, statistics: dict
) -> np.ndarray:
    """The original's computation in float64, with padding to `max_frames` in the statistics."""
    p = {name: array.astype(np.float64) for name, array in state.items()}
    counts = inputs["num_frames"]

    def norm(x, name):
        own = (None, None) if training else (p[f"{name}._mean"], p[f"{name}._variance"])
        statistics[name] = (x.mean(0), x.var(0), len(x))
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
    """Compare logits and running statistics (momentum 0.999) with the original's formulas."""
    model = used(small(convention="tensorflow", drop_rate=0.0), steps=40)
    model.backbone.eigen_param.set_value(np.linspace(3, 0.2, 16).astype(np.float32))
    model.train() if training else model.eval()
    before = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    statistics, inputs = {}, batch((5, 9, 1, 8), frames=9)
    expected = tensorflow_logits(
        before, {name: t.numpy() for name, t in inputs.items()}, FRAMES, training, statistics
    )
    np.testing.assert_allclose(model(inputs).numpy(), expected, rtol=0, atol=2e-5)
    after = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for name, (mean, variance, count) in statistics.items():
        if name == "head.gate_norm":  # TensorFlow's fused kernel
            variance = variance * count / (count - 1)
        for tensor, value in (("_mean", mean), ("_variance", variance)):
            old = before[f"{name}.{tensor}"]
            wanted = 0.999 * old + 0.001 * value if training else old
            np.testing.assert_allclose(
                after[f"{name}.{tensor}"], wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max())
            )


def test_tensorflow_convention_rejects_long_videos():
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
    paddle.seed(0)
    backbone = NeXtVLAD(32, 8, feature_size=256, whitening=None, convention=convention)
    fan_in = {"expansion": 256, "attention": 512, "assignment": 512}
    factor = 0.8796 if largest else 1.0  # std of a normal distribution truncated at two std
    for name, inputs in fan_in.items():
        layer, std = getattr(backbone.video, name), (gain / inputs) ** 0.5
        assert layer.weight.numpy().std() == pytest.approx(std * factor, rel=0.05), name
        assert layer.bias is None or not layer.bias.any()
        if largest:
            assert np.abs(layer.weight.numpy()).max() <= largest * std * 1.0001
    centers = backbone.video.centers.numpy()  # [32, 64]
    assert centers.std() == pytest.approx(
        (gain / (64 if largest else 32)) ** 0.5 * factor, rel=0.08
    )


def test_unbiased_norm_divides_by_n_minus_1():
    norm, plain = UnbiasedNorm(4, momentum=0.5), paddle.nn.BatchNorm1D(4, momentum=0.5)
    x = paddle.to_tensor(np.random.default_rng(0).standard_normal((6, 4)).astype("float32"))
    np.testing.assert_allclose(norm(x).numpy(), plain(x).numpy(), atol=1e-6)
    np.testing.assert_allclose(
        norm._variance.numpy(), 0.5 + 0.5 * x.numpy().var(0, ddof=1), rtol=1e-5
    )
    np.testing.assert_allclose(norm._mean.numpy(), plain._mean.numpy(), rtol=1e-5)


# --- programs -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["VideoTagger", "TaggerMixture"])
@pytest.mark.parametrize("pir", [0, 1])
def test_programs_give_the_same_logits(framework, pir, tmp_path, root):
    """Both program formats, for any number of videos and frames, in Paddle and ONNX Runtime."""
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
    """Builds a model from the classes, without a config."""
    backbone, head = NeXtVLAD(**SMALL), NeXtVLADHead(3, 16, 4)
    assert VideoTagger(backbone, head).num_classes == 3
    assert TaggerMixture(backbone.twin(), head.twin()).num_classes == 3
