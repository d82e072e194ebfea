"""tools/predict.py: flags, printed lines, files, exit codes."""

import csv
import json
import re
import subprocess
import sys

import paddle
import pytest

from paddlevideo.commands.predict import make_parser
from paddlevideo.plain_text import display_width
from paddlevideo.predict.command import is_verbose
from paddlevideo.runtimes.choose import available_backends
from tests.parts.predict.families import NAMES


def command(root, *arguments):
    script = str(root / "tools" / "predict.py")
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_old_command_line(exported, root, tmp_path):
    model = exported.folder / "tiny.pdmodel"
    files = ["--model_file", model, "--params_file", model.with_suffix(".pdiparams")]
    flags = ["--use_gpu=True", "--use_tensorrt=False", "--time_test_file=True", "--batch_size", 250]
    out = tmp_path / "out.json"
    inputs = ["--input_file", exported.files[0], "-c", exported.config]
    done = command(root, *inputs, *files, *flags, "--save_json", out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"Current video file: {exported.files[0]}" in lines
    (written,) = json.loads(out.read_text(encoding="utf-8"))
    for rank, key in ((1, "class_ids"), (2, "class_ids")):
        assert f"\ttop-{rank} class: {written[key][rank - 1]}" in lines
    assert f"\ttop-1 label: {written['label_names'][0]}" in lines
    assert sum("--time_test_file has no effect" in line for line in lines) == 1
    if not paddle.is_compiled_with_cuda():
        message = "a GPU was asked for, but this build of Paddle has no GPU support"
        assert sum(message in line for line in lines) == 1


@pytest.fixture
def tool(exported, monkeypatch, root):
    """`tool(flags...)` runs the command in this process and returns its exit code."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    import predict

    def run(*flags, inputs=(exported.files[0],)):
        arguments = ["--model", str(exported.folder), *flags, "-i", *map(str, inputs)]
        monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
        return predict.main()

    return run


def test_failed_files_set_the_exit_code(exported, tool, tmp_path, capsys):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert tool("--use_gpu", "f", "--topk", "1", inputs=(empty, exported.files[0])) == 1
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if not line.startswith("[")]
    assert len(lines) == 2, "one line for each video"
    assert lines[0].startswith("failed ")
    assert lines[0].endswith(f"{empty}  (decode: the file is empty (0 bytes))")
    assert re.fullmatch(rf"\S.* [01]\.\d{{4}}  {re.escape(str(exported.files[0]))}", lines[1])
    files = (str(empty), str(exported.files[0]))
    columns = {display_width(line.split(file)[0]) for line, file in zip(lines, files, strict=True)}
    assert len(columns) == 1, "files are in one column"
    message = f"1 of 2 inputs failed:\n  {empty}: decode: the file is empty (0 bytes)"
    assert message in printed.err


def test_verbose_selects_the_form_of_paddlevideo(exported, tool, tmp_path, capsys):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    flags = ("--use_gpu", "f", "--verbose", "--topk", "1")
    assert tool(*flags, inputs=(empty, exported.files[0])) == 1
    printed = capsys.readouterr().out
    assert f"Current video file: {exported.files[0]}\n\ttop-1 class: " in printed
    assert "\ttop-2 class: " not in printed and "\tfailed: decode: the file is empty" in printed


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--model", "m"], False),
        (["-c", "a.yaml", "-w", "b.pdparams"], False),
        (["-c", "a.yaml", "--model", "m"], False),
        (["-c", "a.yaml", "--model_file", "m", "--params_file", "p"], True),
        (["--model_file", "m"], True),
        (["--model", "m", "--params_file", "p"], True),
        (["--model", "m", "--verbose"], True),
        (["--model", "m", "--verbose=True"], True),
        (["--model_file", "m", "--verbose=False"], False),
    ],
)
def test_old_command_lines_print_the_old_form(flags, expected):
    assert is_verbose(make_parser().parse_args(["-i", "a.mp4", *flags])) is expected


def test_the_exit_code_is_0_without_failures(tool, tmp_path):
    out = tmp_path / "r.json"
    assert tool("--save_json", str(out), "--backend", "auto", "--cpu_threads", "1") == 0
    assert len(json.loads(out.read_text(encoding="utf-8"))) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--use_npu=True"], "--use_npu is not supported"),
        (["-o", "a=1"], "give it with --config"),
        (["--model_file", "x.pdmodel"], "--model and --model_file are both given"),
        (["--use_tensorrt=True", "--backend", "paddle"], "leave one of them out"),
        (["--quiet", "--verbose", "--out", "a.json"], "--quiet and --verbose are both given"),
        (["--save_path", "out", "--shard", "1/2"], "so it needs all inputs; --shard takes some"),
        (["--precision", "int8"], "quantize first: python tools/quantize.py"),
    ],
)
def test_rejects_flags_that_do_not_fit(tool, capsys, monkeypatch, tmp_path, flags, message):
    monkeypatch.chdir(tmp_path)
    assert tool(*flags) == 1
    assert message in capsys.readouterr().err


def test_missing_tensorrt_is_an_error(tool, capsys):
    if not available_backends()["tensorrt"]:
        pytest.skip("this machine has TensorRT")
    assert tool("--use_gpu=True", "--use_tensorrt=True") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: backend tensorrt is not available: ")
    assert "This machine has: paddle" in error


# --- features, audio, frames with audio ----------------------------------------------------------


@pytest.fixture
def family_tool(families, monkeypatch, root):
    """`family_tool(name, flags...)`: `tool` with the exported model of that family."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    import predict

    def run(name, *flags):
        model = ["--model", str(families(name).folder)]
        monkeypatch.setattr(sys, "argv", ["predict.py", *model, *map(str, flags)])
        return predict.main()

    return run


def test_writes_tags_in_the_format_of_the_challenge(families, family_tool, tmp_path, capsys):
    family = families("tags")
    vocabulary = family.data / "vocabulary.csv"
    flags = ["-i", family.data, "--topk", "20", "-b", "3", "--use_gpu", "f"]
    flags += ["--class_names", vocabulary]
    assert family_tool("tags", *flags, "--out", tmp_path / "r.csv", "--quiet") == 0
    assert "id: test00000" not in capsys.readouterr().out
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["VideoId"] for row in rows] == [f"test{number:05}" for number in range(5)]
    for row, expected in zip(rows, family.expected.values(), strict=True):
        words = row["LabelConfidencePairs"].split()
        scores = dict(zip(map(int, words[::2]), map(float, words[1::2]), strict=True))
        assert scores == pytest.approx(expected, abs=1e-5)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert family_tool("tags", *flags, "--out", tmp_path / "r.jsonl") == 0
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [row["VideoId"] for row in rows]
    assert set(lines[0]["label_names"]) == set(NAMES)
    (line,) = (
        line for line in capsys.readouterr().out.splitlines() if line.endswith("  id: test00000")
    )
    assert all(name in line for name in NAMES)


def test_modalities_on_the_command_line(families, family_tool, tmp_path, capsys):
    folder, out = families("both").data, tmp_path / "r.json"
    videos = [folder / "silent.mp4", folder / "0.mp4"]
    assert family_tool("both", "-i", *videos, "--modalities", "--out", out) == 0
    silent, loud = json.loads(out.read_text())
    assert list(silent["modalities"]) == ["visual"]
    assert list(loud["modalities"]) == ["visual", "audio"]
    printed = capsys.readouterr().out
    assert printed.count(f"{videos[0]}  (no audio: classified by the frames alone)\n") == 1
    assert printed.count("\n  visual alone: ") == 2 and printed.count("\n  audio alone: ") == 1


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        (
            "audio",
            ["--out", "x.csv"],
            "--out x.csv: .csv is for multi-label models; use .json or .jsonl",
        ),
        ("audio", ["--out", "x.txt"], "ends in .json, .jsonl, .csv"),
        ("audio", ["--quiet"], "--quiet prints no results; give --out FILE to write them"),
        ("audio", ["--modalities"], "this one has a single modality"),
        ("tags", ["-i", "a.mp4"], "make them with python tools/extract_features.py"),
    ],
)
def test_rejects_flags_that_do_not_fit_the_family(
    family_tool, capsys, monkeypatch, tmp_path, name, flags, message
):
    monkeypatch.chdir(tmp_path)
    assert family_tool(name, "-i", "a.wav", *flags) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
