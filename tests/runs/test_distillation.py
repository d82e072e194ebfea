"""A student trained by a teacher: exact resume, its weights on the plain config, the same numbers on any number of ranks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddlevideo import dist
from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.engine import train as train_module
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState, read_model
from paddlevideo.exporting.export import export
from paddlevideo.weights import WeightsError, checksum, write_arrays
from tests.conftest import CLASSES
from tests.runs.test_ranks import finish, launch
from tests.runs.test_train import Killed, metrics_of, weights_of

STUDENT = {
    "backbone": {"name": "ResNetTweaksTSN", "layers": 18},
    "head": {"name": "ppTSNHead", "drop_ratio": 0.3, "ls_eps": 0.1},
}
TEACHER = {"backbone": {"name": "ResNet", "depth": 18}, "head": {"name": "TSNHead"}}


@pytest.fixture
def plain(small):
    """The student's own config."""
    return small(MODEL={"framework": "Recognizer2D", **STUDENT}, epochs=2)


@pytest.fixture
def taught(small, tmp_path):
    """`taught(*overrides)` -> a config of the student with a frozen teacher of another architecture and another clip length."""
    write_arrays(
        tmp_path / "teacher.pdparams",
        TrainState(
            build_model(small(MODEL={"framework": "Recognizer2D", **TEACHER}), 3),
            None,
            None,
            class_names=list(CLASSES),
        ).model_arrays(),
    )
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


def test_killed_and_resumed_equals_uninterrupted(taught, plain, monkeypatch, tmp_path):
    straight = taught(f"output_dir={tmp_path}/straight")
    train(straight)
    broken, real, steps = taught(), train_module.train_step, []

    def step_or_die(*args):
        steps.append(1)
        if len(steps) == 5:  # in the second epoch
            raise Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_step", step_or_die)
        with pytest.raises(Killed):
            train(broken, resume="auto")
    train(broken, resume="auto")
    assert weights_of(broken) == weights_of(straight)
    rows = [
        [(r["split"], r["epoch"], r.get("step"), r["loss"]) for r in metrics_of(c)]
        for c in (straight, broken)
    ]
    assert rows[0] == rows[1]
    assert {"ce_student", "dml", "teacher_top1", "top1", "top3"} <= metrics_of(straight)[0].keys()

    # The teacher is as its file has it; the student alone is a model of the plain config.
    teacher, _ = read_model(tmp_path / "teacher.pdparams")
    whole, names = read_model(f"{straight.folder}/ppTSN_best.pdparams")
    assert all(np.array_equal(array, whole[f"Teacher.{name}"]) for name, array in teacher.items())
    file = f"{straight.folder}/ppTSN_best_student.pdparams"
    assert read_model(file)[1] == names == list(CLASSES)
    alone = run_test(plain, file, out=str(tmp_path / "alone.npz"))
    both = run_test(
        straight, f"{straight.folder}/ppTSN_best.pdparams", out=str(tmp_path / "both.npz")
    )
    assert alone.numbers == both.numbers
    np.testing.assert_array_equal(
        np.load(tmp_path / "alone.npz")["scores"], np.load(tmp_path / "both.npz")["scores"]
    )
    with pytest.raises(WeightsError, match=r"of another model"):
        run_test(plain, f"{straight.folder}/ppTSN_best.pdparams")


@pytest.mark.slow
def test_export_writes_the_student(taught, plain, tmp_path):
    cfg = taught("epochs=1", "max_iters=1")
    train(cfg)
    folders = []
    for each, file in ((cfg, "ppTSN_best"), (plain, "ppTSN_best_student")):
        dist.use_threads()  # trying a program leaves another number behind, and the last digits follow it
        folders.append(export(each, f"{cfg.folder}/{file}.pdparams", tmp_path / file))
    logits = [np.load(folder / "golden.npz")["logits"] for folder in folders]
    np.testing.assert_array_equal(*logits)
    sizes = [(folder / "ppTSN.pdiparams").stat().st_size for folder in folders]
    assert sizes[0] == sizes[1], "the teacher does not travel"


@pytest.mark.slow
def test_two_ranks_validate_exactly(taught, plain, tmp_path, root):
    cfg = taught("epochs=1", "DATASET.batch_size=2", "output_dir=" + str(tmp_path / "ranks"))
    (tmp_path / "ranks.yaml").write_text(
        Path(cfg.origin.path).read_text(encoding="utf-8"), encoding="utf-8"
    )
    overrides = [part for text in cfg.origin.overrides for part in ("-o", text)]
    finish(
        launch(root, tmp_path, 2, "--validate", "-c", str(tmp_path / "ranks.yaml"), *overrides),
        tmp_path,
    )
    rows = [
        json.loads(line) for line in (tmp_path / "ranks" / "metrics.jsonl").read_text().splitlines()
    ]
    valid = next(row for row in rows if row["split"] == "valid")
    teacher, _ = read_model(tmp_path / "teacher.pdparams")
    whole, _ = read_model(tmp_path / "ranks" / "ppTSN_best.pdparams")
    assert checksum(teacher) == checksum(
        {k[8:]: v for k, v in whole.items() if k.startswith("Teacher.")}
    )

    # One process, the plain config, the validation clips as a test of its own.
    as_test = replace(
        plain,
        PIPELINE=replace(plain.PIPELINE, test=plain.PIPELINE.valid),
        DATASET=replace(plain.DATASET, test=plain.DATASET.valid),
    )
    alone = run_test(as_test, f"{tmp_path}/ranks/ppTSN_best_student.pdparams")
    assert valid["num_samples"] == alone.numbers["num_samples"] == 6
    assert valid["top1"] == alone.numbers["top1"]
    assert valid["loss"] == pytest.approx(alone.numbers["loss"], rel=1e-6)
