"""The file of tools/predict.py: continued after a kill, never written over, one per shard."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.load import trained_model
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.predictor import Predictor
from tests.parts.conftest import NAMES, skip_without, write_weights


@pytest.fixture
def tool(exported, monkeypatch, root):
    """`tool(flags...)` runs the command in this process on all videos; returns its exit code."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    import predict

    def run(*flags, inputs=tuple(exported.files)):
        model = ["--model", str(exported.folder), "--cpu_threads", "1", "--use_gpu", "f"]
        monkeypatch.setattr(sys, "argv", ["predict.py", *model, *map(str, flags), "-i", *inputs])
        return predict.main()

    return run


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded."""
    names, real = [], Feed.sample

    def sample(self, record, source=None):
        names.append(Path(record.path).name)
        return real(self, record, source)

    monkeypatch.setattr(Feed, "sample", sample)
    return names


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_torn_file_is_continued(tool, decoded, exported, tmp_path, capsys):
    out, names = tmp_path / "r.jsonl", [Path(file).name for file in exported.files]
    flags = ("--out", out, "--batch_size", 1)
    assert tool(*flags, "--resume") == 0  # nothing is there yet
    complete = out.read_bytes()
    assert [Path(row["input_path"]).name for row in rows_of(out)] == names
    first = complete.index(b"\n") + 1
    for size, left in ((0, names), (first - 1, names), (first, names[1:]), (first + 9, names[1:])):
        out.write_bytes(complete[:size])
        decoded.clear()
        capsys.readouterr()
        assert tool(*flags, "--resume") == 0
        assert out.read_bytes() == complete and sorted(decoded) == sorted(left)
    printed = capsys.readouterr().out
    assert "1 were done before" in printed and f"3 results are in {out}" in printed
    decoded.clear()
    assert tool(*flags, "--resume", "--quiet") == 0 and not decoded, "everything is there"
    assert out.read_bytes() == complete


def test_a_folder_that_grew_and_a_file_that_failed(tool, decoded, exported, tmp_path, capsys):
    out, folder = tmp_path / "r.jsonl", tmp_path / "in"
    folder.mkdir()
    (folder / "b.mp4").touch()
    (folder / "c.mp4").write_bytes(Path(exported.files[0]).read_bytes())
    flags = ("--out", out, "--resume", "--quiet")
    assert tool(*flags, inputs=[str(folder)]) == 1
    assert [row.get("error") for row in rows_of(out)] == [
        "decode: the file is empty (0 bytes)",
        None,
    ]
    decoded.clear()
    for name in "ab":
        (folder / f"{name}.mp4").write_bytes(Path(exported.files[1]).read_bytes())
    assert tool(*flags, inputs=[str(folder)]) == 0
    assert decoded.count("c.mp4") == 0 and sorted(decoded) == ["a.mp4", "b.mp4"]
    assert sorted(Path(row["input_path"]).name for row in rows_of(out)) == [
        "a.mp4",
        "b.mp4",
        "c.mp4",
    ]
    assert all("error" not in row for row in rows_of(out))
    capsys.readouterr()
    assert tool(*flags, inputs=[str(folder / "a.mp4")]) == 0
    assert "2 results in it are of inputs that were not given now" in capsys.readouterr().out


def test_an_input_that_is_given_twice_has_two_results(tool, exported, tmp_path):
    out, twice = tmp_path / "r.jsonl", [exported.files[0]] * 2
    flags = ["--out", out, "--batch_size", 1]
    assert tool(*flags, inputs=twice) == 0
    complete = out.read_bytes()
    out.write_bytes(complete[: complete.index(b"\n") + 1])
    assert tool(*flags, "--resume", inputs=twice) == 0
    assert out.read_bytes() == complete


def test_parts_of_one_video_are_continued(tool, exported, tmp_path):
    out, table = tmp_path / "r.jsonl", tmp_path / "parts.csv"
    rows = [f"{exported.files[0]},{start},{start + 0.1},0" for start in (0.0, 0.1, 0.2)]
    table.write_text("\n".join(["path,start,end,label", *rows]) + "\n", encoding="utf-8")
    flags = ["--out", out, "--batch_size", 1]
    assert tool(*flags, inputs=[str(table)]) == 0
    complete = out.read_bytes()
    parts = [(row["start_sec"], row["end_sec"]) for row in rows_of(out)]
    assert parts == [(start, start + 0.1) for start in (0.0, 0.1, 0.2)]
    lines = complete.splitlines(keepends=True)
    out.write_bytes(lines[1])
    assert tool(*flags, "--resume", inputs=[str(table)]) == 0
    assert out.read_bytes() == lines[1] + lines[0] + lines[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topk", "3"], "topk 2, and this is weights "),
        (["--class_names", "NAMES"], "--resume continues only the same model"),
        (["--backend", "onnxruntime"], "ONNX Runtime on cpu fp32 topk 2; --resume continues"),
        (["-c", "CONFIG", "-o", "PIPELINE.test.sample.num_seg=2"], ""),
        (
            ["-c", "CONFIG", "-o", "PIPELINE.test.transform.0.Scale.short_size=80"],
            "--resume continues only the same model",
        ),
    ],
)
def test_another_model_or_setting_does_not_continue(
    tool, exported, tmp_path, capsys, flags, message
):
    if "onnxruntime" in flags:
        skip_without("onnxruntime")
    out, names = tmp_path / "r.jsonl", tmp_path / "names.txt"
    names.write_text("x\ny\nz\n", encoding="utf-8")
    words = {"NAMES": names, "CONFIG": exported.config}
    flags = [words.get(flag, flag) for flag in flags]
    assert tool("--out", out) == 0
    content = out.read_bytes()
    assert tool("--out", out, "--resume", *flags) == (1 if message else 0)
    assert message in capsys.readouterr().err
    assert out.read_bytes() == content


def test_the_identity_names_weights_pipeline_and_classes(exported, tmp_path):
    model, _ = trained_model(exported.cfg, exported.weights)
    other_file = write_weights(exported.cfg, tmp_path / "o.pdparams", NAMES, seed=1)
    other, _ = trained_model(exported.cfg, other_file)
    cfg = load_config(exported.config, ["PIPELINE.test.sample.num_seg=3"])

    def identity(model, cfg, **options):
        return Predictor(model, cfg, device="cpu", **options).identity

    same = identity(model, exported.cfg)
    assert same == identity(model, exported.cfg) and " eager on cpu fp32" in same
    different = {
        same,
        identity(other, exported.cfg),
        identity(model, cfg),
        identity(model, exported.cfg, class_names=["x", "y", "z"]),
        identity(model, exported.cfg, precision="fp16"),
        identity(build_model(exported.cfg, 3), exported.cfg),
    }
    assert len(different) == 6
    program = Predictor(exported.folder, device="cpu").identity
    assert program.split()[1] == same.split()[1], "an export has the weights of its model"
    for suffix in (".pdmodel", ".pdiparams"):
        (tmp_path / f"old{suffix}").write_bytes((exported.folder / f"tiny{suffix}").read_bytes())
    without = Predictor(tmp_path / "old.pdmodel", exported.config, device="cpu").identity
    (tmp_path / "new.pdmodel").write_bytes((tmp_path / "old.pdmodel").read_bytes())
    (tmp_path / "new.pdiparams").write_bytes((tmp_path / "old.pdiparams").read_bytes())
    renamed = Predictor(tmp_path / "new.pdmodel", exported.config, device="cpu").identity
    assert without == renamed != program
    write_weights(exported.cfg, tmp_path / "p.pdiparams", NAMES, seed=2)
    for model, cfg in ((tmp_path / "old.pdmodel", exported.config), (exported.folder, None)):
        own = Predictor(model, cfg, backend="paddle", device="cpu")
        params = next(iter(model.glob("*.pdiparams"))) if model.is_dir() else None
        params = params or model.with_suffix(".pdiparams")
        shutil.copy(params, tmp_path / "copy.pdiparams")
        options = {"backend": "paddle", "device": "cpu"}
        same = Predictor(model, cfg, params_file=params, **options)
        assert same.identity == own.identity, "the weights next to the program"
        moved = Predictor(model, cfg, params_file=tmp_path / "copy.pdiparams", **options)
        assert moved.identity != own.identity, "weights of another file, which nothing checks"


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_file_that_exists_is_kept(tool, tmp_path, capsys, suffix):
    out = tmp_path / f"r{suffix}"
    out.write_text("mine", encoding="utf-8")
    assert tool("--out", out) == 1
    error = capsys.readouterr().err
    assert f"--out {out}: this file exists;" in error and "replace it with --overwrite" in error
    assert ("continue it with --resume" in error) == (suffix == ".jsonl")
    assert out.read_text(encoding="utf-8") == "mine"
    assert tool("--out", out, "--overwrite", "--quiet") == 0
    text = out.read_text(encoding="utf-8")
    assert len(json.loads(text) if suffix == ".json" else text.splitlines()) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "r.json", "--resume"], "r.json appears when all results are known: use --out"),
        (["--out", "r.csv", "--resume"], "--resume continues .jsonl files"),
        (["--resume"], "--resume is for the file of --out, and there is none"),
        (["--overwrite"], "--overwrite is for the file of --out, and there is none"),
        (["--out", "r.jsonl", "--resume", "--overwrite"], "--resume and --overwrite are both"),
        (["--decode_workers", "-1"], "workers is -1; it must be at least 0"),
    ],
)
def test_rejects_flags_that_do_not_fit(tool, capsys, monkeypatch, tmp_path, flags, message):
    monkeypatch.chdir(tmp_path)
    assert tool(*flags) == 1
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_wrong_inputs_leave_an_earlier_file_as_it_was(tool, tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    out.write_text("mine", encoding="utf-8")
    assert tool("--out", out, "--overwrite", inputs=[str(tmp_path)]) == 1
    assert "no video in this folder" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"


def test_shards_have_files_of_their_own(tool, exported, tmp_path):
    out, found = tmp_path / "r.jsonl", []
    for number in range(1, 5):  # one more than there are videos
        assert tool("--out", out, "--shard", f"{number}/4", "--quiet") == 0
        rows = rows_of(tmp_path / f"r.{number}-of-4.jsonl")
        found.append([row["input_path"] for row in rows])
    assert found == [[exported.files[0]], [exported.files[1]], [exported.files[2]], []]
    assert not out.exists()
    assert tool("--out", out, "--shard", "2/4") == 1, "it exists"
    assert tool("--out", out, "--shard", "2/4", "--resume") == 0
    assert len(rows_of(tmp_path / "r.2-of-4.jsonl")) == 1
    assert tool("--out", tmp_path / "r.json", "--shard", "1/2") == 0
    assert len(json.loads((tmp_path / "r.1-of-2.json").read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("0/4", "shard 0/4: expected 1/4 to 4/4"),
        ("5/4", "shard 5/4: expected 1/4 to 4/4"),
        ("1/0", "shard 1/0"),
        ("2", "'2' is no shard; expected i/n, such as 2/8"),
        ("a/b", "'a/b' is no shard"),
        ("-1/4", "'-1/4' is no shard"),
    ],
)
def test_rejects_other_shards(tool, capsys, shard, message):
    with pytest.raises(SystemExit):
        tool(f"--shard={shard}")
    assert message in capsys.readouterr().err


def test_ctrl_c_says_how_to_continue(tool, monkeypatch, tmp_path, capsys):
    out, real, calls = tmp_path / "r.jsonl", Predictor.predict, []

    def interrupted(*args):
        for result in real(*args):
            if calls:
                raise KeyboardInterrupt
            calls.append(result)
            yield result

    class Results:
        total, waited, close = 3, 0.0, lambda self: self.results.close()

        def __init__(self, *args):
            self.results = interrupted(*args)

        def __iter__(self):
            return self.results

    monkeypatch.setattr(Predictor, "predict", lambda *args: Results(*args))
    assert tool("--out", out) == 130
    assert "the same command with --resume continues" in capsys.readouterr().err
    assert len(rows_of(out)) == 1
    calls.clear()
    assert tool("--out", tmp_path / "r.json") == 130
    assert not (tmp_path / "r.json").exists()
    monkeypatch.setattr(Predictor, "predict", real)
    assert tool("--out", out, "--resume") == 0 and len(rows_of(out)) == 3


def test_a_bar_on_a_terminal_has_the_time_that_the_network_waited(
    tool, monkeypatch, capsys, exported, tmp_path
):
    assert tool() == 0
    plain = capsys.readouterr()
    assert "network waited" not in plain.err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert tool("--out", tmp_path / "r.jsonl") == 0
    printed = capsys.readouterr()
    assert ("predict:" in printed.err and "video/s" in printed.err) or "s/video" in printed.err
    assert "network waited" in printed.err
    for file in exported.files:
        (line,) = [line for line in plain.out.splitlines() if line.endswith(file)]
        assert line in printed.out.splitlines(), "the bar does not cut lines of results"


def start(root, exported, inputs, out):
    flags = ["--model", exported.folder, "-i", inputs, "--out", out, "--resume", "--quiet"]
    flags += ["--cpu_threads", 1, "--batch_size", 1, "--use_gpu", "f"]
    command = [sys.executable, root / "tools" / "predict.py", *flags]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)


def kill_after(process, out, num_lines, seconds=120.0):
    """Kill -9 the process as soon as the file has so many lines; False if it ended before."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        if out.exists() and out.read_bytes().count(b"\n") >= num_lines:
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.001)
    return False


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_it_is_killed_twenty_times(root, exported, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "r.jsonl"
    folder.mkdir()
    for number in range(120):
        source = Path(exported.files[number % 3])
        (folder / f"{number:03}{source.suffix}").write_bytes(source.read_bytes())
    (folder / "050.mp4").unlink(missing_ok=True)
    (folder / "050x.mp4").touch()  # it fails each time
    rng, num_killed = random.Random(0), 0
    while num_killed < 20:
        lines = out.read_bytes().count(b"\n") if out.exists() else 0
        process = start(root, exported, folder, out)
        if not kill_after(process, out, lines + rng.randint(1, 3)):
            assert process.wait(120) == 1
            break  # a machine that was slow to kill has done all videos
        num_killed += 1
    assert num_killed >= 5
    assert start(root, exported, folder, out).wait(300) == 1
    expected = {
        result.input_path: result.json
        for result in Predictor(exported.folder, device="cpu", threads=1).predict(folder, 1)
    }
    rows = rows_of(out)
    assert sorted(row["input_path"] for row in rows) == sorted(expected), "each input once"
    for row in rows:
        assert {key: value for key, value in row.items() if key != "made_by"} == expected[
            row["input_path"]
        ]
