"""Distillation: what a config may say, who learns, what stays still, which clip each model sees, what is saved."""

import numpy as np
import paddle
import pytest
from scipy.special import rel_entr, softmax

from paddlevideo import losses
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState, average_buffers, read_model
from paddlevideo.engine.describe import describe
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.models.distillation import clip_for
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.models.slowfast import ResNetSlowFast
from paddlevideo.weights import WeightsError, load_into, state_arrays, write_arrays

CE = {"name": "DistillationCELoss", "model_name_pairs": ["Student", "GroundTruth"]}
TEACHER_CE = {**CE, "model_name_pairs": ["Teacher", "GroundTruth"]}
DML = {"name": "DistillationDMLLoss", "model_name_pairs": ["Student", "Teacher"]}
KL = {"name": "DistillationKLLoss", "model_name_pairs": ["Student", "Teacher"], "temperature": 2.0}
RECOGNIZER = {
    "backbone": {"name": "ResNet", "depth": 18},
    "head": {"name": "TSNHead", "num_classes": 3},
}


def step(model, batch):
    """The losses of a batch."""
    return model.losses(
        model({name: batch[name] for name in model.train_inputs if name in batch}), batch
    )


def model_section(
    train=(CE, TEACHER_CE, DML), freeze=None, teacher=None, student=None, **loss
) -> dict:
    return {
        "framework": "RecognizerDistillation",
        "freeze_params_list": freeze,
        "models": [
            {"Teacher": {**RECOGNIZER, **(teacher or {})}},
            {"Student": {**RECOGNIZER, **(student or {})}},
        ],
        "loss": {"Train": [dict(each) for each in train], **loss},
    }


@pytest.fixture
def teacher_file(small, tmp_path):
    """A whole model's file, as a training of it alone writes."""
    model = build_model(small(MODEL={"framework": "Recognizer2D", **RECOGNIZER}), 3)
    for name, tensor in model.state_dict().items():
        if "_mean" in name:
            tensor.set_value(np.full(tensor.shape, 0.01, np.float32))
    state = TrainState(model, None, None, class_names=["blue sky", "green", "红色"])
    write_arrays(tmp_path / "teacher.pdparams", state.model_arrays())
    return tmp_path / "teacher.pdparams"


@pytest.fixture
def taught(small, teacher_file):
    """`taught(...)` -> a config with a frozen teacher."""

    def make(*overrides, train=(CE, KL), **more):
        more.setdefault("teacher", {"weights": str(teacher_file)})
        return small(*overrides, MODEL=model_section(train, [True, False], **more))

    return make


def batch_of(size=4, frames=4, mixed=False):
    rng = np.random.default_rng(0)
    labels = paddle.to_tensor(rng.integers(0, 3, size))
    batch = {
        "frames": paddle.to_tensor(
            rng.standard_normal((size, frames, 3, 32, 32)).astype("float32")
        ),
        "label": labels,
    }
    if mixed:
        batch |= {"labels_a": labels, "labels_b": labels[::-1], "lam": paddle.full([size], 0.3)}
    return batch


# --- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_temperature_loss_against_scipy(temperature):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 5, 7)) * 3
    expected = (
        temperature**2
        * rel_entr(softmax(y / temperature, 1), softmax(x / temperature, 1)).sum(1).mean()
    )
    learner, source = (paddle.to_tensor(z.astype("float32")) for z in (x, y))
    learner.stop_gradient = source.stop_gradient = False
    loss = losses.temperature_loss(learner, source, temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    slope = temperature * (softmax(x / temperature, 1) - softmax(y / temperature, 1)) / 5
    np.testing.assert_allclose(learner.grad.numpy(), slope, atol=1e-6)
    assert source.grad is None, "who is learnt from does not learn"
    assert float(losses.temperature_loss(learner, learner, temperature)) == pytest.approx(
        0, abs=1e-6
    )


def test_mutual_loss_moves_both_sides_and_a_mixed_batch_of_one_works():
    logits = {
        name: paddle.to_tensor([[1.0, 2.0, row]], stop_gradient=False)
        for name, row in (("Student", 0.0), ("Teacher", 3.0))
    }
    losses.DistillationDMLLoss(["Student", "Teacher"])(logits, {}, {}).backward()
    assert all(float(x.grad.abs().sum()) > 0 for x in logits.values())
    mixed = {
        "labels_a": paddle.to_tensor([0]),
        "labels_b": paddle.to_tensor([2]),
        "lam": paddle.to_tensor([0.25]),
    }
    found = losses.DistillationCELoss(["Student", "GroundTruth"])(logits, mixed, {"Student": 0.0})
    rows = -np.log(softmax([1.0, 2.0, 0.0]))
    assert float(found) == pytest.approx(0.25 * rows[0] + 0.75 * rows[2], rel=1e-6)


# --- the step ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_step_is_the_weighted_sum_of_what_it_reports(taught, size, mixed):
    model = build_model(taught(train=({**CE, "loss_weight": 0.5}, {**KL, "loss_weight": 2.0})), 3)
    model.train()
    values = {
        name: float(value) for name, value in step(model, batch_of(size, mixed=mixed)).items()
    }
    assert list(values) == ["loss", "top1", "top3", "ce_student", "kl", "teacher_top1"]
    assert values["loss"] == pytest.approx(0.5 * values["ce_student"] + 2 * values["kl"], rel=1e-6)


def test_label_smoothing_of_the_head_counts(taught):
    head = {**RECOGNIZER["head"], "ls_eps": 0.1, "drop_ratio": 0.0}
    model = build_model(taught(student={"head": head}), 3)
    model.train()
    assert model.label_smoothing == 0.1
    batch = batch_of()
    values = step(model, batch)
    logits = model({"frames": batch["frames"]})["Student"]
    assert float(values["ce_student"]) == pytest.approx(
        float(losses.cross_entropy(logits, batch["label"], 0.1)), rel=1e-5
    )


def test_a_frozen_teacher_stays_as_it_is(taught):
    cfg = taught("PRECISEBN.preciseBN_interval=1")
    model = build_model(cfg, 3)
    load_pretrained(cfg, model)
    optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
    before = state_arrays(model)
    answers = []
    for _ in range(2):
        model.train()
        batch = batch_of()
        answers.append(model({"frames": batch["frames"]})["Teacher"].numpy())
        step(model, batch)["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
    np.testing.assert_array_equal(
        *answers, "the same frames, the same answer: no dropout, no batch statistics"
    )
    after = state_arrays(model)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not any(name.startswith("Teacher.") for name in moved)
    student = {name for name in before if name.startswith("Student.")}
    assert len(moved) > 0.9 * len(student), "weights and statistics of the student move"


def test_models_that_are_not_frozen_both_learn(small):
    cfg = small(MODEL=model_section())
    model = build_model(cfg, 3)
    model.train()
    values = step(model, batch_of())
    assert {"ce_student", "ce_teacher", "dml"} <= set(values)
    values["loss"].backward()
    assert all(p.grad is not None for p in model.parameters() if not p.stop_gradient)
    assert float(values["loss"]) == pytest.approx(
        sum(float(values[k]) for k in ("ce_student", "ce_teacher", "dml")), rel=1e-6
    )


def test_evaluation_is_the_student_s(taught):
    model = build_model(taught(student={"num_frames": 2}), 3)
    model.eval()
    batch = {"frames": batch_of()["frames"]}
    np.testing.assert_array_equal(
        model(batch).numpy(), model.student(batch).numpy(), "all frames, as its own config has them"
    )
    assert (
        model.inputs is model.student.inputs
        and model.view_average == "logits"
        and model.num_classes == 3
    )


# --- which clip each model sees --------------------------------------------------------------------------------------------


class Takes:
    """Stands for a recognizer: what it takes, and how its pathways belong together."""

    def __init__(self, *names, alpha=4):
        self.inputs, self.alpha = dict.fromkeys(names), alpha


def numbered(num_frames):
    """frames [2, T, 3, 4, 4] whose pixels say which frame they are of."""
    return (
        paddle.arange(num_frames, dtype="float32").reshape([1, -1, 1, 1, 1]).tile([2, 1, 3, 4, 4])
    )


def test_frames_are_spread_over_the_clip():
    for total, count, expected in (
        (8, 3, [1, 4, 6]),
        (8, 4, [1, 3, 5, 7]),
        (8, 8, list(range(8))),
        (5, 1, [2]),
    ):
        found = clip_for("Student", Takes("frames"), {"frames": numbered(total)}, count)["frames"]
        assert found[0, :, 0, 0, 0].tolist() == expected and list(found.shape) == [
            2,
            count,
            3,
            4,
            4,
        ]


def test_frames_and_pathways_are_made_from_each_other():
    frames = numbered(16)
    pathways = clip_for("Teacher", Takes("slow", "fast", alpha=8), {"frames": frames})
    assert pathways["fast"][1, 2, :, 3, 3].tolist() == list(range(16))
    assert pathways["slow"][1, 2, :, 3, 3].tolist() == np.linspace(0, 15, 2).astype(int).tolist()
    back = clip_for("Student", Takes("frames"), pathways, 4)
    assert back["frames"][0, :, 1, 0, 0].tolist() == [2, 6, 10, 14]
    half = clip_for("Student", Takes("slow", "fast", alpha=4), pathways, 8)
    assert (
        half["fast"][0, 0, :, 0, 0].tolist() == list(range(1, 16, 2)) and half["slow"].shape[2] == 2
    )
    sound = {"audio": paddle.zeros([2, 1, 8, 8]), **pathways}
    assert clip_for("Teacher", Takes("slow", "fast", "audio"), sound)["audio"] is sound["audio"]


def test_clips_that_cannot_be_made():
    with pytest.raises(
        ValueError, match=r"Teacher takes 9 frames, PIPELINE.train gives clips of 8; sample more"
    ):
        clip_for("Teacher", Takes("frames"), {"frames": numbered(8)}, 9)
    with pytest.raises(ValueError, match=r"Teacher takes frames; it was given audio"):
        clip_for("Teacher", Takes("frames"), {"audio": None})
    with pytest.raises(
        ValueError,
        match=r"Teacher takes audio and num_frames 2 of frames; it was given frames, audio",
    ):
        clip_for("Teacher", Takes("audio"), {"frames": numbered(8), "audio": None}, 2)


def test_the_plan_tells_of_clips_that_one_of_the_models_cannot_take(taught):
    with pytest.raises(
        ConfigError,
        match=r"PIPELINE.train: Student takes 9 frames, PIPELINE.train gives clips of \d+; sample more",
    ):
        describe(taught(student={"num_frames": 9}))
    sound = {
        "framework": "AudioRecognizer",
        "backbone": {"name": "ResNet", "depth": 18, "in_channels": 1},
        "head": {"name": "TSNAudioHead", "num_classes": 3},
    }
    with pytest.raises(
        ConfigError, match=r"PIPELINE.train: Teacher takes audio; it was given frames"
    ):
        describe(taught(teacher={**sound, "weights": "none.pdparams"}))


def test_a_network_over_frames_learns_from_one_over_clips(small):
    slowfast = {
        "framework": "Recognizer3D",
        "backbone": {"name": "ResNetSlowFast", "alpha": 2, "beta": 2, "width_per_group": 8, "fusion_kernel_sz": 5},
        "head": {"name": "SlowFastHead", "width_per_group": 8, "alpha": 2, "beta": 2, "num_frames": 4, "crop_size": 32,
                 "num_classes": 3},
    }  # fmt: skip
    model = build_model(small(MODEL=model_section(teacher=slowfast, student={"num_frames": 2})), 3)
    assert isinstance(model.student, Recognizer2D) and isinstance(
        model.part("Teacher").backbone, ResNetSlowFast
    )
    assert set(model.inputs) == {"frames"} and set(model.train_inputs) == {"frames", "slow", "fast"}
    model.train()
    assert np.isfinite(float(step(model, batch_of(2))["loss"]))


def test_the_arguments_are_those_of_the_framework(small):
    sound = {
        "framework": "AudioRecognizer",
        "backbone": {
            "name": "ResNet",
            "depth": 18,
            "in_channels": 1,
        },  # the one for sound, which has in_channels
        "head": {"name": "TSNAudioHead", "num_classes": 3},
    }
    section = model_section(teacher={**sound, "average_clips": "score"}, student=sound)
    model = build_model(small(MODEL=section), 3)
    assert model.part("Teacher").view_average == "logits" and model.view_average == "probabilities"
    batch = {"audio": paddle.randn([2, 1, 1, 40, 80]), "label": paddle.to_tensor([0, 2])}
    model.train()
    assert np.isfinite(float(step(model, batch)["loss"]))


# --- weights -----------------------------------------------------------------------------------------------------------------


def test_a_teacher_is_loaded_and_accounted_for(taught, teacher_file):
    cfg = taught()
    model = build_model(cfg, 3)
    accounts = load_pretrained(cfg, model, ["blue sky", "green", "红色"])
    assert [str(a) for a in accounts] == [f"{teacher_file}: 107 of 107 tensors loaded"]
    arrays, _ = read_model(teacher_file)
    assert all(
        np.array_equal(arrays[n], t.numpy()) for n, t in model.part("Teacher").state_dict().items()
    )


def test_a_teacher_of_other_classes_or_of_another_model_is_refused(taught):
    cfg = taught()
    with pytest.raises(
        WeightsError,
        match=r"Teacher: class 1 of .*teacher.pdparams is green, of the data it is 红色.*same order",
    ):
        load_pretrained(cfg, build_model(cfg, 3), ["blue sky", "红色", "green"])
    with pytest.raises(WeightsError, match=r"class 2 of .* is 红色, of the data it is missing"):
        load_pretrained(cfg, build_model(cfg, 3), ["blue sky", "green"])
    cfg = taught("MODEL.models.0.Teacher.backbone.depth=34")
    with pytest.raises(WeightsError, match=r"belong to another model"):
        load_pretrained(cfg, build_model(cfg, 3))


def test_a_distilled_backbone_to_start_from(taught, tmp_path):
    plain = build_model(taught(), 3).student.backbone
    write_arrays(
        tmp_path / "imagenet.pdparams",
        {**state_arrays(plain), "out.weight": np.zeros((4, 2), np.float32)},
    )
    cfg = taught(f"MODEL.models.1.Student.backbone.pretrained={tmp_path}/imagenet.pdparams")
    model = build_model(cfg, 3)
    load_pretrained(cfg, model)
    loaded = state_arrays(model.student.backbone)
    assert all(np.array_equal(array, loaded[name]) for name, array in state_arrays(plain).items())


def test_a_file_that_is_not_there_is_told_with_its_place_and_a_way_out(taught, tmp_path):
    cfg = taught(f"MODEL.models.1.Student.backbone.pretrained={tmp_path}/imagenet.pdparams")
    with pytest.raises(
        WeightsError,
        match=r":\d+: MODEL.models.1.Student.backbone.pretrained: .*imagenet.pdparams: there is no such file; .*"
        r"start without: -o MODEL.models.1.Student.backbone.pretrained=null$",
    ):
        load_pretrained(cfg, build_model(cfg, 3))
    load_pretrained(
        c := taught("MODEL.models.1.Student.backbone.pretrained=null"), build_model(c, 3)
    )
    cfg = taught(teacher={"weights": f"{tmp_path}/none.pdparams"})
    with pytest.raises(
        WeightsError,
        match=r"Teacher.weights: .*none.pdparams: there is no such file.*; train that model first",
    ):
        load_pretrained(cfg, build_model(cfg, 3))


def test_the_student_is_saved_as_the_plain_model_s(taught, small, tmp_path):
    cfg = taught()
    model = build_model(cfg, 3)
    optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
    TrainState(
        model, optimizer, paddle.amp.GradScaler(enable=False), class_names=["a", "b", "c"]
    ).save_pair(tmp_path / "x_best")
    arrays, names = read_model(tmp_path / "x_best_student.pdparams")
    assert names == ["a", "b", "c"]
    plain = build_model(small(MODEL={"framework": "Recognizer2D", **RECOGNIZER}), 3)
    load_into(plain, arrays, "student")  # every name, none left over
    plain.eval(), model.eval()
    frames = {"frames": batch_of()["frames"]}
    np.testing.assert_array_equal(plain(frames).numpy(), model(frames).numpy())
    whole = build_model(cfg, 3)
    load_into(whole, read_model(tmp_path / "x_best.pdparams")[0], "both")


def test_ranks_do_not_exchange_what_is_frozen(taught, monkeypatch):
    model, seen = build_model(taught(), 3), []
    monkeypatch.setattr("paddlevideo.dist.average", seen.extend)
    average_buffers(model)
    assert len(seen) == sum(
        1 for name in model.student.state_dict() if name.endswith(("_mean", "_variance"))
    )


# --- what a config may say ----------------------------------------------------------------------------------------------------


def test_a_plan_names_both(taught):
    text = describe(taught())
    assert (
        "RecognizerDistillation of Teacher (ResNet + TSNHead) + Student (ResNet + TSNHead)" in text
        and "3 classes" in text
    )


WRONG = {
    "one model": ({"MODEL.models": "[Student: {backbone: {name: ResNet}, head: {name: TSNHead, num_classes: 3}}]"},
                  r"models lists Student; expected one Teacher and one Student"),
    "a third name": ({"MODEL.models": "[Tutor: {}]"}, r"there is no distilled named 'Tutor'"),
    "freeze": ({"MODEL.freeze_params_list": "[True]"},
               r"freeze_params_list has 1 values, expected one for each of Teacher, Student"),
    "frozen student": ({"MODEL.freeze_params_list": "[False, True]", "MODEL.models.1.Student.weights": "x"},
                       r"freezes Student, which must be trained"),
    "frozen noise": ({"MODEL.freeze_params_list": "[True, False]"},
                     r"freezes Teacher, which has no weights; give it 'weights: FILE'"),
    "framework": ({"MODEL.models.0.Teacher.framework": "Recogniser2D"}, r"no framework named 'Recogniser2D'; did you mean"),
    "tagger": ({"MODEL.models.0.Teacher.framework": "VideoTagger"},
               r"framework is VideoTagger; expected a recognizer that assigns one class per clip"),
    "not its argument": ({"MODEL.models.0.Teacher.sync_weight": "1"}, r"Teacher has no argument 'sync_weight'"),
    "frames": ({"MODEL.models.1.Student.num_frames": "0"}, r"num_frames is 0, expected at least 1"),
    "classes": ({"MODEL.models.1.Student.head.num_classes": "4"}, r"num_classes of the heads is 3 .*, 4 .*; one model has one"),
    "pairs": ({"MODEL.loss.Train.0.model_name_pairs": "[Student, Teacher]"},
              r"DistillationCELoss: .* expected \[Teacher or Student, GroundTruth\]"),
    "itself": ({"MODEL.loss.Train.2.model_name_pairs": "[Student, Student]"}, r"DistillationDMLLoss: model_name_pairs is"),
    "weight": ({"MODEL.loss.Train.0.loss_weight": "0"}, r"loss_weight is 0.0; it must be above 0"),
    "twice": ({"MODEL.loss.Train.1.model_name_pairs": "[Student, GroundTruth]"}, r"loss.Train has ce_student twice"),
    "idle": ({"MODEL.loss.Train": f"[{CE}]"}, r"loss.Train has no loss with Teacher"),
    "no lesson": ({"MODEL.loss.Train": f"[{CE}, {KL}]"}, r"Teacher learns from no loss in loss.Train; freeze it"),
    "cold": ({"MODEL.loss.Train": f"[{CE}, {TEACHER_CE}, {({**KL, 'temperature': 0})}]"},
             r"temperature is 0.0; it must be above 0"),
    "validation": ({"MODEL.loss.Val": f"[{TEACHER_CE}]"}, r"validation reports the cross entropy of Student and GroundTruth"),
    "typing error": ({"MODEL.loss.Trian": "[]"}, r"MODEL.loss.Trian is not known; did you mean 'Train'"),
    "argument": ({"MODEL.loss.Train.0.weight": "2"},
                 r"DistillationCELoss\) has no argument 'weight'; did you mean 'loss_weight'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_sections_are_told(small, case):
    changes, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        describe(
            small(*(f"{key}={value}" for key, value in changes.items()), MODEL=model_section())
        )


def test_the_reference_s_sections_are_read(small):
    section = model_section(freeze=[False, False], Val=[dict(CE)])
    model = build_model(small(MODEL=section), 3)
    assert (
        list(model.train_losses) == ["ce_student", "ce_teacher", "dml"]
        and model.frozen_prefixes == ()
    )
