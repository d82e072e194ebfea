"""NeXtVLAD through the whole engine, on made-up shards: exact resume, ranks, averages of weights, mixtures, tests, failures."""

import json
import logging
import os
import re
import signal
import time

import numpy as np
import paddle
import pytest

from paddlevideo import dist
from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.data.youtube8m.sequence_example import parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads, record_offsets
from paddlevideo.engine import train as train_module
from paddlevideo.engine.best_validation import HardestClips
from paddlevideo.engine.build import build_metric, build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.classes import load_records
from paddlevideo.engine.describe import describe
from paddlevideo.engine.evaluate import Scored, evaluate
from paddlevideo.engine.loaders import eval_loader
from paddlevideo.engine.run import Options, prepare
from paddlevideo.engine.test import TAGS, ScoreRows, tag_row
from paddlevideo.losses import sigmoid_cross_entropy
from paddlevideo.sample import DecodeError, Record
from paddlevideo.weights import checksum, read_arrays, state_arrays, write_arrays
from tests.runs.test_ranks import LIMIT, finish, launch
from tests.runs.test_train import Killed, kill_at, metrics_of

CLASSES = 24  # more than a score file has of each video
SIZES = {"rgb": 8, "audio": 4}
SMALL = [
    "MODEL.backbone.cluster_size=4", "MODEL.backbone.audio_cluster_size=null", "MODEL.backbone.groups=2",
    "MODEL.backbone.feature_size=8", "MODEL.backbone.audio_size=4", "MODEL.head.hidden_size=16",
    "MODEL.head.gating_reduction=4", f"MODEL.head.num_classes={CLASSES}",
    "DATASET.batch_size=4", "DATASET.valid_batch_size=3", "DATASET.test_batch_size=3",
    *(f"PIPELINE.{split}.decode={{name: FeatureDecoder, max_frames: 9, features: {{rgb: 8, audio: 4}}}}"
      for split in ("train", "valid", "test")),
    "epochs=2", "log_interval=1", "save_interval=1", "val_interval=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """20 training videos in 3 shards, 5 of validation and 5 of a test in one each."""
    folder = tmp_path_factory.mktemp("shards")
    make_shards(
        folder,
        ShardPlan(
            classes=CLASSES, videos=20, per_shard=8, frames=(2, 12), features=tuple(SIZES.items())
        ),
    )
    return folder


@pytest.fixture
def small(shards, tmp_path, root):
    """`small(*overrides)` -> the demo's config on small shards and a small network."""
    files = [f"DATASET.{split}.file_path={shards / name}.list" for split, name in
             (("train", "train"), ("valid", "val"), ("test", "test"))]  # fmt: skip

    def make(*overrides):
        return load_config(
            root / "configs/demo/nextvlad.yaml",
            [*SMALL, *files, f"output_dir={tmp_path}/out", *overrides],
        )

    return make


@pytest.fixture
def weights(small, tmp_path):
    """A weight file of the small network whose answers differ from video to video."""
    paddle.seed(5)
    model = build_model(small())
    model.train()
    rng = np.random.default_rng(0)
    inputs = {
        name: paddle.to_tensor(rng.integers(0, 256, (6, 9, width), np.uint8))
        for name, width in SIZES.items()
    }
    for _ in range(20):  # its batch norms have seen something
        model({**inputs, "num_frames": paddle.to_tensor([9, 5, 2, 9, 7, 1])})
    write_arrays(tmp_path / "w.pdparams", state_arrays(model))
    return str(tmp_path / "w.pdparams")


def whole_state(cfg):
    """Checksum of all that a run needs to go on: weights, optimizer, average; not how long it took."""
    arrays = read_arrays(f"{cfg.folder}/NeXtVLAD_latest.pdstate")
    return checksum({name: array for name, array in arrays.items() if "progress@@" not in name})


# --- training --------------------------------------------------------------------------------------------------------------

CASES = {
    "plain": [],
    "average": ["EMA={name: EMA, decay: 0.9}"],
    "average and workers": ["EMA={name: EMA, decay: 0.9}", "DATASET.num_workers=2"],
    "workers": ["DATASET.num_workers=2"],
    "mixture": ["MODEL.framework=TaggerMixture"],
    "accumulation": ["GRADIENT_ACCUMULATION.global_batch_size=8"],
    "a little shuffling": ["DATASET.train.shuffle_buffer=3"],
}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_equals_uninterrupted(small, tmp_path, monkeypatch, case):
    straight = small(*CASES[case], f"output_dir={tmp_path}/straight")
    train(straight)
    broken = small(*CASES[case])
    for step in (
        8,
        2,
    ):  # in the middle of the second epoch, then in the same epoch again after a resume
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(broken, resume="auto")
    train(broken, resume="auto")
    assert whole_state(broken) == whole_state(straight)
    rows = [
        [(r["split"], r["epoch"], r.get("step"), r["loss"]) for r in metrics_of(cfg)]
        for cfg in (straight, broken)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 2 * (5 + 2)


def test_asked_to_stop_in_the_middle_of_a_shard(small, tmp_path, monkeypatch):
    """A stop saves the step it is at: what was trained on is neither seen again nor left out."""
    straight = small("EMA={name: EMA, decay: 0.9}", f"output_dir={tmp_path}/straight")
    train(straight)
    broken, real, seen = (
        small("EMA={name: EMA, decay: 0.9}", "DATASET.num_workers=2"),
        train_module.train_step,
        [],
    )

    def stop_at_three(*args):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(train_module, "train_step", stop_at_three)
    state = train(broken)
    assert (state.progress.epoch, state.progress.step) == (0, 3)
    monkeypatch.setattr(train_module, "train_step", real)
    train(broken, resume="auto")
    assert whole_state(broken) == whole_state(straight)


def test_the_average_is_what_is_validated_and_kept(small, tmp_path):
    """The best file is the average, the latest state holds both; the training itself is not touched by it."""
    plain, averaged = (
        small(f"output_dir={tmp_path}/plain"),
        small("EMA={name: EMA, decay: 0.5, warm_up: False}"),
    )
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
    as_test = small(f"DATASET.test.file_path={averaged.DATASET.valid.args['file_path']}")
    done = run_test(as_test, str(tmp_path / "average.pdparams"))
    assert done.numbers["avg_loss"] == pytest.approx(rows[-1]["avg_loss"], rel=1e-6)
    best, _ = read_model(f"{averaged.folder}/NeXtVLAD_best.pdparams")
    kept = max(rows, key=lambda row: (row["gap"], -row["loss"]))
    write_arrays(tmp_path / "best.pdparams", best)
    assert run_test(as_test, str(tmp_path / "best.pdparams")).numbers["gap"] == pytest.approx(
        kept["gap"], rel=1e-6
    )


def test_an_average_by_hand(small, monkeypatch):
    """decay * average + (1 - decay) * weights after every optimizer step, the decay by how many there were."""
    cfg, real, seen = small("EMA={name: EMA, decay: 0.9}", "epochs=1"), train_module.ema.update, []

    def watch(average, model, decay):
        before = average["head.hidden.weight"].numpy()
        real(average, model, decay)
        expected = decay * before + (1 - decay) * model.head.hidden.weight.numpy()
        np.testing.assert_allclose(average["head.hidden.weight"].numpy(), expected, atol=1e-7)
        seen.append(decay)

    monkeypatch.setattr(train_module.ema, "update", watch)
    train(cfg)
    assert seen == [min(0.9, (1 + step) / (10 + step)) for step in range(1, 6)]


def test_an_average_begins_anew_with_a_numbered_pair(small, monkeypatch):
    """A pair holds no average: resume_epoch starts it from the weights of the pair, not from those of the first step."""
    cfg = small("EMA={name: EMA, decay: 0.9}")
    train(cfg)
    pair, _ = read_model(f"{cfg.folder}/NeXtVLAD_epoch_00001.pdparams")
    real, first = train_module.ema.update, []

    def watch(average, model, decay):
        first.append(average["head.hidden.weight"].numpy())
        real(average, model, decay)

    monkeypatch.setattr(train_module.ema, "update", watch)
    train(small("EMA={name: EMA, decay: 0.9}", "resume_epoch=1"))
    np.testing.assert_array_equal(first[0], pair["head.hidden.weight"])


def test_the_rate_falls_with_the_examples(small):
    """20 examples an epoch: with a decay each 8 the rate falls before the third batch of 4, in any epoch."""
    rule = "OPTIMIZER.learning_rate={name: ExampleDecay, iter_step: True, learning_rate: 0.001, gamma: 0.5, decay_examples: 8}"
    train(small(rule))
    rates = [row["lr"] for row in metrics_of(small()) if row["split"] == "train"]
    assert rates == pytest.approx([0.001 * 0.5 ** (4 * step // 8) for step in range(10)])
    train(small(rule, "GRADIENT_ACCUMULATION.global_batch_size=8"), validate=False)
    rates = [row["lr"] for row in metrics_of(small()) if row["split"] == "train"]
    assert rates == pytest.approx([0.001 * 0.5 ** (4 * step // 8) for step in range(10)]), (
        "batches that are put together count"
    )
    train(small(rule, "DATASET.batch_size=8"), validate=False)  # 16 of the 20 fill batches
    rates = [row["lr"] for row in metrics_of(small()) if row["split"] == "train"]
    assert rates == pytest.approx([0.001 * 0.5**step for step in range(4)])


def test_a_mixture_trains_and_its_number_is_the_mixtures(small, tmp_path):
    cfg = small("MODEL.framework=TaggerMixture", "MODEL.num_members=2")
    train(cfg)
    rows = metrics_of(cfg)
    assert all(
        {"loss", "mixture_loss", "hit_at_one"} <= row.keys()
        for row in rows
        if row["split"] == "train"
    )
    best = f"{cfg.folder}/NeXtVLAD_best.pdparams"
    done = run_test(cfg, best, out=str(tmp_path / "scores.json"))
    assert done.numbers["num_samples"] == 5
    arrays, _ = read_model(best)
    model = build_model(cfg)
    model.set_state_dict({name: paddle.to_tensor(array) for name, array in arrays.items()})
    model.eval()
    example = parse_example(
        next(
            read_payloads(
                cfg.DATASET.test.args["file_path"].replace("test.list", "test0000.tfrecord")
            )
        )[1]
    )
    frames = {name: paddle.to_tensor(example.features[name][None, :9]) for name in SIZES}
    count = paddle.to_tensor([frames["rgb"].shape[1]])
    logits = model({**frames, "num_frames": count}).numpy()[0]
    row = json.loads((tmp_path / "scores.json").read_text())["results"][0]
    np.testing.assert_allclose(row["scores"][0], 1 / (1 + np.exp(-logits.max())), rtol=1e-5)


# --- the step ----------------------------------------------------------------------------------------------------------------


def test_a_step_of_several_labels(small):
    model = build_model(small())
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
    labels[1, logits[1].argmin()] = (
        1  # the best class of videos 1 and 3 is not one of theirs; 3 has none
    )
    batch["label"] = paddle.to_tensor(labels)
    got = model.losses(paddle.to_tensor(logits), batch)
    assert got.keys() == {"loss", "hit_at_one"} and float(got["hit_at_one"]) == 0.5
    exact = logits.astype(np.float64)
    expected = (
        (np.log1p(np.exp(-np.abs(exact))) + np.maximum(exact, 0) - exact * labels).sum(1).mean()
    )
    assert float(got["loss"]) == pytest.approx(expected, rel=1e-6)
    assert model.train_inputs == ("rgb", "audio", "num_frames")

    mixture = build_model(small("MODEL.framework=TaggerMixture", "MODEL.num_members=2"))
    three = paddle.to_tensor(np.stack([logits, 2 * logits, -logits], 1))
    got = mixture.losses(three, batch)
    assert got.keys() == {"loss", "mixture_loss", "hit_at_one"} and float(got["hit_at_one"]) == 0.5
    assert float(got["mixture_loss"]) == pytest.approx(expected, rel=1e-6)
    assert float(got["loss"]) > sum(
        float(sigmoid_cross_entropy(three[:, i], batch["label"])) for i in range(3)
    )


# --- evaluation --------------------------------------------------------------------------------------------------------------


def evaluated(cfg, model, monkeypatch, ranks):
    """What each of several ranks gets from `evaluate`, one after the other: what a rank gathers is given to all."""
    records = load_records(cfg, ("test",))[0]["test"].records
    calls: list[list] = [[] for _ in range(ranks)]
    done = []
    for turn in (calls.__getitem__, None):
        for rank in range(ranks):
            with monkeypatch.context() as patch:
                patch.setattr(dist, "rank", lambda rank=rank: rank)
                patch.setattr(dist, "world_size", lambda: ranks)
                number = iter(range(99))
                if turn:
                    patch.setattr(
                        dist,
                        "gather",
                        lambda value, rank=rank: calls[rank].append(value) or [value],
                    )
                else:
                    patch.setattr(
                        dist,
                        "gather",
                        lambda value, number=number: (lambda i: [own[i] for own in calls])(
                            next(number)
                        ),
                    )
                loader = eval_loader(cfg, "test", records, CLASSES)
                rows, hardest = ScoreRows(multi_label=True), HardestClips(3)
                result = evaluate(cfg, model, loader, "skip", collectors=[rows, hardest])
                if not turn:
                    done.append((result.headline, result.numbers, rows.rows, hardest.rows))
    return done


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_the_numbers_do_not_depend_on_ranks(small, weights, monkeypatch, ranks):
    """To the last bit, where a video's numbers do not lean on those beside it; seven ranks are more than there are videos."""
    cfg = small("DATASET.test.on_error=skip", "DATASET.test_batch_size=1")
    model = build_model(cfg)
    model.set_state_dict(
        {name: paddle.to_tensor(array) for name, array in read_arrays(weights).items()}
    )
    (alone,) = evaluated(cfg, model, monkeypatch, 1)
    for one in evaluated(cfg, model, monkeypatch, ranks):
        assert one == alone
    headline, numbers, rows, hardest = alone
    assert headline[0] == "gap"
    assert [row["id"] for row in rows] == [f"test{number:05}" for number in range(5)]
    losses = [row["loss"] for row in hardest]
    assert len(losses) == 3 and losses == sorted(losses, reverse=True)
    assert numbers["loss"] == numbers["avg_loss"]


def test_the_numbers_are_those_of_the_metric(small, weights, tmp_path):
    """From the scores of the file, by the definitions: Hit@1, GAP over all pairs, the loss."""
    done = run_test(small(), weights, out=str(tmp_path / "scores.json"))
    rows = json.loads((tmp_path / "scores.json").read_text())["results"]
    assert all(len(row["classes"]) == len(row["scores"]) == TAGS == 20 for row in rows)
    assert all(row["scores"] == sorted(row["scores"], reverse=True) for row in rows)
    assert done.numbers["avg_hit_at_one"] == np.mean(
        [row["classes"][0] in row["labels"] for row in rows]
    )
    pairs = sorted(
        (
            (s, k in row["labels"])
            for row in rows
            for s, k in zip(row["scores"], row["classes"], strict=True)
        ),
        reverse=True,
    )
    hits = np.array([hit for _, hit in pairs])
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    assert done.numbers["gap"] == pytest.approx(
        (precision * hits).sum() / sum(len(row["labels"]) for row in rows)
    )


def test_score_files(small, weights, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    with caplog.at_level(logging.INFO):
        done = run_test(small(), weights, out=str(tmp_path / "s.npz"))
    told = re.search(r"\[TEST\] finished, (.*), videos= 5", caplog.text)[1]
    assert re.findall(r"(\w+)= ", told) == ["avg_hit_at_one", "avg_perr", "avg_loss", "gap", "map"]
    held = np.load(tmp_path / "s.npz", allow_pickle=False)
    assert set(held.files) == {"id", "scores", "classes"} and held["classes"].dtype == np.int64
    assert held["id"].tolist() == [row["id"] for row in done.rows]
    assert held["classes"].tolist() == [row["classes"] for row in done.rows]
    np.testing.assert_array_equal(held["scores"], [row["scores"] for row in done.rows])


def test_a_row_of_tags():
    logits = np.linspace(-3, 3, 30)
    label = np.zeros(30, np.uint8)
    label[[4, 29]] = 1
    row = tag_row(
        Scored(Record("a.tfrecord", id="a.tfrecord:0", offset=7), 0, label, "abc", logits)
    )
    assert (row["id"], row["path"], row["labels"]) == ("abc", "a.tfrecord@7", [4, 29])
    assert row["classes"] == list(range(29, 9, -1)) and row["scores"][0] == pytest.approx(
        1 / (1 + np.exp(-3))
    )
    assert tag_row(Scored(Record("a", id="a:0"), 0, label, "", logits))["id"] == "a:0"
    assert tag_row(Scored(Record("a"), 0, label, "", np.zeros(30)))["classes"] == list(range(20)), (
        "of equal scores the lower class"
    )
    json.dumps(row)


def test_videos_that_cannot_be_read(small, weights, shards, tmp_path):
    damaged = bytearray((shards / "test0000.tfrecord").read_bytes())
    offsets, _ = record_offsets(shards / "test0000.tfrecord")
    damaged[int(offsets[2]) + 40] ^= 1
    (tmp_path / "bad.tfrecord").write_bytes(damaged)
    files = [
        f"DATASET.{split}.file_path={tmp_path / 'bad.tfrecord'}" for split in ("test", "valid")
    ]
    with pytest.raises(
        DecodeError,
        match=rf"bad.tfrecord@{offsets[2]}: decode: byte {offsets[2]}: the payload fails its CRC-32C check.*skip",
    ):
        run_test(small(*files), weights)
    done = run_test(
        small(*files, "DATASET.test.on_error=skip"), weights, out=str(tmp_path / "s.json")
    )
    assert done.numbers["num_samples"] == 4 and len(done.failures) == 1, (
        "its labels are lost with it"
    )
    rows = json.loads((tmp_path / "s.json").read_text())["results"]
    assert len(rows) == 5 and "fails its CRC-32C check" in rows[2]["error"] and "scores" not in rows[2]
    run_test(small(*files, "DATASET.test.on_error=skip"), weights, out=str(tmp_path / "s.npz"))
    held = np.load(tmp_path / "s.npz")
    assert (
        np.isnan(held["scores"][2]).all()
        and (held["classes"][2] == -1).all()
        and np.isfinite(held["scores"][3]).all()
    )
    train(small(*files, "epochs=1"))  # in validation it is counted, not fatal
    with pytest.raises(DecodeError):
        train(small(*files, "epochs=1", "DATASET.valid.on_error=fail"))


def test_a_metric_that_does_not_fit(small):
    with pytest.raises(
        ConfigError,
        match=r"METRIC CenterCropMetric does not fit; VideoTagger gives several labels a video",
    ):
        build_metric(small("METRIC={name: CenterCropMetric}"), CLASSES, multi_label=True)
    with pytest.raises(
        ConfigError,
        match=r"METRIC MultiLabelMetric does not fit; .* gives one label a video: METRIC: {name: Cent",
    ):
        build_metric(small(), CLASSES, multi_label=False)
    unfit = small("METRIC={name: CenterCropMetric}")  # told before the first epoch, not after it
    for early in (lambda: prepare(unfit, Options()), lambda: describe(unfit)):
        with pytest.raises(ConfigError, match="METRIC CenterCropMetric does not fit"):
            early()


def test_check_tries_it_without_data(small):
    plan = describe(small("DATASET.train.file_path=nowhere", "DATASET.valid.file_path=nowhere"))
    assert "no mistakes found" in plan and "VideoTagger" in plan and f"{CLASSES} classes" in plan
    assert re.search(r"train +batch 4 per rank of rgb \[9, 8\], audio \[9, 4\], num_frames", plan)
    with pytest.raises(
        ConfigError,
        match=r"PIPELINE.train: the model takes rgb as T D = any x 8 uint8; the pipeline gives .*16.*'features'",
    ):
        describe(small("PIPELINE.train.decode.features={rgb: 16, audio: 4}"))
    with pytest.raises(
        ConfigError, match=r"the model takes rgb, audio, num_frames; the pipeline gives no 'audio'"
    ):
        describe(small("PIPELINE.train.decode.features={rgb: 8}"))
    with pytest.raises(ConfigError, match=r"frame features have no clip shape|MULTIGRID"):
        describe(small(), multigrid=True)


@pytest.mark.slow
def test_two_ranks_validate_as_one(small, weights, tmp_path, root):
    cfg = small()
    config = tmp_path / "run.yaml"
    train(small("epochs=1", "max_iters=1"), validate=False)
    config.write_bytes((tmp_path / "out" / "run.yaml").read_bytes())
    alone = run_test(cfg, weights)
    out = tmp_path / "two.json"
    finish(
        launch(root, tmp_path, 2, "--test", "-c", str(config), "-w", weights, "--out", str(out)),
        tmp_path,
    )
    together = json.loads(out.read_text())["numbers"]
    assert together == pytest.approx(alone.numbers, rel=1e-6), (
        "batches are others: the last bit of a product may be, too"
    )
    folder = tmp_path / "trained"
    folder.mkdir()
    arguments = [
        "--validate",
        "-c",
        str(config),
        "-o",
        f"output_dir={folder}",
        "-o",
        "max_iters=null",
        "-o",
        "epochs=2",
    ]
    finish(launch(root, folder, 2, *arguments, "-o", "EMA={name: EMA, decay: 0.9}"), folder)
    valid = [
        row
        for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        if row["split"] == "valid"
    ]
    assert len(valid) == 2
    average = {
        k[4:]: v
        for k, v in read_arrays(folder / "NeXtVLAD_latest.pdstate").items()
        if k.startswith("ema/")
    }
    write_arrays(tmp_path / "average.pdparams", average)
    again = run_test(
        small(f"DATASET.test.file_path={cfg.DATASET.valid.args['file_path']}"),
        str(tmp_path / "average.pdparams"),
    )
    assert again.numbers["num_samples"] == valid[-1]["num_samples"] == 5
    assert again.numbers["gap"] == pytest.approx(valid[-1]["gap"], rel=1e-6)


@pytest.mark.slow
def test_two_ranks_resume_with_an_average(small, tmp_path, root):
    """Killed in the second epoch: each rank goes on with its own statistics, in the model and in the average."""
    train(small("epochs=1", "max_iters=1", "EMA={name: EMA, decay: 0.9}"), validate=False)
    config, states = str(tmp_path / "out" / "run.yaml"), {}
    for name in ("straight", "broken"):
        folder = tmp_path / name
        folder.mkdir()
        arguments = [
            "--validate",
            "-c",
            config,
            "-o",
            f"output_dir={folder}",
            "-o",
            "max_iters=null",
            "-o",
            "epochs=3",
        ]
        state = folder / "NeXtVLAD_latest.pdstate"
        process = launch(root, folder, 2, *arguments)
        if name == "broken":
            deadline = time.time() + LIMIT
            while not state.exists() and process.poll() is None and time.time() < deadline:
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGTERM)  # a stop in the middle of an epoch, or a kill
            process.wait()
            assert state.exists(), (folder / "console.txt").read_text()[-3000:]
            process = launch(root, folder, 2, *arguments, "--resume")
        finish(process, folder)
        states[name] = {k: v for k, v in read_arrays(state).items() if "progress@@" not in k}
    assert any(k.startswith("rank1/ema/") for k in states["straight"])
    assert checksum(states["broken"]) == checksum(states["straight"])
