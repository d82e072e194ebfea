"""Distillation with PP-TSM as teacher: the recipe of PaddleVideo's files, and its faults."""

import numpy as np
import paddle
import pytest

from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.describe import describe
from tests.conftest import small_config
from tests.parts.models.distillation_models import CE, DML, TEACHER_CE, batch_of, step

PP_TSM = {
    "backbone": {"name": "ResNetTweaksTSM", "depth": 10, "base_channels": 8, "num_seg": 4},
    "head": {"name": "ppTSMHead", "num_classes": 3, "drop_ratio": 0.5, "std": 0.01, "num_seg": 4},
}
TSM = {
    "backbone": {"name": "ResNetTSM", "depth": 10, "base_channels": 8, "num_seg": 4},
    "head": {"name": "TSMHead", "num_classes": 3},
}
PP_TSN = {
    "backbone": {"name": "ResNetTweaksTSN", "layers": 10, "base_channels": 8},
    "head": {"name": "ppTSNHead", "num_classes": 3},
}


@pytest.fixture
def config(clips, tmp_path):
    """`config(teacher, student, ...)`: a distillation on clips of 4 frames, 32 x 32 pixels."""

    def make(teacher, student, freeze=None, num_frames=4):
        section = {
            "framework": "RecognizerDistillation",
            "freeze_params_list": freeze,
            "models": [{"Teacher": teacher}, {"Student": student}],
            "loss": {"Train": [dict(loss) for loss in (CE, TEACHER_CE, DML)]},
        }
        path = small_config(clips, tmp_path, MODEL=section)
        samples = [f"PIPELINE.{s}.sample.num_seg={num_frames}" for s in ("train", "valid", "test")]
        return load_config(path, samples)

    return make


@pytest.mark.parametrize("student", [PP_TSN, TSM, PP_TSM], ids=["pp_tsn", "tsm", "pp_tsm"])
@pytest.mark.parametrize("mixed", [False, True])
def test_both_learn_also_from_mixed_clips(config, student, mixed):
    paddle.seed(0)
    model = build_model(config(PP_TSM, student), 3)
    model.train()
    losses = step(model, batch_of(3, frames=4, mixed=mixed))
    parts = [float(losses[name]) for name in ("ce_student", "ce_teacher", "dml")]
    assert float(losses["loss"]) == pytest.approx(sum(parts), rel=1e-6)
    losses["loss"].backward()
    for name in ("Teacher", "Student"):
        gradients = [p.grad for p in model.part(name).parameters() if not p.stop_gradient]
        assert all(gradient is not None for gradient in gradients)


def test_evaluation_needs_the_student_alone(config):
    model = build_model(config(PP_TSM, PP_TSN), 3)
    model.eval()
    frames = batch_of(2, frames=4)["frames"]
    alone = model.student({"frames": frames}).numpy()
    np.testing.assert_array_equal(model({"frames": frames}).numpy(), alone)


@pytest.mark.parametrize(("teacher", "student"), [(PP_TSM, PP_TSN), (TSM, PP_TSM), (PP_TSM, TSM)])
def test_the_plan_of_a_distillation(config, teacher, student):
    assert "no mistakes found" in describe(config(teacher, student))


def test_a_teacher_with_another_number_of_frames_is_reported(config):
    """PaddleVideo shifts a clip of 8 frames in two groups of 4."""
    with pytest.raises(ValueError, match=r"Teacher: the backbone shifts the 4 frames.* gives 8"):
        describe(config(PP_TSM, PP_TSN, num_frames=8))


def test_a_teacher_may_take_some_of_the_frames(config):
    describe(config({**PP_TSM, "num_frames": 4}, PP_TSN, num_frames=8))


def test_a_frozen_teacher_does_not_change(config, tmp_path):
    model = build_model(config(PP_TSM, PP_TSN), 3)
    model._frozen = ("Teacher",)
    before = {k: v.numpy().copy() for k, v in model.part("Teacher").state_dict().items()}
    model.train()
    step(model, batch_of(2, frames=4))
    after = model.part("Teacher").state_dict()
    assert all(np.array_equal(before[name], after[name].numpy()) for name in before)
