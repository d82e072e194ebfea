"""Prepare YouTube-8M: check shards, write lists and names, convert pickles, generate shards."""

import gzip
import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from paddlevideo.curate import youtube8m
from paddlevideo.curate.demo_shards import ShardPlan, make_shards, make_video
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.youtube8m import shards
from paddlevideo.data.youtube8m.find import find_shards
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder, FeaturePipeline
from paddlevideo.data.youtube8m.sequence_example import parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads
from paddlevideo.processes import Crash
from tests.parts.data.youtube8m.shard_files import (
    DECODER,
    load,
    make_frames,
    pickled_video,
    write_shard,
    write_three_shards,
)
from tests.scripts import run_script


@pytest.fixture
def folder(tmp_path):
    """A folder of three shards with 4, 1 and 3 videos."""
    return write_three_shards(tmp_path)


@pytest.fixture
def command(monkeypatch, capsys):
    """`command(verb, *options)` -> (exit code, standard output, standard error)."""

    def run(*arguments):
        return run_script(monkeypatch, capsys, "tools/data/prepare_youtube8m.py", *arguments)

    return run


@pytest.fixture
def crashing(monkeypatch):
    """All processes crash."""

    def run_each(function, items, *_):
        return ((index, Crash()) for index in range(len(items)))

    monkeypatch.setattr(youtube8m, "run_each", run_each)


# --- check ---------------------------------------------------------------------------------------

SIZES = ("--features", "rgb=6", "audio=3", "--max_frames", 5, "--num_classes", 10, "--workers", 1)


def test_check_counts_and_writes_the_index(folder, command, monkeypatch):
    write_shard(folder / "d.tfrecord", ([], 0), ([1, 2, 9], 7))
    code, printed, error = command("check", folder, *SIZES)
    assert code == 0, error
    assert "4 shards, 10 videos, 24 frames (2.4 per video)" in printed
    assert "11 labels (1.10 per video), the largest is 9" in printed
    assert "1 videos have no labels, as in a test split" in printed
    assert "1 videos have no frames: the model predicts from its biases alone" in printed
    assert "1 videos have more than 5 frames: only the first 5 are used" in printed
    assert "index of the records: " in printed

    def fail(path):
        pytest.fail(f"{path} is read again, although it was checked")

    monkeypatch.setattr(shards, "find_offsets", fail)
    assert len(load(folder).records) == 10


def test_check_names_all_problems(folder, command):
    write_shard(folder / "b.tfrecord", ([12], 1), ([3], 2), prefix="a")
    raw = bytearray((folder / "c.tfrecord").read_bytes())
    raw[60] ^= 1
    (folder / "c.tfrecord").write_bytes(raw[:-5])
    (folder / "d.tfrecord").write_bytes(b"")
    (folder / "e.tfrecord").write_bytes(gzip.compress(b"x", mtime=0))
    code, printed, error = command("check", folder, *SIZES)
    assert code == 1 and "5 shards, 9 videos" in printed
    for message in (
        "b.tfrecord: byte 0: video 'a-0': label 12, but num_classes is 10",
        "c.tfrecord: byte 0: the payload fails its CRC-32C check",
        "extends 5 bytes past the end",
        "d.tfrecord: the file is empty",
        "e.tfrecord: compressed with gzip",
        "video 'a-1' occurs 2 times: ",
    ):
        assert message in error
    assert len(error.splitlines()) == 6


def test_check_rejects_missing_files(folder, command):
    code, _, error = command("check", folder / "nowhere", *SIZES)
    assert code == 1 and error.startswith("error: ") and "no such file or folder" in error


def test_several_processes_give_the_same_reports(folder):
    def reports(num_workers: int):
        return [
            (report.path, report.num_frames, report.ids.tolist(), report.stamp)
            for report in youtube8m.check(find_shards(str(folder)), DECODER, num_workers)
        ]

    assert reports(1) == reports(2)


def test_many_problems_are_summarized(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", *([([11], 1)] * 30))
    lines = youtube8m.problems(youtube8m.check([str(path)], DECODER, 1))
    assert len(lines) == 11 and lines[-1].endswith("a.tfrecord: ... and 20 more records")


def test_check_reports_crashes(folder, crashing):
    lines = youtube8m.problems(youtube8m.check([str(folder / "a.tfrecord")], DECODER, 2))
    assert lines == [f"{folder / 'a.tfrecord'}: the process that read it crashed"]


# --- lists and class names -----------------------------------------------------------------------


def test_lists_the_shards_of_each_split(tmp_path, command):
    for name in ("train0001", "train0000", "validate00", "test7"):
        write_shard(tmp_path / "shards" / f"{name}.tfrecord", ([1], 1))
    lists = tmp_path / "lists"
    code, printed, error = command("lists", tmp_path / "shards", "--out", lists)
    assert code == 0, error
    assert "train.list: 2 shards" in printed
    lines = (lists / "train.list").read_text().splitlines()
    assert lines == ["../shards/train0000.tfrecord", "../shards/train0001.tfrecord"]
    assert len(load(lists / "train.list").records) == 2
    assert len(load(lists / "val.list").records) == 1


def test_rejects_shards_with_other_names(tmp_path, command):
    write_shard(tmp_path / "other" / "a.tfrecord", ([1], 1))
    code, _, error = command("lists", tmp_path / "other", "--out", tmp_path)
    assert code == 1
    message = "no shard name begins with train, val, test; the first shard is a.tfrecord"
    assert message in error


def test_writes_the_class_names_of_the_vocabulary(tmp_path, command):
    rows = [
        "Index,TrainVideoCount,KnowledgeGraphId,Name,Url",
        '1,5,/m/b,"Game, board",x',
        "0,9,/m/a,Game,x",
        "2,4,/m/c,,x",
        "3,1,/m/d,Game,x",
    ]
    (tmp_path / "vocabulary.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "labels.txt"
    code, printed, _ = command("labels", tmp_path / "vocabulary.csv", "--out", out)
    assert code == 0 and "4 classes" in printed
    assert read_class_names(out) == ["Game", "Game, board", "/m/c", "Game (/m/d)"]


def test_equal_class_names_become_distinct(tmp_path):
    rows = ["Index,KnowledgeGraphId,Name", "0,/m/a,Game", "1,/m/a,Game", "2,/m/a,Game", "3,,"]
    (tmp_path / "vocabulary.csv").write_text("\n".join(rows) + "\n")
    names = youtube8m.class_names(tmp_path / "vocabulary.csv")
    assert names == ["Game", "Game (/m/a)", "Game (/m/a) (2)", "class 3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Index,Name\n0,a\n2,b\n", "Index must be 0 .. 1, each once"),
        (b"Index,Name\n0,a\n0,b\n", "Index must be 0 .. 1, each once"),
        (b"a,b\n1,2\n", "expected the columns Index, KnowledgeGraphId, Name, ...; got a, b"),
        (b"", "got no rows"),
        (b"\xff\xfe", "not a CSV file in UTF-8"),
        (None, "no such file; expected the vocabulary.csv of the data set"),
    ],
)
def test_rejects_other_vocabularies(tmp_path, command, content, message):
    if content is not None:
        (tmp_path / "vocabulary.csv").write_bytes(content)
    arguments = (tmp_path / "vocabulary.csv", "--out", tmp_path / "labels.txt")
    code, _, error = command("labels", *arguments)
    assert code == 1 and message in error


# --- convert pickles -----------------------------------------------------------------------------


@pytest.fixture
def pickles(tmp_path):
    """A folder of two pickles with 3 and 2 videos."""
    out = tmp_path / "pickles"
    out.mkdir()
    for name, numbers in (("x", (0, 1, 2)), ("y", (3, 4))):
        videos = [pickled_video(number) for number in numbers]
        (out / f"{name}.pkl").write_bytes(pickle.dumps(videos, 2))
    return out


def test_converts_pickles(pickles, tmp_path, command):
    arguments = ("convert", pickles, "--out", tmp_path / "out", "--workers", 1)
    code, printed, error = command(*arguments)
    assert code == 0, error
    assert "2 files with 5 videos written" in printed
    payloads = [
        payload
        for name in ("x", "y")
        for _, payload in read_payloads(tmp_path / "out" / f"{name}.tfrecord")
    ]
    videos = [parse_example(payload) for payload in payloads]
    assert [video.id for video in videos] == [b"p-%d" % number for number in range(5)]
    assert [video.labels.tolist() for video in videos] == [[number] for number in range(5)]
    assert np.array_equal(videos[4].features["rgb"], make_frames(3, 4)["rgb"])
    code, printed, _ = command(*arguments)
    assert code == 0 and "0 files with 0 videos written" in printed, "existing files are kept"


def test_converts_groups_of_pickles(pickles, tmp_path, command):
    options = ("--out", tmp_path / "one", "--group", 2, "--workers", 1)
    assert command("convert", pickles, *options)[0] == 0
    assert len(list(read_payloads(tmp_path / "one" / "part00000.tfrecord"))) == 5
    (pickles / "z.pkl").write_bytes(pickle.dumps([pickled_video(5)], 2))
    code, printed, _ = command("convert", pickles, *options)
    assert code == 0 and "1 files with 1 videos written" in printed


@pytest.mark.parametrize("change", ["group", "features", "pickle", "record"])
def test_groups_of_other_pickles_are_not_mixed(pickles, tmp_path, command, change):
    (pickles / "z.pkl").write_bytes(pickle.dumps([pickled_video(5)], 2))
    options = ["--out", tmp_path / "one", "--group", 2, "--workers", 1]
    assert command("convert", pickles, *options)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "one").glob("*.tfrecord")}
    message = "part00000.tfrecord exists, and was made of other pickles, or with another --group"
    if change == "pickle":
        (pickles / "a.pkl").write_bytes(pickle.dumps([pickled_video(6)], 2))
    elif change == "record":
        (tmp_path / "one" / "groups.json").write_text("[1]")
        message = "groups.json: damaged; convert to another folder"
    else:
        options += ["--group", 3] if change == "group" else ["--features", "rgb=1024"]
    code, _, error = command("convert", pickles, *options)
    assert code == 1 and message in error
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "one").glob("*.tfrecord")}


def test_reports_damaged_pickles(pickles, tmp_path, command):
    (pickles / "y.pkl").write_bytes(b"\x80\x02")
    out = tmp_path / "out"
    code, _, error = command("convert", pickles, "--out", out, "--workers", 1)
    message = r"y.tfrecord was not written: .*y.pkl: not a file of arrays, or damaged"
    assert code == 1 and re.search(message, error)
    assert os.listdir(out) == ["x.tfrecord"]


def test_rejects_pickles_with_the_same_name(pickles, tmp_path, command):
    (pickles / "sub").mkdir()
    (pickles / "x.pkl").rename(pickles / "sub" / "y.pkl")
    code, _, error = command("convert", pickles, "--out", tmp_path / "out")
    assert code == 1 and "2 pickles would become" in error and "or set --group" in error


def test_convert_reports_crashes(pickles, tmp_path, crashing, capsys):
    paths = [str(pickles / "x.pkl")]
    results = youtube8m.convert(paths, tmp_path, ["rgb", "audio"])
    assert results == {str(tmp_path / "x.tfrecord"): "the process that read it crashed"}


# --- synthetic shards ----------------------------------------------------------------------------

SMALL = ShardPlan(
    classes=4, videos=48, per_shard=20, frames=(4, 8), features=(("rgb", 32), ("audio", 8))
)


def test_the_same_plan_gives_the_same_shards(tmp_path, command):
    assert make_shards(tmp_path / "a", SMALL) == make_shards(tmp_path / "b", SMALL) == 5
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    sizes = ("--features", "rgb=32", "audio=8", "--num_classes", 4, "--workers", 1)
    code, printed, error = command("check", tmp_path / "a", *sizes)
    assert code == 0, error
    assert "5 shards, 72 videos" in printed
    assert (tmp_path / "a/labels.txt").read_text().splitlines()[3] == "3 thing 3"


def test_a_smaller_set_lists_its_own_shards(tmp_path):
    assert make_shards(tmp_path, replace(SMALL, classes=9, videos=100)) == 9
    assert make_shards(tmp_path, SMALL) == 5
    listed = {name: (tmp_path / f"{name}.list").read_text().split() for name in ("train", "val")}
    assert listed == {
        "train": [f"train000{number}.tfrecord" for number in range(3)],
        "val": ["validate0000.tfrecord"],
    }


def test_a_linear_model_learns_the_classes():
    def table(split, count):
        """Return (mean rgb features with a constant 1, 1 for each label) of the videos."""
        videos = [make_video(SMALL, split, number) for number in range(count)]
        means = np.array([features["rgb"].mean(0) for _, _, features in videos])
        targets = [[label in labels for label in range(4)] for _, labels, _ in videos]
        return np.c_[means, np.ones(count)], np.array(targets)

    inputs, targets = table("train", 48)
    weights = np.linalg.lstsq(inputs, targets * 2 - 1, rcond=None)[0]
    inputs, targets = table("val", 24)
    best = (inputs @ weights).argmax(1)
    assert targets[np.arange(24), best].mean() > 0.9


def test_rejects_empty_plans():
    with pytest.raises(ValueError, match="expected classes, videos and per_shard of at least 1"):
        ShardPlan(videos=0)


def test_the_command_generates_shards(tmp_path, command):
    options = ("--out", tmp_path / "set", "--videos", 8, "--classes", 3)
    code, printed, _ = command("demo", *options)
    assert code == 0 and "3 shards" in printed
    pipeline = FeaturePipeline(FeatureDecoder(num_classes=3))
    sample = pipeline(load(tmp_path / "set/train.list").records[0])
    assert sample["rgb"].shape == (300, 1024) and sample["label"].sum() >= 1
