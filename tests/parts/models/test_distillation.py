"""Distillation: losses, frozen models, and the clips of each model."""

import numpy as np
import paddle
import pytest
from scipy.special import rel_entr, softmax

from paddlevideo import losses
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model
from paddlevideo.engine.describe import describe
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.models.distillation import clip_for
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.models.slowfast import ResNetSlowFast
from paddlevideo.weights import state_arrays
from tests.parts.models.distillation_models import CE, KL, RECOGNIZER, batch_of, model_section, step

# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_temperature_loss_against_scipy(temperature):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 5, 7)) * 3
    expected = (
        temperature**2
        * rel_entr(softmax(y / temperature, 1), softmax(x / temperature, 1)).sum(1).mean()
    )
    student, teacher = (paddle.to_tensor(z.astype("float32")) for z in (x, y))
    student.stop_gradient = teacher.stop_gradient = False
    loss = losses.temperature_loss(student, teacher, temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    slope = temperature * (softmax(x / temperature, 1) - softmax(y / temperature, 1)) / 5
    np.testing.assert_allclose(student.grad.numpy(), slope, atol=1e-6)
    assert teacher.grad is None, "the teacher is not trained by this loss"
    assert float(losses.temperature_loss(student, student, temperature)) == pytest.approx(
        0, abs=1e-6
    )


def test_mutual_loss_trains_both_models_and_accepts_a_mixed_batch_of_one():
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


# --- the step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_loss_is_the_weighted_sum_of_the_reported_losses(distilled, size, mixed):
    model = build_model(
        distilled(train=({**CE, "loss_weight": 0.5}, {**KL, "loss_weight": 2.0})), 3
    )
    model.train()
    values = {
        name: float(value) for name, value in step(model, batch_of(size, mixed=mixed)).items()
    }
    assert list(values) == ["loss", "top1", "top3", "ce_student", "kl", "teacher_top1"]
    assert values["loss"] == pytest.approx(0.5 * values["ce_student"] + 2 * values["kl"], rel=1e-6)


def test_uses_the_label_smoothing_of_the_head(distilled):
    head = {**RECOGNIZER["head"], "ls_eps": 0.1, "drop_ratio": 0.0}
    model = build_model(distilled(student={"head": head}), 3)
    model.train()
    assert model.label_smoothing == 0.1
    batch = batch_of()
    values = step(model, batch)
    logits = model({"frames": batch["frames"]})["Student"]
    assert float(values["ce_student"]) == pytest.approx(
        float(losses.cross_entropy(logits, batch["label"], 0.1)), rel=1e-5
    )


def test_does_not_change_a_frozen_teacher(distilled):
    cfg = distilled("PRECISEBN.preciseBN_interval=1")
    model = build_model(cfg, 3)
    load_pretrained(cfg, model)
    optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
    before = state_arrays(model)
    logits = []
    for _ in range(2):
        model.train()
        batch = batch_of()
        logits.append(model({"frames": batch["frames"]})["Teacher"].numpy())
        step(model, batch)["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
    # Equal for equal frames: the teacher has no dropout and uses its running statistics.
    np.testing.assert_array_equal(*logits)
    after = state_arrays(model)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not any(name.startswith("Teacher.") for name in changed)
    student = {name for name in before if name.startswith("Student.")}
    assert len(changed) > 0.9 * len(student), "weights and statistics of the student change"


def test_trains_both_models_that_are_not_frozen(small):
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


def test_evaluates_the_student(distilled):
    model = build_model(distilled(student={"num_frames": 2}), 3)
    model.eval()
    batch = {"frames": batch_of()["frames"]}
    np.testing.assert_array_equal(
        model(batch).numpy(), model.student(batch).numpy(), "takes all frames in evaluation"
    )
    assert (
        model.inputs is model.student.inputs
        and model.view_average == "logits"
        and model.num_classes == 3
    )


# --- the clip of each model -----------------------------------------------------------------------


class FakeRecognizer:
    """Replaces a recognizer: it has inputs and alpha only."""

    def __init__(self, *names, alpha=4):
        self.inputs, self.alpha = dict.fromkeys(names), alpha


def numbered(num_frames):
    """frames [2, T, 3, 4, 4] whose pixel values are the frame numbers."""
    return (
        paddle.arange(num_frames, dtype="float32").reshape([1, -1, 1, 1, 1]).tile([2, 1, 3, 4, 4])
    )


def test_takes_frames_evenly_spaced_over_the_clip():
    for total, count, expected in (
        (8, 3, [1, 4, 6]),
        (8, 4, [1, 3, 5, 7]),
        (8, 8, list(range(8))),
        (5, 1, [2]),
    ):
        found = clip_for("Student", FakeRecognizer("frames"), {"frames": numbered(total)}, count)[
            "frames"
        ]
        assert found[0, :, 0, 0, 0].tolist() == expected and list(found.shape) == [
            2,
            count,
            3,
            4,
            4,
        ]


def test_converts_frames_and_pathways_to_each_other():
    frames = numbered(16)
    pathways = clip_for("Teacher", FakeRecognizer("slow", "fast", alpha=8), {"frames": frames})
    assert pathways["fast"][1, 2, :, 3, 3].tolist() == list(range(16))
    assert pathways["slow"][1, 2, :, 3, 3].tolist() == np.linspace(0, 15, 2).astype(int).tolist()
    back = clip_for("Student", FakeRecognizer("frames"), pathways, 4)
    assert back["frames"][0, :, 1, 0, 0].tolist() == [2, 6, 10, 14]
    half = clip_for("Student", FakeRecognizer("slow", "fast", alpha=4), pathways, 8)
    assert (
        half["fast"][0, 0, :, 0, 0].tolist() == list(range(1, 16, 2)) and half["slow"].shape[2] == 2
    )
    audio = {"audio": paddle.zeros([2, 1, 8, 8]), **pathways}
    assert (
        clip_for("Teacher", FakeRecognizer("slow", "fast", "audio"), audio)["audio"]
        is audio["audio"]
    )


def test_rejects_clips_that_cannot_be_converted():
    with pytest.raises(
        ValueError, match=r"Teacher takes 9 frames, PIPELINE.train gives clips of 8; sample more"
    ):
        clip_for("Teacher", FakeRecognizer("frames"), {"frames": numbered(8)}, 9)
    with pytest.raises(ValueError, match=r"Teacher takes frames; it was given audio"):
        clip_for("Teacher", FakeRecognizer("frames"), {"audio": None})
    with pytest.raises(
        ValueError,
        match=r"Teacher takes audio and num_frames 2 of frames; it was given frames, audio",
    ):
        clip_for("Teacher", FakeRecognizer("audio"), {"frames": numbered(8), "audio": None}, 2)


def test_describe_rejects_clips_that_a_model_cannot_take(distilled):
    with pytest.raises(
        ConfigError,
        match=r"PIPELINE.train: Student takes 9 frames, "
        r"PIPELINE.train gives clips of \d+; sample more",
    ):
        describe(distilled(student={"num_frames": 9}))
    audio = {
        "framework": "AudioRecognizer",
        "backbone": {"name": "ResNet", "depth": 10, "in_channels": 1},
        "head": {"name": "TSNAudioHead", "num_classes": 3},
    }
    with pytest.raises(
        ConfigError, match=r"PIPELINE.train: Teacher takes audio; it was given frames"
    ):
        describe(distilled(teacher={**audio, "weights": "none.pdparams"}))


def test_a_network_over_frames_learns_from_one_over_clips(small):
    sizes = {"alpha": 2, "beta": 2, "width_per_group": 8}
    slowfast = {
        "framework": "Recognizer3D",
        "backbone": {"name": "ResNetSlowFast", "fusion_kernel_sz": 5, **sizes},
        "head": {
            "name": "SlowFastHead",
            **sizes,
            "num_frames": 4,
            "crop_size": 32,
            "num_classes": 3,
        },
    }
    model = build_model(small(MODEL=model_section(teacher=slowfast, student={"num_frames": 2})), 3)
    assert isinstance(model.student, Recognizer2D) and isinstance(
        model.part("Teacher").backbone, ResNetSlowFast
    )
    assert set(model.inputs) == {"frames"} and set(model.train_inputs) == {"frames", "slow", "fast"}
    model.train()
    assert np.isfinite(float(step(model, batch_of(2))["loss"]))


def test_roles_take_the_arguments_of_their_framework(small):
    audio = {
        "framework": "AudioRecognizer",
        "backbone": {
            "name": "ResNet",
            "depth": 10,
            "in_channels": 1,
        },  # the audio backbone, which has in_channels
        "head": {"name": "TSNAudioHead", "num_classes": 3},
    }
    section = model_section(teacher={**audio, "average_clips": "score"}, student=audio)
    model = build_model(small(MODEL=section), 3)
    assert model.part("Teacher").view_average == "logits" and model.view_average == "probabilities"
    batch = {"audio": paddle.randn([2, 1, 1, 40, 80]), "label": paddle.to_tensor([0, 2])}
    model.train()
    assert np.isfinite(float(step(model, batch)["loss"]))
