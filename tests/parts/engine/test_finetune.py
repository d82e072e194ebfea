"""Fine-tuning: heads of other classes, frozen parts, learning rates of parts."""

import json

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.describe import describe
from paddlevideo.engine.finetune import apply_finetune
from paddlevideo.engine.precise_bn import batch_norms
from paddlevideo.engine.start_weights import load_weights
from paddlevideo.losses import cross_entropy
from paddlevideo.models.layers import SubBatchNorm3D
from paddlevideo.weights import WeightsError, state_arrays

KEEP = "MODEL.head.keep_rows=by_name"


# --- weights of other classes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def released():
    """The weights of a PP-TSN-18 with five classes."""
    cfg = load_config("configs/demo/pptsn.yaml", ["MODEL.backbone.base_channels=8"])
    paddle.seed(5)
    return state_arrays(build_model(cfg, 5))


FILE_CLASSES = ["swim", "run", "row", "dive", "跳"]
W, B = "head.fc.weight", "head.fc.bias"


def test_reinitializes_the_head_for_other_classes(demo, released):
    paddle.seed(1)
    model = build_model(demo(), 3)
    before = state_arrays(model)
    account, reason = load_weights(model, released, "k5.pdparams", None, ["run", "jump", "跳"])
    assert reason == "head.fc is re-initialized: 5 -> 3 classes"
    sizes = "head.fc.weight is [64, 5] in the file, [64, 3] in the"
    assert account.startswith(f"k5.pdparams: 115 of 117 tensors loaded; {sizes}")
    expected = {**released, W: before[W], B: before[B]}
    after = state_arrays(model)
    assert all((after[name] == expected[name]).all() for name in after)


def test_keeps_rows_by_name(demo, released):
    model = build_model(demo(KEEP), 3)
    before = state_arrays(model)
    lines = load_weights(model, released, "k5.pdparams", FILE_CLASSES, ["run", "jump", "跳"])
    rows = "rows kept by name: 2 (run, 跳)"
    assert lines[1] == f"head.fc is re-initialized: 5 -> 3 classes; {rows}"
    after = state_arrays(model)
    for model_class, file_class in ((0, 1), (2, 4)):
        assert (after[W][:, model_class] == released[W][:, file_class]).all()
        assert after[B][model_class] == released[B][file_class]
    assert (after[W][:, 1] == before[W][:, 1]).all()


@pytest.mark.parametrize(
    ("file_names", "data_names", "reason"),
    [
        (
            None,
            ["a", "b"],
            "no row is kept: the file has no class names (FINETUNE.class_names gives them)",
        ),
        (
            FILE_CLASSES,
            None,
            "no row is kept: the data has no class names (DATASET.class_names gives them)",
        ),
        (FILE_CLASSES, ["a", "b"], "no row is kept: no name is in both"),
    ],
)
def test_reports_why_no_row_is_kept(demo, released, file_names, data_names, reason):
    model = build_model(demo(KEEP), 2)
    lines = load_weights(model, released, "x", file_names, data_names)
    assert lines[1].endswith(reason)


def test_matches_names_that_are_written_like_folders(demo, released):
    names = ["air drumming", "Run", "run", "push up", "跳"]
    model = build_model(demo(KEEP), 4)
    lines = load_weights(model, released, "x", names, ["Air_Drumming", "run", "push-up", "running"])
    assert lines[1].endswith("rows kept by name: 3 (Air_Drumming, run, push-up)")
    for model_class, file_class in ((0, 0), (1, 2), (2, 3)):
        assert (state_arrays(model)[W][:, model_class] == released[W][:, file_class]).all()
    message = "x: head.fc has 5 classes, and 2 names are given for them"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, released, "x", ["a", "b"], None)


def test_compares_the_names_of_equally_many_classes(demo, released):
    model = build_model(demo(KEEP), 5)
    assert len(load_weights(model, released, "x", FILE_CLASSES, FILE_CLASSES)) == 1
    assert (state_arrays(model)[W] == released[W]).all()
    lines = load_weights(model, released, "x", None, FILE_CLASSES)
    assert len(lines) == 1, "without names, the classes count as equal"

    reverse = FILE_CLASSES[::-1]
    _, reason = load_weights(model, released, "x", FILE_CLASSES, reverse)
    names = "swim, run, row, dive, 跳 -> 跳, dive, row, run, swim"
    rows = "rows kept by name: 5"
    assert reason.startswith(f"head.fc is re-initialized: 5 other classes ({names}); {rows}")
    assert (state_arrays(model)[W] == released[W][:, ::-1]).all()
    plain = build_model(demo(), 5)
    before = state_arrays(plain)[W]
    load_weights(plain, released, "x", FILE_CLASSES, reverse)
    assert (state_arrays(plain)[W] == before).all(), "no rows of other classes are loaded"


def test_rejects_any_other_mismatch(demo, released):
    model = build_model(demo(), 3)
    before = state_arrays(model)
    missing = "backbone.bb_0_0.conv0._conv.weight"
    incomplete = {name: array for name, array in released.items() if name != missing}
    message = rf"not in the file: {missing}. These weights belong to another"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, incomplete, "x", None, None)
    narrow = {**released, W: released[W][:10]}
    message = r"head.fc.weight is \[10, 5\] in the file, \[64, 3\] in the model"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, narrow, "x", None, None)
    backbone = {k.removeprefix("backbone."): v for k, v in released.items() if k not in (W, B)}
    message = r"-o MODEL.backbone.pretrained=imagenet.pdparams instead of -w"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, backbone, "imagenet.pdparams", None, None)
    after = state_arrays(model)
    assert all((after[name] == before[name]).all() for name in after), "nothing is loaded"


SLOWFAST = [f"MODEL.{key}" for key in ("backbone.width_per_group=8", "head.width_per_group=8")]
FAMILIES = {
    "recognition/slowfast/slowfast": ("head.projection", SLOWFAST),
    "demo/avslowfast": ("head.projection", []),
    "demo/audio": ("head.fc", []),
    "recognition/tsn/tsn_k400_videos": (
        "head.fc",
        ["MODEL.backbone.depth=18", "MODEL.head.in_channels=512"],
    ),
    "recognition/nextvlad/nextvlad_youtube8m": ("head.classifier", ["MODEL.head.hidden_size=16"]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_reinitializes_the_head_of_every_family(name):
    layer, small = FAMILIES[name]
    cfg = load_config(f"configs/{name}.yaml", [*small, KEEP])
    model = build_model(cfg, 2)
    arrays = state_arrays(model)
    for key, array in arrays.items():
        if key.startswith(f"{layer}."):
            arrays[key] = np.full((*array.shape[:-1], 4), 0.5, array.dtype)
    _, reason = load_weights(model, arrays, "x", list("abcd"), ["z", "b"])
    assert reason == f"{layer} is re-initialized: 4 -> 2 classes; rows kept by name: 1 (b)"
    weight = state_arrays(model)[f"{layer}.weight"]
    assert (weight[:, 1] == 0.5).all() and (weight[:, 0] != 0.5).all()


# --- frozen parts, learning rates -----------------------------------------------------------------


def take_step(model, optimizer, frames):
    model.train()
    cross_entropy(model({"frames": frames}), paddle.to_tensor([0, 1])).backward()
    optimizer.step()
    optimizer.clear_grad()


@pytest.mark.parametrize("names", [["stem", "stage1"], ["backbone.conv1_", "backbone.bb_0_"]])
def test_frozen_stages_do_not_change(demo, names):
    cfg = demo(f"FINETUNE.freeze={json.dumps(names)}")
    model = build_model(cfg, 2)
    assert apply_finetune(cfg, model) == f"frozen: {', '.join(names)} (24 of 71 trained tensors)"
    frames = paddle.to_tensor(
        np.random.default_rng(0).standard_normal((2, 2, 3, 64, 64), np.float32)
    )
    before = state_arrays(model)
    take_step(model, cfg.OPTIMIZER.make().build(model.named_parameters()), frames)
    after = state_arrays(model)
    prefixes = ("backbone.conv1_", "backbone.bb_0_")
    changed = {name for name in after if (after[name] != before[name]).any()}
    frozen = {name for name in after if name.startswith(prefixes)}
    assert frozen and changed == after.keys() - frozen
    norms = [name for name in batch_norms(model) if name.startswith(prefixes)]
    assert norms == [], "precise BN skips them"

    # Their outputs are the same in training and in evaluation.
    model.train()
    in_training = model.backbone.conv1_1(frames[:, 0]).numpy()
    model.eval()
    assert (model.backbone.conv1_1(frames[:, 0]).numpy() == in_training).all()


def test_a_frozen_split_norm_uses_its_running_statistics():
    norm = SubBatchNorm3D(4, splits=2)
    norm._use_global_stats = True
    x = paddle.randn([4, 4, 2, 3, 3])
    norm.train()
    y = norm(x).numpy()
    norm.eval()
    np.testing.assert_allclose(y, norm(x).numpy(), rtol=1e-6)
    assert (norm._mean.numpy() == 0).all()


def test_learning_rates_of_parts(demo):
    cfg = demo("FINETUNE.lr_mult={backbone: 0.1, stage4: 0.5, head.fc.bias: 2}")
    model = build_model(cfg, 2)
    factors = ("0.1: backbone", "0.5: stage4", "2: head.fc.bias")
    assert apply_finetune(cfg, model) == "; ".join(f"learning rate x {text}" for text in factors)
    factor = {
        name: parameter.optimize_attr["learning_rate"]
        for name, parameter in model.named_parameters()
        if not parameter.stop_gradient
    }
    assert factor["backbone.bb_2_0.conv0._conv.weight"] == pytest.approx(0.1)
    # The longest matching name counts.
    assert factor["backbone.bb_3_1.conv1._batch_norm.bias"] == pytest.approx(0.5)
    # The head has factors of its own, which are multiplied.
    assert (factor["head.fc.weight"], factor["head.fc.bias"]) == (5, 20)


def test_the_optimizer_applies_learning_rate_factors():
    model = paddle.nn.Linear(2, 2)
    model.weight.optimize_attr["learning_rate"] = 0.1
    optimizer = paddle.optimizer.SGD(1.0, parameters=model.parameters())
    before = state_arrays(model)
    model(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    after = state_arrays(model)
    np.testing.assert_allclose(before["weight"] - after["weight"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(before["bias"] - after["bias"], 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "FINETUNE.freeze=[stag1]",
            r"FINETUNE.freeze: no parameter begins with 'stag1'; did you mean 'stage1'\?",
        ),
        ("FINETUNE.freeze=['']", "FINETUNE.freeze: no parameter begins with ''"),
        ("FINETUNE.freeze=[backbone, head]", "FINETUNE.freeze leaves no parameter to train"),
        ("FINETUNE.lr_mult={bakbone: 0.1}", "FINETUNE.lr_mult: no parameter begins with 'bakbone'"),
        (
            "FINETUNE.lr_mult={backbone: 0}",
            "FINETUNE.lr_mult.backbone is 0, expected a number above 0; FINETUNE.freeze stops",
        ),
        (
            "FINETUNE.lr_mult={backbone: fast}",
            "FINETUNE.lr_mult.backbone is 'fast', expected a number above 0",
        ),
    ],
)
def test_reports_mistakes_before_training(demo, override, problem):
    with pytest.raises(ConfigError, match=problem):
        describe(demo(override))
