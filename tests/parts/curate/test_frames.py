"""Frames of videos: the decoder's pictures under FrameDataset's names, whole folders or none, runs that go on, and the list."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlevideo.curate import frames
from paddlevideo.curate.batch_jobs import Job, clear_leftovers, work
from paddlevideo.curate.frames import WriteFrames, plan_frames
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import FrameDataset
from paddlevideo.media.containers import PyAVReader
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.sample import DecodeError, Record
from tests.clips import random_frames, write_clip
from tests.scripts import run_script

SCRIPT = "tools/data/extract_frames.py"


@pytest.fixture
def videos(tmp_path) -> Path:
    """Three good videos in two classes, one that is none, one beside the classes."""
    root = tmp_path / "my videos"
    write_clip(root / "a b" / "one.mp4", 6, height=72, width=96)
    write_clip(root / "a b" / "deep" / "two three.avi", 5, codec="mpeg4")
    write_clip(root / "c" / "four.mp4", 4, rotation=90)
    write_clip(root / "five.mp4", 3)
    (root / "c" / "broken.mp4").write_bytes(b"no video" * 100)
    return root


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def decoded(path: Path, **part) -> np.ndarray:
    with VideoDecoder().open(Record(str(path), **part)) as clip:
        return clip.read(np.arange(clip.num_frames))


def test_the_pictures_are_those_of_the_decoder(tmp_path):
    video = write_clip(tmp_path / "a.mp4", 20, height=64, width=96, options={"bf": "2", "g": "8"})
    WriteFrames(quality=100)(str(video), str(tmp_path / "out"))
    assert names(tmp_path / "out") == [f"img_{number:05}.jpg" for number in range(1, 21)]
    with FrameDecoder().open(Record(str(tmp_path / "out"), frame_pattern="img_{:05}.jpg")) as clip:
        seen = clip.read(np.arange(20)).astype(int)
    wanted = decoded(video).astype(int)
    # Next frames differ by tens; JPEG halves the colours' resolution, so brightness is what to compare.
    errors = np.abs(seen.mean(-1)[:, None] - wanted.mean(-1)[None]).mean((2, 3))
    assert (errors.argmin(1) == np.arange(20)).all() and errors.diagonal().max() < 3


def test_a_decoder_that_begins_again_does_not_shift_numbers(tmp_path, monkeypatch):
    """Time stamps that lie make the reader start anew after it gave some frames."""
    video = write_clip(tmp_path / "a.mp4", 12, options={"g": "4"})
    wanted, failed = decoded(video), []

    def give_up_half_way(self, canvas, table):
        for number in (0, 1, 2):
            canvas.put(number, wanted[number])
        failed.append(True)
        return False

    WriteFrames()(str(video), str(tmp_path / "plain"))
    monkeypatch.setattr(PyAVReader, "_fill_by_seeking", give_up_half_way)
    WriteFrames()(str(video), str(tmp_path / "twice"))
    assert failed and names(tmp_path / "twice") == names(tmp_path / "plain")
    for name in names(tmp_path / "plain"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_short_side_and_quality(tmp_path):
    video = write_clip(tmp_path / "a.mp4", 2, height=72, width=128)
    sizes = {}
    for side, quality in ((36, 95), (36, 30), (500, 95), (None, 95)):
        out = tmp_path / f"{side} {quality}"
        WriteFrames(side, quality)(str(video), str(out))
        picture = out / "img_00001.jpg"
        sizes[side, quality] = (*cv2.imread(str(picture)).shape[:2], picture.stat().st_size)
    assert sizes[36, 95][:2] == sizes[36, 30][:2] == (36, 64), "the aspect is kept"
    assert sizes[500, 95][:2] == sizes[None, 95][:2] == (72, 128), "nothing is enlarged"
    assert sizes[36, 30][2] < sizes[36, 95][2] * 0.7
    shrunk = WriteFrames(24, 100).encode(random_frames(1, 48, 96)[0])
    area = cv2.resize(random_frames(1, 48, 96)[0], (48, 24), interpolation=cv2.INTER_AREA)
    image = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(shrunk, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    assert np.abs(image.mean(-1) - area.mean(-1)).mean() < 2
    for wrong in ({"short_side": 0}, {"quality": 0}, {"quality": 101}):
        with pytest.raises(ValueError, match="expected"):
            WriteFrames(**wrong)


def test_a_folder_is_whole_or_absent(tmp_path, monkeypatch):
    video = write_clip(tmp_path / "a.mp4", 10)
    target, left = tmp_path / "out" / "a", WriteFrames.encode
    count = []

    def full_disk(self, image):
        count.append(1)
        if len(count) > 5:
            raise OSError(28, "No space left on device")
        return left(self, image)

    monkeypatch.setattr(WriteFrames, "encode", full_disk)
    done = work(WriteFrames(), [Job(str(video), str(target))], tmp_path / "out", 1)
    assert done.failed == [(str(video), "No space left on device")] and len(count) == 6
    assert names(tmp_path / "out") == ["failures.tsv", "made_with.json"]
    monkeypatch.undo()
    assert (
        work(WriteFrames(), [Job(str(video), str(target))], tmp_path / "out", 1).made == 1
        and len(names(target)) == 10
    )
    # Made again: the new one takes the place of the old one.
    (target / "img_00099.jpg").write_bytes(b"old")
    assert (
        work(
            WriteFrames(), [Job(str(video), str(target))], tmp_path / "out", 1, overwrite=True
        ).made
        == 1
    )
    assert len(names(target)) == 10 and sorted(os.listdir(tmp_path / "out")) == [
        "a",
        "made_with.json",
    ]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:-400])
    with pytest.raises(DecodeError, match=r"cut short|no moov"):
        WriteFrames()(str(cut), str(tmp_path / "cut"))
    assert not (tmp_path / "cut").exists()


def test_what_a_killed_run_left_is_cleared(tmp_path):
    gone = 2**22 + 1  # above the largest number of a process
    for name in (f".a.{gone}.tmp", f".b.{os.getppid()}.tmp", f".other.{gone}.tmp", ".a.notes.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0").write_bytes(b"half")
    (tmp_path / f".c.{gone}.tmp").write_bytes(b"half")
    clear_leftovers([Job("x", str(tmp_path / name)) for name in "abc"])
    assert sorted(os.listdir(tmp_path)) == sorted(
        [".a.notes.tmp", f".b.{os.getppid()}.tmp", f".other.{gone}.tmp"]
    )


def test_the_command_on_a_folder(videos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "my frames"
    code, said, _ = run_script(
        monkeypatch, capsys, SCRIPT, videos, out, "--short_side", 24, "--num-workers", 1
    )
    assert (
        code == 1
        and "4 made, 0 already there, 1 failed" in said
        and "broken.mp4: no known video format" in said
    )
    assert (
        "1 videos lie in no class folder and are not listed" in said
        and "frames.list: 3 folders" in said
    )
    assert (out / "frames.list").read_text().splitlines() == [
        "a b/one 6 0",
        "a b/deep/two three 5 0",
        "c/four 4 1",
    ]
    assert read_class_names(out / "labels.txt") == ["a b", "c"]
    assert json.loads((out / "made_with.json").read_text())["short_side"] == 24
    records = FrameDataset(str(out / "frames.list")).load(["a b", "c"]).records
    for record, shape in zip(records, [(24, 32), (24, 32), (32, 24)], strict=True):
        with FrameDecoder().open(record) as clip:
            assert clip.read(np.arange(record.num_frames)).shape[1:3] == shape
    # It goes on where it stopped.
    stamp = (out / "c" / "four").stat().st_mtime_ns
    write_clip(videos / "c" / "broken.mp4", 7)
    code, said, _ = run_script(
        monkeypatch, capsys, SCRIPT, videos, out, "--short_side", 24, "--num-workers", 1
    )
    assert (
        code == 0
        and "1 made, 4 already there, 0 failed" in said
        and "frames.list: 4 folders" in said
    )
    assert (out / "c" / "four").stat().st_mtime_ns == stamp and not (out / "failures.tsv").exists()
    code, _, err = run_script(
        monkeypatch, capsys, SCRIPT, videos, out, "--short_side", 32, "--num-workers", 1
    )
    assert (
        code == 2 and "were made with" in err and "'short_side': 24" in err and "--overwrite" in err
    )


def test_two_processes(videos, tmp_path, monkeypatch, capsys):
    code, said, _ = run_script(
        monkeypatch, capsys, SCRIPT, videos, tmp_path / "out", "--num-workers", 2
    )
    assert code == 1 and "4 made, 0 already there, 1 failed" in said
    assert len([name for name in names(tmp_path / "out") if name.endswith(".jpg")]) == 18


def test_lists_and_tables(videos, tmp_path, monkeypatch, capsys):
    (videos / "some.list").write_text("a b/one.mp4 7\nc/four.mp4 12\n", encoding="utf-8")
    code, said, _ = run_script(
        monkeypatch, capsys, SCRIPT, videos / "some.list", tmp_path / "f", "--num-workers", 1
    )
    assert (
        code == 0 and (tmp_path / "f" / "frames.list").read_text() == "a b/one 6 7\nc/four 4 12\n"
    ), said
    assert not (tmp_path / "f" / "labels.txt").exists(), "ids have no names"
    (videos / "parts.csv").write_text(
        "path,label,start_sec,end_sec\na b/one.mp4,long serve,0,0.1\na b/one.mp4,rally,0.1,\n"
    )
    plan = plan_frames(videos / "parts.csv", tmp_path / "p")
    assert plan.class_names == ["long serve", "rally"] and plan.labels == ["0", "1"]
    assert work(WriteFrames(), plan.jobs, tmp_path / "p", 1).made == 2
    assert frames.write_list(plan, tmp_path / "p" / "x.list") == 2
    assert (tmp_path / "p" / "x.list").read_text() == "a b/one_0.0_0.1 3 0\na b/one_0.1_end 3 1\n"
    assert len(decoded(videos / "a b" / "one.mp4", start_sec=0.1)) == 3
    names_file = tmp_path / "names.txt"
    names_file.write_text("rally\nout\n")
    code, _, err = run_script(
        monkeypatch,
        capsys,
        SCRIPT,
        videos / "parts.csv",
        tmp_path / "q",
        "--class_names",
        names_file,
    )
    assert (
        code == 2
        and "not among the 2 class names: 'long serve'" in err
        and not (tmp_path / "q").exists()
    )
    (tmp_path / "twins.list").write_text(
        f"{videos}/a b/one.mp4 0\n{videos}/a b/one.avi 0\n", encoding="utf-8"
    )
    with pytest.raises(
        ValueError, match=r"twins.list:2: .*one.mp4 and .*one.avi would both become"
    ):
        plan_frames(tmp_path / "twins.list", tmp_path / "t", videos)
    with pytest.raises(ValueError, match="no such folder or list"):
        plan_frames(tmp_path / "none.list", tmp_path / "t")
    with pytest.raises(ValueError, match=r"is not below .*; set --list-root"):
        plan_frames(tmp_path / "twins.list", tmp_path / "t", tmp_path / "elsewhere")
