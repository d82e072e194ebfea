"""Checking a data set: every fault is found, intact clips have none, and splits stay separate."""

import ctypes
import shutil

import pytest

from paddlevideo.curate import check as check_module
from paddlevideo.curate.check import CheckOptions, check
from paddlevideo.curate.faults import KINDS, Fault
from paddlevideo.curate.inventory import Inputs
from paddlevideo.curate.probe import ProbeOptions, probe_video
from paddlevideo.curate.report import headline
from tests.video_sets import (
    check_set,
    class_folders,
    fault_list,
    good_clip,
    write_faulty_folders,
    write_faulty_lists,
    write_good_clips,
)


@pytest.fixture(scope="module")
def faulty_folders(tmp_path_factory):
    """(folder, the faults in it)."""
    root = tmp_path_factory.mktemp("faulty") / "set"
    return root, write_faulty_folders(root)


@pytest.fixture(scope="module")
def good_clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("good") / "set"
    write_good_clips(root)
    return root


@pytest.mark.parametrize(
    ("all_frames", "num_workers"),
    [(False, 0), (True, 0), pytest.param(False, 2, marks=pytest.mark.slow)],
)
def test_finds_exactly_the_faults_of_folders(faulty_folders, all_frames, num_workers):
    root, expected = faulty_folders
    assert len(expected) >= 30
    result = check_set(root, ProbeOptions(all_frames=all_frames), num_workers=num_workers)
    assert fault_list(result) == expected
    kept = {clip.name for clip in result.clips}
    left_out = {path for kind, path in expected if KINDS[kind].left_out}
    assert "run/really.mp4" in kept and not kept & left_out
    assert kept | left_out >= {f"{label}/{n}.mp4" for label in ("run", "swim") for n in range(5)}
    assert result.class_names == ["Run", "run", "swim"]
    assert result.notes == ["1 other file skipped: 1 .txt"]


def test_finds_exactly_the_faults_of_lists(tmp_path):
    media, expected = write_faulty_lists(tmp_path)
    result = check_set(media / "train.csv", valid=media / "valid.csv")
    assert fault_list(result) == expected
    text = "\n".join(map(str, result.faults))
    for message in (
        "train.csv:13: gone.mp4: no such file",
        "train.csv:14: ok 1.mp4: the same clip and label as in",
        "train.csv:15: no label",
        "train.csv:16: ok 1.mp4: label 7 is a class id, most",
        "train.csv:19: long.mp4: no frame between 40.0 s and 50.0 s",
        "train.csv:20: end_sec 2.0 is not after start_sec 3.0",
        "train.csv:21: start_sec 'soon'",
        "train.csv:22: 5 columns",
        "the same video is in valid as twin in valid.mp4",
        "source 'v_Run_g01' is also in valid, as v_Run_g01_c02.mp4",
        "source 'derby' is also in valid",
        "the file is named Case.mp4",
        "written with backslashes; the file is named back.mp4",
        "jump: no usable training clip of this class, but 1 in other splits",
    ):
        assert message in text, message


def test_keeps_the_good_clips_of_faulty_lists(tmp_path):
    media, _ = write_faulty_lists(tmp_path)
    result = check_set(media / "train.csv", valid=media / "valid.csv")
    names = {"train": set(), "valid": set()}
    for clip in result.clips:
        names[str(clip.split)].add(clip.name)
    good = {"ok 1.mp4", "ok, 2.mp4", 'ok "3".mp4', "еще.mp4", "long.mp4"}
    assert names["train"] >= good | {"sub\\back.mp4", "case.MP4"}
    assert len(names["valid"]) == 6 and result.class_names == ["run", "swim"]


@pytest.mark.parametrize("all_frames", [False, True])
def test_reports_no_fault_of_intact_clips(good_clips, clips, all_frames):
    assert fault_list(check_set(good_clips, ProbeOptions(all_frames=all_frames))) == []
    result = check_set(clips, ProbeOptions(all_frames=all_frames))
    assert fault_list(result) == [] and not result.splits_drawn
    assert result.counts()["green"] == {"train": 4, "valid": 2, "test": 2}


@pytest.mark.parametrize("all_frames", [False, True])
def test_reports_no_fault_of_intact_clips_in_a_list(tmp_path, good_clips, all_frames):
    files = sorted(path for path in good_clips.rglob("*") if path.is_file())
    lines = [f"{path}\t{number % 2}\n" for number, path in enumerate(files)]
    (tmp_path / "good.list").write_text("".join(lines), encoding="utf-8")
    result = check_set(tmp_path / "good.list", ProbeOptions(all_frames=all_frames))
    assert fault_list(result) == [] and len(result.clips) == len(files) >= 20


def test_reports_a_crash_of_the_decoder(tmp_path, monkeypatch):
    class_folders(tmp_path, labels=("run",), count=2)
    monkeypatch.setattr(check_module, "probe_video", crash_or_probe)
    result = check(CheckOptions(Inputs(tmp_path), num_workers=2), show=False)
    crashes = [fault for fault in result.faults if fault.kind == "crash"]
    assert crashes == [Fault("crash", "run/1.mp4", "the decoder crashes on this file")]


def crash_or_probe(record, options):
    """Read memory at address 0 for one of the clips."""
    return ctypes.string_at(0) if record.id == "run/1.mp4" else probe_video(record, options)


# --- splits ---------------------------------------------------------------------------------------


def test_new_splits_have_no_leaks(tmp_path):
    media, _ = write_faulty_lists(tmp_path)
    data = {"valid": media / "valid.csv", "resplit": True, "valid_share": 0.3}
    result = check_set(media / "train.csv", **data)
    assert result.splits_drawn and "leak" not in {fault.kind for fault in result.faults}
    split_of = {}
    for clip in result.clips:
        assert split_of.setdefault(clip.source, clip.split) == clip.split


def test_divides_a_training_set_without_validation_set(tmp_path):
    class_folders(tmp_path / "train")
    expected = {"run": {"train": 4, "valid": 1}, "swim": {"train": 4, "valid": 1}}
    result = check_set(tmp_path)
    assert result.counts() == check_set(tmp_path / "train").counts() == expected
    assert {clip.name for clip in result.clips} >= {"train/run/0.mp4"}


def test_draws_a_validation_set_next_to_a_given_test_set(tmp_path):
    class_folders(tmp_path / "train")
    for number, label in enumerate(("run", "swim")):
        good_clip(tmp_path / "test" / label / "a.mp4", 5000 + number)
    assert check_set(tmp_path).counts()["run"] == {"train": 4, "valid": 1, "test": 1}
    assert check_set(tmp_path, valid_share=0.0).counts()["run"] == {"train": 5, "test": 1}


def test_reports_classes_with_too_few_sources(tmp_path):
    for label, names in {"run": ("a_clip_1", "a_clip_2"), "swim": ("a_clip_3", "b")}.items():
        for name in names:
            good_clip(tmp_path / label / f"{name}.mp4", len(name) + ord(name[-1]))
    (fault,) = check_set(tmp_path).faults
    text = "2 clips of 1 source, 1 shared with other classes: none for valid"
    assert fault == Fault("few", "run", text)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.5, 0.5), (-0.1, 0.0), (0.2, float("nan"))])
def test_rejects_shares_without_a_training_set(tmp_path, shares):
    with pytest.raises(ValueError, match="leave nothing to train on; expected numbers from 0"):
        CheckOptions(Inputs(tmp_path), valid_share=shares[0], test_share=shares[1])


# --- notes ----------------------------------------------------------------------------------------


def test_notes_a_single_class(tmp_path):
    result = check_set(class_folders(tmp_path, labels=("run",), count=3))
    assert fault_list(result) == []
    assert any(note.startswith("there is only one class") for note in result.notes)
    assert "; 1 class; " in headline(result)


def test_without_good_clips_no_line_is_about_the_split(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").write_bytes(b"")
    result = check_set(tmp_path)
    assert result.split_lines == [] and result.clips == []
    assert (
        headline(result)
        == "0 of 1 clips are good: none (split drawn here); 0 classes; 0 s of video"
    )


def test_notes_imbalance_missing_audio_and_still_images(tmp_path, good_clips):
    class_folders(tmp_path, labels=("run",), count=20)
    good_clip(tmp_path / "swim" / "a.mp4", 900, tone=440.0)
    shutil.copy(good_clips / "one" / "black.mp4", tmp_path / "run")
    notes = check_set(tmp_path, valid_share=0.0).notes
    assert notes == [
        "classes are imbalanced: 21 training clips of run, 1 of swim",
        "21 of 22 clips have no audio, which matters to models with audio",
        "1 clip without motion in the probed frames: run/black.mp4",
    ]
