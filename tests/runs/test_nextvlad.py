"""NeXtVLAD trainings on synthetic shards: exact resume, averages of weights, mixtures, losses."""

import json
import os
import signal
import time

import numpy as np
import paddle
import pytest

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.data.youtube8m.sequence_example import parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads
from paddlevideo.engine import train as train_module
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.losses import sigmoid_cross_entropy
from paddlevideo.weights import checksum, read_arrays, write_arrays
from tests.runs.conftest import CLASSES, SIZES
from tests.runs.test_ranks import LIMIT, finish, launch
from tests.runs.test_train import Killed, kill_at, losses_of, metrics_of

EMA = "EMA={name: EMA, decay: 0.9}"


def state_checksum(cfg):
    """Checksum of weights, optimizer and average in the latest state, without its progress."""
    arrays = read_arrays(f"{cfg.folder}/NeXtVLAD_latest.pdstate")
    return checksum({name: array for name, array in arrays.items() if "progress@@" not in name})


# --- training -------------------------------------------------------------------------------------

CASES = {
    "plain": [],
    "average": [EMA],
    "average and worker": [EMA, "DATASET.num_workers=1"],
    "workers": ["DATASET.num_workers=2"],
    "mixture": ["MODEL.framework=TaggerMixture"],
    "accumulation": ["GRADIENT_ACCUMULATION.global_batch_size=8"],
    "small shuffle buffer": ["DATASET.train.shuffle_buffer=3"],
}


FAST = ("average and worker", "accumulation", "small shuffle buffer")
SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in CASES if case not in FAST]


@pytest.mark.parametrize("case", [*FAST, *SLOW])
def test_killed_and_resumed_equals_uninterrupted(nextvlad, tmp_path, monkeypatch, case):
    uninterrupted = nextvlad(*CASES[case], f"output_dir={tmp_path}/uninterrupted")
    train(uninterrupted)
    killed = nextvlad(*CASES[case])
    # First in the second epoch, then after the resume in the same epoch again.
    for step in (8, 2):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(killed, resume="auto")
    train(killed, resume="auto")
    assert state_checksum(killed) == state_checksum(uninterrupted)
    losses = losses_of(killed)
    assert losses == losses_of(uninterrupted) and len(losses) == 2 * (5 + 2)


def test_stop_signal_within_a_shard(nextvlad, tmp_path, monkeypatch):
    """A resume repeats no record that was trained on before the stop, and skips none."""
    uninterrupted = nextvlad(EMA, f"output_dir={tmp_path}/uninterrupted")
    train(uninterrupted)
    stopped = nextvlad(EMA, "DATASET.num_workers=2")
    real_step, steps = train_module.train_step, []

    def stop_at_the_third_step(*args):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_step", stop_at_the_third_step)
        progress = train(stopped).progress
    assert (progress.epoch, progress.step) == (0, 3)
    train(stopped, resume="auto")
    assert state_checksum(stopped) == state_checksum(uninterrupted)


def test_validates_and_keeps_the_average(nextvlad, tmp_path):
    """The best model is the average, and the latest state holds both. Training does not change."""
    plain = nextvlad(f"output_dir={tmp_path}/plain")
    averaged = nextvlad("EMA={name: EMA, decay: 0.5, warm_up: False}")
    train(plain)
    train(averaged)
    latest = [read_arrays(f"{cfg.folder}/NeXtVLAD_latest.pdstate") for cfg in (plain, averaged)]
    models = [{k: v for k, v in arrays.items() if k.startswith("model/")} for arrays in latest]
    assert checksum(models[0]) == checksum(models[1])
    average = {k[4:]: v for k, v in latest[1].items() if k.startswith("ema/")}
    assert average and not any(k.startswith("ema/") for k in latest[0])
    own = {k[6:]: v for k, v in latest[1].items() if k.startswith("model/")}
    assert np.abs(average["head.hidden.weight"] - own["head.hidden.weight"]).max() > 1e-5
    rows = [row for row in metrics_of(averaged) if row["split"] == "valid"]
    write_arrays(tmp_path / "average.pdparams", average)
    as_test = nextvlad(f"DATASET.test.file_path={averaged.DATASET.valid.args['file_path']}")
    done = run_test(as_test, str(tmp_path / "average.pdparams"))
    assert done.numbers["avg_loss"] == pytest.approx(rows[-1]["avg_loss"], rel=1e-6)
    best, _ = read_model(f"{averaged.folder}/NeXtVLAD_best.pdparams")
    best_row = max(rows, key=lambda row: (row["gap"], -row["loss"]))
    write_arrays(tmp_path / "best.pdparams", best)
    gap = run_test(as_test, str(tmp_path / "best.pdparams")).numbers["gap"]
    assert gap == pytest.approx(best_row["gap"], rel=1e-6)


def test_updates_the_average_after_every_step(nextvlad, monkeypatch):
    """decay * average + (1 - decay) * weights; the decay grows with the number of steps."""
    real_update, decays = train_module.ema.update, []

    def checked_update(average, model, decay):
        before = average["head.hidden.weight"].numpy()
        real_update(average, model, decay)
        expected = decay * before + (1 - decay) * model.head.hidden.weight.numpy()
        np.testing.assert_allclose(average["head.hidden.weight"].numpy(), expected, atol=1e-7)
        decays.append(decay)

    monkeypatch.setattr(train_module.ema, "update", checked_update)
    train(nextvlad(EMA, "epochs=1"))
    assert decays == [min(0.9, (1 + step) / (10 + step)) for step in range(1, 6)]


def test_resume_epoch_restarts_the_average(nextvlad, monkeypatch):
    """A numbered pair holds no average, which starts from the weights of the pair."""
    cfg = nextvlad(EMA)
    train(cfg)
    pair, _ = read_model(f"{cfg.folder}/NeXtVLAD_epoch_00001.pdparams")
    real_update, averages = train_module.ema.update, []

    def recorded_update(average, model, decay):
        averages.append(average["head.hidden.weight"].numpy())
        real_update(average, model, decay)

    monkeypatch.setattr(train_module.ema, "update", recorded_update)
    train(nextvlad(EMA, "resume_epoch=1"))
    np.testing.assert_array_equal(averages[0], pair["head.hidden.weight"])


def test_example_decay_counts_examples_over_epochs(nextvlad):
    """20 examples per epoch in batches of 4, and a decay every 8 examples: every second step."""
    values = "learning_rate: 0.001, gamma: 0.5, decay_examples: 8"
    rule = f"OPTIMIZER.learning_rate={{name: ExampleDecay, iter_step: True, {values}}}"

    def rates(*overrides, validate=False):
        cfg = nextvlad(rule, *overrides)
        train(cfg, validate, overwrite=True)
        return [row["lr"] for row in metrics_of(cfg) if row["split"] == "train"]

    expected = pytest.approx([0.001 * 0.5 ** (4 * step // 8) for step in range(10)])
    assert rates(validate=True) == expected
    accumulated = rates("GRADIENT_ACCUMULATION.global_batch_size=8")
    assert accumulated == expected, "all accumulated batches count"
    # 16 of the 20 examples fill batches of 8.
    expected = pytest.approx([0.001 * 0.5**step for step in range(4)])
    assert rates("DATASET.batch_size=8") == expected


def test_a_mixture_trains_and_predicts_with_its_best_member(nextvlad, tmp_path):
    cfg = nextvlad("MODEL.framework=TaggerMixture", "MODEL.num_members=2")
    train(cfg)
    steps = [row for row in metrics_of(cfg) if row["split"] == "train"]
    assert all({"loss", "mixture_loss", "hit_at_one"} <= row.keys() for row in steps)
    best = f"{cfg.folder}/NeXtVLAD_best.pdparams"
    done = run_test(cfg, best, out=str(tmp_path / "scores.json"))
    assert done.numbers["num_samples"] == 5
    arrays, _ = read_model(best)
    model = build_model(cfg)
    model.set_state_dict({name: paddle.to_tensor(array) for name, array in arrays.items()})
    model.eval()
    shard = cfg.DATASET.test.args["file_path"].replace("test.list", "test0000.tfrecord")
    _, payload = next(read_payloads(shard))
    example = parse_example(payload)
    frames = {name: paddle.to_tensor(example.features[name][None, :9]) for name in SIZES}
    count = paddle.to_tensor([frames["rgb"].shape[1]])
    logits = model({**frames, "num_frames": count}).numpy()[0]
    row = json.loads((tmp_path / "scores.json").read_text())["results"][0]
    np.testing.assert_allclose(row["scores"][0], 1 / (1 + np.exp(-logits.max())), rtol=1e-5)


@pytest.mark.slow
def test_two_ranks_resume_with_an_average(nextvlad, tmp_path, root):
    """After a stop, each rank continues with its own statistics, also in the average."""
    train(nextvlad("epochs=1", "max_iters=1", EMA), validate=False)
    config, states = str(tmp_path / "out" / "run.yaml"), {}
    for name in ("uninterrupted", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        overrides = [f"output_dir={folder}", "max_iters=null", "epochs=3"]
        arguments = ["--validate", "-c", config]
        arguments += [word for text in overrides for word in ("-o", text)]
        state = folder / "NeXtVLAD_latest.pdstate"
        process = launch(root, folder, 2, *arguments)
        if name == "stopped":
            deadline = time.time() + LIMIT
            while not state.exists() and process.poll() is None and time.time() < deadline:
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGTERM)  # stops within an epoch
            process.wait()
            assert state.exists(), (folder / "console.txt").read_text()[-3000:]
            process = launch(root, folder, 2, *arguments, "--resume")
        finish(process, folder)
        states[name] = {k: v for k, v in read_arrays(state).items() if "progress@@" not in k}
    assert any(k.startswith("rank1/ema/") for k in states["uninterrupted"])
    assert checksum(states["stopped"]) == checksum(states["uninterrupted"])


# --- losses ---------------------------------------------------------------------------------------


def test_losses_of_multi_label_batches(nextvlad):
    model = build_model(nextvlad())
    model.train()
    rng = np.random.default_rng(0)
    batch = {
        name: paddle.to_tensor(rng.integers(0, 256, (4, 9, width), np.uint8))
        for name, width in SIZES.items()
    }
    batch["num_frames"] = paddle.to_tensor([9, 3, 1, 8])
    logits = rng.standard_normal((4, CLASSES)).astype("float32")
    labels = np.zeros((4, CLASSES), np.uint8)
    labels[[0, 0, 2], [logits[0].argmax(), logits[0].argmin(), logits[2].argmax()]] = 1
    # The best class of video 1 is wrong, and video 3 has no label.
    labels[1, logits[1].argmin()] = 1
    batch["label"] = paddle.to_tensor(labels)
    losses = model.losses(paddle.to_tensor(logits), batch)
    assert losses.keys() == {"loss", "hit_at_one"} and float(losses["hit_at_one"]) == 0.5
    x = logits.astype(np.float64)
    by_class = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * labels
    expected = by_class.sum(1).mean()
    assert float(losses["loss"]) == pytest.approx(expected, rel=1e-6)
    assert model.train_inputs == ("rgb", "audio", "num_frames")

    mixture = build_model(nextvlad("MODEL.framework=TaggerMixture", "MODEL.num_members=2"))
    outputs = paddle.to_tensor(np.stack([logits, 2 * logits, -logits], 1))
    losses = mixture.losses(outputs, batch)
    assert losses.keys() == {"loss", "mixture_loss", "hit_at_one"}
    assert float(losses["hit_at_one"]) == 0.5
    assert float(losses["mixture_loss"]) == pytest.approx(expected, rel=1e-6)
    parts = [float(sigmoid_cross_entropy(outputs[:, i], batch["label"])) for i in range(3)]
    assert float(losses["loss"]) > sum(parts)
