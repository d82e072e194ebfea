"""Weights of PP-TSMv2, whose classifier is in the backbone: start, other classes, other names."""

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import TrainState, read_checkpoint
from paddlevideo.engine.classes import Classes, load_records
from paddlevideo.engine.finetune import apply_finetune
from paddlevideo.engine.frozen import fit_head
from paddlevideo.engine.load import load_trained, trained_model
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.engine.start_weights import load_weights
from paddlevideo.weights import WeightsError, own_names, state_arrays, write_arrays
from tests.conftest import small_config

BACKBONE = {"name": "PPTSM_v2", "scale": 0.125, "class_expand": 16, "num_seg": 4}
STUDENT = {"backbone": BACKBONE, "head": {"name": "MoViNetHead"}}
TEACHER = {
    "backbone": {"name": "ResNetTweaksTSM", "depth": 10, "base_channels": 4, "num_seg": 4},
    "head": {"name": "ppTSMHead"},
}
PAIR = {"name": "DistillationCELoss", "model_name_pairs": ["Student", "GroundTruth"]}
BOTH = {
    "framework": "RecognizerDistillation",
    "models": [{"Teacher": TEACHER}, {"Student": STUDENT}],
    "loss": {
        "Train": [PAIR, {"name": "DistillationDMLLoss", "model_name_pairs": ["Student", "Teacher"]}]
    },
}
PARTS = {"backbone": "0", "head": "1"}
FRAMES = [f"PIPELINE.{split}.sample.num_seg=4" for split in ("train", "valid", "test")]


@pytest.fixture
def small(clips, tmp_path):
    """`small(*overrides, MODEL=...)`: PP-TSMv2 on clips of 4 frames, 32 x 32 pixels."""

    def make(*overrides, MODEL=None, **changes):
        section = MODEL or {"framework": "Recognizer2D", **STUDENT}
        path = small_config(clips, tmp_path, MODEL=section, **changes)
        return load_config(path, [*FRAMES, *overrides])

    return make


@pytest.fixture
def imagenet(small):
    """Arrays as in PaddleClas' file: 1000 classes, no attention, names without `backbone.`"""
    paddle.seed(7)
    arrays = state_arrays(build_model(small(), 1000).backbone)
    return {name: array + 1 for name, array in arrays.items()}


def numbered(name):
    """The name of a tensor in a distillation of PaddleVideo."""
    words = name.split(".")
    return ".".join(PARTS.get(word, word) if i < 2 else word for i, word in enumerate(words))


# --- ImageNet weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("prefix", ["", "backbone.", "0."])  # PaddleClas, whole model, student
def test_starts_from_a_file_of_another_classifier(small, imagenet, tmp_path, attention, prefix):
    path = tmp_path / "lcnet.pdparams"
    write_arrays(path, {prefix + name: array for name, array in imagenet.items()})
    overrides = [f"MODEL.backbone.use_temporal_att={attention}"]
    cfg = small(*overrides, f"MODEL.backbone.pretrained={path}")
    model = build_model(cfg, 3)
    before = state_arrays(model.backbone)
    (account,) = load_pretrained(cfg, model)
    assert "fc.weight is [16, 1000] in the file, [16, 3] in the model" in account.reshaped
    assert account.missing == (
        ("global_attention.fc.weight", "global_attention.fc.bias") if attention else ()
    )
    for name, array in state_arrays(model.backbone).items():
        own = name.startswith(("fc.", "global_attention."))
        np.testing.assert_array_equal(array, (before if own else imagenet)[name])


@pytest.mark.parametrize("lost", ["last_conv.weight", "stages.2.0.se.conv1.bias"])
def test_any_other_tensor_must_be_there(small, imagenet, tmp_path, lost):
    path = tmp_path / "lcnet.pdparams"
    del imagenet[lost]
    write_arrays(path, imagenet)
    cfg = small(f"MODEL.backbone.pretrained={path}")
    with pytest.raises(WeightsError, match=f"not in the file: {lost}"):
        load_pretrained(cfg, build_model(cfg, 3))


def test_imagenet_names_the_published_file(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLEVIDEO_CACHE", str(tmp_path / "cache"))
    cfg = small("MODEL.backbone.pretrained=imagenet", "MODEL.backbone.scale=1.0")
    with paddle.LazyGuard():
        model = build_model(cfg, 3)
    with pytest.raises(WeightsError, match=r"put PPLCNetV2_base_ssld_pretrained.pdparams into "):
        load_pretrained(cfg, model)


# --- other classes --------------------------------------------------------------------------------


def test_the_number_of_classes_is_that_of_the_data(small):
    cfg = small()
    model = build_model(cfg)
    assert model.num_classes == model.backbone.num_classes == 3
    assert build_model(small("MODEL.backbone.class_num=9")).num_classes == 9
    with pytest.raises(ConfigError, match=r"9 \(MODEL.backbone.class_num, .*7 \(MODEL.head.num_cl"):
        build_model(small("MODEL.backbone.class_num=9", "MODEL.head.num_classes=7"))


def test_a_classifier_for_other_classes_is_initialized_again(small):
    released = state_arrays(build_model(small(), 5))
    model = build_model(small("MODEL.head.keep_rows=by_name"), 3)
    lines = load_weights(model, released, "k5", list("abcde"), ["x", "d", "b"])
    assert lines[1].startswith("backbone.fc is re-initialized: 5 -> 3 classes; rows kept by name")
    weight = model.state_dict()["backbone.fc.weight"].numpy()
    np.testing.assert_array_equal(weight[:, 1:], released["backbone.fc.weight"][:, [3, 1]])
    with pytest.raises(WeightsError, match=r"has 5 classes, and the config or its data has 3 cl"):
        load_trained(model, released, "k5.pdparams", None, Classes(3))


def test_both_classifiers_of_a_distillation_are_initialized_again(small):
    paddle.seed(0)
    released = state_arrays(build_model(small(MODEL=BOTH), 5))
    lines = load_weights(build_model(small(MODEL=BOTH), 3), released, "k5", None, None)
    layers = {line.split(" is ")[0] for line in lines[1:]}
    assert layers == {"Teacher.head.fc", "Student.backbone.fc"}


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["backbone"], {"backbone.fc.weight", "backbone.fc.bias"}),
        (
            ["stem", "stage1", "stage2", "stage3", "stage4"],
            {"backbone.fc.weight", "backbone.fc.bias"},
        ),
        (["backbone.fc"], None),
    ],
)
def test_freezing_the_backbone_leaves_the_classifier(small, words, kept):
    cfg = small(FINETUNE={"freeze": words})
    model = build_model(cfg, 3)
    apply_finetune(cfg, model)
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    if kept is None:
        assert not any(name.startswith("backbone.fc.") for name in trained) and trained
    else:
        assert trained == kept


def test_a_classifier_is_fitted_on_frozen_features(small):
    cfg = small("epochs=0", FROZEN={"folds": 3})
    lists, classes = load_records(cfg, ("train",))
    paddle.seed(3)
    model = build_model(cfg, classes.num)
    before = state_arrays(model)
    fit_head(cfg, model, lists["train"].records, classes)
    after = state_arrays(model)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}


# --- files ----------------------------------------------------------------------------------------


def test_a_file_records_its_architecture(small, tmp_path):
    cfg = small()
    path = tmp_path / "w.pdparams"
    write_arrays(path, TrainState(build_model(cfg, 3), None, None).model_arrays())
    assert read_checkpoint(path)[3] == "PPTSM_v2"
    trained_model(cfg, path)


def test_a_released_student_is_a_plain_model(small, tmp_path):
    """PaddleVideo writes 0.fc.weight for the student; other names come back unchanged."""
    model = build_model(small(), 3)
    arrays = state_arrays(model)
    path = tmp_path / "PPTSMv2_k400_8f_dml_student.pdparams"
    write_arrays(path, {numbered(name): array for name, array in arrays.items()})
    loaded, _ = trained_model(small(), path)
    for name, array in state_arrays(loaded).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("part", ["", "Teacher.", "Student."])
def test_released_names_of_a_distillation(part):
    arrays = {f"{part}0.conv.weight": np.ones(1), f"{part}1.fc.bias": np.zeros(1)}
    assert list(own_names(arrays)) == [f"{part}backbone.conv.weight", f"{part}head.fc.bias"]


@pytest.mark.parametrize(
    "names",
    [
        ["backbone.stages.0.0.bn.bias", "backbone.fc.weight"],
        ["Teacher.backbone.a", "Student.head.b"],
        ["0.fc.weight", "head.fc.bias"],
        ["Teacher.0.a", "epoch"],
        ["members.0.fc", "2.fc"],
    ],
)
def test_other_names_come_back_unchanged(names):
    arrays = {name: np.ones(1) for name in names}
    assert own_names(arrays) is arrays


def test_a_released_distillation_starts_a_distillation(small, tmp_path):
    cfg = small(MODEL=BOTH)
    model = build_model(cfg, 3)
    arrays = state_arrays(model)
    path = tmp_path / "PPTSMv2_k400_8f_dml.pdparams"
    write_arrays(path, {numbered(name): array + 1 for name, array in arrays.items()})
    load_weights(model, read_checkpoint(path)[0], path, None, None)
    for name, array in state_arrays(model).items():
        np.testing.assert_array_equal(array, arrays[name] + 1)
