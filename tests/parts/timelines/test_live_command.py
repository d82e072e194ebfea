"""predict -i with a live source: results as they come, clean ends, and wrong flags."""

import csv
import json
import os
import signal
import threading
from importlib.util import find_spec

import av
import pytest

from paddlevideo.commands.predict import main
from paddlevideo.timelines.live import LiveSource
from tests.clips import write_clip
from tests.live_server import stream_bytes, stream_server

FSSPEC = find_spec("fsspec")


@pytest.fixture
def server():
    with stream_server() as state:
        yield state


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("stream")
    return stream_bytes(folder, 40, fps=10, tone=440.0, codec="libx264")  # 4 seconds


@pytest.fixture
def run(exported, monkeypatch):
    """`run(*flags)`: the exit code of predict with the small model."""
    monkeypatch.setenv("COLUMNS", "200")

    def predict(*flags: object) -> int:
        model = ["--model", str(exported.folder), "--backend", "paddle"]
        return main([*model, "--cpu_threads", "1", *map(str, flags)])

    return predict


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_stream_gives_lines_with_their_latency(server, stream, run, tmp_path, capsys):
    server.plan = [("end", stream)]
    out = tmp_path / "out.jsonl"
    assert run("-i", server.url, "--out", out, "--raw_windows", "--window", 1, "--stride", 0.5) == 0
    rows = rows_of(out)
    assert [row["start"] for row in rows[:3]] == [0.0, 0.5, 1.0]
    assert rows[-1]["end"] == pytest.approx(4.0, abs=0.01)
    assert all(0 <= row["latency"] < 60 and len(row["class_ids"]) == 2 for row in rows)
    assert {row["input_path"] for row in rows} == {f"http://127.0.0.1:{server.port}/stream?..."}
    printed = capsys.readouterr()
    assert printed.out.count("  latency ") == len(rows)
    assert f"{len(rows)} windows, latency " in printed.out and "0 frames dropped" in printed.out
    for text in (printed.out, printed.err, out.read_text()):
        assert "secret" not in text and "hidden" not in text


def test_windows_of_two_seconds_are_the_default(server, stream, run, tmp_path):
    server.plan = [("end", stream)]
    out = tmp_path / "out.json"
    assert run("-i", server.url, "--out", out, "--raw_windows", "--quiet") == 0
    segments = json.loads(out.read_text())[0]["segments"]
    assert [(s["start"], s["end"]) for s in segments[:2]] == [(0.0, 2.0), (1.0, 3.0)]


def test_a_signal_ends_it_and_everything_is_written(server, stream, run, tmp_path, capsys):
    server.plan = [("stall", stream)]
    out, video, ended = tmp_path / "out.jsonl", tmp_path / "out.mp4", threading.Event()

    def stop_after_a_line() -> None:
        while not ended.wait(0.02):
            if out.exists() and out.read_text():
                os.kill(os.getpid(), signal.SIGTERM)
                server.closing.set()  # FFmpeg waits for data of the server
                return

    thread = threading.Thread(target=stop_after_a_line)
    thread.start()
    flags = ["--stall", 30, "--out", out, "--annotate", video, "--raw_windows", "--window", 1]
    try:
        assert run("-i", server.url, *flags) == 0
    finally:
        ended.set()
        thread.join()
    assert rows_of(out)[0]["start"] == 0.0
    with av.open(str(video)) as container:
        assert [s.codec_context.name for s in container.streams] == ["h264", "aac"]
        assert sum(1 for _ in container.decode(video=0)) >= 10
    assert "stopped by a signal" in capsys.readouterr().out


def test_a_stop_before_the_first_frame_is_clean(server, run, tmp_path, monkeypatch, capsys):
    """Nothing is an error, there is no video, and the file has no segments."""
    server.plan = [("stall", b"")]
    out, video = tmp_path / "out.json", tmp_path / "out.mp4"
    read = LiveSource.__iter__

    def stopped(live):
        os.kill(os.getpid(), signal.SIGINT)
        yield from read(live)
        server.closing.set()  # FFmpeg waits for data of the server

    monkeypatch.setattr(LiveSource, "__iter__", stopped)
    assert run("-i", server.url, "--stall", 30, "--out", out, "--annotate", video) == 0
    assert json.loads(out.read_text())[0]["segments"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    text = capsys.readouterr().out
    assert "out.mp4: not written, because no frame came" in text
    assert f"written: {video}" not in text and f"written: {out}" in text


def test_a_table_has_a_column_for_the_latency(server, stream, run, tmp_path):
    server.plan = [("end", stream)]
    out = tmp_path / "out.csv"
    assert run("-i", server.url, "--out", out, "--min_score", 0) == 0
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert rows and float(rows[0]["latency"]) >= 0 and rows[0]["error"] == ""


def test_a_lost_source_is_a_failure_with_its_gap(server, stream, run, tmp_path, capsys):
    server.plan = [("cut", stream)]
    out = tmp_path / "out.jsonl"
    assert run("-i", server.url, "--reconnect", 0, "--out", out, "--min_score", 0) == 1
    *segments, last = rows_of(out)
    assert last["error"] == "the connection was closed" and "start" not in last
    assert segments[0]["class_ids"]
    assert "given up" in capsys.readouterr().out


def test_a_source_that_comes_back_has_a_row_for_the_gap(server, stream, run, tmp_path):
    server.plan = [("stall", stream), ("end", stream)]
    out = tmp_path / "out.jsonl"
    assert run("-i", server.url, "--out", out, "--stall", 2, "--raw_windows") == 0
    rows = rows_of(out)
    lost = [row for row in rows if "error" in row]
    assert lost and {row["error"] for row in lost} <= {"no data for 2 s", "no frame for 2 s"}
    assert rows[0]["class_ids"] and rows[-1]["class_ids"]
    assert rows[-1]["end"] - lost[-1]["end"] == pytest.approx(4.0, abs=0.3)


def test_a_source_may_change_its_size(server, stream, run, tmp_path):
    large = stream_bytes(tmp_path, 30, fps=10, height=96, width=128, codec="libx264")
    server.plan = [("end", stream + large)]
    out, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    flags = ["--out", out, "--annotate", video, "--raw_windows", "--window", 1]
    assert run("-i", server.url, *flags) == 0
    rows = rows_of(out)
    assert not [row for row in rows if "error" in row]
    assert rows[-1]["end"] > 6.0
    with av.open(str(video)) as container:
        shapes = {(frame.height, frame.width) for frame in container.decode(video=0)}
    assert shapes == {(48, 64)}


def test_a_growing_file(run, tmp_path):
    path, out = tmp_path / "a.ts", tmp_path / "out.jsonl"
    path.write_bytes(stream_bytes(tmp_path, 20, fps=10))
    assert run("-i", path, "--follow", "--stall", 1, "--out", out, "--min_score", 0) == 0
    assert rows_of(out)[0]["input_path"] == str(path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-i", "0", "a.mp4"], "-i has 2 inputs and a live source among them"),
        (["-i", "rtsp://a/b", "http://a/b"], "run a command for each"),
        (["-i", "a.mp4", "--stall", "3"], "--stall is for live sources"),
        (["-i", "a.mp4", "--reconnect", "0"], "--reconnect is for live sources"),
        (["-i", "a.mp4", "--annotate", "b.mp4"], "--annotate is for timelines; give --window"),
        (["-i", "foo://a/b"], "no package for foo://" if FSSPEC else "foo:// need fsspec: pip"),
        (["-i", "rtmp://u:secret@a/b"], "rtmp://a/b: rtmp:// is not supported; expected one of"),
        (["-i", "udp://1.2.3.4:5", "--window", "2"], "ffmpeg -i ADDRESS -c copy -f mpegts -"),
        (["-i", "srt://a:9"], "srt://a:9: srt:// is not supported"),
        (["-i", "http://u:secret@a/b", "--shard", "1/2"], "--shard is for files"),
        (["-i", "http://a/b", "--resume"], "--resume does not go with"),
        (["-i", "http://a/b", "--raw", "2x2@5"], "--raw is for standard input"),
        (["-i", "http://a/b", "--annotate", "a.avi"], "expected a file name that ends with .mp4"),
        (["-i", "http://a/b", "--annotate", "old.mp4"], "--annotate old.mp4: this file exists"),
        (["-i", "http://a/b", "--out", "a.txt"], "expected a file for timelines"),
        (["-i", "no.ts", "--follow"], "no.ts: no such file"),
        (["-i", "http://127.0.0.1:1/b"], "http://127.0.0.1:1/b: Connection refused"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.mp4").write_bytes(b"old")
    assert run(*flags) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error and "secret" not in error
    assert (tmp_path / "old.mp4").read_bytes() == b"old"


@pytest.mark.parametrize(
    "flags", [["--stall", "0"], ["--stall", "x"], ["--reconnect", "-1"], ["--reconnect", "nan"]]
)
def test_wrong_seconds(flags, capsys):
    with pytest.raises(SystemExit):
        main(["-i", "0", *flags])
    assert "is not a number of seconds" in capsys.readouterr().err


def test_files_are_annotated_too(run, tmp_path):
    first = write_clip(tmp_path / "in" / "a.mp4", 25, tone=440.0)
    write_clip(tmp_path / "in" / "b.avi", 25, codec="mpeg4")
    flags = ["--window", 0.5, "--annotate", tmp_path / "out.mp4"]
    assert run("-i", first, *flags) == 0
    assert run("-i", first, *flags) == 1, "the file exists"
    assert run("-i", tmp_path / "in", "--overwrite", *flags) == 0
    for name, codecs in {
        "out": ["h264", "aac"],
        "out.a": ["h264", "aac"],
        "out.b": ["h264"],
    }.items():
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert [s.codec_context.name for s in container.streams] == codecs
            assert sum(1 for _ in container.decode(video=0)) == 25
