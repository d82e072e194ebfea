"""NaN and infinity stop a run, a test and a resume; no file of a run holds them."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.api import train
from paddlevideo.engine import train as training
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState, read_model
from paddlevideo.engine.not_finite import (
    FailedStep,
    NotFinite,
    check_finite,
    check_logits,
    keep_evidence,
    wrong_gradients,
)
from paddlevideo.engine.test import run_test
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.weights import WeightsError, read_arrays, state_arrays, write_arrays


@pytest.fixture
def broken(small):
    """`broken(name, value)`: a config, and a weight file with one such value in a tensor."""
    cfg = small("epochs=1")

    def write(name, value=np.nan):
        arrays = state_arrays(build_model(cfg, 3))
        array = next(arrays[key] for key in arrays if key.endswith(name))
        array.flat[1] = value
        path = Path(cfg.folder) / "w.pdparams"
        write_arrays(path, arrays)
        return cfg, str(path)

    return write


@pytest.mark.parametrize("name", ["conv1_1._conv.weight", "fc.bias", "_variance"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_broken_weights_are_neither_tested_nor_trained(broken, name, value):
    """ReLU on a CPU turns NaN into 0, so such a model has a normal accuracy."""
    cfg, weights = broken(name, value)
    with pytest.raises(WeightsError, match=r"w.pdparams: 1 tensors have values .*\[.*\]"):
        run_test(cfg, weights)
    with pytest.raises(WeightsError, match=r"w.pdparams: 1 tensors have values"):
        train(cfg, weights=weights)


def test_scores_that_are_not_finite_stop_a_test(small, monkeypatch, tmp_path):
    cfg = small()
    weights, out = tmp_path / "w.pdparams", tmp_path / "scores.json"
    write_arrays(weights, state_arrays(build_model(cfg, 3)))
    predictions = Recognizer2D.predictions
    monkeypatch.setattr(Recognizer2D, "predictions", lambda *a: predictions(*a) * float("nan"))
    with pytest.raises(NotFinite, match=r"NaN or infinity for \d of \d videos \(.*clip \d+.mp4"):
        run_test(cfg, str(weights), str(out))
    assert not out.exists()


def test_a_validation_with_nan_is_never_the_best(small, monkeypatch):
    cfg = small("epochs=1")
    predictions = Recognizer2D.predictions
    monkeypatch.setattr(Recognizer2D, "predictions", lambda *a: predictions(*a) * float("nan"))
    with pytest.raises(NotFinite, match="the model returned NaN or infinity"):
        train(cfg)
    assert not list(Path(cfg.folder).glob("*best*"))


def test_gradients_that_are_not_finite_stop_the_run(small, monkeypatch):
    """A loss may be finite where its gradient is not, as the root of 0."""
    cfg = small("epochs=1")
    real = Recognizer2D.losses

    def losses(model, outputs, batch):
        found = real(model, outputs, batch)
        zero = (model.head.fc.bias - model.head.fc.bias.detach()).sum()
        return {**found, "loss": found["loss"] + paddle.sqrt(zero)}

    monkeypatch.setattr(Recognizer2D, "losses", losses)
    message = r"^1 gradients are not finite \(head.fc.bias\) at epoch 1 step 0, lr .*clip \d+.mp4"
    with pytest.raises(NotFinite, match=message):
        train(cfg)
    file = Path(cfg.folder) / "not_finite_epoch1_step0_rank0.json"
    facts = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert facts["gradients"] == ["head.fc.bias"] and float(facts["loss"]) > 0
    assert np.isfinite(read_model(file.with_suffix(".pdparams"))[0]["head.fc.bias"]).all()


def test_weights_that_are_not_finite_are_not_written(small, monkeypatch):
    cfg = small("epochs=2", "save_interval=1")
    finish = training.finish_epoch

    def poisoned(run):
        if run.state.progress.epoch == 1:
            run.state.model.backbone.state_dict()["conv1_1._batch_norm._mean"][0] = float("inf")
        finish(run)

    monkeypatch.setattr("paddlevideo.api.finish_epoch", poisoned)
    with pytest.raises(NotFinite, match="NaN|not written, earlier files are kept: .*_mean is inf"):
        train(cfg)
    for path in Path(cfg.folder).glob("*.pd*"):
        check_finite(read_arrays(path), path.name)
    assert list(Path(cfg.folder).glob("*_latest.pdstate"))


class Plain(paddle.nn.Linear):
    """A model, as far as writing it goes."""

    frozen_prefixes = ()
    architecture = ""

    @property
    def evaluated(self):
        return self


def test_a_pair_with_nan_leaves_no_file(tmp_path):
    model = Plain(2, 2)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    state = TrainState(model, optimizer, paddle.amp.GradScaler(enable=False))  # pyright: ignore
    model.bias.set_value(np.array([0, np.nan], np.float32))
    with pytest.raises(NotFinite, match=r"bias is nan at \[1\]"):
        state.save_pair(tmp_path / "x_best")
    with pytest.raises(NotFinite, match=r"x.pdstate: .*bias is nan at \[1\]"):
        state.save(tmp_path / "x.pdstate")
    assert not list(tmp_path.iterdir())


def test_names_the_gradients_that_are_not_finite():
    model = paddle.nn.Linear(2, 2)
    (model(paddle.ones([1, 2])).sum() * 2).backward()
    assert wrong_gradients(model) == ["all are finite, but their norm is not"]
    model.weight.grad = paddle.to_tensor([[1.0, float("inf")], [0.0, 0.0]])
    assert wrong_gradients(model) == ["weight"]


def test_names_the_videos_with_nan():
    logits = np.zeros((9, 3))
    check_logits(logits, list("abcdefghi"))
    logits[[1, 4], 2] = np.nan, -np.inf
    with pytest.raises(NotFinite, match=r"for 2 of 9 videos \(b, e\)"):
        check_logits(logits, list("abcdefghi"))


def test_a_gradient_scaler_skips_a_step_by_itself(small, monkeypatch):
    """Mixed precision overflows now and then; the scaler lowers its scale and goes on."""
    asked = []
    infinite = paddle.to_tensor(float("inf"))
    monkeypatch.setattr(training, "gradient_norm", lambda run: asked.append(run) or infinite)
    with pytest.raises(NotFinite):
        train(small("epochs=1"))
    asked.clear()
    monkeypatch.setattr(paddle.amp.GradScaler, "is_enable", lambda scaler: True)
    train(small("epochs=1"), overwrite=True)
    assert not asked


def test_keeps_the_numbers_of_a_batch_with_ids(tmp_path):
    """Batches of YouTube-8M have the ids of their videos, for which .safetensors has no type."""
    batch = {"rgb": np.ones((2, 3), np.float32), "id": np.array([b"a", b"bc"])}
    failed, weights = FailedStep(1, 0, float("nan"), 0.1), {"w": np.ones(2, np.float32)}
    with pytest.raises(NotFinite, match=r"the loss is nan at epoch 1 .*; batch and weights are in"):
        keep_evidence(tmp_path, failed, ["a.tfrecord@0", "a.tfrecord@9"], weights, batch)
    stem = tmp_path / "not_finite_epoch1_step0_rank0"
    kept = read_arrays(stem.with_suffix(".safetensors"))
    assert kept.keys() == {"rgb"} and np.array_equal(kept["rgb"], batch["rgb"])
    assert json.loads(stem.with_suffix(".json").read_text())["files"][1] == "a.tfrecord@9"
