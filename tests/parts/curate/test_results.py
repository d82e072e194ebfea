"""The files that a check writes: training reads them, and other files are not overwritten."""

import csv
import os
import shlex
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlevideo.curate import results
from paddlevideo.curate.check import CheckResult
from paddlevideo.curate.file_names import name_problem
from paddlevideo.curate.inventory import ClipEntry
from paddlevideo.curate.probe import VideoInfo
from paddlevideo.curate.results import check_writable, read_manifest, training_command, write
from paddlevideo.data.class_names import class_names_under, read_class_names
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.paths import split_under
from paddlevideo.engine.build import load_config
from paddlevideo.sample import Record
from tests.video_sets import check_set, class_folders, fault_list, write_faulty_lists

NAMES = ["run", "swim"]


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data") / "my videos")


@pytest.fixture
def result(small_set):
    return check_set(small_set)


def load_split(root: Path, split: str, class_names: list[str]) -> list[Record]:
    section = split_under(root, split)
    return VideoDataset(section["file_path"], section["data_prefix"]).load(class_names).records


# --- reading back ---------------------------------------------------------------------------------


def test_writes_lists_that_training_reads(result, tmp_path, monkeypatch):
    counts = write(result, tmp_path / "lists")
    assert counts == {"train.csv": 8, "val.csv": 2, "labels.txt": 2, "bad_files.csv": 0}
    monkeypatch.chdir(tmp_path)
    records = VideoDataset("lists/train.csv").load(NAMES).records
    assert len(records) == 8 and all(os.path.isabs(record.path) for record in records)


def test_writes_lists_that_can_be_moved_with_the_videos(small_set, result, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small_set, copy)
    copy_result = check_set(copy)
    write(copy_result, copy)
    shutil.move(copy, tmp_path / "moved")
    assert len(load_split(tmp_path / "moved", "valid", NAMES)) == 2
    splits = [(clip.name, clip.split) for clip in result.clips]
    assert [(clip.name, clip.split) for clip in copy_result.clips] == splits


def test_writes_the_times_of_segments(tmp_path):
    media, expected = write_faulty_lists(tmp_path)
    result = check_set(media / "train.csv", valid=media / "valid.csv")
    counts = write(result, tmp_path / "out")
    assert (counts["train.csv"], counts["val.csv"]) == (8, 6)
    assert counts["bad_files.csv"] == len(expected)
    records = load_split(tmp_path / "out", "train", NAMES)
    times = [(r.start_sec, r.end_sec) for r in records if r.path.endswith("long.mp4")]
    assert times == [(0.0, 0.2), (0.3, 0.4)]
    assert all(os.path.isfile(record.path) for record in records)
    with (tmp_path / "out" / "bad_files.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "respelt"]
    assert [row["path"] for row in rows] == ["sub\\back.mp4", "case.MP4"]
    assert {row["left_out"] for row in rows} == {"no"}
    assert rows[0]["place"] == f"{media / 'train.csv'}:9"


def test_finds_no_faults_in_its_own_lists(result, tmp_path):
    write(result, tmp_path)
    names = read_class_names(tmp_path / "labels.txt")
    again = check_set(tmp_path / "train.csv", valid=tmp_path / "val.csv", class_names=names)
    assert fault_list(again) == [] and again.class_ids == result.class_ids
    entries = {(clip.label, clip.split, clip.source) for clip in result.clips}
    assert {(clip.label, clip.split, clip.source) for clip in again.clips} == entries


def text_without(categories: tuple) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_categories=categories)
    return st.text(characters, min_size=1, max_size=12).filter(lambda text: not name_problem(text))


listable = text_without(("Cs", "Cc", "Zl", "Zp"))
file_names = listable.filter(lambda text: "/" not in text)


@settings(max_examples=40)
@given(st.dictionaries(file_names, listable, min_size=1, max_size=6))
def test_keeps_names_of_any_characters(tmp_path_factory, label_of):
    out_dir = tmp_path_factory.mktemp("names")
    class_names = sorted(set(label_of.values()))
    class_ids = {name: number for number, name in enumerate(class_names)}
    result = CheckResult([], {}, [], [], class_names, class_ids, 0, False)
    for number, (name, label) in enumerate(label_of.items()):
        path = out_dir / f"{name}.mp4"
        path.touch()
        clip = ClipEntry(Record(str(path), id=path.name), label, "train", f"s{number}")
        result.clips.append(clip)
        result.infos[clip.key] = VideoInfo(str(path), num_frames=3, fps=25.0)
    write(result, out_dir)
    names = read_class_names(out_dir / "labels.txt")
    pairs = [
        (record.path, None if record.label is None else names[record.label])
        for record in load_split(out_dir, "train", names)
    ]
    assert pairs == [(str(out_dir / f"{name}.mp4"), label) for name, label in label_of.items()]


# --- overwriting ----------------------------------------------------------------------------------


def test_keeps_files_that_it_did_not_write(result, tmp_path):
    (tmp_path / "val.csv").write_text("mine")
    message = r"val.csv exists and was not written by this tool; .* --out, or .* --overwrite"
    with pytest.raises(FileExistsError, match=message):
        write(result, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val.csv"]
    write(result, tmp_path, overwrite=True)
    assert (tmp_path / "val.csv").read_text() != "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"mine": 1}', '{"files": ["a"]}', "\xff"])
def test_keeps_a_check_json_of_another_program(result, tmp_path, content):
    (tmp_path / "check.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(FileExistsError, match="check.json exists and was not written by this tool"):
        write(result, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["check.json"]
    assert (tmp_path / "check.json").read_bytes() == content.encode("latin-1")
    write(result, tmp_path, overwrite=True)
    write(result, tmp_path)


def test_replaces_its_own_files_unless_they_were_edited(result, tmp_path):
    write(result, tmp_path)
    write(result, tmp_path, {"data_report.html": "<p>"})
    with (tmp_path / "train.csv").open("a") as file:
        file.write("x.mp4,0\n")
    with pytest.raises(FileExistsError, match="train.csv was edited since this tool wrote it"):
        check_writable(tmp_path)
    (tmp_path / "check.json").write_text("[]")
    with pytest.raises(FileExistsError, match="not written by this tool"):
        check_writable(tmp_path)
    check_writable(tmp_path, overwrite=True)


def test_rejects_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        check_writable(tmp_path / "file" / "out")


def test_deletes_only_its_own_outdated_lists(small_set, result, tmp_path):
    with_test = check_set(small_set, test_share=0.2)
    write(with_test, tmp_path)
    assert (tmp_path / "test.csv").exists()
    write(result, tmp_path)
    assert not (tmp_path / "test.csv").exists()
    write(with_test, tmp_path)
    (tmp_path / "test.csv").write_text("mine")
    write(result, tmp_path, overwrite=True)
    assert (tmp_path / "test.csv").read_text() == "mine"


def test_recovers_from_an_interrupted_write(result, tmp_path, monkeypatch):
    write(result, tmp_path, {"data_report.html": "old"})
    atomic_write = results.atomic_write

    def fail_at_labels(path):
        if path.name == "labels.txt":
            raise OSError(28, "No space left on device")
        return atomic_write(path)

    monkeypatch.setattr(results, "atomic_write", fail_at_labels)
    result.clips[0].source = "another"
    with pytest.raises(OSError, match="No space left"):
        write(result, tmp_path, {"data_report.html": "new"})
    monkeypatch.undo()
    assert "another" in (tmp_path / "train.csv").read_text()
    assert (tmp_path / "data_report.html").read_text() == "old"
    write(result, tmp_path, {"data_report.html": "new"})
    assert read_manifest(tmp_path)["coming"] == {}
    assert (tmp_path / "data_report.html").read_text() == "new"


def test_writes_nothing_without_training_clips(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.mp4").touch()
    result = check_set(tmp_path)
    assert fault_list(result) == [("empty", "a/x.mp4"), ("empty_class", "a")]
    with pytest.raises(DatasetError, match="no training clip is left, see the faults"):
        write(result, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- training on the folder -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "root", ["my videos", "2024", "a #1", "it's", 'a "b"', "x: y", "null", "-o", "视频, 2"]
)
def test_quotes_the_folder_in_the_training_command(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    *_, flag, value = shlex.split(training_command(Path(root), ["val.csv"]))
    assert (
        flag == "-o" and load_config("configs/finetune/motion.yaml", [value]).DATASET.root == root
    )


@pytest.mark.parametrize(("media", "kind"), [("video", "motion"), ("audio", "audio")])
def test_the_training_command_names_a_run_that_is_free(tmp_path, monkeypatch, media, kind):
    monkeypatch.chdir(tmp_path)
    command = training_command("data", ["val.csv"], media)
    assert command.endswith(f" -c configs/finetune/{kind}.yaml -o DATASET.root=data")
    folder = Path(load_config(f"configs/finetune/{kind}.yaml").folder)
    for number in (2, 3):
        folder.mkdir(parents=True)
        again = training_command("data", ["val.csv"], media)
        assert again == f"{command} --name finetune_{kind}_{number}"
        folder = Path("output", f"finetune_{kind}_{number}")


def test_finds_the_splits_of_a_folder(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        split_under(tmp_path / "none", "train")
    with pytest.raises(
        DatasetError, match=r"no val.csv in it; make one with: python tools/check_data.py"
    ):
        split_under(tmp_path, "valid")
    with pytest.raises(DatasetError, match=r"--test_share 0.1$"):
        split_under(tmp_path, "test")
    (tmp_path / "valid").mkdir()
    assert split_under(tmp_path, "valid") == {"file_path": str(tmp_path / "valid")}
    (tmp_path / "val.list").touch()
    assert split_under(str(tmp_path), "valid") == {
        "file_path": str(tmp_path / "val.list"),
        "data_prefix": str(tmp_path),
    }
    assert class_names_under(tmp_path) is None
