"""Copies of shared models, models without values, a teacher's weight file and its configs."""

import copy

import numpy as np
import paddle
import pytest

from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState
from paddlevideo.weights import write_arrays
from tests.parts.models.distillation_models import CE, KL, RECOGNIZER, model_section
from tests.shallow import one_block_per_stage


@pytest.fixture
def model(built):
    """A copy of the fixture `built` of the file, which the test may change."""
    return copy.deepcopy(built)


@pytest.fixture(scope="module")
def built_shallow():
    """`built_shallow(build)`: what `build` returns, with networks of one block per stage."""

    def make(build):
        with one_block_per_stage():
            return build()

    return make


@pytest.fixture
def without_values():
    """Models that a test builds have names and shapes, but no initial values, which take longer."""
    with paddle.LazyGuard():
        yield


@pytest.fixture
def teacher_file(small, tmp_path):
    """The weight file of a complete model, as its own training writes it."""
    model = build_model(small(MODEL={"framework": "Recognizer2D", **RECOGNIZER}), 3)
    for name, tensor in model.state_dict().items():
        if "_mean" in name:
            tensor.set_value(np.full(tensor.shape, 0.01, np.float32))
    state = TrainState(model, None, None, class_names=["blue sky", "green", "红色"])
    write_arrays(tmp_path / "teacher.pdparams", state.model_arrays())
    return tmp_path / "teacher.pdparams"


@pytest.fixture
def distilled(small, teacher_file):
    """`distilled(...)` -> a config with a frozen teacher."""

    def make(*overrides, train=(CE, KL), **more):
        more.setdefault("teacher", {"weights": str(teacher_file)})
        return small(*overrides, MODEL=model_section(train, [True, False], **more))

    return make
