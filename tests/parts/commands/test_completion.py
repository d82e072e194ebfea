"""Completion of the command: verbs, flags, names of configs, and the code of each shell."""

import os
import subprocess
import sys

import pytest

from paddlevideo import cli
from paddlevideo.commands import completion


def test_whole_parser_knows_every_verb_and_its_flags():
    parser = completion.whole_parser(cli.VERBS)
    assert parser.parse_args(["train", "-c", "pptsn", "--lr", "0.1"]).lr == 0.1
    assert parser.parse_args(["data", "resize", "a", "b", "--gop", "8"]).gop == 8
    assert parser.parse_args(["configs", "copy", "pptsn", "b"]).name == "pptsn"
    assert parser.parse_args(["benchmark", "loader"]).verb == "loader"


def test_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert cli.main(["completion", "bash"]) == 1
    assert "pip install 'paddlevideo[completion]'" in capsys.readouterr().err
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit, match="1"):
        cli.main(["train"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_prints_the_code_of_a_shell(capsys, shell):
    pytest.importorskip("argcomplete")
    assert cli.main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "paddlevideo" in out and "_ARGCOMPLETE" in out


@pytest.mark.parametrize(
    ("line", "expected", "others"),
    [
        ("paddlevideo t", {"train", "test"}, {"predict", "data"}),
        ("paddlevideo data re", {"resize"}, {"report", "train"}),
        ("paddlevideo train --val", {"--validate"}, {"--test"}),
        ("paddlevideo train -c pptsn_k", {"pptsn_k400_videos"}, {"pptsn", "demo/pptsn"}),
        ("paddlevideo export --config demo/ppt", {"demo/pptsn"}, {"pptsn"}),
        ("paddlevideo configs copy av", {"av", "avslowfast_4x16_r50"}, {"pptsn"}),
        ("paddlevideo predict --backend o", {"openvino", "onnxruntime"}, {"paddle"}),
        ("paddlevideo train -c min", {"mine.yaml"}, {"mine.txt"}),
    ],
)
def test_completes(tmp_path, root, line, expected, others):
    """What argcomplete answers a shell, on file descriptor 8."""
    pytest.importorskip("argcomplete")
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.txt").touch()
    answer = tmp_path / "answer"
    settings = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash"}
    settings |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_COMP_WORDBREAKS": " "}
    settings |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **settings, "PYTHONPATH": path}
    command = [sys.executable, "-B", "-m", "paddlevideo"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=False, capture_output=True)
    words = {word.strip() for word in answer.read_text().split("\n")}
    assert expected <= words and not others & words, words
