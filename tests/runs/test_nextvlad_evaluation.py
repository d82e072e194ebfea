"""NeXtVLAD evaluations on synthetic shards: any number of ranks, score files, failures, checks."""

import json
import logging
import re

import numpy as np
import paddle
import pytest

from paddlevideo import dist
from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.youtube8m.tfrecord import record_offsets
from paddlevideo.engine.best_validation import HardestClips
from paddlevideo.engine.build import build_metric, build_model
from paddlevideo.engine.classes import load_records
from paddlevideo.engine.describe import describe
from paddlevideo.engine.evaluate import Scored, evaluate
from paddlevideo.engine.loaders import eval_loader
from paddlevideo.engine.run import Options, prepare
from paddlevideo.engine.test import TAGS, ScoreRows, tag_row
from paddlevideo.sample import DecodeError, Record
from paddlevideo.weights import read_arrays, write_arrays
from tests.runs.conftest import CLASSES
from tests.runs.test_ranks import finish, launch
from tests.runs.test_train import metrics_of

EMA = "EMA={name: EMA, decay: 0.9}"


def evaluate_on_ranks(cfg, model, monkeypatch, ranks):
    """The result of `evaluate` on each rank; one process simulates the ranks one after another.

    The first pass records what each rank gathers. The second gives these values to all ranks.
    """
    records = load_records(cfg, ("test",))[0]["test"].records
    gathered: list[list] = [[] for _ in range(ranks)]

    def evaluate_rank(rank, gather):
        with monkeypatch.context() as patch:
            patch.setattr(dist, "rank", lambda: rank)
            patch.setattr(dist, "world_size", lambda: ranks)
            patch.setattr(dist, "gather", gather)
            loader = eval_loader(cfg, "test", records, CLASSES)
            rows, hardest = ScoreRows(multi_label=True), HardestClips(3)
            result = evaluate(cfg, model, loader, "skip", collectors=[rows, hardest])
        return result.headline, result.numbers, rows.rows, hardest.rows

    def record(rank):
        def gather(value):
            gathered[rank].append(value)
            return [value]

        return gather

    def replay():
        calls = map(list, zip(*gathered, strict=True))
        return lambda value: next(calls)

    for rank in range(ranks):
        evaluate_rank(rank, record(rank))
    return [evaluate_rank(rank, replay()) for rank in range(ranks)]


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_numbers_do_not_depend_on_the_number_of_ranks(
    nextvlad, nextvlad_weights, monkeypatch, ranks
):
    """They are bit-identical with a batch size of 1, and also with more ranks than videos."""
    cfg = nextvlad("DATASET.test.on_error=skip", "DATASET.test_batch_size=1")
    model = build_model(cfg)
    model.set_state_dict(
        {name: paddle.to_tensor(array) for name, array in read_arrays(nextvlad_weights).items()}
    )
    (alone,) = evaluate_on_ranks(cfg, model, monkeypatch, 1)
    for result in evaluate_on_ranks(cfg, model, monkeypatch, ranks):
        assert result == alone
    headline, numbers, rows, hardest = alone
    assert headline[0] == "gap"
    assert [row["id"] for row in rows] == [f"test{number:05}" for number in range(5)]
    losses = [row["loss"] for row in hardest]
    assert len(losses) == 3 and losses == sorted(losses, reverse=True)
    assert numbers["loss"] == numbers["avg_loss"]


def test_numbers_follow_from_the_score_file(nextvlad, nextvlad_weights, tmp_path):
    """Computes Hit@1 and GAP by their definitions."""
    done = run_test(nextvlad(), nextvlad_weights, out=str(tmp_path / "scores.json"))
    rows = json.loads((tmp_path / "scores.json").read_text())["results"]
    assert all(len(row["classes"]) == len(row["scores"]) == TAGS == 20 for row in rows)
    assert all(row["scores"] == sorted(row["scores"], reverse=True) for row in rows)
    hits_at_one = [row["classes"][0] in row["labels"] for row in rows]
    assert done.numbers["avg_hit_at_one"] == np.mean(hits_at_one)
    pairs = [
        (score, class_id in row["labels"])
        for row in rows
        for score, class_id in zip(row["scores"], row["classes"], strict=True)
    ]
    hits = np.array([hit for _, hit in sorted(pairs, reverse=True)])
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    num_labels = sum(len(row["labels"]) for row in rows)
    assert done.numbers["gap"] == pytest.approx((precision * hits).sum() / num_labels)


def test_both_score_files_hold_the_same(nextvlad, nextvlad_weights, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    with caplog.at_level(logging.INFO):
        run_test(nextvlad(), nextvlad_weights, out=str(tmp_path / "s.npz"))
    line = re.search(r"\[TEST\] finished, (.*), videos= 5", caplog.text)[1]
    assert re.findall(r"(\w+)= ", line) == ["avg_hit_at_one", "avg_perr", "avg_loss", "gap", "map"]
    run_test(nextvlad(), nextvlad_weights, out=str(tmp_path / "s.json"))
    rows = json.loads((tmp_path / "s.json").read_text())["results"]
    arrays = np.load(tmp_path / "s.npz", allow_pickle=False)
    assert set(arrays.files) == {"id", "scores", "classes"}
    assert arrays["classes"].dtype == np.int64
    assert arrays["id"].tolist() == [row["id"] for row in rows]
    assert arrays["classes"].tolist() == [row["classes"] for row in rows]
    np.testing.assert_array_equal(arrays["scores"], [row["scores"] for row in rows])


def test_tag_row():
    logits = np.linspace(-3, 3, 30)
    label = np.zeros(30, np.uint8)
    label[[4, 29]] = 1
    record = Record("a.tfrecord", id="a.tfrecord:0", offset=7)
    row = tag_row(Scored(record, 0, label, "abc", logits))
    assert (row["id"], row["path"], row["labels"]) == ("abc", "a.tfrecord@7", [4, 29])
    assert row["classes"] == list(range(29, 9, -1))
    assert row["scores"][0] == pytest.approx(1 / (1 + np.exp(-3)))
    assert tag_row(Scored(Record("a", id="a:0"), 0, label, "", logits))["id"] == "a:0"
    tied = tag_row(Scored(Record("a"), 0, label, "", np.zeros(30)))
    assert tied["classes"] == list(range(20)), "of equal scores, the lower class comes first"
    json.dumps(row)


def test_damaged_videos_stop_or_are_counted(nextvlad, nextvlad_weights, nextvlad_shards, tmp_path):
    damaged = bytearray((nextvlad_shards / "test0000.tfrecord").read_bytes())
    offsets, _ = record_offsets(nextvlad_shards / "test0000.tfrecord")
    damaged[int(offsets[2]) + 40] ^= 1
    (tmp_path / "bad.tfrecord").write_bytes(damaged)
    files = [
        f"DATASET.{split}.file_path={tmp_path / 'bad.tfrecord'}" for split in ("test", "valid")
    ]
    start = offsets[2]
    reason = rf"byte {start}: the payload fails its CRC-32C check"
    with pytest.raises(DecodeError, match=rf"bad.tfrecord@{start}: decode: {reason}.*skip"):
        run_test(nextvlad(*files), nextvlad_weights)
    skipping = nextvlad(*files, "DATASET.test.on_error=skip")
    done = run_test(skipping, nextvlad_weights, out=str(tmp_path / "s.json"))
    assert len(done.failures) == 1
    assert done.numbers["num_samples"] == 4, "a video without labels cannot be counted"
    rows = json.loads((tmp_path / "s.json").read_text())["results"]
    assert len(rows) == 5 and "scores" not in rows[2]
    assert "fails its CRC-32C check" in rows[2]["error"]
    run_test(skipping, nextvlad_weights, out=str(tmp_path / "s.npz"))
    arrays = np.load(tmp_path / "s.npz")
    assert np.isnan(arrays["scores"][2]).all() and (arrays["classes"][2] == -1).all()
    assert np.isfinite(arrays["scores"][3]).all()
    train(nextvlad(*files, "epochs=1"))  # by default, a validation counts it and continues
    with pytest.raises(DecodeError):
        train(nextvlad(*files, "epochs=1", "DATASET.valid.on_error=fail"), overwrite=True)


def test_rejects_a_metric_that_does_not_fit(nextvlad):
    single_label = nextvlad("METRIC={name: CenterCropMetric}")
    problem = "METRIC CenterCropMetric does not fit"
    fix = "VideoTagger is multi-label: METRIC: {name: MultiLabelMetric}"
    with pytest.raises(ConfigError, match=f"{problem}; {fix}"):
        build_metric(single_label, CLASSES, multi_label=True)
    fix = "VideoTagger is single-label: METRIC: {name: CenterCropMetric}"
    with pytest.raises(ConfigError, match=f"METRIC MultiLabelMetric does not fit; {fix}"):
        build_metric(nextvlad(), CLASSES, multi_label=False)
    # Both report it before the first epoch.
    for function in (lambda: prepare(single_label, Options()), lambda: describe(single_label)):
        with pytest.raises(ConfigError, match=problem):
            function()


def test_describe_needs_no_data(nextvlad):
    plan = describe(nextvlad("DATASET.train.file_path=nowhere", "DATASET.valid.file_path=nowhere"))
    assert "no mistakes found" in plan and "VideoTagger" in plan and f"{CLASSES} classes" in plan
    assert re.search(r"train +batch 4 per rank of rgb \[9, 8\], audio \[9, 4\], num_frames", plan)
    message = (
        r"PIPELINE.train: the model takes rgb as T D = any x 8 uint8; "
        r"the pipeline gives .*16.*'features'"
    )
    with pytest.raises(ConfigError, match=message):
        describe(nextvlad("PIPELINE.train.decode.features={rgb: 16, audio: 4}"))
    message = r"the model takes rgb, audio, num_frames; the pipeline gives no 'audio'"
    with pytest.raises(ConfigError, match=message):
        describe(nextvlad("PIPELINE.train.decode.features={rgb: 8}"))
    with pytest.raises(ConfigError, match=r"frame features have no clip shape|MULTIGRID"):
        describe(nextvlad(), multigrid=True)


@pytest.mark.slow
def test_two_ranks_validate_like_one(nextvlad, nextvlad_weights, tmp_path, root):
    cfg = nextvlad()
    config = tmp_path / "run.yaml"
    train(nextvlad("epochs=1", "max_iters=1"), validate=False)
    config.write_bytes((tmp_path / "out" / "run.yaml").read_bytes())
    alone = run_test(cfg, nextvlad_weights)
    out = tmp_path / "two.json"
    arguments = ["--test", "-c", str(config), "-w", nextvlad_weights, "--out", str(out)]
    finish(launch(root, tmp_path, 2, *arguments), tmp_path)
    together = json.loads(out.read_text())["numbers"]
    # Other batches may change the last bit of a product.
    assert together == pytest.approx(alone.numbers, rel=1e-6)
    folder = tmp_path / "trained"
    folder.mkdir()
    overrides = [f"output_dir={folder}", "max_iters=null", "epochs=2", EMA]
    arguments = ["-c", str(config), *(word for text in overrides for word in ("-o", text))]
    finish(launch(root, folder, 2, "--validate", *arguments), folder)
    rows = metrics_of(nextvlad(f"output_dir={folder}"))
    valid = [row for row in rows if row["split"] == "valid"]
    assert len(valid) == 2
    average = {
        k[4:]: v
        for k, v in read_arrays(folder / "NeXtVLAD_latest.pdstate").items()
        if k.startswith("ema/")
    }
    write_arrays(tmp_path / "average.pdparams", average)
    as_test = nextvlad(f"DATASET.test.file_path={cfg.DATASET.valid.args['file_path']}")
    again = run_test(as_test, str(tmp_path / "average.pdparams"))
    assert again.numbers["num_samples"] == valid[-1]["num_samples"] == 5
    assert again.numbers["gap"] == pytest.approx(valid[-1]["gap"], rel=1e-6)
