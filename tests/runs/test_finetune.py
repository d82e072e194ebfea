"""Own videos from weights of other classes to an exported model; early stopping; several labels a video."""

import json
import logging
from pathlib import Path

import numpy as np
import paddle
import pytest

import main
from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine import train as train_module
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import CLASS_NAMES, read_model
from paddlevideo.engine.evaluate import Evaluation
from paddlevideo.exporting import export as export_module
from paddlevideo.predict.predictor import Predictor
from paddlevideo.weights import WeightsError, checksum, state_arrays, write_arrays
from tests.conftest import CLASSES, small_config


class Killed(Exception):
    """Stands for kill -9."""


def weights_of(cfg, name="ppTSN_latest.pdstate"):
    return checksum(read_model(f"{cfg.folder}/{name}")[0])


def kill_at(patch, step):
    """Make the `step`-th step of the process the last one."""
    real, count = train_module.train_step, iter(range(1, 1000))

    def step_or_die(*args):
        if next(count) == step:
            raise Killed
        return real(*args)

    patch.setattr(train_module, "train_step", step_or_die)


@pytest.fixture
def told(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


@pytest.fixture
def pretrained(clips, tmp_path) -> Path:
    """A PP-TSN-18 of five classes with their names; two of them are those of the clips."""
    (tmp_path / "of_five").mkdir()
    paddle.seed(3)
    arrays = state_arrays(build_model(load_config(small_config(clips, tmp_path / "of_five")), 5))
    names = ["green", "swim", CLASSES[0], "row", "dive"]
    arrays[CLASS_NAMES] = np.frombuffer(json.dumps(names).encode(), np.uint8)
    write_arrays(tmp_path / "of_five.pdparams", arrays)
    return tmp_path / "of_five.pdparams"


def test_from_other_classes_to_the_names_of_ones_own(
    clips, tmp_path, pretrained, monkeypatch, capsys
):
    config = small_config(
        clips, tmp_path, epochs=1, export=True, MIX=None, EARLY_STOPPING={"patience": 3}
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    flags = [
        "-o",
        "FINETUNE.freeze=[stem]",
        "-o",
        "FINETUNE.lr_mult={backbone: 0.1}",
        "-o",
        "MODEL.head.keep_rows=by_name",
    ]
    arguments = ["main.py", "-c", str(config), "--validate", "-w", str(pretrained), *flags]
    monkeypatch.setattr("sys.argv", arguments)
    assert main.main() == 0, capsys.readouterr().err
    said = (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
    assert (
        "115 of 117 tensors loaded; head.fc.weight is [512, 5] in the file, [512, 3] in the model"
        in said
    )
    assert (
        "head.fc is re-initialized: 5 -> 3 classes; rows kept by name: 2 (blue sky, green)"
        in said
    )
    assert "frozen: stem (9 of 71 trained tensors); learning rate x 0.1: backbone" in said
    before, after = (
        read_model(path)[0] for path in (pretrained, tmp_path / "out" / "ppTSN_best.pdparams")
    )
    moved = {
        name
        for name in before
        if name not in ("head.fc.weight", "head.fc.bias") and (before[name] != after[name]).any()
    }
    assert moved and not [name for name in moved if name.startswith("backbone.conv1_")]

    result = next(
        iter(Predictor("inference/ppTSN").predict([str(next((clips / "test").rglob("*.mp4")))]))
    )
    assert result.error is None and result.label_names[0] in CLASSES

    # Its weights are worth nothing to a test or a resumed run of other classes.
    nameless = tmp_path / "nameless.pdparams"
    write_arrays(nameless, before)
    with pytest.raises(WeightsError, match=r"head.fc.weight is \[512, 5\] in the file"):
        run_test(load_config(config), str(nameless))


def test_names_for_weights_that_hold_none(small, pretrained, tmp_path, told):
    arrays, names = read_model(pretrained)
    write_arrays(tmp_path / "nameless.pdparams", arrays)
    (tmp_path / "names.txt").write_text("\n".join(["Green", *names[1:]]), encoding="utf-8")
    options = ("epochs=1", "max_iters=1", "MODEL.head.keep_rows=by_name")
    train(small(*options), False, str(tmp_path / "nameless.pdparams"))
    assert (
        "5 -> 3 classes; no row is kept: the file has no class names (FINETUNE.class_names gives them)"
        in told()
    )
    train(
        small(*options, f"FINETUNE.class_names={tmp_path / 'names.txt'}"),
        False,
        str(tmp_path / "nameless.pdparams"),
    )
    assert "rows kept by name: 2 (blue sky, green)" in told()
    assert "random weights" not in told()
    train(small(*options, f"FINETUNE.class_names={tmp_path / 'names.txt'}"), False)
    assert "FINETUNE.class_names has no effect without -w" in told()
    assert (
        "starting from random weights; those of a trained model are taken with -w FILE, those of a backbone with"
        in told()
    )


def test_a_failed_export_spoils_nothing(clips, tmp_path, monkeypatch, capsys):
    config = small_config(clips, tmp_path, epochs=1, export=True, max_iters=1)
    monkeypatch.chdir(tmp_path)

    def fail(*args):
        raise RuntimeError("no space for a program")

    monkeypatch.setattr(export_module, "export", fail)
    monkeypatch.setattr("sys.argv", ["main.py", "-c", str(config), "--validate"])
    assert main.main() == 1
    said = capsys.readouterr().err
    assert (
        f"error: the training is done, and its checkpoints are in {tmp_path / 'out'}; the export failed: no space for a program"
        in said
    )
    assert (
        f"python tools/export_model.py -c {tmp_path / 'out'}/run.yaml -p {tmp_path / 'out'}/ppTSN_best.pdparams"
        in said
    )
    assert {"ppTSN_best.pdparams", "ppTSN_epoch_00001.pdparams", "ppTSN_latest.pdstate"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }

    # Without a validation it is the last model, whatever else lies there.
    asked = []
    monkeypatch.setattr(export_module, "export", lambda cfg, weights: asked.append(weights))
    monkeypatch.setattr("sys.argv", ["main.py", "-c", str(config)])
    assert main.main() == 0 and asked == [f"{tmp_path / 'out'}/ppTSN_epoch_00001.pdparams"]


def test_an_export_needs_its_pipeline_before_training(small):
    with pytest.raises(ConfigError, match="PIPELINE.test is missing"):
        train(small("export=true", "PIPELINE.test=null"))


def constant(monkeypatch, scores):
    """Make the validations give these scores, by the epochs that are done."""

    def validate(run, done, hardest):
        return Evaluation({"top1": scores[done - 1], "loss": 1.0})

    monkeypatch.setattr(train_module, "validate_epoch", validate)
    monkeypatch.setattr(train_module, "write_best_validation", lambda *args: None)


def test_early_stopping_and_a_resume_of_it(small, monkeypatch, told):
    constant(monkeypatch, [0.5, 0.6, 0.6, 0.4, 0.9, 0.9])
    stopping = ("EARLY_STOPPING.patience=2", "epochs=6", "save_interval=10", "max_iters=2")
    straight = small(*stopping, "output_dir=" + str(small().folder) + "_straight")
    state = train(straight)
    assert state.finished and (state.progress.epoch, state.progress.best, state.progress.stale) == (
        4,
        0.6,
        2,
    )
    assert (
        "stopped early after 4 of 6 epochs: no improvement over 0.60000 in the last 2 validations"
        in told()
    )
    assert (Path(straight.folder) / "ppTSN_epoch_00004.pdparams").exists(), (
        "the last epoch is kept, as ever"
    )

    broken = small(*stopping)
    with monkeypatch.context() as patch:
        kill_at(patch, 6)  # in the third epoch
        with pytest.raises(Killed):
            train(broken, resume="auto")
    state = train(broken, resume="auto")
    assert (state.progress.epoch, state.progress.stale) == (4, 2) and weights_of(
        broken
    ) == weights_of(straight)
    assert train(broken, resume="auto").progress.epoch == 4, "it is over"
    assert (
        train(small(*stopping, "EARLY_STOPPING.patience=3"), resume="auto").progress.epoch == 6
    ), "0.9 came in time"


def test_without_validation_nothing_stops_early(small, told):
    state = train(small("EARLY_STOPPING.patience=1", "max_iters=1"), validate=False)
    assert (
        state.progress.epoch == 2
        and "EARLY_STOPPING has no effect: nothing is validated without --validate" in told()
    )


def test_what_counts_and_stays_is_exact_after_a_kill(small, monkeypatch, told):
    options = (
        "DATASET.sampling=class_balanced", "FINETUNE.freeze=[stem, stage1]", "LOSS.class_weights=[1, 2, 0.5]",
        "max_iters=3", "DATASET.batch_size=4",
    )  # fmt: skip
    straight = small(*options, "output_dir=" + str(small().folder) + "_straight")
    train(straight)
    assert "class weights: blue sky 1, green 2, 红色 0.5" in told()
    broken = small(*options)
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(Killed):
            train(broken)
    train(broken, resume="auto")
    assert weights_of(broken) == weights_of(straight)
    with pytest.raises(
        WeightsError,
        match=r"class_balanced, frozen stem stage1; this run has .* frozen stem stage1\. Resume",
    ):
        train(small(*options[1:]), resume="auto")


def test_several_labels_from_list_to_prediction(clips, tmp_path, monkeypatch, told):
    """Tags that the pictures show: what is green, what is blue or green, and one that most clips lack."""
    tags = {"green": ["green", "cold"], "blue sky": ["cold"], "红色": []}
    lists = {}
    for split in ("train", "val", "test"):
        files = sorted((clips / split).rglob("*.mp4"))
        rows = [{"path": str(file), "labels": tags[file.parent.name]} for file in files]
        lists[split] = tmp_path / f"{split}.jsonl"
        lists[split].write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with lists["test"].open("a") as file:
        file.write(json.dumps({"path": str(broken), "labels": ["cold"]}) + "\n")
    data = {split: {"format": "VideoDataset", "file_path": str(lists[name])} for split, name in
            (("train", "train"), ("valid", "val"), ("test", "test"))}  # fmt: skip
    data["test"]["on_error"] = "skip"
    dataset = {"batch_size": 4, "multi_label": True, **data}
    rate = {
        "name": "CustomWarmupCosineDecay",
        "max_epoch": 12,
        "warmup_epochs": 1,
        "warmup_start_lr": 0.002,
        "cosine_base_lr": 0.01,
    }
    config = small_config(
        clips, tmp_path, DATASET=dataset, LOSS={"class_weights": "balanced"}, epochs=6,
        OPTIMIZER={"name": "Momentum", "learning_rate": rate},
    )  # fmt: skip
    cfg = load_config(config)
    train(cfg)
    assert (
        "class weights: cold 0.5, green 2" in told()
        and "Already save the best model (mAP)" in told()
    )
    rows = [json.loads(line) for line in Path(cfg.folder, "metrics.jsonl").read_text().splitlines()]
    assert max(row["map"] for row in rows if row["split"] == "valid") > 0.9

    weights = f"{cfg.folder}/ppTSN_best.pdparams"
    done = run_test(cfg, weights, str(tmp_path / "scores.json"))
    assert (done.numbers["num_samples"], done.numbers["num_failed"]) == (8, 1) and done.numbers[
        "map"
    ] > 0.6
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["class_names"] == ["cold", "green"]
    failed = [row for row in scores["results"] if "error" in row]
    assert [row["labels"] for row in failed] == [[0]] and "broken.mp4" in failed[0]["error"]

    folder = export_module.export(cfg, weights, tmp_path / "inference")
    predictor = Predictor(str(folder))
    assert predictor.multi_label
    tested = {row["path"]: row for row in scores["results"] if "scores" in row}
    some = list(tested)[:3]
    for path, result in zip(some, predictor.predict(some, topk=2), strict=True):
        assert result.class_ids == tested[path]["classes"]
        np.testing.assert_allclose(result.scores, tested[path]["scores"], atol=1e-4)

    paddle.seed(0)  # of a model that has learnt nothing yet no score is near 0 or 1
    write_arrays(tmp_path / "new.pdparams", state_arrays(build_model(cfg, 2)))
    run_test(cfg, str(tmp_path / "new.pdparams"), str(tmp_path / "new.json"))
    new = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))["results"]
    sums = [sum(row["scores"]) for row in new if "scores" in row]
    assert any(abs(total - 1) > 1e-3 for total in sums), "each class has a probability of its own"
