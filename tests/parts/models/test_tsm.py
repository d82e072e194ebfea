"""TSM and PP-TSM: the shift, frame counts, layouts, and faults of PaddleVideo that stay out."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddlevideo.models.pp_tsm import ResNetTweaksTSM, ppTSMHead
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.models.temporal_shift import shift_by_segments
from paddlevideo.models.tsm import ResNetTSM, TSMHead

FAMILIES = {"tsm": (ResNetTSM, TSMHead), "pp_tsm": (ResNetTweaksTSM, ppTSMHead)}


def build(family, num_classes=7, drop_ratio=0.5, **backbone):
    make_backbone, make_head = FAMILIES[family]
    arguments = {"depth": 10, "base_channels": 8, "num_seg": 4, **backbone}
    return Recognizer2D(make_backbone(**arguments), make_head(num_classes, drop_ratio=drop_ratio))


def noise(*shape, seed=0):
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return paddle.to_tensor(numbers.astype("float32"))


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request):
    paddle.seed(0)
    return build(request.param)


@pytest.mark.parametrize(
    ("num_seg", "channels"), [(3, 64), (4, 16), (5, 64), (7, 256), (8, 64), (16, 64), (32, 128)]
)
def test_shift_is_that_of_paddle(num_seg, channels):
    x = noise(2 * num_seg, channels, 3, 2)
    expected = F.temporal_shift(x, num_seg, 1.0 / num_seg).numpy()
    np.testing.assert_array_equal(shift_by_segments(x, num_seg).numpy(), expected)


def test_the_second_part_may_be_one_channel_wider():
    x = paddle.ones([5, 64, 1, 1])
    shifted = shift_by_segments(x, 5).numpy()[:, :, 0, 0]
    from_before, from_after = shifted[0] == 0, shifted[-1] == 0  # zeros at the ends of the clip
    assert np.flatnonzero(from_before).tolist() == list(range(12))
    assert np.flatnonzero(from_after).tolist() == list(range(12, 25))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_seg", [0, 1, 2])
def test_rejects_clips_too_short_to_shift(family, num_seg):
    with pytest.raises(ValueError, match=rf"num_seg is {num_seg}; expected at least 3"):
        build(family, num_seg=num_seg)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("depth", "channels"), [(10, 512), (18, 512), (34, 512), (50, 2048), (101, 2048)]
)
def test_depths(family, depth, channels):
    with paddle.LazyGuard():
        model = build(family, depth=depth, base_channels=64)
    assert model.head.fc.weight.shape == [channels, 7]


def test_neighboring_frames_are_mixed(model):
    model.eval()
    x = noise(8, 3, 32, 32)
    changed = paddle.concat([x[:7], noise(1, 3, 32, 32, seed=1)])  # the last frame of clip 2
    with paddle.no_grad():
        before, after = (model.backbone(frames).numpy() for frames in (x, changed))
    different = np.abs(before - after).max((1, 2, 3)) > 0
    assert not different[:4].any(), "another clip is not touched"
    assert different[4:].all()


def test_a_video_does_not_depend_on_its_neighbor(model):
    model.eval()
    x = noise(2, 8, 3, 32, 32)  # two views of four frames
    with paddle.no_grad():
        both, one = model({"frames": x}).numpy(), model({"frames": x[1:]}).numpy()
    np.testing.assert_allclose(both[1:], one, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize(("videos", "frames"), [(2, 6), (4, 3), (1, 5), (2, 10)])
def test_forward_rejects_other_numbers_of_frames(model, videos, frames):
    with pytest.raises(ValueError, match=rf"shifts the 4 frames.* given {frames}, which is no mul"):
        model({"frames": noise(videos, frames, 3, 32, 32)})


@pytest.mark.parametrize("frames", [3, 6, 8, 16])
def test_a_pipeline_must_give_the_frames_of_one_clip(model, frames):
    sample = {"frames": np.zeros((frames, 3, 32, 32), np.float32)}
    problems = model.problems_with(sample)
    assert len(problems) == 1 and problems[0].endswith("must be the same number")
    assert f"4 frames of a clip (num_seg), the pipeline gives {frames}" in problems[0]


def test_a_pipeline_may_give_views(model):
    assert model.problems_with({"frames": np.zeros((30, 4, 3, 32, 32), np.float32)}) == []


def test_the_input_stays_unchanged(model):
    frames = noise(1, 4, 3, 32, 32)
    before = frames.numpy().copy()
    model({"frames": frames})
    assert frames.shape == [1, 4, 3, 32, 32]
    np.testing.assert_array_equal(frames.numpy(), before)


def test_two_models_have_different_parameter_names():
    for family in FAMILIES:
        names = [{p.name for p in build(family).parameters()} for _ in range(2)]
        assert not names[0] & names[1]


def test_channels_last_gives_the_same_logits():
    paddle.seed(0)
    first, last = build("tsm"), build("tsm", data_format="NHWC")
    last.set_state_dict(first.state_dict())
    first.eval(), last.eval()
    frames = noise(2, 4, 3, 32, 40)
    with paddle.no_grad():
        expected = first({"frames": frames}).numpy()
        got = last({"frames": frames.transpose([0, 1, 3, 4, 2])}).numpy()
    np.testing.assert_array_equal(got, expected)
    sample = {"frames": np.zeros((4, 32, 40, 3), np.float32)}
    assert last.problems_with(sample) == [] and first.problems_with(sample)
    assert last.inputs["frames"].axes == "N S H W C"


def test_pp_tsm_has_leaky_activations():
    model = build("pp_tsm")
    model.eval()
    with paddle.no_grad():
        assert float(model.backbone(noise(4, 3, 32, 32)).min()) < 0
        assert float(build("tsm").backbone(noise(4, 3, 32, 32)).min()) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_drops_features_of_single_frames(family):
    """A feature is rarely dropped in all frames, as it would be after the mean."""
    model = build(family, drop_ratio=0.5)
    head = model.head
    head.train()
    head.fc.weight.set_value(paddle.eye(64, 7))
    features = paddle.ones([4 * 500, 64, 1, 1])
    paddle.seed(0)
    logits = head(features, 4).numpy() - head.fc.bias.numpy()
    values = np.unique(np.round(logits, 5))
    assert values.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]  # 0 to 4 of 4 frames, times 1 / 0.5 / 4
    assert logits.mean() == pytest.approx(1.0, abs=0.1)


def test_batch_norms_have_no_weight_decay(model):
    norms = [p for name, p in model.named_parameters() if "_batch_norm" in name]
    trained = [p for p in norms if not p.stop_gradient]
    assert trained and all(p.regularizer._coeff == 0 for p in trained)


def test_the_classifier_learns_faster_and_decays():
    for family in FAMILIES:
        layer = build(family).head.fc
        both = (layer.weight, layer.bias)
        assert [p.optimize_attr["learning_rate"] for p in both] == [5.0, 10.0]
        assert [p.regularizer._coeff for p in both] == [1e-4, 0.0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depth", [18, 50])
def test_stages_cover_the_backbone(family, depth):
    model = build(family, depth=depth)
    prefixes = tuple(p for found in model.stages.values() for p in found)
    names = [name for name in model.state_dict() if name.startswith("backbone.")]
    assert all(name.startswith(prefixes) for name in names)
    assert all(any(n.startswith(found) for n in names) for found in model.stages.values())
