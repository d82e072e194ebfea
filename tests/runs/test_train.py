"""Training as a whole: exact resume, exact evaluation, what is kept, what is said."""

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
    """Stands for kill -9: nothing after it is run, no handler saves anything."""


def weights_of(cfg, name="ppTSN_latest.pdstate"):
    return checksum(read_model(f"{cfg.folder}/{name}")[0])


def metrics_of(cfg):
    return [json.loads(line) for line in Path(cfg.folder, "metrics.jsonl").read_text().splitlines()]


def kill_at(monkeypatch, step):
    """Make the `step`-th optimizer step of the process the last one."""
    real, count = train_module.train_step, iter(range(1, 1000))

    def step_or_die(*args):
        if next(count) == step:
            raise Killed
        return real(*args)

    monkeypatch.setattr(train_module, "train_step", step_or_die)


CASES = {
    "plain": [],
    "accumulation": ["GRADIENT_ACCUMULATION.global_batch_size=6"],
    "amp": ["amp=true"],
    "workers": ["DATASET.num_workers=2"],
}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_equals_uninterrupted(small, monkeypatch, case):
    straight = small(*CASES[case], "output_dir=" + str(small().folder) + "_straight")
    train(straight)
    broken = small(*CASES[case])
    for step in (6, 2):  # in the second epoch, then in the same epoch again after a resume
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(broken, resume="auto")
    train(broken, resume="auto")
    assert weights_of(broken) == weights_of(straight)
    rows = [metrics_of(c) for c in (straight, broken)]
    assert [(r["split"], r["epoch"], r.get("step"), r["loss"]) for r in rows[0]] == [
        (r["split"], r["epoch"], r.get("step"), r["loss"]) for r in rows[1]
    ]


def test_asked_to_stop_saves_inside_an_epoch(small, monkeypatch):
    straight = small(
        "output_dir=" + str(small().folder) + "_straight",
        "GRADIENT_ACCUMULATION.global_batch_size=6",
    )
    train(straight)
    broken = small("GRADIENT_ACCUMULATION.global_batch_size=6")
    real, seen = train_module.train_step, []

    def ask_on_the_third_step(*args):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(train_module, "train_step", ask_on_the_third_step)
    state = train(broken)
    assert (state.progress.epoch, state.progress.step) == (
        0,
        4,
    )  # it waits for the accumulation to be complete
    monkeypatch.undo()
    train(broken, resume="auto")
    assert weights_of(broken) == weights_of(straight)


def test_resume_epoch_reads_the_numbered_pair(small):
    cfg = small()
    train(cfg)
    whole = weights_of(cfg)
    train(small("resume_epoch=1"))
    assert weights_of(cfg) == whole


def test_resume_of_another_run_is_refused(small):
    cfg = small("epochs=1")
    train(cfg)
    with pytest.raises(
        WeightsError, match=r"saved by a run with seed 1234.*this run has seed 5.*same settings"
    ):
        train(small("seed=5"), resume="auto")
    with pytest.raises(WeightsError, match=r"--resume .*nowhere: expected a .pdstate file"):
        train(small(), resume="nowhere")


def test_files_logs_and_labels(small, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    cfg = small()
    train(cfg)
    files = {p.name for p in Path(cfg.folder).iterdir()}
    assert {
        "ppTSN_best.pdparams", "ppTSN_best.pdopt", "ppTSN_epoch_00001.pdparams", "ppTSN_epoch_00002.pdopt",
        "ppTSN_latest.pdstate", "metrics.jsonl", "run.yaml", "labels.txt",
    } <= files  # fmt: skip
    assert read_model(f"{cfg.folder}/ppTSN_best.pdparams")[1] == ["blue sky", "green", "红色"]
    for piece in ("train step:0", "loss: ", "lr: 0.002000", "top1: ", "top3: ", "batch_cost: ", "reader_cost: ", "data: ",
                  "ips: ", "eta: ", "Already save the best model (top1 acc)", "training ppTSN finished"):  # fmt: skip
        assert piece in caplog.text
    assert paddle.load(f"{cfg.folder}/ppTSN_epoch_00001.pdparams")["head.fc.weight"].shape == [
        512,
        3,
    ]


def test_run_file_repeats_the_run(small):
    cfg = small("epochs=1", "DATASET.batch_size=4")
    train(cfg)
    first = weights_of(cfg)
    again = load_config(f"{cfg.folder}/run.yaml", [f"output_dir={cfg.folder}_again"])
    train(again)
    assert weights_of(again) == first


def test_not_finite_stops_and_keeps_the_evidence(small, monkeypatch):
    cfg = small()
    real = Recognizer2D.losses
    monkeypatch.setattr(
        Recognizer2D, "losses", lambda *a: {k: v * float("nan") for k, v in real(*a).items()}
    )
    with pytest.raises(
        NotFinite, match=r"the loss is nan at epoch 1 step 0, lr 0.002.*clip \d+.mp4"
    ):
        train(cfg)
    facts = json.loads((Path(cfg.folder) / "not_finite_epoch1_step0_rank0.json").read_text())
    assert len(facts["files"]) == 3 and facts["loss"] == "nan"
    assert read_model(Path(cfg.folder) / "not_finite_epoch1_step0_rank0.pdparams")[0]


def test_broken_training_files(small, clips, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    good = sorted((clips / "train").rglob("*.mp4"))
    bad = tmp_path / "not a video.mp4"
    bad.write_text("hello")
    lines = [f"{p} {i % 3}" for i, p in enumerate(good)] + [f"{bad} 0"]
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


def test_training_may_stop_at_the_first_failure(small, tmp_path, clips):
    (tmp_path / "bad.mp4").write_bytes(b"")
    lines = [f"{p} 0" for p in sorted((clips / "train").rglob("*.mp4"))] + [f"{tmp_path}/bad.mp4 0"]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    options = [
        f"DATASET.train.file_path={tmp_path}/list.txt",
        "MODEL.head.num_classes=3",
        "DATASET.batch_size=13",
    ]
    with pytest.raises(DecodeError, match=r"bad.mp4: decode: .*on_error: replace"):
        train(small(*options, "DATASET.train.on_error=fail"), validate=False)
    with pytest.raises(
        ConfigError, match=r"DATASET.train.on_error is 'skip', expected replace or fail here"
    ):
        train(small(*options, "DATASET.train.on_error=skip"), validate=False)


def test_every_file_broken_stops_at_once(small, tmp_path):
    for i in range(6):
        (tmp_path / f"{i}.mp4").write_bytes(b"")
    (tmp_path / "list.txt").write_text("\n".join(f"{tmp_path}/{i}.mp4 {i % 2}" for i in range(6)))
    with pytest.raises(TooManyFailures, match="records in a row failed"):
        train(
            small(f"DATASET.train.file_path={tmp_path / 'list.txt'}", "MODEL.head.num_classes=3"),
            validate=False,
        )


def test_validation_and_testing_with_nothing_to_decode_stop(small, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/bad.mp4 0")
    with pytest.raises(DecodeError, match=r"not one validation file could be decoded.*bad.mp4"):
        train(
            small(
                f"DATASET.valid.file_path={tmp_path}/list.txt",
                "MODEL.head.num_classes=3",
                "DATASET.train.max_failures=5",
            )
        )
    cfg = small(
        f"DATASET.test.file_path={tmp_path}/list.txt",
        "DATASET.test.on_error=skip",
        "MODEL.head.num_classes=3",
    )
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    with pytest.raises(DecodeError, match=r"not one test file could be decoded.*bad.mp4"):
        run_test(cfg, str(tmp_path / "w.pdparams"))


def test_an_optimizer_file_is_no_model(small):
    cfg = small("epochs=1", "max_iters=1")
    train(cfg)
    with pytest.raises(
        WeightsError, match=r"ppTSN_best.pdopt: the state of an optimizer.*\.pdparams"
    ):
        read_model(f"{cfg.folder}/ppTSN_best.pdopt")


def test_testing_a_broken_file(small, clips, tmp_path):
    good = sorted((clips / "test").rglob("*.mp4"))[:3]
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    (tmp_path / "test.txt").write_text(
        "\n".join(f"{p} 0" for p in [*good, empty]), encoding="utf-8"
    )
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


def test_test_numbers_do_not_depend_on_batches_or_views(small, tmp_path):
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
    assert (
        results[0][2]["id"].tolist() == results[1][2]["id"].tolist()
        and len(results[0][2]["id"]) == 7
    )
    np.testing.assert_allclose(results[0][2]["scores"], results[1][2]["scores"], atol=1e-5)


def test_weights_of_another_model_are_refused(small, tmp_path):
    write_arrays(tmp_path / "other.pdparams", {"fc.weight": np.zeros((3, 4), np.float32)})
    with pytest.raises(WeightsError, match=r"0 of \d+ tensors loaded.*another model"):
        run_test(small(), str(tmp_path / "other.pdparams"))


def test_two_classes(small, clips, tmp_path):
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
        train(small(*options, "MODEL.head.num_classes=400"))


def test_bad_accumulation_and_mix(small):
    with pytest.raises(ConfigError, match="global_batch_size is 7, expected a multiple of 3"):
        train(small("GRADIENT_ACCUMULATION.global_batch_size=7"))
    with pytest.raises(ConfigError, match="an epoch has 4"):
        train(small("GRADIENT_ACCUMULATION.global_batch_size=30"))


def test_linear_scaling_is_said_and_done(small, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    train(
        small("OPTIMIZER.learning_rate.reference_batch_size=6", "epochs=1", "max_iters=1"),
        validate=False,
    )
    assert (
        "learning rate x 0.5: global batch 3, written for 6" in caplog.text
        and "lr: 0.001000" in caplog.text
    )
