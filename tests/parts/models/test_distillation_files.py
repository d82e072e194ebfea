"""Distillation: weight files and config sections."""

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState, average_buffers, read_model
from paddlevideo.engine.describe import describe
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.weights import WeightsError, load_into, state_arrays, write_arrays
from tests.parts.models.distillation_models import (
    CE,
    KL,
    RECOGNIZER,
    TEACHER_CE,
    batch_of,
    model_section,
)

# --- weights --------------------------------------------------------------------------------------


def test_loads_a_teacher_and_reports_its_tensors(distilled, teacher_file):
    cfg = distilled()
    model = build_model(cfg, 3)
    accounts = load_pretrained(cfg, model, ["blue sky", "green", "红色"])
    assert [str(a) for a in accounts] == [f"{teacher_file}: 67 of 67 tensors loaded"]
    arrays, _ = read_model(teacher_file)
    assert all(
        np.array_equal(arrays[n], t.numpy()) for n, t in model.part("Teacher").state_dict().items()
    )


def test_rejects_a_teacher_with_other_classes_or_of_another_model(distilled):
    cfg = distilled()
    with pytest.raises(
        WeightsError,
        match=r"Teacher: class 1 of .*teacher.pdparams is green, "
        r"of the data it is 红色.*same order",
    ):
        load_pretrained(cfg, build_model(cfg, 3), ["blue sky", "红色", "green"])
    with pytest.raises(WeightsError, match=r"class 2 of .* is 红色, of the data it is missing"):
        load_pretrained(cfg, build_model(cfg, 3), ["blue sky", "green"])
    cfg = distilled("MODEL.models.0.Teacher.backbone.depth=34")
    with pytest.raises(WeightsError, match=r"belong to another model"):
        load_pretrained(cfg, build_model(cfg, 3))


def test_student_starts_from_a_pretrained_backbone(distilled, tmp_path):
    plain = build_model(distilled(), 3).student.backbone
    write_arrays(
        tmp_path / "imagenet.pdparams",
        {**state_arrays(plain), "out.weight": np.zeros((4, 2), np.float32)},
    )
    cfg = distilled(f"MODEL.models.1.Student.backbone.pretrained={tmp_path}/imagenet.pdparams")
    model = build_model(cfg, 3)
    load_pretrained(cfg, model)
    loaded = state_arrays(model.student.backbone)
    assert all(np.array_equal(array, loaded[name]) for name, array in state_arrays(plain).items())


def test_reports_a_missing_file_with_its_location_and_a_fix(distilled, tmp_path):
    cfg = distilled(f"MODEL.models.1.Student.backbone.pretrained={tmp_path}/imagenet.pdparams")
    with pytest.raises(
        WeightsError,
        match=r":\d+: MODEL.models.1.Student.backbone.pretrained: .*imagenet.pdparams: "
        r"there is no such file; .*"
        r"start without: -o MODEL.models.1.Student.backbone.pretrained=null$",
    ):
        load_pretrained(cfg, build_model(cfg, 3))
    load_pretrained(
        c := distilled("MODEL.models.1.Student.backbone.pretrained=null"), build_model(c, 3)
    )
    cfg = distilled(teacher={"weights": f"{tmp_path}/none.pdparams"})
    with pytest.raises(
        WeightsError,
        match=r"Teacher.weights: .*none.pdparams: there is no such file.*; train that model first",
    ):
        load_pretrained(cfg, build_model(cfg, 3))


def test_saves_the_student_as_a_plain_model(distilled, small, tmp_path):
    cfg = distilled()
    model = build_model(cfg, 3)
    optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
    TrainState(
        model, optimizer, paddle.amp.GradScaler(enable=False), class_names=["a", "b", "c"]
    ).save_pair(tmp_path / "x_best")
    arrays, names = read_model(tmp_path / "x_best_student.pdparams")
    assert names == ["a", "b", "c"]
    plain = build_model(small(MODEL={"framework": "Recognizer2D", **RECOGNIZER}), 3)
    load_into(plain, arrays, "student")  # every name matches
    plain.eval(), model.eval()
    frames = {"frames": batch_of()["frames"]}
    np.testing.assert_array_equal(plain(frames).numpy(), model(frames).numpy())
    whole = build_model(cfg, 3)
    load_into(whole, read_model(tmp_path / "x_best.pdparams")[0], "both")


def test_ranks_do_not_average_frozen_statistics(distilled, monkeypatch):
    model, seen = build_model(distilled(), 3), []
    monkeypatch.setattr("paddlevideo.dist.average", seen.extend)
    average_buffers(model)
    assert len(seen) == sum(
        1 for name in model.student.state_dict() if name.endswith(("_mean", "_variance"))
    )


# --- config ---------------------------------------------------------------------------------------


def test_describe_names_both_models(distilled):
    text = describe(distilled())
    assert (
        "RecognizerDistillation of Teacher (ResNet + TSNHead) + Student (ResNet + TSNHead)" in text
        and "3 classes" in text
    )


ZERO_TEMPERATURE = {**KL, "temperature": 0}
ONE_MODEL = "[Student: {backbone: {name: ResNet}, head: {name: TSNHead, num_classes: 3}}]"
WRONG = {
    "only one model": (
        {"MODEL.models": ONE_MODEL},
        r"models lists Student; expected one Teacher and one Student",
    ),
    "unknown role": ({"MODEL.models": "[Tutor: {}]"}, r"there is no distilled named 'Tutor'"),
    "freeze": (
        {"MODEL.freeze_params_list": "[True]"},
        r"freeze_params_list has 1 values, expected one for each of Teacher, Student",
    ),
    "frozen student": (
        {"MODEL.freeze_params_list": "[False, True]", "MODEL.models.1.Student.weights": "x"},
        r"freezes Student, which must be trained",
    ),
    "frozen without weights": (
        {"MODEL.freeze_params_list": "[True, False]"},
        r"freezes Teacher, which has no weights; give it 'weights: FILE'",
    ),
    "framework": (
        {"MODEL.models.0.Teacher.framework": "Recogniser2D"},
        r"no framework named 'Recogniser2D'; did you mean",
    ),
    "tagger": (
        {"MODEL.models.0.Teacher.framework": "VideoTagger"},
        r"framework is VideoTagger; expected a recognizer that assigns one class per clip",
    ),
    "argument of another framework": (
        {"MODEL.models.0.Teacher.sync_weight": "1"},
        r"Teacher has no argument 'sync_weight'",
    ),
    "frames": ({"MODEL.models.1.Student.num_frames": "0"}, r"num_frames is 0, expected at least 1"),
    "classes": (
        {"MODEL.models.1.Student.head.num_classes": "4"},
        r"num_classes of the model is 3 .*, 4 .*; one model has one",
    ),
    "pairs": (
        {"MODEL.loss.Train.0.model_name_pairs": "[Student, Teacher]"},
        r"DistillationCELoss: .* expected \[Teacher or Student, GroundTruth\]",
    ),
    "same model twice": (
        {"MODEL.loss.Train.2.model_name_pairs": "[Student, Student]"},
        r"DistillationDMLLoss: model_name_pairs is",
    ),
    "weight": ({"MODEL.loss.Train.0.loss_weight": "0"}, r"loss_weight is 0.0; it must be above 0"),
    "duplicate loss": (
        {"MODEL.loss.Train.1.model_name_pairs": "[Student, GroundTruth]"},
        r"loss.Train has ce_student twice",
    ),
    "unused teacher": ({"MODEL.loss.Train": f"[{CE}]"}, r"loss.Train has no loss with Teacher"),
    "teacher without a loss": (
        {"MODEL.loss.Train": f"[{CE}, {KL}]"},
        r"Teacher learns from no loss in loss.Train; freeze it",
    ),
    "temperature": (
        {"MODEL.loss.Train": f"[{CE}, {TEACHER_CE}, {ZERO_TEMPERATURE}]"},
        r"temperature is 0.0; it must be above 0",
    ),
    "validation": (
        {"MODEL.loss.Val": f"[{TEACHER_CE}]"},
        r"validation reports the cross entropy of Student and GroundTruth",
    ),
    "unknown key": (
        {"MODEL.loss.Trian": "[]"},
        r"MODEL.loss.Trian is not known; did you mean 'Train'",
    ),
    "argument": (
        {"MODEL.loss.Train.0.weight": "2"},
        r"DistillationCELoss\) has no argument 'weight'; did you mean 'loss_weight'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_rejects_wrong_sections(small, case):
    changes, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        describe(
            small(*(f"{key}={value}" for key, value in changes.items()), MODEL=model_section())
        )


def test_reads_the_config_sections_of_paddlevideo(small):
    section = model_section(freeze=[False, False], Val=[dict(CE)])
    model = build_model(small(MODEL=section), 3)
    assert (
        list(model.train_losses) == ["ce_student", "ce_teacher", "dml"]
        and model.frozen_prefixes == ()
    )
