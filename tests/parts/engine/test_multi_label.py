"""Multi-label lists, models and metrics; tables with a split column."""

import json
import warnings

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset
from paddlevideo.engine.build import build_metric, build_model, load_config
from paddlevideo.engine.classes import load_records
from paddlevideo.engine.evaluate import Scored
from paddlevideo.engine.test import tag_row
from paddlevideo.sample import Draw, Record

SLOWFAST = [f"MODEL.{key}" for key in ("backbone.width_per_group=8", "head.width_per_group=8")]


@pytest.fixture
def videos(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    return tmp_path


LISTS = {
    "tags.csv": "path,labels\na.mp4,run;jump\nb.mp4, jump \nc.mp4,\nd.mp4,run;跳 高\n",
    "tags.jsonl": "\n".join(
        json.dumps({"path": f"{name}.mp4", "labels": labels}, ensure_ascii=False)
        for name, labels in (
            ("a", ["run", "jump"]),
            ("b", ["jump"]),
            ("c", []),
            ("d", ["跳 高", "run", "run"]),
        )
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_reads_multi_label_tables(videos, name):
    (videos / name).write_text(LISTS[name], encoding="utf-8")
    dataset = VideoDataset(str(videos / name), multi_label=True)
    loaded = dataset.load()
    assert loaded.class_names == ["jump", "run", "跳 高"] and loaded.max_label == 2
    assert [record.labels for record in loaded.records] == [(0, 1), (0,), (), (1, 2)]
    assert all(record.label is None for record in loaded.records)
    loaded = dataset.load(["run", "jump", "x", "跳 高"])
    assert [record.labels for record in loaded.records] == [(0, 1), (1,), (), (0, 3)]


def test_reads_a_multi_label_list(videos):
    (videos / "tags.list").write_text("a.mp4 3,17,250\nb.mp4 17\nc.mp4 0\n", encoding="utf-8")
    loaded = VideoDataset(str(videos / "tags.list"), multi_label=True).load()
    assert [record.labels for record in loaded.records] == [(3, 17, 250), (17,), (0,)]
    assert loaded.max_label == 250 and loaded.class_names is None

    def pipeline(record, rng):
        return {"label": np.int64(-1)}

    sample, _ = ClipDataset(loaded.records, pipeline, num_classes=251).sample(0, Draw(0))
    assert sample["label"].dtype == np.uint8
    assert np.flatnonzero(sample["label"]).tolist() == [3, 17, 250]


def test_frame_folders_and_lists_may_be_multi_label(tmp_path):
    for name in ("run/x", "row/y"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        (tmp_path / "frames" / name / "img_00001.jpg").write_bytes(b"")
    loaded = FrameDataset(str(tmp_path / "frames"), multi_label=True).load()
    assert [record.labels for record in loaded.records] == [(0,), (1,)]
    assert loaded.class_names == ["row", "run"]
    file = tmp_path / "frames" / "tags.list"
    file.write_text("run/x 1 4,2\n")
    (record,) = FrameDataset(str(file), multi_label=True).load().records
    assert record.labels == (2, 4)


@pytest.mark.parametrize(
    ("text", "multi_label", "problem"),
    [
        (
            "path,labels\na.mp4,run;jump\n",
            False,
            r"t.csv:2: it has labels instead of a label: training needs DATASET.multi_label: true",
        ),
        (
            "path,label,labels\na.mp4,run,run\n",
            True,
            r"t.csv:2: it has both label and labels; keep one",
        ),
        (
            "path,label\na.mp4,run;jump\n",
            True,
            r"t.csv:2: label 'run;jump': name the column labels if a row has several",
        ),
        (
            "path,labels\na.mp4,3;x\n",
            True,
            r"t.csv:2: label 'x' is a class name, but line 2 has a class id",
        ),
        ("path,labels\na.mp4,\nb.mp4,\n", True, r"none of its 2 records has a label"),
        ("path,labels\na.mp4,2;-1\n", True, r"t.csv:2: label -1: class ids count from 0"),
        (
            "a.mp4 3,17\nb.mp4 4,5\n",
            False,
            r"t.csv:1: label '3,17' is a list of class ids, which needs DATASET.multi_label: true",
        ),
    ],
)
def test_rejects_invalid_labels(videos, text, multi_label, problem):
    (videos / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=problem):
        VideoDataset(str(videos / "t.csv"), multi_label=multi_label).load()


def test_rejects_json_labels_that_are_no_list(videos):
    rows = ['{"path": "a.mp4", "labels": {"run": 1}}', '{"path": "b.mp4", "labels": [true]}']
    (videos / "t.jsonl").write_text("\n".join([*rows, ""]))
    first = r"t.jsonl:1: labels \{'run': 1\} is not a list"
    second = r":2: labels \[True\] is not a list"
    with pytest.raises(DatasetError, match=f"{first}.*\n.*{second}"):
        VideoDataset(str(videos / "t.jsonl"), multi_label=True).load()


def test_one_key_makes_data_model_and_metric_multi_label(demo, small):
    cfg = small("DATASET.multi_label=true")
    model = build_model(cfg, 3)
    metric = build_metric(cfg, 3, model.multi_label)
    assert model.multi_label and metric.multi_label
    assert (metric.top_k, metric.headline) == (3, ("map", "mAP"))
    lists, _ = load_records(cfg, ("train", "valid"))
    records = [record for part in lists.values() for record in part.records]
    assert all(len(record.labels) == 1 for record in records), "a folder is one label"


def test_rejects_multi_label_where_it_is_not_supported(demo, small):
    message = "DATASET.train.multi_label is True; set DATASET.multi_label for all splits"
    with pytest.raises(ConfigError, match=message):
        load_records(small("DATASET.train.multi_label=true"), ("train",))
    audio = load_config("configs/demo/audio.yaml", ["DATASET.multi_label=true"])
    message = "DATASET.multi_label: AudioRecognizer predicts one class per video"
    with pytest.raises(ConfigError, match=message):
        build_model(audio, 2)
    message = "DATASET.multi_label: AudioDataset has no multi-label lists"
    with pytest.raises(ConfigError, match=message):
        load_records(audio, ("train",))
    with pytest.raises(ConfigError, match="METRIC CenterCropMetric does not fit"):
        build_metric(demo("DATASET.multi_label=true"), 3, True)


def test_scores_of_large_logits_do_not_overflow():
    logits = np.array([-1000.0, 3.0, 1000.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = tag_row(Scored(Record("a.mp4"), 0, np.zeros(3), "", logits))
    assert row["classes"] == [2, 1, 0] and row["scores"] == [1.0, pytest.approx(0.95257413), 0.0]


def test_multi_label_slowfast_averages_logits():
    slowfast = "configs/recognition/slowfast/slowfast.yaml"
    single, multi = (
        build_model(load_config(slowfast, [*SLOWFAST, f"DATASET.multi_label={value}"]), 3)
        for value in ("false", "true")
    )
    multi.set_state_dict(single.state_dict())
    clips = {"fast": paddle.randn([1, 3, 32, 32, 32]), "slow": paddle.randn([1, 3, 4, 32, 32])}
    for model in (single, multi):
        model.eval()
    log_probabilities, logits = single(clips).numpy(), multi(clips).numpy()
    np.testing.assert_allclose(np.exp(log_probabilities).sum(), 1, rtol=1e-5)
    assert multi.view_average == "logits" and abs(np.exp(logits).sum() - 1) > 1e-3
    expected = logits - np.log(np.exp(logits).sum())
    np.testing.assert_allclose(log_probabilities, expected, rtol=1e-4, atol=1e-5)


# --- a table of all splits ------------------------------------------------------------------------


def test_reads_the_split_column(videos, small):
    (videos / "all.csv").write_text(
        "path,label,split\na.mp4,run,train\nb.mp4,jump,Training\nc.mp4,run,val\nd.mp4,run,test\n"
    )
    file = str(videos / "all.csv")
    assert [r.id for r in VideoDataset(file, split="train").load().records] == ["a.mp4", "b.mp4"]
    assert [r.id for r in VideoDataset(file, split="valid").load().records] == ["c.mp4"]
    message = "it has a column split; choose one with split: train, valid or test"
    with pytest.raises(DatasetError, match=message):
        VideoDataset(file).load()
    cfg = small(
        *(f"DATASET.{split}.file_path={file}" for split in ("train", "valid", "test")),
        "DATASET.test.split=valid",
    )
    lists, classes = load_records(cfg, ("train", "valid", "test"))
    assert {split: [record.id for record in part.records] for split, part in lists.items()} == {
        "train": ["a.mp4", "b.mp4"],
        "valid": ["c.mp4"],
        "test": ["c.mp4"],
    }
    assert classes.names == ["jump", "run"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.mp4,run,train\nb.mp4,run,\n", "all.csv:3: no split; other lines have one"),
        (
            "a.mp4,run,train\nb.mp4,run,holdout\n",
            "all.csv:3: split 'holdout', expected train, val or test",
        ),
        ("a.mp4,run,train\nb.mp4,run,test\n", "no line has split val; there are 1 train, 1 test"),
    ],
)
def test_rejects_invalid_split_columns(videos, text, problem):
    (videos / "all.csv").write_text("path,label,split\n" + text)
    with pytest.raises(DatasetError, match=problem):
        VideoDataset(str(videos / "all.csv"), split="valid").load()
