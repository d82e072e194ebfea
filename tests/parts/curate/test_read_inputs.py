"""Folders, lists and tables as inputs of a check."""

import json
import os
import shutil

import pytest

from paddlevideo.curate.inventory import Inputs
from paddlevideo.curate.read_inputs import read_inputs
from paddlevideo.curate.results import write
from paddlevideo.data.class_names import class_names_under, read_class_names
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.paths import split_under
from tests.video_sets import check_set, class_folders, fault_list, good_clip


def test_keeps_and_compares_folders_of_splits(tmp_path):
    class_folders(tmp_path / "train")
    for label in ("run", "swim"):
        (tmp_path / "Val" / label).mkdir(parents=True)
        shutil.copy(tmp_path / "train" / label / "0.mp4", tmp_path / "Val" / label / "9.mp4")
    result = check_set(tmp_path)
    assert fault_list(result) == [("leak", "train/run/0.mp4"), ("leak", "train/swim/0.mp4")]
    assert result.counts() == {"run": {"train": 4, "valid": 1}, "swim": {"train": 4, "valid": 1}}


def test_reads_classes_named_train_and_test(tmp_path):
    class_folders(tmp_path, ("train", "test"))
    assert check_set(tmp_path).class_names == ["test", "train"]


@pytest.mark.parametrize(
    ("name", "fix"),
    [("test", " and give it with --test"), ("Val", " and give it with --valid"), ("train", "")],
)
def test_a_split_next_to_class_folders_is_no_class(tmp_path, name, fix):
    for path in ("run/1.mp4", "swim/2.mp4", f"{name}/swim/3.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    message = f"{tmp_path}/{name} has folders of the classes next to it (such as swim): is it a "
    message += f"class, or a split? Move the others to {tmp_path}/train, or move {name} to another "
    for test in (None, tmp_path / name):
        with pytest.raises(DatasetError) as error:
            read_inputs(Inputs(tmp_path, test=test))
        assert str(error.value) == f"{message}place{fix}"
    (tmp_path / name / "swim").rename(tmp_path / name / "monday")  # a class with folders in it
    assert {clip.label for clip in read_inputs(Inputs(tmp_path)).clips} == {"run", "swim", name}


def test_reports_files_next_to_folders_of_splits(tmp_path):
    class_folders(tmp_path / "train", count=2)
    good_clip(tmp_path / "a.mp4", 900)
    (tmp_path / "__MACOSX").mkdir()
    assert fault_list(check_set(tmp_path)) == [("no_class", "a.mp4")]


def test_ignores_audio_files_in_video_containers(tmp_path):
    class_folders(tmp_path, count=2)
    good_clip(tmp_path / "run" / "a.mp4", 900).rename(tmp_path / "run" / "a.m4a")
    result = check_set(tmp_path)
    assert fault_list(result) == [] and result.notes[1:] == ["1 other file skipped: 1 .m4a"]
    assert "has 4 videos and 1 audio file; only videos are checked" in result.notes[0]


def test_reports_folders_that_cannot_be_read(tmp_path, monkeypatch):
    class_folders(tmp_path, count=2)
    closed = tmp_path / "run" / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        faults = [str(fault) for fault in read_inputs(Inputs(tmp_path)).faults]
    assert faults == ["run/closed: cannot be read: Permission denied"]


def test_reads_class_names_of_any_script(tmp_path):
    labels = ("10", "2", "бег", 'a, "b"', "跑步 快")
    result = check_set(class_folders(tmp_path, labels, 2))
    assert fault_list(result) == [] and result.class_names == sorted(labels)
    write(result, tmp_path)
    names_file = class_names_under(tmp_path)
    assert names_file is not None
    names = read_class_names(names_file)
    assert names == result.class_names
    for split in ("train", "valid"):
        section = split_under(tmp_path, split)
        dataset = VideoDataset(section["file_path"], section["data_prefix"])
        pairs = [(r.path.split("/")[-2], r.label) for r in dataset.load(names).records]
        assert {label for label, _ in pairs} == set(names)
        assert all(class_id is not None and names[class_id] == label for label, class_id in pairs)


def test_reads_a_list_from_windows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in range(4):
        good_clip(tmp_path / "set" / "my run" / f"{n}.mp4", n)
    text = "".join(f"my run\\{n}.mp4 0\r\n" for n in range(4))
    (tmp_path / "set" / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    result = check_set(tmp_path / "set" / "a.txt")
    assert fault_list(result) == [("respelt", f"my run\\{n}.mp4") for n in range(4)]
    assert len(result.clips) == 4
    write(result, tmp_path / "set")
    lines = (tmp_path / "set" / "train.csv").read_text().splitlines()
    assert lines[1].startswith("my run/") and len(lines) == 4


def test_rejects_inputs_that_do_not_exist(tmp_path):
    class_folders(tmp_path / "train", count=1)
    with pytest.raises(DatasetError, match=r"none: no such file or folder; give a folder with one"):
        read_inputs(Inputs(tmp_path / "train", valid=tmp_path / "none"))
    with pytest.raises(ValueError, match=r"source '\(x' is not a regular expression"):
        Inputs(tmp_path, source="(x")


def test_rejects_a_list_none_of_whose_files_exists(tmp_path):
    (tmp_path / "a.list").write_text("".join(f"v/{n}.mp4 0\n" for n in range(500)))
    with pytest.raises(
        DatasetError,
        match=r"none of its files exists \(tried 10 of 10, first 'v/0.mp4'.* set data_prefix",
    ):
        check_set(tmp_path / "a.list")


def test_reads_split_and_source_from_a_table(tmp_path):
    rows = []
    for n in range(8):
        good_clip(tmp_path / f"{n}.mp4", n)
        split = "validation" if n > 5 else "train"
        row = {"path": f"{n}.mp4", "label": "ab"[n % 2], "split": split, "source": f"day {n // 2}"}
        rows.append(row)

    def check_rows():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "a.jsonl").write_text(text)
        return check_set(tmp_path / "a.jsonl")

    result = check_rows()
    assert fault_list(result) == [] and result.counts()["a"] == {"train": 3, "valid": 1}
    rows[0]["source"], rows[1]["split"], rows[2]["split"] = "day 3", "later", None
    result = check_rows()
    expected = [("bad_line", "1.mp4"), ("bad_line", "2.mp4"), ("leak", "0.mp4")]
    assert fault_list(result) == expected
    texts = [fault.text for fault in result.faults if fault.kind == "bad_line"]
    assert texts == [
        "split 'later', expected train, valid or test",
        "no split, although other lines have one; expected train, valid or test",
    ]


def paddlex_set(root) -> None:
    """A data set as PaddleX's check accepts it, of files that are never decoded."""
    (root / "videos").mkdir(parents=True)
    for name in ("a", "b", "c"):
        (root / "videos" / f"{name}.mp4").write_bytes(name.encode())
    (root / "train.txt").write_text("videos/a.mp4 0\nvideos/b.mp4 1\n", encoding="utf-8")
    (root / "val.txt").write_text("videos/c.mp4 1\n", encoding="utf-8")
    (root / "label.txt").write_text("0 air drumming\n1 红色\n", encoding="utf-8")


def test_a_data_set_of_paddlex_is_read_by_its_lists(tmp_path):
    paddlex_set(tmp_path)
    for _ in range(2):  # also after the check has written its own class names
        inventory = read_inputs(Inputs(tmp_path))
        assert [(c.name, c.label, c.split) for c in inventory.clips] == [
            ("videos/a.mp4", "air drumming", "train"),
            ("videos/b.mp4", "红色", "train"),
            ("videos/c.mp4", "红色", "valid"),
        ]
        assert inventory.class_names == ["air drumming", "红色"] and not inventory.faults
        (tmp_path / "labels.txt").write_text("air drumming\n红色\n", encoding="utf-8")


@pytest.mark.parametrize("missing", ["label.txt", "train.txt", "val.txt"])
def test_other_folders_with_lists_are_class_folders(tmp_path, missing):
    paddlex_set(tmp_path)
    (tmp_path / missing).unlink()
    assert {clip.label for clip in read_inputs(Inputs(tmp_path)).clips} == {"videos"}


def test_given_lists_replace_those_of_paddlex(tmp_path):
    paddlex_set(tmp_path)
    names = ["x", "y"]
    inventory = read_inputs(Inputs(tmp_path / "train.txt", class_names=names))
    assert len(inventory.clips) == 2 and inventory.class_names == names
