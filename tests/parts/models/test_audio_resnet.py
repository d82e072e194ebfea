"""Audio recognizers as built from the registry: structure, clips, averages, messages."""

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec

import paddlevideo.models  # noqa: F401  # registers
from paddlevideo.config.registry import lookup
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.models.convert import convert_state_dict
from paddlevideo.models.layers import ResidualBlock
from paddlevideo.weights import WeightsError


def build(name="ResNet", num_classes=5, average_clips="prob", head=None, **backbone):
    paddle.seed(0)
    backbone = lookup("audio_backbone", name).make(**backbone)
    head = lookup("head", "TSNAudioHead").make(num_classes, **(head or {}))
    return lookup("framework", "AudioRecognizer").make(backbone, head, average_clips)


def audio(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).random(shape).astype("float32"))


@pytest.fixture(scope="module", params=["ResNet", "ResNetAudio"])
def built(request):
    model = build(request.param, base_channels=16 if request.param == "ResNet" else 4)
    rng = np.random.default_rng(1)
    for layer in model.sublayers():  # blocks that start as their shortcut
        if isinstance(layer, paddle.nn.BatchNorm2D) and not layer.weight.any():
            layer.weight.set_value(
                (0.3 * rng.standard_normal(layer.weight.shape)).astype("float32")
            )
    weight = model.head.fc.weight
    weight.set_value((rng.standard_normal(weight.shape) * 0.02).astype("float32"))
    return model


def scores(model, x):
    model.eval()
    with paddle.no_grad():
        return model({"audio": x}).numpy()


@pytest.mark.parametrize(
    ("depth", "channels", "blocks"),
    [(10, 512, 4), (18, 512, 8), (34, 512, 16), (50, 2048, 16), (101, 2048, 33)],
)
def test_depths(depth, channels, blocks):
    with paddle.LazyGuard():  # shapes, without values
        backbone = build(depth=depth).backbone
    assert backbone.out_channels == channels
    found = [layer for layer in backbone.sublayers() if isinstance(layer, ResidualBlock)]
    assert len(found) == blocks
    projected = [layer.short is not None for layer in found]
    assert sum(projected) == (3 if depth < 50 else 4) and projected[0] == (
        depth > 34
    )  # where the size changes


@pytest.mark.parametrize("depth", [18, 50])
def test_base_channels_scale_every_width(depth):
    with paddle.LazyGuard():  # shapes, without values
        models = {width: build(depth=depth, base_channels=width) for width in (4, 64)}
    shapes = {
        width: {name: tensor.shape for name, tensor in model.state_dict().items()}
        for width, model in models.items()
    }
    # One input channel, 5 classes, and kernels of at most 7 x 7 do not depend on the width.
    expected = {
        name: [size // 16 if size > 7 else size for size in shape]
        for name, shape in shapes[64].items()
    }
    assert shapes[4] == expected
    assert models[4].backbone.out_channels == (32 if depth == 18 else 128)


@pytest.mark.usefixtures("without_values")
def test_depth_of_resnet_audio():
    stages = [
        len(getattr(build("ResNetAudio", depth=101, base_channels=2).backbone, f"layer{i}"))
        for i in (1, 2, 3, 4)
    ]
    assert stages == [3, 4, 23, 3]


def test_describes_its_inputs(model):
    spec = model.inputs["audio"]
    assert (spec.shape, spec.dtype, spec.axes) == (
        (None, None, 1, None, None),
        "float32",
        "N S C T F",
    )
    assert (model.num_classes, model.label_smoothing, model.view_average) == (
        5,
        0.0,
        "probabilities",
    )
    assert build(head={"ls_eps": 0.1}).label_smoothing == 0.1


def test_every_parameter_gets_a_gradient(model):
    model.train()
    model.clear_gradients()
    (model({"audio": audio(3, 1, 1, 64, 48)}) ** 2).mean().backward()
    assert [
        n
        for n, p in model.named_parameters()
        if not p.stop_gradient and (p.grad is None or not p.grad.any())
    ] == []


def test_blocks_of_resnet_audio_start_as_their_shortcut():
    model = build("ResNetAudio", base_channels=2)
    zero = [
        n for n, p in model.named_parameters() if n.endswith("_batch_norm.weight") and not p.any()
    ]
    assert len(zero) == 16 and all(".conv2." in name for name in zero)


def test_clips_are_averaged():
    """prob averages the softmax of the clips, score their logits; a test does so over views."""
    model = build(average_clips="score", base_channels=8)
    x = audio(2, 3, 1, 40, 32)
    single = np.stack([scores(model, x[:, i : i + 1]) for i in range(3)], axis=1)  # [N, S, K]
    np.testing.assert_allclose(scores(model, x), single.mean(1), atol=1e-5)
    assert model.view_average == "logits"

    prob = build(average_clips="prob", base_channels=8)
    prob.set_state_dict(model.state_dict())
    p = np.exp(single) / np.exp(single).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(scores(prob, x)), p.mean(1), rtol=1e-5)

    batch = {"audio": x.numpy()[:, :, None]}  # [N, views, 1, 1, T, F]
    views = mean_scores(
        lambda a: scores(prob, paddle.to_tensor(a["audio"])),
        prob.inputs,
        batch,
        4,
        prob.view_average,
    )
    np.testing.assert_allclose(np.exp(views), p.mean(1), rtol=1e-5)


def test_training_averages_logits(model):
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, (paddle.nn.BatchNorm2D, paddle.nn.Dropout)):
            layer.eval()
    x = audio(2, 3, 1, 40, 32)
    with paddle.no_grad():
        parts = [model({"audio": x[:, i : i + 1]}).numpy() for i in range(3)]
        np.testing.assert_allclose(model({"audio": x}), np.mean(parts, axis=0), atol=1e-4)


def test_treats_time_and_frequency_differently(model):
    x = audio(1, 1, 1, 48, 48)
    assert np.abs(scores(model, x) - scores(model, x.transpose([0, 1, 2, 4, 3]))).max() > 1e-4


def test_program_with_free_batch_clips_and_length(model):
    shapes = [(1, 2, 1, 40, 32), (2, 3, 1, 64, 32)]
    eager = [scores(model, audio(*shape)) for shape in shapes]
    spec = [{"audio": InputSpec([None, None, 1, None, 32], "float32", "audio")}]
    program = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    try:
        for shape, expected in zip(shapes, eager, strict=True):
            found = program({"audio": audio(*shape)}).numpy()
            np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
        assert len(program.forward.program_cache) == 1
    finally:
        model.forward = program.forward.rollback()


@pytest.mark.usefixtures("without_values")
def test_keeps_the_pretrained_path_without_reading_it():
    backbone = build(pretrained="no/such.pdparams").backbone
    assert (backbone.pretrained, backbone.pretrained_name("conv._conv.weight")) == (
        "no/such.pdparams",
        "conv._conv.weight",
    )
    assert "head.fc.weight".startswith(backbone.unused_pretrained)


# --- errors ---------------------------------------------------------------------------------------


def test_rejects_backbones_for_frames():
    with pytest.raises(KeyError, match="no audio_backbone named 'ResNetTweaksTSN'.*ResNet"):
        lookup("audio_backbone", "ResNetTweaksTSN")


@pytest.mark.usefixtures("without_values")
def test_rejects_wrong_arguments():
    with pytest.raises(
        ValueError,
        match="in_channels is 2048, but the backbone gives 512 channels; set in_channels: 512",
    ):
        build(head={"in_channels": 2048})
    for key in ("dropout_ratio", "ls_eps"):
        with pytest.raises(ValueError, match=f"{key} is 1.0"):
            build(head={key: 1.0})
    for name in ("ResNet", "ResNetAudio"):
        with pytest.raises(ValueError, match="base_channels is 0"):
            build(name, base_channels=0)


def test_rejects_wrong_inputs(model):
    with pytest.raises(ValueError, match="takes 'audio'.*given frames"):
        model({"frames": audio(1)})
    with pytest.raises(
        ValueError, match=r"takes 'audio' \[N, S, 1, T, F\]; it was given shape \[2, 1, 40, 32\]"
    ):
        model({"audio": audio(2, 1, 40, 32)})


# --- weights of MMAction2 and of the authors of AVSlowFast ----------------------------------------


def test_converts_names_of_other_projects():
    """Some of each kind; tests/parity covers complete files."""
    kernel, norm, table = (
        np.ones((4, 1, 3, 3), "float32"),
        np.ones(4, "float32"),
        np.arange(6, dtype="float32").reshape(2, 3),
    )
    found = convert_state_dict(
        {
            "backbone.conv1.conv.weight": kernel,
            "backbone.conv1.bn.running_var": norm,
            "backbone.conv1.bn.num_batches_tracked": np.array(3),
            "backbone.layer1.0.conv2.conv.conv_2.bn.bias": norm,
            "backbone.layer3.0.conv2.conv.weight": kernel,
            "backbone.layer4.11.downsample.bn.running_mean": norm,
            "cls_head.fc_cls.weight": table,
        },
        "mmaction2",
    )
    assert list(found) == [
        "backbone.conv._conv.weight",
        "backbone.conv._batch_norm._variance",
        "backbone.layer1.0.conv1.frequency_norm.bias",
        "backbone.layer3.0.conv1._conv.weight",
        "backbone.layer4.11.short._batch_norm._mean",
        "head.fc.weight",
    ]
    np.testing.assert_array_equal(found["head.fc.weight"], table.T)
    found = convert_state_dict(
        {
            "s1.pathway2_stem.conv_t.weight": kernel,
            "s2.pathway2_res0.branch2.t_bn.running_mean": norm,
            "s4.pathway0_res22.branch2.c.weight": kernel,
            "s3_fuse.bn_a2fs_1.weight": norm,
            "s3_fuse.avs.query_fc.weight": table,
            "head.projection.bias": norm,
        },
        "avslowfast",
    )
    assert list(found) == [
        "backbone.s1.pathway2_stem.conv_t.weight",
        "backbone.s2.pathway2_res0.branch2.t_bn._mean",
        "backbone.s4.pathway0_res22.branch2.c.weight",
        "backbone.s3_fuse.a2fs.bn1.weight",
        "backbone.s3_fuse.avs.query_fc.weight",
        "head.projection.bias",
    ]
    for source in ("mmaction2", "avslowfast"):
        with pytest.raises(
            WeightsError,
            match=rf"not weights of {source}: neck.weight \[4\] matches no rule",
        ):
            convert_state_dict({"neck.weight": norm}, source)
