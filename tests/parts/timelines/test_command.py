"""predict --window: printed segments, files, several inputs, and flags that do not go together."""

import json
from pathlib import Path

import pytest

from paddlevideo.commands.predict import main
from paddlevideo.predict.command import open_predictor
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


def test_a_note_where_no_class_reaches_min_score(run, videos, capsys):
    assert run("-i", videos / "a.mp4", "--window", 1, "--min_score", 1) == 0
    assert "no class reaches --min_score 1" in "".join(capsys.readouterr())


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
