"""Recognizers as built from the registry: structure, shapes, gradients, messages."""

import numpy as np
import paddle
import pytest
from paddle.regularizer import L2Decay
from paddle.static import InputSpec

import paddlevideo.models  # noqa: F401  # registers
from paddlevideo.config.registry import lookup
from paddlevideo.models.layers import ConvBN, ResidualBlock
from paddlevideo.models.recognizer import Recognizer2D

FAMILIES = {
    "pp_tsn": ("ResNetTweaksTSN", "layers", "ppTSNHead"),
    "tsn": ("ResNet", "depth", "TSNHead"),
}


def build(family, depth=10, num_classes=7, backbone=None, **head):
    name, depth_key, head_name = FAMILIES[family]
    backbone = lookup("backbone", name).make(**{depth_key: depth}, **(backbone or {}))
    return Recognizer2D(backbone, lookup("head", head_name).make(num_classes=num_classes, **head))


def state_shapes(model):
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def clip(*shape):
    return paddle.to_tensor(np.random.default_rng(0).standard_normal(shape).astype("float32"))


@pytest.fixture(scope="module", params=list(FAMILIES))
def built(request):
    paddle.seed(0)
    return build(request.param, backbone={"base_channels": 16})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("depth", "channels", "num_blocks"),
    [(10, 512, 4), (18, 512, 8), (34, 512, 16), (50, 2048, 16), (101, 2048, 33)],
)
def test_depths(family, depth, channels, num_blocks):
    with paddle.LazyGuard():  # shapes, without values
        model = build(family, depth)
    blocks = [layer for layer in model.sublayers() if isinstance(layer, ResidualBlock)]
    assert (model.backbone.out_channels, len(blocks)) == (channels, num_blocks)
    assert model.head.fc.weight.shape == [channels, 7]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depth", [18, 50])
def test_base_channels_scale_every_width(family, depth):
    thin = build(family, depth, backbone={"base_channels": 4})
    with paddle.LazyGuard():  # shapes, without values
        full = build(family, depth, backbone={"base_channels": 64})
        assert state_shapes(full) == state_shapes(build(family, depth))
    # 3 colors, 7 classes, and kernels of at most 7 x 7 do not depend on the width.
    expected = {
        name: [size // 16 if size > 7 else size for size in shape]
        for name, shape in state_shapes(full).items()
    }
    assert state_shapes(thin) == expected
    assert thin.backbone.out_channels == full.backbone.out_channels // 16
    assert thin({"frames": clip(1, 2, 3, 40, 48)}).shape == [1, 7]


def test_deep_tsn_numbers_the_blocks_of_its_third_stage():
    with paddle.LazyGuard():
        names = [name for name, _ in build("tsn", 101).backbone.named_children()]
    assert names[-27:-24] == ["res3d", "res4a", "res4b1"]
    assert names[-4:] == ["res4b22", "res5a", "res5b", "res5c"]


def test_logits_shape_and_unchanged_input(model):
    model.eval()
    frames = clip(2, 3, 3, 40, 48)
    before = frames.numpy().copy()
    logits = model({"frames": frames})
    assert (logits.shape, str(logits.dtype)) == ([2, 7], "paddle.float32")
    assert frames.shape == [2, 3, 3, 40, 48]
    np.testing.assert_array_equal(frames.numpy(), before)


def test_segments_are_averaged(model):
    model.eval()
    frames = clip(2, 3, 3, 40, 48)
    together = model({"frames": frames}).numpy()
    single = np.mean([model({"frames": frames[:, i : i + 1]}).numpy() for i in range(3)], axis=0)
    np.testing.assert_allclose(together, single, atol=1e-5 * np.abs(together).max())


def test_every_parameter_gets_a_gradient(model):
    model.train()
    model.clear_gradients()
    (model({"frames": clip(2, 2, 3, 64, 64)}) ** 2).mean().backward()
    without_gradient = [
        name
        for name, p in model.named_parameters()
        if not p.stop_gradient and (p.grad is None or not p.grad.any())
    ]
    assert without_gradient == []


@pytest.mark.usefixtures("without_values")
def test_two_models_have_different_parameter_names():
    names = [{p.name for p in build("pp_tsn").parameters()} for _ in range(2)]
    assert not names[0] & names[1]


def test_describes_its_inputs(model):
    spec = model.inputs["frames"]
    assert (spec.shape, spec.dtype, spec.axes) == (
        (None, None, 3, None, None),
        "float32",
        "N S C H W",
    )
    assert model.num_classes == 7


def test_dropout_only_in_training():
    model = build("tsn", drop_ratio=0.9)
    features = paddle.ones([4, 512, 2, 2])
    model.eval()
    first, second = model.head(features, 2).numpy()
    np.testing.assert_allclose(first, second, atol=1e-6)
    model.train()
    first, second = model.head(features, 2).numpy()
    assert np.abs(first - second).max() > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_program_with_free_batch_segments_and_size(family):
    paddle.seed(0)
    model = build(family, backbone={"base_channels": 8})
    model.eval()
    shapes = ((1, 2, 3, 32, 32), (2, 3, 3, 40, 48))
    eager = [model({"frames": clip(*shape)}).numpy() for shape in shapes]
    spec = [{"frames": InputSpec([None, None, 3, None, None], "float32", "frames")}]
    program = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    for shape, expected in zip(shapes, eager, strict=True):
        logits = program({"frames": clip(*shape)}).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    assert len(program.forward.program_cache) == 1  # one program for both


# --- initial weights, learning-rate factors, weight decay -----------------------------------------


def test_initial_weights():
    paddle.seed(0)
    model = build("pp_tsn", depth=18, num_classes=400)
    weight = model.backbone.bb_3_1.conv1._conv.weight.numpy()
    assert weight.std() == pytest.approx(np.sqrt(2 / (512 * 9)), rel=0.01)
    assert model.head.fc.weight.numpy().std() == pytest.approx(0.01, rel=0.02)
    assert not model.head.fc.bias.any()
    norm = model.backbone.bb_3_1.conv1._batch_norm
    assert (norm.weight == 1).all() and not norm.bias.any()


def norms(model):
    return [layer._batch_norm for layer in model.sublayers() if isinstance(layer, ConvBN)]


def coefficient(parameter):
    assert isinstance(parameter.regularizer, L2Decay)
    return parameter.regularizer._coeff


@pytest.mark.usefixtures("without_values")
def test_weight_decay_of_batch_norms():
    assert all(
        coefficient(p) == 0 for norm in norms(build("pp_tsn")) for p in (norm.weight, norm.bias)
    )
    assert all(
        p.regularizer is None for norm in norms(build("tsn")) for p in (norm.weight, norm.bias)
    )


def factor(parameter):
    return parameter.optimize_attr["learning_rate"]


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize(("fclr5", "weight", "bias"), [(True, 5, 10), (False, 1, 1)])
def test_pp_tsn_classifier_has_a_higher_learning_rate(fclr5, weight, bias):
    fc = build("pp_tsn", fclr5=fclr5).head.fc
    assert (factor(fc.weight), factor(fc.bias)) == (weight, bias)
    assert (coefficient(fc.weight), coefficient(fc.bias)) == (1e-4, 0)


@pytest.mark.usefixtures("without_values")
def test_tsn_classifier_has_the_default_learning_rate():
    fc = build("tsn").head.fc
    assert (factor(fc.weight), factor(fc.bias), fc.weight.regularizer) == (1, 1, None)


@pytest.mark.usefixtures("without_values")
def test_learning_rate_factors_by_stage():
    backbone = build("pp_tsn", backbone={"lr_mult_list": [0.1, 0.2, 0.3, 0.4, 0.5]}).backbone
    assert factor(backbone.conv1_2._conv.weight) == 0.1
    assert [factor(getattr(backbone, f"bb_{i}_0").short._batch_norm.bias) for i in range(4)] == [
        0.2,
        0.3,
        0.4,
        0.5,
    ]


def test_pooled_shortcut_counts_only_existing_pixels():
    block = ResidualBlock(1, 1, 2, bottleneck=False, project=True, pool_shortcut=True)
    pooled = block.pool(paddle.ones([1, 1, 3, 5]))
    assert pooled.shape == [1, 1, 2, 3]
    assert (pooled == 1).all()


# --- ImageNet files -------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize(
    ("family", "stem"), [("pp_tsn", ["conv1_1", "conv1_2", "conv1_3"]), ("tsn", ["conv"])]
)
def test_reads_both_naming_schemes_of_imagenet_files(family, stem):
    backbone = build(family, 50).backbone
    blocks = [name for name, layer in backbone.named_children() if isinstance(layer, ResidualBlock)]
    renamed = {}
    for name in backbone.state_dict():
        first, rest = name.split(".", 1)
        layer = f"stem.{stem.index(first)}" if first in stem else f"blocks.{blocks.index(first)}"
        renamed[f"{layer}.{rest.replace('_conv.', 'conv.').replace('_batch_norm.', 'bn.')}"] = name
    assert "blocks.15.conv2.bn._mean" in renamed
    for new, name in renamed.items():
        assert backbone.pretrained_name(new) == name
        assert backbone.pretrained_name(name) == name
    assert "fc.weight".startswith(backbone.unused_pretrained)
    assert backbone.pretrained_name("blocks.99.conv0.conv.weight") == "blocks.99.conv0.conv.weight"


@pytest.mark.usefixtures("without_values")
def test_keeps_the_pretrained_path_without_reading_it():
    assert (
        build("tsn", backbone={"pretrained": "no/such.pdparams"}).backbone.pretrained
        == "no/such.pdparams"
    )
    assert build("tsn", backbone={"pretrained": ""}).backbone.pretrained is None


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_values")
def test_rejects_in_channels_that_differ_from_the_backbone():
    with pytest.raises(
        ValueError,
        match="in_channels is 2048, but the backbone gives 512 channels; set in_channels: 512",
    ):
        build("tsn", 18, in_channels=2048)
    assert build("tsn", 18, in_channels=512).head.in_channels == 512


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("arguments", [{"ls_eps": 1.0}, {"ls_eps": -0.1}, {"drop_ratio": 1.0}])
def test_rejects_values_out_of_range(arguments):
    with pytest.raises(
        ValueError, match=f"{next(iter(arguments))} is {next(iter(arguments.values()))}"
    ):
        build("tsn", **arguments)


def test_rejects_learning_rate_factors_of_wrong_length():
    with pytest.raises(ValueError, match="lr_mult_list has 2 values, not 5"):
        build("pp_tsn", backbone={"lr_mult_list": [1.0, 1.0]})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("base_channels", [0, 5])
def test_rejects_base_channels_out_of_range(family, base_channels):
    message = f"base_channels is {base_channels}; it must be even and at least 2"
    with pytest.raises(ValueError, match=message):
        build(family, backbone={"base_channels": base_channels})


def test_rejects_wrong_inputs(model):
    with pytest.raises(ValueError, match="takes 'frames'.*given slow, fast"):
        model({"slow": clip(1), "fast": clip(1)})
    with pytest.raises(
        ValueError, match=r"takes 'frames' \[N, S, 3, H, W\].*given shape \[2, 3, 32, 32\]"
    ):
        model({"frames": clip(2, 3, 32, 32)})
