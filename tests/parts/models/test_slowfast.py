"""SlowFast as built from the registry, and its head on crops of any size."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from paddle.regularizer import L2Decay
from paddle.static import InputSpec

import paddlevideo.models  # noqa: F401  # registers
from paddlevideo.config.registry import lookup
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.losses import cross_entropy
from paddlevideo.models.layers import SubBatchNorm3D, set_norm_splits
from paddlevideo.models.pooling import log_mean_probability

SMALL = {"alpha": 4, "beta": 4, "width_per_group": 8, "fusion_kernel_sz": 5}


def build(num_classes=7, backbone=None, **head):
    paddle.seed(0)
    backbone = lookup("backbone", "ResNetSlowFast").make(**{**SMALL, **(backbone or {})})
    head = lookup("head", "SlowFastHead").make(num_classes=num_classes, **head)
    return lookup("framework", "Recognizer3D").make(backbone=backbone, head=head)


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def clips(n=2, frames=8, height=64, width=None, alpha=4, seed=0):
    fast = noise(n, 3, frames, height, width or height, seed=seed)
    return {"slow": fast[:, :, ::alpha].clone(), "fast": fast}


@pytest.fixture(scope="module")
def built(built_shallow):
    """A model whose output depends on its inputs.

    The zero scales of the blocks, their statistics and the classifier are re-initialized.
    """
    model, rng = built_shallow(lambda: build(crop_size=64)), np.random.default_rng(1)
    for name, p in model.named_parameters():
        if "c_bn" in name and not name.endswith("_variance"):
            p.set_value(
                (rng.standard_normal(p.shape) * 0.3 + name.endswith("weight")).astype("float32")
            )
    model.head.projection.weight.set_value(
        rng.standard_normal(model.head.projection.weight.shape).astype("float32") * 0.003
    )
    return model


# --- structure ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize(("depth", "blocks"), [(50, [3, 4, 6, 3]), (101, [3, 4, 23, 3])])
def test_depths(depth, blocks):
    backbone = build(backbone={"depth": depth}).backbone
    found = [
        sum(
            name.startswith("pathway0_res")
            for name, _ in getattr(backbone, f"s{i}").named_children()
        )
        for i in range(2, 6)
    ]
    assert found == blocks
    assert backbone.out_channels == {"slow": 256, "fast": 64}


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("pathway", "channels", "other"), [("slow", 256, "pathway1"), ("fast", 64, "pathway0")]
)
def test_one_pathway_alone(pathway, channels, other):
    model = build(backbone={"pathways": pathway}, crop_size=64, alpha=4)
    model.eval()
    assert list(model.inputs) == [pathway]
    assert model({pathway: noise(1, 3, 4, 64, 64)}).shape == [1, 7]
    assert model.head.projection.weight.shape == [channels, 7]
    assert not [name for name in model.state_dict() if other in name or "fuse" in name]


def test_describes_its_inputs(model):
    assert list(model.inputs) == ["slow", "fast"]
    assert all(
        (spec.shape, spec.dtype, spec.axes) == ((None, 3, None, None, None), "float32", "N C T H W")
        for spec in model.inputs.values()
    )
    assert (model.num_classes, model.label_smoothing, build(ls_eps=0.1).label_smoothing) == (
        7,
        0.0,
        0.1,
    )


def test_initial_weights():
    model = build(400, {"width_per_group": 32, "beta": 8})
    conv = model.backbone.s5.pathway0_res1.branch2.b.weight.numpy()  # [256, 256, 1, 3, 3]
    assert conv.std() == pytest.approx(np.sqrt(2 / (256 * 9)), rel=0.01)
    conv = (
        model.backbone.s5.pathway0_res0.branch2.c.weight.numpy()
    )  # [1024, 256, 1, 1, 1]: fan-out, not fan-in
    assert conv.std() == pytest.approx(np.sqrt(2 / 1024), rel=0.01)
    assert model.head.projection.weight.numpy().std() == pytest.approx(0.01, rel=0.01)
    assert not model.head.projection.bias.any()
    zero = {
        name for name, p in model.named_parameters() if name.endswith("bn.weight") and not p.any()
    }
    assert zero == {name for name, _ in model.named_parameters() if name.endswith("c_bn.weight")}
    assert len(zero) == 32


@pytest.mark.usefixtures("without_values")
def test_weight_decay():
    model = build()
    freed = {
        name
        for name, p in model.named_parameters()
        if isinstance(p.regularizer, L2Decay) and p.regularizer._coeff == 0
    }
    assert freed == {
        name for name, p in model.named_parameters() if "bn." in name and not p.stop_gradient
    }


def test_every_parameter_gets_a_gradient(model):
    model.train()
    model.clear_gradients()
    (model(clips()) ** 2).mean().backward()
    assert [
        name
        for name, p in model.named_parameters()
        if not p.stop_gradient and (p.grad is None or not p.grad.any())
    ] == []


def test_output_depends_on_both_pathways(model):
    model.eval()
    batch = clips(1)
    whole = model(batch).numpy()
    for name in batch:
        changed = model({**batch, name: batch[name] + noise(*batch[name].shape, seed=5)}).numpy()
        assert np.abs(changed - whole).max() > 1e-3


# --- the head on any crop -------------------------------------------------------------------------


def reference_probabilities(model, batch, window):
    """3-D pooling with a fixed kernel, classifier, softmax, then the mean over all positions."""
    features = model.backbone(batch)
    pooled = [F.avg_pool3d(x, (x.shape[2], *window), stride=1) for x in features.values()]
    x = paddle.concat(pooled, axis=1).transpose([0, 2, 3, 4, 1])
    return F.softmax(model.head.projection(x), axis=-1).mean([1, 2, 3]).numpy()


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [(64, 64, (2, 2)), (96, 128, (2, 2)), (72, 64, (2, 2)), (32, 32, (1, 1)), (40, 96, (2, 2))],
)
def test_probabilities_are_averaged_over_positions(model, height, width, window):
    model.eval()
    batch = clips(2, 8, height, width)
    with paddle.no_grad():
        log_p = model(batch).numpy()
        expected = reference_probabilities(model, batch, window)
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(np.exp(log_p.astype("float64")).sum(1), 1, rtol=1e-5)


@pytest.mark.usefixtures("shallow")
def test_multigrid_head_pools_the_complete_map(model):
    whole = build(multigrid_short=True)
    whole.set_state_dict(model.state_dict())
    whole.eval()
    batch = clips(1, 8, 96, 128)
    with paddle.no_grad():
        np.testing.assert_allclose(
            np.exp(whole(batch).numpy()), reference_probabilities(whole, batch, (3, 4)), rtol=1e-4
        )


def test_validation_applies_softmax_once(model):
    """The validation loss is that of the averaged probabilities."""
    model.eval()
    batch, labels = clips(2, 8, 96), np.array([3, 0])
    with paddle.no_grad():
        expected = -np.log(reference_probabilities(model, batch, (2, 2))[[0, 1], labels]).mean()
        assert float(cross_entropy(model(batch), paddle.to_tensor(labels))) == pytest.approx(
            expected, rel=1e-4
        )


@pytest.mark.usefixtures("shallow")
def test_training_gives_logits():
    features = {"slow": noise(2, 256, 2, 3, 3), "fast": noise(2, 64, 8, 3, 3, seed=1)}
    head = build(crop_size=64, dropout_rate=0.0).head
    head.train()
    x = paddle.concat(
        [F.avg_pool3d(f, (f.shape[2], 2, 2), stride=1) for f in features.values()], axis=1
    )
    expected = head.projection(x.transpose([0, 2, 3, 4, 1])).mean([1, 2, 3])
    np.testing.assert_allclose(head(features), expected, atol=1e-6)
    head.dropout.p = 0.9
    assert np.abs((head(features) - expected).numpy()).max() > 1e-3
    head.eval()
    assert np.abs((head(features) - head(features)).numpy()).max() == 0


def test_log_probabilities_of_unlikely_classes_are_finite():
    logits = np.array([[[0.0, -300.0, 5.0], [2.0, -250.0, -1.0]]])
    p = np.exp(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    found = log_mean_probability(paddle.to_tensor(logits.astype("float32"))).numpy()
    np.testing.assert_allclose(found, np.log(p.mean(1)), rtol=1e-5)
    assert found[0, 1] == pytest.approx(-252.74, abs=0.01)


def test_views_are_averaged_as_probabilities(model):
    """A test averages the softmax of the views, according to `view_average`."""
    model.eval()
    assert model.view_average == "probabilities"
    views = [clips(2, 8, 64, 72, seed=seed) for seed in range(3)]
    batch = {
        name: np.stack([view[name].numpy() for view in views], axis=1) for name in model.inputs
    }
    batch["label"] = np.array([0, 1])

    def run(arrays):
        with paddle.no_grad():
            return F.softmax(
                model({name: paddle.to_tensor(a) for name, a in arrays.items()}), axis=-1
            ).numpy()

    with paddle.no_grad():
        expected = np.mean([reference_probabilities(model, view, (2, 2)) for view in views], axis=0)
    for at_once in (1, 4, 6):
        np.testing.assert_allclose(
            mean_scores(run, model.inputs, batch, at_once), expected, rtol=1e-4, atol=1e-7
        )


def test_program_with_free_batch_and_size(model):
    model.eval()
    batches = [clips(1), clips(3, 8, 96, 72)]
    with paddle.no_grad():
        expected = [model(batch).numpy() for batch in batches]
    shape = [None, 3, None, None, None]
    program = paddle.jit.to_static(
        model,
        input_spec=[{name: InputSpec(shape, "float32", name) for name in model.inputs}],
        full_graph=True,
    )
    try:
        for batch, logits in zip(batches, expected, strict=True):
            np.testing.assert_allclose(
                program(batch).numpy(), logits, atol=1e-4 * np.abs(logits).max()
            )
        assert len(program.forward.program_cache) == 1
    finally:
        model.forward = program.forward.rollback()


@pytest.mark.usefixtures("shallow")
def test_splits_of_a_model_change_in_place():
    model = build(backbone={"bn_norm_type": "sub_batchnorm", "bn_num_splits": 2})
    plain = build(backbone={"bn_num_splits": 2})  # no effect with batchnorm
    norms = [layer for layer in model.sublayers() if isinstance(layer, nn.BatchNorm3D)]
    assert {norm.splits for norm in norms} == {2}
    assert {layer.splits for layer in plain.sublayers() if isinstance(layer, SubBatchNorm3D)} == {1}
    assert plain.set_state_dict(model.state_dict()) == ([], [])
    tensors = {name: id(t) for name, t in model.state_dict().items()}
    model.train()
    model(clips(4))
    assert set_norm_splits(model, 4) == len(norms) == 38
    model(clips(4))
    assert {name: id(t) for name, t in model.state_dict().items()} == tensors
    with pytest.raises(
        ValueError, match="a batch of 3 clips cannot be divided into 4 splits.*bn_num_splits"
    ):
        model(clips(3))
    assert set_norm_splits(nn.Linear(2, 2), 2) == 0


# --- errors ---------------------------------------------------------------------------------------


def test_rejects_wrong_inputs(model):
    with pytest.raises(
        ValueError,
        match=r"takes 'slow' \[N, 3, T, H, W\], 'fast' \[N, 3, T, H, W\]; it was given frames",
    ):
        model({"frames": noise(1, 2, 3, 8, 8)})
    with pytest.raises(
        ValueError, match=r"it was given \{'slow': \[1, 3, 8, 8\], 'fast': \[1, 3, 8, 64, 64\]\}"
    ):
        model({"slow": noise(1, 3, 8, 8), "fast": noise(1, 3, 8, 64, 64)})
    with pytest.raises(
        ValueError, match="alpha 4: .* given 4 slow and 8 fast frames. Give PackOutput this alpha"
    ):
        model(clips(alpha=2))


@pytest.mark.usefixtures("without_values", "shallow")
@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"beta": 3}, "width_per_group is 8; it must be a multiple of beta, 3"),
        ({"alpha": 0}, "alpha is 0; it must be at least 1"),
        ({"fusion_kernel_sz": 4}, "fusion_kernel_sz is 4; it must be odd"),
        (
            {"bn_norm_type": "sub_batchnorm", "bn_num_splits": 0},
            "splits is 0; it must be at least 1",
        ),
    ],
)
def test_rejects_invalid_backbones(backbone, message):
    with pytest.raises(ValueError, match=message):
        build(backbone=backbone)


@pytest.mark.usefixtures("without_values", "shallow")
@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"num_frames": 30}, "num_frames is 30, which is not a multiple of alpha, 4"),
        ({"alpha": 8}, "alpha is 8, but the backbone's is 4; set alpha: 4 or leave it out"),
        ({"beta": 8}, "beta is 8, but the backbone's is 4"),
        ({"width_per_group": 64}, "width_per_group is 64, but the backbone's is 8"),
        ({"crop_size": 30}, "crop_size is 30; at least 32"),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0"),
        ({"ls_eps": -0.1}, "ls_eps is -0.1"),
    ],
)
def test_rejects_heads_that_do_not_fit(head, message):
    with pytest.raises(ValueError, match=message):
        build(**head)
    build(width_per_group=8, alpha=4, beta=4, num_frames=32)
