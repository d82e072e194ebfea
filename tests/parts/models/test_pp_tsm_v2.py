"""PP-TSMv2: shift, attention, dropout, classifier, merged branches, and faults that stay out."""

import numpy as np
import paddle
import pytest

from paddlevideo.models import onednn
from paddlevideo.models.efficientnet_lite import EfficientNetLite
from paddlevideo.models.pp_tsm import ppTSMHead
from paddlevideo.models.pp_tsm_v2 import MoViNetHead, PPTSM_v2
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.models.tsm import ResNetTSM, TSMHead
from paddlevideo.models.tsn import TSNHead

SMALL = {"scale": 0.125, "class_expand": 24, "num_seg": 4}


def build(num_classes=5, **backbone):
    return Recognizer2D(PPTSM_v2(num_classes, **{**SMALL, **backbone}), MoViNetHead(num_classes))


def noise(*shape, seed=0):
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return paddle.to_tensor(numbers.astype("float32"))


def logits_of(model, frames):
    with paddle.no_grad():
        return model({"frames": frames}).numpy()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "attention"])
def model(request):
    """A model in evaluation mode, whose batch norms are not those of the start."""
    paddle.seed(0)
    model = build(use_temporal_att=request.param)
    model.train()
    logits_of(model, noise(2, 4, 3, 32, 32, seed=5))
    model.eval()
    return model


# --- frames ---------------------------------------------------------------------------------------


def test_frames_of_a_clip_are_mixed_and_those_of_others_are_not(model):
    x = noise(8, 3, 32, 32)
    changed = paddle.concat([x[:7], noise(1, 3, 32, 32, seed=1)])  # the last frame of clip 2
    with paddle.no_grad():
        before, after = (model.backbone(frames).numpy() for frames in (x, changed))
    different = np.abs(before - after).max((1, 2, 3)) > 0
    attention = model.backbone.global_attention is not None
    assert different.tolist() == [False] * 4 + [attention, attention, True, True]


def test_a_video_does_not_depend_on_its_neighbor(model):
    x = noise(2, 8, 3, 32, 32)  # two views of four frames
    both, one = logits_of(model, x), logits_of(model, x[1:])
    assert both.shape == (2, 5)  # PaddleVideo: a row for each view
    np.testing.assert_allclose(both[1:], one, atol=1e-5 * np.abs(one).max())


def test_views_are_averaged(model):
    x = noise(2, 12, 3, 32, 32)
    views = np.stack([logits_of(model, x[:, i : i + 4]) for i in (0, 4, 8)])
    whole = logits_of(model, x)
    np.testing.assert_allclose(whole, views.mean(0), atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize(("videos", "frames"), [(2, 6), (4, 3), (1, 5), (2, 10)])
def test_forward_rejects_other_numbers_of_frames(model, videos, frames):
    with pytest.raises(ValueError, match=rf"shifts the 4 frames.* given {frames}, which is no mul"):
        model({"frames": noise(videos, frames, 3, 32, 32)})


@pytest.mark.parametrize("frames", [3, 6, 8, 16])
def test_a_pipeline_must_give_the_frames_of_one_clip(model, frames):
    problems = model.problems_with({"frames": np.zeros((frames, 3, 32, 32), np.float32)})
    assert len(problems) == 1 and f"the pipeline gives {frames}" in problems[0]
    views = np.zeros((30, 4, 3, 32, 32), np.float32)
    assert model.problems_with({"frames": views}) == []


def test_the_input_stays_unchanged(model):
    frames = noise(1, 4, 3, 32, 32)
    before = frames.numpy().copy()
    model({"frames": frames})
    assert frames.shape == [1, 4, 3, 32, 32]
    np.testing.assert_array_equal(frames.numpy(), before)


def test_two_models_have_different_parameter_names():
    names = [{p.name for p in build(use_temporal_att=True).parameters()} for _ in range(2)]
    assert not names[0] & names[1]


# --- the classifier -------------------------------------------------------------------------------


def test_features_are_those_of_the_classifier(model):
    frames = noise(2, 4, 3, 32, 32)
    with paddle.no_grad():
        features = model.clip_features({"frames": frames}).numpy()
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weight, bias = (tensors[f"{model.linear_layer}.{part}"] for part in ("weight", "bias"))
    assert weight.shape == (24, 5) and features.shape == (2, 24)
    np.testing.assert_allclose(features @ weight + bias, logits_of(model, frames), atol=1e-5)


def test_dropout_scales_in_evaluation_and_drops_in_training(model):
    """Released weights expect this; a dropout that scales in training gives other logits."""
    plain = build(dropout_prob=0.0, use_temporal_att=model.backbone.global_attention is not None)
    plain.set_state_dict(model.state_dict())
    plain.eval()
    maps = noise(8, 128, 2, 2)
    with paddle.no_grad():
        whole, scaled = (each.head.pooled(maps, 4).numpy() for each in (plain, model))
    np.testing.assert_allclose(scaled, 0.8 * whole, rtol=1e-5)
    same = paddle.ones([4 * 200, 128, 1, 1])  # the same features in all frames
    with paddle.no_grad():
        feature = plain.head.pooled(same[:4], 4).numpy()
        model.head.train(), model.backbone.dropout.train()
        paddle.seed(0)
        dropped = model.head.pooled(same, 4).numpy()
        model.eval()
    used = feature[0] > 1e-6
    share = dropped[:, used] / feature[:, used]
    kept = np.round(share * 4)  # 0 to 4 of 4 frames, each with its value
    np.testing.assert_allclose(share, kept / 4, atol=1e-5)
    assert set(kept.ravel()) == {0, 1, 2, 3, 4} and share.mean() == pytest.approx(0.8, abs=0.02)


def test_other_heads_and_other_backbones_are_refused():
    with paddle.LazyGuard():
        own = PPTSM_v2(5, **SMALL)
        others = [ResNetTSM(18, base_channels=8), EfficientNetLite()]
        heads = [TSMHead(5), ppTSMHead(5), TSNHead(5)]
    for head in heads:
        with pytest.raises(ValueError, match="SegmentHead has a classifier, and so has PPTSM_v2; "):
            Recognizer2D(own, head)
    for backbone in others:
        with pytest.raises(ValueError, match=r"MoViNetHead has no layers, and \w+ no classifier"):
            Recognizer2D(backbone, MoViNetHead(5))
    with pytest.raises(ValueError, match=r"class_num is 5, num_classes of MODEL.head is 7"):
        Recognizer2D(own, MoViNetHead(7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_seg": 2}, "num_seg is 2; expected at least 3"),
        ({"dropout_prob": 1.0}, r"dropout_prob is 1.0; it must be in \[0, 1\)"),
        ({"dropout_prob": -0.1}, "dropout_prob is -0.1"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"class_expand": 0}, "class_expand 0; expected"),
    ],
)
def test_wrong_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.mark.parametrize("eps", [-0.1, 1.0, 2.0])
def test_label_smoothing_is_a_share(eps):
    with pytest.raises(ValueError, match=rf"ls_eps is {eps}"):
        MoViNetHead(5, ls_eps=eps)


# --- training -------------------------------------------------------------------------------------


def test_what_learns_and_how(model):
    parameters = dict(model.named_parameters())
    trained = {name: p for name, p in parameters.items() if not p.stop_gradient}
    statistics = ("_mean", "_variance")
    merged = {name for name in parameters if not name.endswith(statistics)} - trained.keys()
    assert len(merged) == 16 and all(".dw_conv." in name for name in merged)
    norms = [p for name, p in trained.items() if ".bn." in name]
    assert norms and all(p.regularizer._coeff == 0 for p in norms)
    fc = [trained["backbone.fc.weight"], trained["backbone.fc.bias"]]
    assert all(p.regularizer is None and p.optimize_attr["learning_rate"] == 1 for p in fc)
    if model.backbone.global_attention is not None:
        layer = model.backbone.global_attention.fc
        both = (layer.weight, layer.bias)
        assert [p.optimize_attr["learning_rate"] for p in both] == [5.0, 10.0]
        assert [p.regularizer._coeff for p in both] == [1e-4, 0.0]


def test_everything_that_learns_gets_a_gradient():
    """Several ranks exchange the gradients of all these parameters."""
    model = build(use_temporal_att=True)
    model.train()
    model({"frames": noise(2, 4, 3, 32, 32)}).square().sum().backward()
    trained = [p for p in model.parameters() if not p.stop_gradient]
    assert trained and all(p.grad is not None for p in trained)


def test_initial_weights():
    model = build(class_expand=64, num_classes=36)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert all((a == 0).all() for name, a in state.items() if name.endswith("bias"))
    bound = np.sqrt(6 / (64 + 36))
    weight = np.abs(state["backbone.fc.weight"]).max()
    assert 0.9 * bound < weight <= bound
    last = state["backbone.last_conv.weight"]
    assert last.std() == pytest.approx(np.sqrt(2 / last.shape[1]), rel=0.05)


def test_stages_cover_all_but_the_classifier(model):
    stages = dict(model.stages)
    everything = stages.pop("backbone")
    prefixes = tuple(p for found in stages.values() for p in found)
    for name in model.state_dict():
        classifier = name.startswith("backbone.fc.")
        assert name.startswith(prefixes) != classifier
        assert name.startswith(everything) != classifier


# --- merged branches ------------------------------------------------------------------------------


def scrambled(model):
    """Change the branches, as an optimizer step does."""
    for name, parameter in model.named_parameters():
        if "dw_conv_list" in name:
            parameter.set_value(parameter * 1.5)


def test_merged_branches_give_the_same_logits():
    paddle.seed(0)
    model = build()
    model.train()
    logits_of(model, noise(2, 4, 3, 32, 32, seed=5))
    model.eval()
    frames = noise(2, 4, 3, 48, 32)
    before = logits_of(model, frames)
    model.merge_branches()
    merged = logits_of(model, frames)
    np.testing.assert_allclose(merged, before, atol=1e-5 * np.abs(before).max())
    scrambled(model)
    np.testing.assert_array_equal(logits_of(model, frames), merged)


def test_training_after_a_merge_changes_the_model():
    """In PaddleVideo a step then changes the merged convolution alone."""
    paddle.seed(0)
    model = build()
    model.merge_branches()
    model.train()
    frames = noise(2, 4, 3, 32, 32)
    model({"frames": frames}).square().sum().backward()
    trained = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    branches = [p for name, p in trained.items() if "dw_conv_list" in name]
    assert branches and all(p.grad is not None for p in branches)
    model.eval()
    before = logits_of(model, frames)
    scrambled(model)
    assert np.abs(logits_of(model, frames) - before).max() > 1e-3 * np.abs(before).max()


def test_merging_leaves_models_without_branches_alone():
    with paddle.LazyGuard():
        model = Recognizer2D(ResNetTSM(18, base_channels=8), TSMHead(5))
    model.merge_branches()


def test_convolutions_run_on_onednn(monkeypatch):
    """Depthwise convolutions, too: the groups are passed on."""
    if onednn.missing():
        pytest.skip("no oneDNN here")
    model = build()
    model.eval()
    groups = []

    def counted(x, weight, stride, padding, group=1):
        groups.append(group)
        return run(x, weight, stride, padding, group)

    run = onednn.conv
    monkeypatch.setattr(onednn, "conv", counted)
    frames = noise(1, 4, 3, 64, 64)
    expected = logits_of(model, frames)
    assert not groups
    with onednn.use(True):
        got = logits_of(model, frames)
    assert max(groups) > 1 and groups.count(1) > 5
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
