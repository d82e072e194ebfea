"""The benchmark of a live source, for a short time; the test does not check speeds."""

import json
import re

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


def test_too_short_a_time_is_refused(exported, capsys):
    model = ["--model", str(exported.folder), "--backend", "paddle", "--threads", "1"]
    assert main(["live", *model, "--seconds", "0.5", "--size", "64", "48"]) == 1
    assert "--seconds 0.5: too short for 5 windows" in capsys.readouterr().err
