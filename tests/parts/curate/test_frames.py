"""Frame extraction: decoded frames in JPEG files, complete folders, continued runs, lists."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlevideo.curate import frames
from paddlevideo.curate.batch_jobs import Job, remove_leftovers, run_jobs
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
    """Three good videos and a broken one in two class folders, and a video next to the folders."""
    root = tmp_path / "my videos"
    write_clip(root / "a b" / "one.mp4", 6, height=72, width=96)
    write_clip(root / "a b" / "deep" / "two three.avi", 5, codec="mpeg4")
    write_clip(root / "c" / "four.mp4", 4, rotation=90)
    write_clip(root / "five.mp4", 3)
    (root / "c" / "broken.mp4").write_bytes(b"no video" * 100)
    return root


@pytest.fixture
def extract(monkeypatch, capsys):
    """`extract(*arguments)` -> (exit code, standard output, standard error) of the command."""

    def run(*arguments):
        return run_script(monkeypatch, capsys, SCRIPT, *arguments, "--num-workers", 1)

    return run


def names(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def decoded(path: Path, **span) -> np.ndarray:
    with VideoDecoder().open(Record(str(path), **span)) as clip:
        return clip.read(np.arange(clip.num_frames))


# --- one video -----------------------------------------------------------------------------------


def test_writes_the_decoded_frames(tmp_path):
    video = write_clip(tmp_path / "a.mp4", 20, height=64, width=96, options={"bf": "2", "g": "8"})
    WriteFrames(quality=100)(str(video), str(tmp_path / "out"))
    assert names(tmp_path / "out") == [f"img_{number:05}.jpg" for number in range(1, 21)]
    with FrameDecoder().open(Record(str(tmp_path / "out"), frame_pattern="img_{:05}.jpg")) as clip:
        written = clip.read(np.arange(20)).astype(int)
    expected = decoded(video).astype(int)
    # Compare the brightness, because JPEG halves the color resolution. Neighboring frames differ
    # by tens.
    errors = np.abs(written.mean(-1)[:, None] - expected.mean(-1)[None]).mean((2, 3))
    assert (errors.argmin(1) == np.arange(20)).all() and errors.diagonal().max() < 3


def test_frame_numbers_are_right_if_the_decoder_starts_over(tmp_path, monkeypatch):
    """With wrong time stamps, the reader starts over after it returned some frames."""
    video = write_clip(tmp_path / "a.mp4", 12, options={"g": "4"})
    expected, started_over = decoded(video), []

    def return_some_frames(self, canvas, table):
        for number in (0, 1, 2):
            canvas.put(number, expected[number])
        started_over.append(True)
        return False

    WriteFrames()(str(video), str(tmp_path / "plain"))
    monkeypatch.setattr(PyAVReader, "_fill_by_seeking", return_some_frames)
    WriteFrames()(str(video), str(tmp_path / "twice"))
    assert started_over and names(tmp_path / "twice") == names(tmp_path / "plain")
    for name in names(tmp_path / "plain"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_short_side_and_quality(tmp_path):
    video = write_clip(tmp_path / "a.mp4", 2, height=72, width=128)
    shapes, num_bytes = {}, {}
    for side, quality in ((36, 95), (36, 30), (500, 95), (None, 95)):
        out = tmp_path / f"{side} {quality}"
        WriteFrames(side, quality)(str(video), str(out))
        file = out / "img_00001.jpg"
        shapes[side, quality] = cv2.imread(str(file)).shape[:2]
        num_bytes[side, quality] = file.stat().st_size
    assert shapes[36, 95] == shapes[36, 30] == (36, 64), "keeps the aspect ratio"
    assert shapes[500, 95] == shapes[None, 95] == (72, 128), "does not enlarge frames"
    assert num_bytes[36, 30] < num_bytes[36, 95] * 0.7


def test_resizes_by_area(tmp_path):
    frame = random_frames(1, 48, 96)[0]
    data = np.frombuffer(WriteFrames(24, 100).encode(frame), np.uint8)
    written = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    expected = cv2.resize(frame, (48, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(written.mean(-1) - expected.mean(-1)).mean() < 2


@pytest.mark.parametrize("settings", [{"short_side": 0}, {"quality": 0}, {"quality": 101}])
def test_rejects_wrong_settings(settings):
    with pytest.raises(ValueError, match="expected"):
        WriteFrames(**settings)


# --- runs ----------------------------------------------------------------------------------------


def test_a_full_disk_leaves_no_partial_folder(tmp_path, monkeypatch):
    video = write_clip(tmp_path / "a.mp4", 10)
    real_encode, calls = WriteFrames.encode, []

    def full_disk(self, image):
        calls.append(1)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        return real_encode(self, image)

    monkeypatch.setattr(WriteFrames, "encode", full_disk)
    out = tmp_path / "out"
    done = run_jobs(WriteFrames(), [Job(str(video), str(out / "a"))], out, 1)
    assert done.failed == [(str(video), "No space left on device")] and len(calls) == 6
    assert names(out) == ["failures.tsv", "made_with.json"]


def test_overwrite_leaves_nothing_of_other_settings(tmp_path):
    """Also not of a source that fails, or after a stop, behind which the run continues."""
    paths = [write_clip(tmp_path / f"{name}.mp4", 4) for name in "ab"]
    out = tmp_path / "out"
    jobs = [Job(str(path), str(out / path.stem)) for path in paths]
    run_jobs(WriteFrames(), jobs, out, 1)
    Path(paths[0]).write_text("broken")

    class Stopped(WriteFrames):
        def __call__(self, source, target, *span):
            if source == jobs[1].source:
                raise KeyboardInterrupt
            super().__call__(source, target, *span)

    with pytest.raises(KeyboardInterrupt):
        run_jobs(Stopped(short_side=24), jobs, out, 1, overwrite=True)
    assert not any(Path(job.target).exists() for job in jobs)
    done = run_jobs(WriteFrames(short_side=24), jobs, out, 1)
    assert (done.num_made, done.num_kept, len(done.failed)) == (1, 0, 1)
    image = cv2.imread(str(next(Path(jobs[1].target).iterdir())))
    assert min(image.shape[:2]) == 24


def test_a_result_replaces_no_source_of_another_job(tmp_path):
    jobs = [Job(str(tmp_path / a), str(tmp_path / b)) for a, b in ("ab", "bc")]
    with pytest.raises(ValueError, match="b: the result would replace it"):
        run_jobs(WriteFrames(), jobs, tmp_path / "out", 1, overwrite=True)


def test_overwrite_replaces_complete_folders(tmp_path):
    video, out = write_clip(tmp_path / "a.mp4", 10), tmp_path / "out"
    jobs = [Job(str(video), str(out / "a"))]
    assert run_jobs(WriteFrames(), jobs, out, 1).num_made == 1 and len(names(out / "a")) == 10
    (out / "a" / "img_00099.jpg").write_bytes(b"old")
    assert run_jobs(WriteFrames(), jobs, out, 1, overwrite=True).num_made == 1
    assert len(names(out / "a")) == 10
    assert sorted(os.listdir(out)) == ["a", "made_with.json"]


def test_a_truncated_video_leaves_nothing(tmp_path):
    video, truncated = write_clip(tmp_path / "a.mp4", 10), tmp_path / "cut.mp4"
    truncated.write_bytes(video.read_bytes()[:-400])
    with pytest.raises(DecodeError, match=r"cut short|no moov"):
        WriteFrames()(str(truncated), str(tmp_path / "cut"))
    assert not (tmp_path / "cut").exists()


def test_an_error_keeps_the_earlier_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"earlier")
    replace, sources = os.replace, []

    def failing(source, target):
        sources.append(Path(source).name)
        if len(sources) == 2:  # the new folder, after the earlier one was moved away
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(frames.os, "replace", failing)
    with pytest.raises(OSError, match="disk full"), frames.atomic_folder(tmp_path / "a") as folder:
        (folder / "1.jpg").write_bytes(b"new")
    assert os.listdir(tmp_path) == ["a"] and sources[0] == "a"
    assert (tmp_path / "a" / "1.jpg").read_bytes() == b"earlier"
    monkeypatch.undo()
    with frames.atomic_folder(tmp_path / "a") as folder:
        (folder / "1.jpg").write_bytes(b"new")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a" / "1.jpg").read_bytes() == b"new"


def test_removes_the_leftovers_of_killed_runs(tmp_path):
    ended = 2**22 + 1  # above the largest process id
    running = os.getppid()
    folders = [f".a.{ended}.tmp", f".b.{running}.tmp", f".other.{ended}.tmp", ".a.notes.tmp"]
    for name in folders:
        (tmp_path / name).mkdir()
        (tmp_path / name / "0").write_bytes(b"half")
    (tmp_path / f".c.{ended}.tmp").write_bytes(b"half")
    remove_leftovers([Job("x", str(tmp_path / name)) for name in "abc"])
    assert sorted(os.listdir(tmp_path)) == sorted(folders[1:])


# --- the command ---------------------------------------------------------------------------------


def test_the_command_writes_frames_list_and_class_names(videos, tmp_path, extract):
    out = tmp_path / "my frames"
    code, printed, _ = extract(videos, out, "--short_side", 24)
    assert code == 1 and "4 made, 0 kept, 1 failed" in printed
    assert "broken.mp4: no known video format" in printed
    assert "not listed: 1 videos outside of the class folders, such as" in printed
    assert "frames.list: 3 folders" in printed
    lines = ["a b/one 6 0", "a b/deep/two three 5 0", "c/four 4 1"]
    assert (out / "frames.list").read_text().splitlines() == lines
    assert read_class_names(out / "labels.txt") == ["a b", "c"]
    assert json.loads((out / "made_with.json").read_text())["short_side"] == 24
    records = FrameDataset(str(out / "frames.list")).load(["a b", "c"]).records
    for record, shape in zip(records, [(24, 32), (24, 32), (32, 24)], strict=True):
        with FrameDecoder().open(record) as clip:
            assert clip.read(np.arange(record.num_frames)).shape[1:3] == shape


def test_the_command_continues_with_the_same_settings(videos, tmp_path, extract):
    out = tmp_path / "my frames"
    extract(videos, out, "--short_side", 24)
    stamp = (out / "c" / "four").stat().st_mtime_ns
    write_clip(videos / "c" / "broken.mp4", 7)
    code, printed, _ = extract(videos, out, "--short_side", 24)
    assert code == 0 and "1 made, 4 kept, 0 failed" in printed
    assert "frames.list: 4 folders" in printed
    assert (out / "c" / "four").stat().st_mtime_ns == stamp
    assert not (out / "failures.tsv").exists()
    code, _, error = extract(videos, out, "--short_side", 32)
    assert code == 2
    assert "were made with {'short_side': 24}, not with" in error and "--overwrite" in error


def test_two_processes(videos, tmp_path, monkeypatch, capsys):
    arguments = (SCRIPT, videos, tmp_path / "out", "--num-workers", 2)
    code, printed, _ = run_script(monkeypatch, capsys, *arguments)
    assert code == 1 and "4 made, 0 kept, 1 failed" in printed
    assert len([name for name in names(tmp_path / "out") if name.endswith(".jpg")]) == 18


def test_a_list_of_ids_gives_a_list_of_ids(videos, tmp_path, extract):
    (videos / "some.list").write_text("a b/one.mp4 7\nc/four.mp4 12\n", encoding="utf-8")
    code, printed, _ = extract(videos / "some.list", tmp_path / "f")
    assert code == 0, printed
    assert (tmp_path / "f" / "frames.list").read_text() == "a b/one 6 7\nc/four 4 12\n"
    assert not (tmp_path / "f" / "labels.txt").exists(), "ids have no names"


@pytest.fixture
def table(videos) -> Path:
    """A table of two parts of the same video."""
    rows = ["a b/one.mp4,long serve,0,0.1", "a b/one.mp4,rally,0.1,"]
    file = videos / "parts.csv"
    file.write_text("\n".join(["path,label,start_sec,end_sec", *rows]) + "\n")
    return file


def test_parts_of_a_video_have_their_own_folders(videos, tmp_path, table):
    out = tmp_path / "p"
    plan = plan_frames(table, out)
    assert plan.class_names == ["long serve", "rally"] and plan.labels == ["0", "1"]
    assert run_jobs(WriteFrames(), plan.jobs, out, 1).num_made == 2
    assert frames.write_list(plan, out / "x.list") == 2
    assert (out / "x.list").read_text() == "a b/one_0.0_0.1 3 0\na b/one_0.1_end 3 1\n"
    assert len(decoded(videos / "a b" / "one.mp4", start_sec=0.1)) == 3


def test_rejects_unknown_class_names(tmp_path, table, extract):
    names_file = tmp_path / "names.txt"
    names_file.write_text("rally\nout\n")
    code, _, error = extract(table, tmp_path / "q", "--class_names", names_file)
    assert code == 2 and "not among the 2 class names: 'long serve' (1 in total)" in error
    assert not (tmp_path / "q").exists()


def test_rejects_wrong_lists(videos, tmp_path):
    file = tmp_path / "twins.list"
    file.write_text(f"{videos}/a b/one.mp4 0\n{videos}/a b/one.avi 0\n", encoding="utf-8")
    message = r"twins.list:2: .*one.mp4 and .*one.avi would both become"
    with pytest.raises(ValueError, match=message):
        plan_frames(file, tmp_path / "t", videos)
    with pytest.raises(ValueError, match="no such folder or list"):
        plan_frames(tmp_path / "none.list", tmp_path / "t")
    with pytest.raises(ValueError, match=r"is not below .*; set --list-root"):
        plan_frames(file, tmp_path / "t", tmp_path / "elsewhere")
