"""EfficientNet-Lite: sizes, padding, temporal shift, freezing, the motion of a head, export."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.finetune import apply_finetune
from paddlevideo.engine.load import trained_model
from paddlevideo.engine.preflight import preflight
from paddlevideo.exporting.export import export
from paddlevideo.features.extract import _feature_input
from paddlevideo.models import onednn
from paddlevideo.models.efficientnet_lite import (
    EfficientNetLite,
    SameConv2D,
    same_padding,
    scaled_channels,
    temporal_shift,
)
from paddlevideo.models.pp_tsn import ppTSNHead
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.models.tsn import TSNHead
from paddlevideo.runtimes.choose import open_backend
from tests.parts.conftest import PROGRAMS, skip_without, write_weights

LITE = {"name": "EfficientNetLite", "version": 0}
HEAD = {"name": "ppTSNHead"}


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def lite(**backbone):
    return {"framework": "Recognizer2D", "backbone": {**LITE, **backbone}, "head": HEAD}


@pytest.mark.parametrize(
    ("version", "parameters", "blocks"),
    [(0, 3371008, 16), (1, 4135680, 21), (2, 4811072, 21), (3, 6916096, 24), (4, 11725568, 30)],
)
def test_versions(version, parameters, blocks):
    """Parameters of EfficientNet-Lite-PyTorch without its classifier."""
    with paddle.LazyGuard():
        model = EfficientNetLite(version)
    counts = [int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient]
    assert (sum(counts), len(model.blocks), model.out_channels) == (parameters, blocks, 1280)


def test_channels_are_rounded_to_multiples_of_eight():
    found = [scaled_channels(c, 1.1) for c in (16, 24, 40, 80, 112, 192, 320)]
    assert found == [16, 24, 48, 88, 120, 208, 352]
    assert scaled_channels(12, 0.9) == 16, "8 would be less than 90 % of 10.8"


@pytest.mark.parametrize("size", [1, 2, 7, 8, 33, 64])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_is_that_of_tensorflow(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    outputs = (size + before + after - kernel) // stride + 1
    assert outputs == -(-size // stride) and after - before in (0, 1)


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 5), (3, 6)])
@pytest.mark.parametrize(("kernel", "stride", "depthwise"), [(3, 2, False), (5, 2, True)])
def test_a_convolution_is_the_same_by_onednn_and_by_paddle(size, kernel, stride, depthwise):
    paddle.seed(0)
    conv = SameConv2D(4, 4, kernel, stride, depthwise)
    x = noise(2, 4, *size)
    plain = conv(x).numpy()
    with onednn.use(True):
        fast = conv(x).numpy()
    assert plain.shape[2:] == tuple(-(-n // stride) for n in size)
    np.testing.assert_allclose(fast, plain, atol=1e-5)


@pytest.mark.parametrize(("num_seg", "part"), [(2, 8), (4, 4), (5, 3), (8, 8)])
def test_shift_is_that_of_paddle(num_seg, part):
    x = noise(2 * num_seg, 16, 3, 2)
    expected = F.temporal_shift(x, num_seg, 1 / part).numpy()
    np.testing.assert_array_equal(temporal_shift(x, num_seg, part).numpy(), expected)


def test_shift_moves_only_where_a_block_has_a_shortcut():
    model = EfficientNetLite(0, shift=8, num_seg=2)
    shifted = [i for i, block in enumerate(model.blocks) if block._shift]
    assert shifted == [2, 4, 6, 7, 9, 10, 12, 13, 14]
    assert not any(block._shift for block in EfficientNetLite(0).blocks)


def test_a_shifted_clip_mixes_its_own_frames_only():
    paddle.seed(0)
    model = EfficientNetLite(0, shift=8, num_seg=2)
    model.eval()
    x = noise(4, 3, 32, 32)
    changed = paddle.concat([x[:3], noise(1, 3, 32, 32, seed=1)])
    with paddle.no_grad():
        before, after = model(x).numpy(), model(changed).numpy()
    different = np.abs(before - after).max((1, 2, 3)) > 0
    assert different.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": 1}, "shift is 1; expected 0, or at least 2"),
        ({"shift": -8}, "shift is -8; expected 0"),
        ({"shift": 8, "num_seg": 1}, "num_seg is 1; a shift needs at least 2"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EfficientNetLite(**arguments)


def test_frames_must_fit_the_shift(small):
    cfg = small(MODEL=lite(shift=8, num_seg=3))
    with pytest.raises(ConfigError, match=r"shifts the 3 frames of a clip .* gives 2; num_seg"):
        preflight(cfg, build_model(cfg, 2), ["train"])
    cfg = small(MODEL=lite(shift=8, num_seg=2))
    assert preflight(cfg, build_model(cfg, 2), ["train"])
    with pytest.raises(ConfigError, match="mixes the frames of a clip"):
        _feature_input(build_model(cfg, 2), cfg)


def test_every_parameter_gets_a_gradient():
    paddle.seed(0)
    model = Recognizer2D(EfficientNetLite(0, shift=8, num_seg=2), TSNHead(3, motion=True))
    with onednn.use(True):
        (model({"frames": noise(2, 2, 3, 64, 64)}) ** 2).mean().backward()
    parameters = [(n, p) for n, p in model.named_parameters() if not p.stop_gradient]
    assert [n for n, p in parameters if p.grad is None or not p.grad.any()] == []


def test_stages_cover_the_backbone_once():
    model = EfficientNetLite(1)
    assert list(model.stages) == ["stem", "stage1", "stage2", "stage3", "stage4"]
    for name in model.state_dict():
        owners = [stage for stage, starts in model.stages.items() if name.startswith(starts)]
        assert len(owners) == 1, name


def test_freezing_leaves_the_last_stage_to_train(small):
    cfg = small("FINETUNE.freeze=[stem, stage1, stage2, stage3]", MODEL=lite())
    model = build_model(cfg, 2)
    assert "frozen: stem, stage1, stage2, stage3" in apply_finetune(cfg, model)
    names = {name for name, p in model.named_parameters() if not p.stop_gradient}
    trained = {name.split(".")[2] if ".blocks." in name else name.split(".")[1] for name in names}
    assert trained == {"11", "12", "13", "14", "15", "conv_head", "bn1", "fc"}


@pytest.mark.parametrize("make", [TSNHead, ppTSNHead])
def test_a_head_sees_motion(make):
    head = make(3, 4, motion=True)
    assert head.fc.weight.shape == [8, 3] and make(3, 4).fc.weight.shape == [4, 3]
    maps = noise(6, 4, 2, 2)
    x = maps.numpy().mean((2, 3)).reshape(2, 3, 4)
    changes = np.abs(np.diff(x, axis=1)).mean(1)
    expected = np.concatenate([x.mean(1), changes], 1)
    np.testing.assert_allclose(head.pooled(maps, 3).numpy(), expected, atol=1e-6)
    # The same frames in another order: the mean is equal, the changes are not.
    order = paddle.to_tensor([0, 2, 1, 3, 5, 4])
    other = head.pooled(paddle.index_select(maps, order), 3).numpy()
    np.testing.assert_allclose(other[:, :4], expected[:, :4], atol=1e-6)
    assert np.abs(other[:, 4:] - expected[:, 4:]).max() > 1e-3
    with pytest.raises(ValueError, match="at least 2 segments"):
        head.pooled(maps, 1)


def test_motion_needs_two_frames(small):
    model = {**lite(), "head": {**HEAD, "motion": True}}
    cfg = small("PIPELINE.train.sample.num_seg=1", MODEL=model)
    with pytest.raises(ConfigError, match=r"motion.* gives 1 per clip; num_seg .* at least 2"):
        preflight(cfg, build_model(cfg, 2), ["train"])


@pytest.mark.parametrize("motion", [False, True])
def test_the_linear_layer_takes_the_features_of_a_clip(motion):
    paddle.seed(0)
    model = Recognizer2D(EfficientNetLite(0), TSNHead(3, motion=motion))
    model.eval()
    inputs = {"frames": noise(2, 3, 3, 32, 32)}
    with paddle.no_grad():
        layer = dict(model.named_sublayers())[model.linear_layer]
        expected, found = model(inputs).numpy(), layer(model.clip_features(inputs)).numpy()
    np.testing.assert_array_equal(found, expected)


CONFIG = """
MODEL:
  framework: Recognizer2D
  backbone: {name: EfficientNetLite, shift: 8, num_seg: 2}
  head: {name: ppTSNHead, motion: True}
PIPELINE:
  test:
    decode: {name: VideoDecoder}
    sample: {name: Sampler, num_seg: 2, seg_len: 1, valid_mode: True, select_left: True}
    transform:
      - Scale: {short_size: 50, fixed_ratio: False, do_round: True, backend: cv2}
      - CenterCrop: {target_size: 49}
      - Image2Array:
      - Normalization: {mean: [0.498, 0.498, 0.498], std: [0.502, 0.502, 0.502]}
model_name: lite
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(export, weights, config) of a shifted network on frames of 49 pixels: odd sizes."""
    folder = tmp_path_factory.mktemp("lite")
    config = folder / "lite.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    cfg = load_config(config)
    weights = write_weights(cfg, folder / "lite.pdparams", ["a", "b", "c"])
    export(cfg, weights, folder / "out", ["all"], verify_programs=False)
    return folder / "out", weights, cfg


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "suffix"), [*PROGRAMS, ("eager", "")])
def test_every_runtime_gives_the_same_logits(exported, kind, suffix):
    skip_without(kind, suffix)
    folder, weights, cfg = exported
    source = folder / f"lite{suffix}" if suffix else trained_model(cfg, weights)[0]
    backend = open_backend(source, kind, device="cpu", threads=1)
    with np.load(folder / "golden.npz") as golden:
        frames, logits = golden["frames"], golden["logits"]
    for rows in ([0, 1], [1], [0, 1, 1]):
        found = backend.run({"frames": frames[rows]})
        tolerance = 1e-4 * np.abs(logits).max()
        np.testing.assert_allclose(found, logits[rows], rtol=0, atol=tolerance)
    assert np.abs(logits[0] - logits[1]).max() > 100 * tolerance, "the test could not fail"
