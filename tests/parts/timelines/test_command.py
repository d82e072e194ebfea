"""predict --window: printed segments, files, several inputs, and flags that do not go together."""

import json
import os
import signal
from pathlib import Path

import pytest

from paddlevideo.commands.predict import main
from paddlevideo.predict.command import open_predictor
from paddlevideo.predict.inputs import Inputs
from paddlevideo.sample import DecodeError, Record
from paddlevideo.timelines.command import subtitle_paths
from paddlevideo.timelines.timeline import Timeline
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "a.mp4", 75)
    write_clip(folder / "b" / "a.mkv", 40)
    return folder


@pytest.fixture
def run(frames_model, monkeypatch):
    """`run(*flags)`: the exit code of the command, for a model in memory."""
    monkeypatch.setattr("paddlevideo.timelines.command.open_predictor", lambda args: frames_model)
    assert open_predictor is not None

    def command(*flags) -> int:
        return main(["--model", "none", *map(str, flags)])

    return command


def test_segments_are_printed_and_written(run, videos, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert run("-i", videos / "a.mp4", "--window", 1, "--min_score", 0, "--out", out) == 0
    (timeline,) = json.loads(out.read_text(encoding="utf-8"))
    lines = capsys.readouterr().out.splitlines()
    printed = [line for line in lines if not line.startswith("[")]  # without log lines
    assert printed[0] == str(videos / "a.mp4")
    assert len(printed) == 1 + len(timeline["segments"]) >= 2
    assert printed[1].split()[:3] == ["0:00.0", "-", printed[1].split()[2]]
    assert timeline["segments"][-1]["end"] == 3.0


def test_raw_windows(run, videos, tmp_path):
    out = tmp_path / "out.jsonl"
    flags = ("--window", 1, "--stride", 0.5, "--raw_windows", "--exact_stride", "--topk", 2)
    assert run("-i", videos / "a.mp4", *flags, "--out", out, "--quiet") == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["start"], row["end"]) for row in rows] == [
        (0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3),
    ]  # fmt: skip
    assert all(len(row["class_ids"]) == 2 for row in rows)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".html"])
def test_several_inputs_and_failures_share_a_file(run, videos, tmp_path, capsys, suffix):
    (tmp_path / "bad.mp4").write_text("no video " * 99, encoding="utf-8")
    out = tmp_path / f"out{suffix}"
    inputs = (videos, tmp_path / "bad.mp4")
    assert run("-i", *inputs, "--window", 1, "--min_score", 0, "--out", out) == 1
    text = out.read_text(encoding="utf-8")
    for name in (videos / "a.mp4", videos / "b" / "a.mkv", tmp_path / "bad.mp4"):
        assert str(name) in text
    assert "1 of 3 inputs failed:" in "".join(capsys.readouterr())


def test_each_video_has_its_own_subtitles(run, videos, tmp_path):
    flags = ("--window", 1, "--min_score", 0, "--out", tmp_path / "out.vtt")
    assert run("-i", videos, *flags) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["out.a.vtt", "out.a_2.vtt"]
    assert run("-i", videos, *flags) == 1  # they exist
    assert run("-i", videos, *flags, "--overwrite") == 0
    assert run("-i", videos / "a.mp4", *flags) == 0
    assert (tmp_path / "out.vtt").read_text(encoding="utf-8").startswith("WEBVTT\n\n00:00:00.000")


def test_a_shard_has_its_part_of_the_inputs(run, videos, tmp_path):
    flags = ("--window", 1, "--shard", "2/2", "--out", tmp_path / "out.json")
    assert run("-i", videos, *flags) == 0
    (only,) = json.loads((tmp_path / "out.2-of-2.json").read_text(encoding="utf-8"))
    assert only["input_path"] == str(videos / "b" / "a.mkv")


def test_names_of_subtitles_do_not_meet(tmp_path):
    names = ["a.mp4", "b/a.mkv", "a_2.mp4", "c/a.mp4", "http://x/y/d.mp4?key=s/e.cret"]
    paths = subtitle_paths(tmp_path / "out.srt", [Record(name) for name in names])
    assert [path.name for path in paths] == [
        "out.a.srt", "out.a_2.srt", "out.a_2_2.srt", "out.a_3.srt", "out.d.srt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("aa.mp4", "no such file; did you mean {0}/a.mp4?"),
        ("b/a.mk", "no such file; did you mean {0}/b/a.mkv?"),
        ("other.mp4", "no such file; check the path: -i takes files, folders"),
        ("c/a.mp4", "no such file; there is no folder {0}/c; check the path"),
        ("pipe", "a pipe or a device, not a file"),
    ],
)
def test_a_missing_file_has_a_way_on(run, videos, tmp_path, capsys, given, message):
    if given == "pipe":
        videos = tmp_path
        os.mkfifo(tmp_path / "pipe")
    assert run("-i", videos / given, "--window", 1) == 1
    assert f"{given}: {message.format(videos)}" in "".join(capsys.readouterr())


def test_a_secret_in_an_address_is_not_printed(run, tmp_path, monkeypatch, capsys):
    def missing(*args):
        raise DecodeError("no such file")

    monkeypatch.setattr("paddlevideo.timelines.timeline.video_frames", missing)
    url = "http://user:hidden@127.0.0.1:1/a.mp4?key=secret"
    monkeypatch.setattr(
        "paddlevideo.predict.predictor.find_inputs", lambda *_: Inputs([([Record(url)], None)])
    )
    assert run("-i", url, "--window", 1) == 1
    text = "".join(capsys.readouterr())
    assert "http://127.0.0.1:1/a.mp4: no such file" in text
    assert "secret" not in text and "hidden" not in text


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_an_input_is_never_the_annotated_video(run, videos, capsys, flags):
    """Also where it would be written under the name of another input."""
    before = {path: path.read_bytes() for path in videos.rglob("*.m*")}
    assert run("-i", videos / "a.mp4", "--window", 1, "--annotate", videos / "a.mp4", *flags) == 1
    error = capsys.readouterr().err
    assert ("it would replace an input" if flags else "this file exists") in error
    assert {path: path.read_bytes() for path in videos.rglob("*.m*")} == before


def test_a_window_too_large_for_the_memory_fails_one_input(run, videos, tmp_path, monkeypatch):
    large = write_clip(tmp_path / "large.mp4", 120, fps=100)
    monkeypatch.setattr("paddlevideo.timelines.cutting.HOLD_BYTES", 300_000)
    out = tmp_path / "out.json"
    flags = ("--window", 1, "--stride", 1, "--out", out, "--min_score", 0)
    assert run("-i", large, videos / "a.mp4", *flags) == 1
    bad, good = json.loads(out.read_text(encoding="utf-8"))
    assert "a window of 1 s holds" in bad["error"] and "use a shorter window" in bad["error"]
    assert good["segments"] and "error" not in good


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".vtt", ".srt", ".html"])
def test_ctrl_c_writes_what_is_closed(run, videos, tmp_path, monkeypatch, capsys, suffix):
    windows = Timeline.windows

    def interrupted(self, source):
        for number, window in enumerate(windows(self, source)):
            yield window
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Timeline, "windows", interrupted)
    out, video = tmp_path / f"out{suffix}", tmp_path / "out.mp4"
    flags = ("--window", 0.5, "--stride", 0.5, "--raw_windows", "--annotate", video)
    assert run("-i", videos / "a.mp4", *flags, "--out", out) == 130
    printed = "".join(capsys.readouterr())
    assert "interrupted after 0:01." in printed and "Traceback" not in printed
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    text = out.read_text(encoding="utf-8")
    if suffix == ".json":
        (timeline,) = json.loads(text)
        assert timeline["error"].startswith("interrupted after 0:01.")
        assert 1 < len(timeline["segments"]) < 6
    elif suffix in (".jsonl", ".csv", ".html"):
        assert "interrupted after 0:01." in text
    else:
        assert text.count("-->") >= 2


def test_ctrl_c_while_the_video_is_written(run, videos, tmp_path, monkeypatch, capsys):
    def add(self, item):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("paddlevideo.timelines.annotated.AnnotatedVideo.add", add)
    out, video = tmp_path / "out.json", tmp_path / "out.mp4"
    flags = ("--window", 1, "--min_score", 0, "--annotate", video, "--out", out)
    assert run("-i", videos, *flags) == 130
    (timeline,) = json.loads(out.read_text(encoding="utf-8"))
    assert timeline["segments"][-1]["end"] == 3.0, "the second input was not begun"
    assert timeline["error"] == f"interrupted; {tmp_path / 'out.a.mp4'} was not written"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_audio_cannot_be_annotated(audio_model, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("paddlevideo.timelines.command.open_predictor", lambda args: audio_model)
    sound, out = write_audio(tmp_path / "a.wav", chirps(2)), tmp_path / "out.json"
    flags = ("--window", 1, "--min_score", 0, "--annotate", tmp_path / "b.mp4", "--out", out)
    assert run("-i", sound, *flags) == 1
    (timeline,) = json.loads(out.read_text(encoding="utf-8"))
    assert timeline["segments"] and "b.mp4 was not written: no video stream" in timeline["error"]


def test_a_note_where_no_class_reaches_min_score(run, videos, capsys):
    assert run("-i", videos / "a.mp4", "--window", 1, "--min_score", 1) == 0
    assert "no class reaches --min_score 1; --raw_windows" in "".join(capsys.readouterr())
    flags = ("--min_score", 0, "--min_duration", 100)  # longer than the file
    assert run("-i", videos / "a.mp4", "--window", 1, *flags) == 0
    text = "".join(capsys.readouterr())
    assert "no class reaches --min_score 0 for --min_duration 100 s" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--window", 1, "--resume", "--out", "x.jsonl"), "--resume does not go with --window"),
        (("--window", 1, "--modalities"), "--modalities does not go with --window"),
        (("--window", 1, "--save_path", "x"), "--save_path does not go with --window"),
        (("--window", 1, "--features", "x"), "--features does not go with --window"),
        (("--window", 1, "-b", 4), "--batch_size does not go with --window"),
        (("--window", 1, "--decode_workers", 2), "--decode_workers does not go with --window"),
        (("--window", 1, "--verbose"), "--verbose does not go with --window"),
        (("--window", 1, "--raw_windows", "--min_score", 0.5), "leave one of them out"),
        (("--window", 1, "--raw_windows", "--min_duration", 1), "leave one of them out"),
        (("--window", 1, "--quiet"), "--quiet prints no segments"),
        (("--window", 1, "--overwrite"), "--overwrite is for the file of --out"),
        (("--window", 1, "--out", "x.txt"), "x.txt: expected a file for timelines"),
        (("--window", 1, "--min_score", 2), "min_score is 2.0, expected a probability"),
        (("--window", 1, "--min_duration", -1), "min_duration is -1.0, expected seconds"),
        (("--window", 1, "--topk", 0), "topk is 0, expected at least 1"),
        (("--stride", 1), "--stride is for timelines; give --window SECONDS too"),
        (("--min_score", 0), "--min_score is for timelines"),
        (("--raw_windows",), "--raw_windows is for timelines"),
        (("--exact_stride",), "--exact_stride is for timelines"),
    ],
)
def test_flags_that_do_not_go_together(run, videos, capsys, flags, message):
    assert run("-i", videos / "a.mp4", *flags) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf"])
@pytest.mark.parametrize("flag", ["--window", "--stride"])
def test_seconds(run, capsys, flag, text):
    with pytest.raises(SystemExit):
        run("-i", "a.mp4", f"{flag}={text}")
    assert "is not a number of seconds above 0" in capsys.readouterr().err


def test_an_existing_file_and_inputs_without_times(run, videos, tmp_path, capsys):
    out = tmp_path / "out.json"
    out.write_text("[]", encoding="utf-8")
    assert run("-i", videos / "a.mp4", "--window", 1, "--out", out) == 1
    assert "this file exists; replace it with --overwrite" in capsys.readouterr().err
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "img_00001.jpg").touch()
    assert run("-i", frames, "--window", 1) == 1
    assert "a folder of frames has no times" in capsys.readouterr().err
    table = tmp_path / "parts.csv"
    table.write_text(f"path,label,start,end\n{videos / 'a.mp4'},0,0.5,1.5\n", encoding="utf-8")
    assert run("-i", table, "--window", 1) == 1
    assert "names a part of this video" in capsys.readouterr().err
