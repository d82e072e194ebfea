"""What `predict` refuses before it opens a model."""

import re

import pytest

from paddlevideo.commands.predict import main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-i", "0"], "--on ray: live sources are read on this machine; leave --on out"),
        (["-i", "rtsp://127.0.0.1/x"], "live sources are read on this machine"),
        (["-i", "-"], "live sources are read on this machine"),
        (["-i", "a.mp4", "--follow"], "live sources are read on this machine"),
        (["-i", "0", "--window", "2"], "live sources are read on this machine"),
        (["-i", "a.mp4", "--window", "2"], "timelines run on this machine; .* with --shard"),
    ],
)
def test_rejects_timelines_on_a_cluster(capsys, flags, message):
    assert main(["--model", "no_model", "--on", "ray", *flags]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: --on ray: ") and re.search(message, printed)


@pytest.mark.parametrize("flag", ["--stride", "--min_score", "--min_duration"])
def test_flags_of_timelines_need_a_window(capsys, flag):
    assert main(["--model", "no_model", "-i", "a.mp4", flag, "1"]) == 1
    assert f"{flag} is for timelines; give --window SECONDS too" in capsys.readouterr().err
