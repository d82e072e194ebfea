"""The benchmark of a live source, for a short time; the test does not check speeds."""

import json
import re
from argparse import Namespace

import av

from paddlevideo.benchmarks import live
from paddlevideo.commands.benchmark import main


def test_a_live_source_is_measured(exported, tmp_path, capsys):
    flags = ["--seconds", "2", "--window", "0.4", "--stride", "0.2", "--size", "64", "48"]
    model = ["--model", str(exported.folder), "--backend", "paddle", "--threads", "1"]
    out = tmp_path / "live.json"
    assert main(["live", *model, *flags, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in (
        r"windows of 0.4 s every 0.2 s",
        r"latency \d+\.\d+ s \(median\), \d+\.\d+ s \(95 %\), .* of \d+ windows",
        r"(NOT )?below the window and 300 ms \(0.700 s\) in 95 % of them",
        r"\d+ of 5\d frames dropped",
        r"memory \d+ MB after the first windows, \d+ MB at the end",
    ):
        assert re.search(words, printed), printed
    (row,) = json.loads(out.read_text())["groups"][0]["rows"]
    assert row["seconds"] and min(row["seconds"]) > 0.399, "a latency includes the window"


def test_the_camera_sends_frames_in_their_order(exported, tmp_path, monkeypatch):
    """A B frame is sent after a later frame, which the camera would then send before its time."""
    monkeypatch.setattr(live, "run", lambda model, path, seconds: path)
    options = {"window": 0.4, "stride": 0.2, "size": [64, 48], "gop": 12, "seconds": 1}
    model = {"model": str(exported.folder), "backend": "paddle", "threads": 1}
    (path,) = live.groups(Namespace(**options, **model), tmp_path)
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    assert len(packets) == live.NUM_FRAMES and packets[0].pts == 0
    assert all(packet.dts == packet.pts for packet in packets)


def test_too_short_a_time_is_refused(exported, capsys):
    model = ["--model", str(exported.folder), "--backend", "paddle", "--threads", "1"]
    assert main(["live", *model, "--seconds", "0.5", "--size", "64", "48"]) == 1
    assert "--seconds 0.5: too short for 5 windows" in capsys.readouterr().err
