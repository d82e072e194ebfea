"""Distillation: exact resume, the student on its own config, the same numbers on any ranks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddlevideo import dist
from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState, read_model
from paddlevideo.exporting.export import export
from paddlevideo.weights import WeightsError, checksum, write_arrays
from tests.conftest import CLASSES
from tests.runs.test_ranks import finish, launch
from tests.runs.test_train import Killed, kill_at, losses_of, metrics_of, weights_of

STUDENT = {
    "backbone": {"name": "ResNetTweaksTSN", "layers": 10, "base_channels": 8},
    "head": {"name": "ppTSNHead", "drop_ratio": 0.3, "ls_eps": 0.1},
}
TEACHER = {
    "backbone": {"name": "ResNet", "depth": 10, "base_channels": 8},
    "head": {"name": "TSNHead"},
}


@pytest.fixture
def plain(small):
    """The student's own config."""
    return small(MODEL={"framework": "Recognizer2D", **STUDENT}, epochs=2)


@pytest.fixture
def taught(small, tmp_path):
    """`taught(*overrides)`: a config of the student with a frozen teacher.

    The teacher has another architecture and another clip length.
    """
    teacher = build_model(small(MODEL={"framework": "Recognizer2D", **TEACHER}), 3)
    state = TrainState(teacher, None, None, class_names=list(CLASSES))
    write_arrays(tmp_path / "teacher.pdparams", state.model_arrays())
    section = {
        "framework": "RecognizerDistillation",
        "freeze_params_list": [True, False],
        "models": [
            {"Teacher": {**TEACHER, "weights": str(tmp_path / "teacher.pdparams")}},
            {"Student": {**STUDENT, "num_frames": 1}},
        ],
        "loss": {
            "Train": [
                {"name": "DistillationCELoss", "model_name_pairs": ["Student", "GroundTruth"]},
                {"name": "DistillationDMLLoss", "model_name_pairs": ["Student", "Teacher"]},
            ]
        },
    }

    def make(*overrides):
        return small(
            "PRECISEBN.num_iters_preciseBN=2", "DATASET.batch_size=4", *overrides, MODEL=section
        )

    return make


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(taught, plain, monkeypatch, tmp_path):
    uninterrupted = taught(f"output_dir={tmp_path}/uninterrupted")
    train(uninterrupted)
    killed = taught()
    with monkeypatch.context() as patch:
        kill_at(patch, 5)  # in the second epoch
        with pytest.raises(Killed):
            train(killed, resume="auto")
    train(killed, resume="auto")
    assert weights_of(killed) == weights_of(uninterrupted)
    assert losses_of(killed) == losses_of(uninterrupted)
    keys = metrics_of(uninterrupted)[0].keys()
    assert {"ce_student", "dml", "teacher_top1", "top1", "top3"} <= keys

    # The teacher equals its file, and the student is a model of the plain config.
    teacher, _ = read_model(tmp_path / "teacher.pdparams")
    best = f"{uninterrupted.folder}/ppTSN_best.pdparams"
    arrays, names = read_model(best)
    assert all(np.array_equal(array, arrays[f"Teacher.{name}"]) for name, array in teacher.items())
    file = f"{uninterrupted.folder}/ppTSN_best_student.pdparams"
    assert read_model(file)[1] == names == list(CLASSES)
    alone = run_test(plain, file, out=str(tmp_path / "alone.npz"))
    both = run_test(uninterrupted, best, out=str(tmp_path / "both.npz"))
    assert alone.numbers == both.numbers
    scores = [np.load(tmp_path / name)["scores"] for name in ("alone.npz", "both.npz")]
    np.testing.assert_array_equal(*scores)
    with pytest.raises(WeightsError, match=r"0 of 77 tensors.*belong to another model"):
        run_test(plain, best)


@pytest.mark.slow
def test_export_writes_the_student(taught, plain, tmp_path):
    cfg = taught("epochs=1", "max_iters=1")
    train(cfg)
    folders = []
    for config, file in ((cfg, "ppTSN_best"), (plain, "ppTSN_best_student")):
        # Running an exported program changes the number of threads, and so the last digits.
        dist.use_threads()
        folders.append(export(config, f"{cfg.folder}/{file}.pdparams", tmp_path / file))
    logits = [np.load(folder / "golden.npz")["logits"] for folder in folders]
    np.testing.assert_array_equal(*logits)
    sizes = [(folder / "ppTSN.pdiparams").stat().st_size for folder in folders]
    assert sizes[0] == sizes[1], "the export holds no teacher"


@pytest.mark.slow
def test_two_ranks_validate_exactly(taught, plain, tmp_path, root):
    cfg = taught("epochs=1", "DATASET.batch_size=2", f"output_dir={tmp_path / 'ranks'}")
    config = tmp_path / "ranks.yaml"
    config.write_text(Path(cfg.origin.path).read_text(encoding="utf-8"), encoding="utf-8")
    overrides = [part for text in cfg.origin.overrides for part in ("-o", text)]
    finish(launch(root, tmp_path, 2, "--validate", "-c", str(config), *overrides), tmp_path)
    valid = next(row for row in metrics_of(cfg) if row["split"] == "valid")
    teacher, _ = read_model(tmp_path / "teacher.pdparams")
    arrays, _ = read_model(tmp_path / "ranks" / "ppTSN_best.pdparams")
    prefix = "Teacher."
    kept = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    assert checksum(kept) == checksum(teacher)

    # One process tests the validation clips with the plain config.
    as_test = replace(
        plain,
        PIPELINE=replace(plain.PIPELINE, test=plain.PIPELINE.valid),
        DATASET=replace(plain.DATASET, test=plain.DATASET.valid),
    )
    alone = run_test(as_test, f"{tmp_path}/ranks/ppTSN_best_student.pdparams")
    assert valid["num_samples"] == alone.numbers["num_samples"] == 6
    assert valid["top1"] == alone.numbers["top1"]
    assert valid["loss"] == pytest.approx(alone.numbers["loss"], rel=1e-6)
