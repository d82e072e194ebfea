"""Complete fine-tuning runs: other classes, export, early stopping, multi-label videos."""

import json
import logging
from itertools import pairwise
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
from paddlevideo.weights import WeightsError, state_arrays, write_arrays
from tests.clips import write_plain_clips
from tests.conftest import CLASSES, small_config
from tests.runs.test_train import Killed, kill_at, weights_of


@pytest.fixture
def logged(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


@pytest.fixture
def pretrained(clips, tmp_path) -> Path:
    """Weights of a PP-TSN-18 with five named classes; the clips have two of them."""
    (tmp_path / "five_classes").mkdir()
    paddle.seed(3)
    arrays = state_arrays(
        build_model(load_config(small_config(clips, tmp_path / "five_classes")), 5)
    )
    names = ["green", "swim", CLASSES[0], "row", "dive"]
    arrays[CLASS_NAMES] = np.frombuffer(json.dumps(names).encode(), np.uint8)
    write_arrays(tmp_path / "five_classes.pdparams", arrays)
    return tmp_path / "five_classes.pdparams"


def test_fine_tunes_and_exports_other_classes(clips, tmp_path, pretrained, monkeypatch, capsys):
    config = small_config(
        clips, tmp_path, epochs=1, export=True, MIX=None, EARLY_STOPPING={"patience": 3}
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    flags = ["-o", "FINETUNE.freeze=[stem]", "-o", "FINETUNE.lr_mult={backbone: 0.1}"]
    flags += ["-o", "MODEL.head.keep_rows=by_name"]
    arguments = ["main.py", "-c", str(config), "--validate", "-w", str(pretrained), *flags]
    monkeypatch.setattr("sys.argv", arguments)
    assert main.main() == 0, capsys.readouterr().err
    text = (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
    before, _ = read_model(pretrained)
    channels = len(before["head.fc.weight"])
    sizes = f"head.fc.weight is [{channels}, 5] in the file, [{channels}, 3] in the model"
    for line in (
        f"75 of 77 tensors loaded; {sizes}",
        "head.fc is re-initialized: 5 -> 3 classes; rows kept by name: 2 (blue sky, green)",
        "frozen: stem (9 of 47 trained tensors); learning rate x 0.1: backbone",
    ):
        assert line in text
    after, _ = read_model(tmp_path / "out" / "ppTSN_best.pdparams")
    names = before.keys() - {"head.fc.weight", "head.fc.bias"}
    changed = {name for name in names if (before[name] != after[name]).any()}
    assert changed and not [name for name in changed if name.startswith("backbone.conv1_")]

    video = next((clips / "test").rglob("*.mp4"))
    assert list(Path().iterdir()) == [], "nothing is exported to the working directory"
    (result,) = Predictor(tmp_path / "out").predict([str(video)])
    assert result.error is None and result.label_names[0] in CLASSES

    # A test rejects weights of other classes.
    nameless = tmp_path / "nameless.pdparams"
    write_arrays(nameless, before)
    with pytest.raises(WeightsError, match=rf"head.fc.weight is \[{channels}, 5\] in the file"):
        run_test(load_config(config), str(nameless))


def test_class_names_for_weights_without_names(small, pretrained, tmp_path, logged):
    arrays, names = read_model(pretrained)
    write_arrays(tmp_path / "nameless.pdparams", arrays)
    (tmp_path / "names.txt").write_text("\n".join(["Green", *names[1:]]), encoding="utf-8")
    options = ("epochs=1", "max_iters=1", "MODEL.head.keep_rows=by_name")
    nameless = str(tmp_path / "nameless.pdparams")
    train(small(*options), False, nameless)
    reason = "the file has no class names (FINETUNE.class_names gives them)"
    assert f"5 -> 3 classes; no row is kept: {reason}" in logged()
    named = small(*options, f"FINETUNE.class_names={tmp_path / 'names.txt'}")
    train(named, False, nameless, overwrite=True)
    assert "rows kept by name: 2 (blue sky, green)" in logged()
    assert "random weights" not in logged()
    train(named, False, overwrite=True)
    assert "FINETUNE.class_names has no effect without -w" in logged()
    message = "use -w FILE to start from a trained model, or -o MODEL.backbone.pretrained=FILE"
    assert f"starting from random weights; {message}" in logged()


def test_a_failed_export_keeps_the_training(clips, tmp_path, monkeypatch, capsys):
    config = small_config(clips, tmp_path, epochs=1, export=True, max_iters=1)
    monkeypatch.chdir(tmp_path)

    def fail(*args, **options):
        raise RuntimeError("no space for a program")

    monkeypatch.setattr(export_module, "export", fail)
    monkeypatch.setattr("sys.argv", ["main.py", "-c", str(config), "--validate"])
    assert main.main() == 1
    error, out = capsys.readouterr().err, tmp_path / "out"
    reason = "the export failed: no space for a program"
    message = f"error: the training is done, and its checkpoints are in {out}; {reason}"
    assert message in error
    command = f"python tools/export_model.py -p {out}/ppTSN_best.pdparams"
    assert command in error
    files = {path.name for path in out.iterdir()}
    assert {"ppTSN_best.pdparams", "ppTSN_epoch_00001.pdparams", "ppTSN_latest.pdstate"} <= files

    # Without validation the last model is exported.
    exported = []
    monkeypatch.setattr(
        export_module, "export", lambda cfg, weights, *_, **__: exported.append(weights)
    )
    monkeypatch.setattr("sys.argv", ["main.py", "-c", str(config), "--overwrite"])
    assert main.main() == 0 and exported == [f"{out}/ppTSN_epoch_00001.pdparams"]


def test_an_export_needs_its_pipeline_before_training(small):
    with pytest.raises(ConfigError, match="PIPELINE.test is missing"):
        train(small("export=true", "PIPELINE.test=null"))


def set_validation_scores(monkeypatch, scores):
    """Replace the validation after each epoch by these scores."""

    def validate(run, done, hardest):
        return Evaluation({"top1": scores[done - 1], "loss": 1.0})

    monkeypatch.setattr(train_module, "validate_epoch", validate)
    monkeypatch.setattr(train_module, "write_best_validation", lambda *args: None)


def test_early_stopping_and_its_resume(small, monkeypatch, logged):
    set_validation_scores(monkeypatch, [0.5, 0.6, 0.6, 0.4, 0.9, 0.9])
    stopping = ("EARLY_STOPPING.patience=2", "epochs=6", "save_interval=10", "max_iters=2")
    uninterrupted = small(*stopping, f"output_dir={small().folder}_uninterrupted")
    state = train(uninterrupted)
    progress = state.progress
    assert state.finished and (progress.epoch, progress.best, progress.stale) == (4, 0.6, 2)
    reason = "no improvement over 0.60000 in the last 2 validations"
    assert f"stopped early after 4 of 6 epochs: {reason}" in logged()
    last = Path(uninterrupted.folder) / "ppTSN_epoch_00004.pdparams"
    assert last.exists(), "the last epoch is always kept"

    killed = small(*stopping)
    with monkeypatch.context() as patch:
        kill_at(patch, 6)  # in the third epoch
        with pytest.raises(Killed):
            train(killed, resume="auto")
    progress = train(killed, resume="auto").progress
    assert (progress.epoch, progress.stale) == (4, 2)
    assert weights_of(killed) == weights_of(uninterrupted)
    assert train(killed, resume="auto").progress.epoch == 4, "the run stays finished"
    patient = small(*stopping, "EARLY_STOPPING.patience=3")
    assert train(patient, resume="auto").progress.epoch == 6, "epoch 5 improves"


def test_early_stopping_has_no_effect_without_validation(small, logged):
    state = train(small("EARLY_STOPPING.patience=1", "max_iters=1"), validate=False)
    assert state.progress.epoch == 2
    assert "EARLY_STOPPING has no effect: nothing is validated without --validate" in logged()


def test_exact_resume_with_sampling_freezing_and_class_weights(small, monkeypatch, logged):
    options = (
        "DATASET.sampling=class_balanced",
        "FINETUNE.freeze=[stem, stage1]",
        "LOSS.class_weights=[1, 2, 0.5]",
        "max_iters=3",
        "DATASET.batch_size=4",
    )
    uninterrupted = small(*options, f"output_dir={small().folder}_uninterrupted")
    train(uninterrupted)
    assert "class weights: blue sky 1, green 2, 红色 0.5" in logged()
    killed = small(*options)
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(Killed):
            train(killed)
    train(killed, resume="auto")
    assert weights_of(killed) == weights_of(uninterrupted)
    message = r"class_balanced, frozen stem stage1; this run has .* frozen stem stage1\. Resume"
    with pytest.raises(WeightsError, match=message):
        train(small(*options[1:]), resume="auto")


TRANSFORM = """[{Scale: {short_size: 36, fixed_ratio: False, backend: cv2}},
{CenterCrop: {target_size: 32}}, Image2Array,
{Normalization: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}]"""
# A step is a pass over the same 12 inputs, and a validation uses the statistics of all of them.
FULL_BATCH = (
    "DATASET.batch_size=12",
    "PIPELINE.train.sample.valid_mode=true",
    f"PIPELINE.train.transform={TRANSFORM}",
    f"PIPELINE.test.transform={TRANSFORM}",
    "MODEL.head.drop_ratio=0.0",
    "MIX=null",
    "PRECISEBN={preciseBN_interval: 1, num_iters_preciseBN: 1}",
)


def multi_label_config(folder):
    """A config with two tags: green clips have both, blue clips have one, red clips have none.

    A test video that cannot be decoded is skipped.
    """
    tags = {"green": ["green", "cold"], "blue sky": ["cold"], "红色": []}
    lists = {}
    for split, files in write_plain_clips(folder, CLASSES[::-1]).items():
        rows = [{"path": str(file), "labels": tags[file.parent.name]} for file in files]
        lists[split] = folder / f"{split}.jsonl"
        lists[split].write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    with lists["test"].open("a") as file:
        file.write(json.dumps({"path": str(broken), "labels": ["cold"]}) + "\n")
    data = {
        split: {"format": "VideoDataset", "file_path": str(lists[name])}
        for split, name in (("train", "train"), ("valid", "val"), ("test", "test"))
    }
    data["test"]["on_error"] = "skip"
    rate = {
        "name": "CustomWarmupCosineDecay",
        "max_epoch": 100,
        "warmup_epochs": 1,
        "warmup_start_lr": 0.003,
        "cosine_base_lr": 0.003,
    }
    return small_config(
        folder,
        folder,
        base_channels=32,
        DATASET={"multi_label": True, **data},
        LOSS={"class_weights": "balanced"},
        epochs=4,
        OPTIMIZER={"name": "Momentum", "learning_rate": rate},
    )


def test_multi_label_from_list_to_prediction(tmp_path, logged):
    cfg = load_config(multi_label_config(tmp_path), FULL_BATCH)
    train(cfg)
    assert "class weights: cold 0.5, green 2" in logged()
    assert "Already save the best model (mAP)" in logged()
    rows = [json.loads(line) for line in Path(cfg.folder, "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    valid = [row for row in rows if row["split"] == "valid"]
    assert len(losses) == 4 and all(after < before for before, after in pairwise(losses))
    # With 10 seeds, 1 and 2 threads, AVX2 and AVX-512, a step left at most 0.80 of the loss, the
    # validation loss fell from 1.1 or more to at most 0.44, and both mAP were always these.
    assert valid[-1]["map"] == 1 and valid[-1]["loss"] < 1

    weights = f"{cfg.folder}/ppTSN_best.pdparams"
    done = run_test(cfg, weights, str(tmp_path / "scores.json"))
    assert (done.numbers["num_samples"], done.numbers["num_failed"]) == (8, 1)
    # Of the five videos with the tag cold, the failed one is not found.
    assert done.numbers["map"] == pytest.approx((4 / 5 + 1) / 2)
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["class_names"] == ["cold", "green"]
    failed = [row for row in scores["results"] if "error" in row]
    assert [row["labels"] for row in failed] == [[0]] and "broken.mp4" in failed[0]["error"]

    folder = export_module.export(cfg, weights, tmp_path / "inference", ["pir"])
    predictor = Predictor(str(folder))
    assert predictor.multi_label
    tested = {
        row["path"]: dict(zip(row["classes"], row["scores"], strict=True))
        for row in scores["results"]
        if "scores" in row
    }
    paths = list(tested)[:3]
    for path, result in zip(paths, predictor.predict(paths, topk=2), strict=True):
        found = dict(zip(result.class_ids, result.scores, strict=True))
        assert found == pytest.approx(tested[path], abs=1e-4)

    # Scores of an untrained model are not close to 0 or 1.
    paddle.seed(0)
    write_arrays(tmp_path / "new.pdparams", state_arrays(build_model(cfg, 2)))
    run_test(cfg, str(tmp_path / "new.pdparams"), str(tmp_path / "new.json"))
    rows = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))["results"]
    sums = [sum(row["scores"]) for row in rows if "scores" in row]
    assert any(abs(total - 1) > 1e-3 for total in sums), "each class has its own probability"
