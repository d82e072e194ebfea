"""Complete trainings: exact resume, exact evaluation, checkpoints, log lines, failures."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.failures import TooManyFailures
from paddlevideo.engine import train as train_module
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.not_finite import NotFinite
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.sample import DecodeError
from paddlevideo.weights import WeightsError, checksum, state_arrays, write_arrays


class Killed(Exception):
    """Simulates kill -9: nothing runs after it, and no handler saves anything."""


def weights_of(cfg, name="ppTSN_latest.pdstate"):
    return checksum(read_model(f"{cfg.folder}/{name}")[0])


def metrics_of(cfg):
    return [json.loads(line) for line in Path(cfg.folder, "metrics.jsonl").read_text().splitlines()]


def losses_of(cfg):
    """(split, epoch, step, loss) of each row of metrics.jsonl."""
    rows = metrics_of(cfg)
    return [(row["split"], row["epoch"], row.get("step"), row["loss"]) for row in rows]


def kill_at(monkeypatch, step):
    """Raise `Killed` instead of the `step`-th training step."""
    real_step, count = train_module.train_step, iter(range(1, 1000))

    def step_or_die(*args):
        if next(count) == step:
            raise Killed
        return real_step(*args)

    monkeypatch.setattr(train_module, "train_step", step_or_die)


CASES = {
    "plain": [],
    "accumulation": ["GRADIENT_ACCUMULATION.global_batch_size=6"],
    "amp": ["amp=true"],
    "workers": ["DATASET.num_workers=2"],
}


# The stop signal below saves within an accumulation, too.
SLOW = [pytest.param("accumulation", marks=pytest.mark.slow)]


@pytest.mark.parametrize("case", [*(case for case in CASES if case != "accumulation"), *SLOW])
def test_killed_and_resumed_equals_uninterrupted(small, monkeypatch, case):
    uninterrupted = small(*CASES[case], f"output_dir={small().folder}_uninterrupted")
    train(uninterrupted)
    killed = small(*CASES[case])
    # First in the second epoch, then after the resume in the same epoch again.
    for step in (6, 2):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(killed, resume="auto")
    train(killed, resume="auto")
    assert weights_of(killed) == weights_of(uninterrupted)
    assert losses_of(killed) == losses_of(uninterrupted)


def test_stop_signal_saves_within_an_epoch(small, monkeypatch):
    accumulation = "GRADIENT_ACCUMULATION.global_batch_size=6"
    uninterrupted = small(accumulation, f"output_dir={small().folder}_uninterrupted")
    train(uninterrupted)
    stopped = small(accumulation)
    real_step, steps = train_module.train_step, []

    def stop_at_the_third_step(*args):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_step", stop_at_the_third_step)
        progress = train(stopped).progress
    # The stop waits until the accumulation is complete.
    assert (progress.epoch, progress.step) == (0, 4)
    train(stopped, resume="auto")
    assert weights_of(stopped) == weights_of(uninterrupted)


def test_resume_epoch_reads_the_numbered_pair(small):
    cfg = small()
    train(cfg)
    first = weights_of(cfg)
    train(small("resume_epoch=1"))
    assert weights_of(cfg) == first


def test_rejects_resuming_a_run_with_other_settings(small):
    cfg = small("epochs=1")
    train(cfg)
    message = r"saved by a run with seed 1234.*this run has seed 5.*same settings"
    with pytest.raises(WeightsError, match=message):
        train(small("seed=5"), resume="auto")
    with pytest.raises(WeightsError, match=r"--resume .*nowhere: expected a .pdstate file"):
        train(small(), resume="nowhere")


def test_writes_files_log_lines_and_labels(small, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    cfg = small()
    train(cfg)
    files = {p.name for p in Path(cfg.folder).iterdir()}
    assert {
        "ppTSN_best.pdparams",
        "ppTSN_best.pdopt",
        "ppTSN_epoch_00001.pdparams",
        "ppTSN_epoch_00002.pdopt",
        "ppTSN_latest.pdstate",
        "metrics.jsonl",
        "run.yaml",
        "labels.txt",
    } <= files
    assert read_model(f"{cfg.folder}/ppTSN_best.pdparams")[1] == ["blue sky", "green", "红色"]
    step = ("train step:0", "loss: ", "lr: 0.002000", "top1: ", "top3: ")
    times = ("batch_cost: ", "reader_cost: ", "data: ", "ips: ", "eta: ")
    ends = ("Already save the best model (top1 acc)", "training ppTSN finished")
    notes = ("epochs is 2 and ", "max_epoch is 3: the run ends before the schedule")
    for part in (*step, *times, *ends, *notes):
        assert part in caplog.text
    arrays = paddle.load(f"{cfg.folder}/ppTSN_epoch_00001.pdparams")
    channels = build_model(cfg, 3).backbone.out_channels
    assert arrays["head.fc.weight"].shape == [channels, 3]


def test_run_yaml_repeats_the_run(small):
    cfg = small("epochs=1", "DATASET.batch_size=4")
    train(cfg)
    first = weights_of(cfg)
    again = load_config(f"{cfg.folder}/run.yaml", [f"output_dir={cfg.folder}_again"])
    train(again)
    assert weights_of(again) == first


def test_a_nan_loss_stops_the_run_and_saves_its_batch(small, monkeypatch):
    cfg = small()
    real = Recognizer2D.losses
    monkeypatch.setattr(
        Recognizer2D, "losses", lambda *a: {k: v * float("nan") for k, v in real(*a).items()}
    )
    message = r"the loss is nan at epoch 1 step 0, lr 0.002.*clip \d+.mp4"
    with pytest.raises(NotFinite, match=message):
        train(cfg)
    facts = json.loads((Path(cfg.folder) / "not_finite_epoch1_step0_rank0.json").read_text())
    assert len(facts["files"]) == 3 and facts["loss"] == "nan"
    assert read_model(Path(cfg.folder) / "not_finite_epoch1_step0_rank0.pdparams")[0]


def test_counts_training_files_that_fail(small, clips, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    good = sorted((clips / "train").rglob("*.mp4"))
    bad = tmp_path / "not a video.mp4"
    bad.write_text("hello")
    lines = [f"{path} {number % 3}" for number, path in enumerate(good)] + [f"{bad} 0"]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    options = [
        f"DATASET.train.file_path={tmp_path / 'list.txt'}",
        f"DATASET.valid.file_path={tmp_path / 'list.txt'}",
    ]
    options += ["DATASET.batch_size=13", "epochs=1", "MODEL.head.num_classes=3"]
    with pytest.raises(TooManyFailures, match=r"1 of 13 files failed, max_failures allows 0"):
        train(small(*options))
    caplog.clear()
    train(small(*options, "DATASET.train.max_failures=0.1"))
    assert f"cannot use {bad}: decode:" in caplog.text and f"counted as wrong: {bad}" in caplog.text
    rows = metrics_of(small())
    assert next(r for r in rows if r["split"] == "valid")["num_failed"] == 1


def test_on_error_fail_stops_at_the_first_failure(small, tmp_path, clips):
    (tmp_path / "bad.mp4").write_bytes(b"")
    files = [*sorted((clips / "train").rglob("*.mp4")), tmp_path / "bad.mp4"]
    lines = [f"{path} 0" for path in files]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    options = [
        f"DATASET.train.file_path={tmp_path}/list.txt",
        "MODEL.head.num_classes=3",
        "DATASET.batch_size=13",
    ]
    with pytest.raises(DecodeError, match=r"bad.mp4: decode: .*on_error: replace"):
        train(small(*options, "DATASET.train.on_error=fail"), validate=False)
    message = r"DATASET.train.on_error is 'skip', expected replace or fail here"
    with pytest.raises(ConfigError, match=message):
        train(small(*options, "DATASET.train.on_error=skip"), validate=False)


def test_stops_at_once_if_every_file_fails(small, tmp_path):
    for i in range(6):
        (tmp_path / f"{i}.mp4").write_bytes(b"")
    (tmp_path / "list.txt").write_text("\n".join(f"{tmp_path}/{i}.mp4 {i % 2}" for i in range(6)))
    cfg = small(f"DATASET.train.file_path={tmp_path}/list.txt", "MODEL.head.num_classes=3")
    with pytest.raises(TooManyFailures, match="records in a row failed"):
        train(cfg, validate=False)


def test_validation_and_test_stop_if_no_file_can_be_decoded(small, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/bad.mp4 0")
    cfg = small(
        f"DATASET.valid.file_path={tmp_path}/list.txt",
        "MODEL.head.num_classes=3",
        "DATASET.train.max_failures=5",
    )
    with pytest.raises(DecodeError, match=r"not one validation file could be decoded.*bad.mp4"):
        train(cfg)
    cfg = small(
        f"DATASET.test.file_path={tmp_path}/list.txt",
        "DATASET.test.on_error=skip",
        "MODEL.head.num_classes=3",
    )
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    with pytest.raises(DecodeError, match=r"not one test file could be decoded.*bad.mp4"):
        run_test(cfg, str(tmp_path / "w.pdparams"))


def test_rejects_an_optimizer_file_as_weights(small):
    cfg = small("epochs=1", "max_iters=1")
    train(cfg)
    message = r"ppTSN_best.pdopt: the state of an optimizer.*\.pdparams"
    with pytest.raises(WeightsError, match=message):
        read_model(f"{cfg.folder}/ppTSN_best.pdopt")


def test_a_test_stops_at_a_broken_file_or_counts_it(small, clips, tmp_path):
    good = sorted((clips / "test").rglob("*.mp4"))[:3]
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    lines = [f"{path} 0" for path in [*good, empty]]
    (tmp_path / "test.txt").write_text("\n".join(lines), encoding="utf-8")
    cfg = small(f"DATASET.test.file_path={tmp_path / 'test.txt'}", "MODEL.head.num_classes=3")
    model = build_model(cfg, 3)
    write_arrays(tmp_path / "w.pdparams", state_arrays(model))
    with pytest.raises(DecodeError, match=r"empty.mp4: decode: .*on_error: skip"):
        run_test(cfg, str(tmp_path / "w.pdparams"))
    skipping = small(
        f"DATASET.test.file_path={tmp_path / 'test.txt'}",
        "MODEL.head.num_classes=3",
        "DATASET.test.on_error=skip",
    )
    done = run_test(skipping, str(tmp_path / "w.pdparams"), out=str(tmp_path / "scores.json"))
    assert done.numbers["num_samples"] == 4 and done.numbers["num_failed"] == 1
    rows = json.loads((tmp_path / "scores.json").read_text())["results"]
    assert len(rows) == 4 and "error" in rows[3] and "empty.mp4" in rows[3]["id"]
    assert abs(sum(rows[0]["scores"]) - 1) < 1e-6


def test_test_numbers_do_not_depend_on_batch_size_or_views_per_step(small, tmp_path):
    cfg = small()
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    results = []
    for options in (
        ["DATASET.test_batch_size=1"],
        ["DATASET.test_batch_size=4", "DATASET.views_per_step=7", "DATASET.num_workers=1"],
    ):
        out = tmp_path / f"scores{len(results)}.npz"
        done = run_test(small(*options), str(tmp_path / "w.pdparams"), out=str(out))
        results.append((done.numbers["top1"], done.numbers["mean_class_accuracy"], np.load(out)))
    assert results[0][:2] == results[1][:2]
    first, second = (scores for *_, scores in results)
    assert first["id"].tolist() == second["id"].tolist() and len(first["id"]) == 7
    np.testing.assert_allclose(first["scores"], second["scores"], atol=1e-5)


def test_rejects_weights_of_another_model(small, tmp_path):
    write_arrays(tmp_path / "other.pdparams", {"fc.weight": np.zeros((3, 4), np.float32)})
    with pytest.raises(WeightsError, match=r"0 of \d+ tensors loaded.*another model"):
        run_test(small(), str(tmp_path / "other.pdparams"))


def test_trains_on_two_classes(small, clips, tmp_path):
    for split in ("train", "val"):
        for name in ("green", "红色"):
            shutil.copytree(clips / split / name, tmp_path / split / name)
    options = [
        f"DATASET.train.file_path={tmp_path}/train",
        f"DATASET.valid.file_path={tmp_path}/val",
        "epochs=1",
    ]
    assert train(small(*options)).model.num_classes == 2
    rows = metrics_of(small())
    assert "top2" in rows[-1] and "top5" not in rows[-1]
    with pytest.raises(ValueError, match=r"400.*2"):
        train(small(*options, "MODEL.head.num_classes=400"), overwrite=True)


def test_rejects_a_global_batch_that_does_not_fit(small):
    with pytest.raises(ConfigError, match="global_batch_size is 7, expected a multiple of 3"):
        train(small("GRADIENT_ACCUMULATION.global_batch_size=7"))
    with pytest.raises(ConfigError, match="an epoch has 4"):
        train(small("GRADIENT_ACCUMULATION.global_batch_size=30"))


def test_logs_and_applies_linear_scaling(small, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    cfg = small("OPTIMIZER.learning_rate.reference_batch_size=6", "epochs=1", "max_iters=1")
    train(cfg, validate=False)
    assert "learning rate x 0.5: global batch 3, written for 6" in caplog.text
    assert "lr: 0.001000" in caplog.text
