"""The command line: flags, error messages with exit code 1, and help texts without Paddle."""

import subprocess
import sys

import pytest

import main
from paddlevideo.commands import train as command
from paddlevideo.engine.build import build_model
from paddlevideo.weights import state_arrays, write_arrays


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["main.py", *map(str, arguments)])
    return main.main()


def test_flags_become_overrides():
    flags = ["-o", "epochs=3", "--seed", "0", "--amp", "--amp_level", "O2", "--max_iters", "5"]
    args = command.make_parser().parse_args(["-c", "x.yaml", *flags, "--deterministic"])
    expected = ["epochs=3", "seed=0", "amp_level=O2", "max_iters=5", "amp=true"]
    assert command.overrides_of(args) == [*expected, "deterministic=true"]


@pytest.mark.parametrize(
    ("flags", "resume"),
    [([], None), (["--resume"], "auto"), (["--resume", "x.pdstate"], "x.pdstate")],
)
def test_resume_takes_an_optional_file(flags, resume):
    args = command.make_parser().parse_args(["-c", "x.yaml", *flags])
    assert args.resume == resume


def test_check_needs_no_data(small, monkeypatch, capsys):
    no_data = "DATASET.train.file_path=nowhere"
    cfg = small("MODEL.head.num_classes=9", no_data)
    assert run(monkeypatch, "--check", "-c", cfg.origin.path, "-o", no_data) == 0
    out = capsys.readouterr().out
    assert "no mistakes found" in out and "as many classes as the training data" in out
    assert "frames [10, 2, 3, 32, 32], 10 views a video" in out
    assert "CustomWarmupCosineDecay: lr 0.002 at epoch 1" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-o", "DATASET.batchsize=4"],
            "-o DATASET.batchsize=4: DATASET.batchsize is not known; did you mean 'batch_size'?",
        ),
        (["--test"], "--test needs weights"),
        (["--test", "-w", "missing.pdparams"], "missing.pdparams: there is no such file"),
        (
            ["-o", "DATASET.batch_size=50"],
            "12 training records do not fill one batch of 50 on 1 rank(s); "
            "use -o DATASET.batch_size=12",
        ),
        (
            ["--test", "-w", "x.pdparams", "--out", "/dev/null/x/scores.json"],
            "cannot write /dev/null/x/scores.json",
        ),
        (["-o", "output_dir=/dev/null/x"], "choose another with -o output_dir=..."),
    ],
)
def test_mistakes_give_one_message(small, monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, "-c", small().origin.path, *arguments) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_a_missing_gpu_is_a_log_line(small, monkeypatch, capsys):
    import paddle

    if paddle.is_compiled_with_cuda():
        pytest.skip("this build of Paddle has GPU support")
    flags = ["-o", "use_gpu=true", "-o", "epochs=1", "--max_iters", "1"]
    assert run(monkeypatch, "-c", small().origin.path, *flags) == 0
    message = "a GPU was asked for, but this build of Paddle has no GPU support: running on the CPU"
    assert message in capsys.readouterr().out


def test_eval_chooses_the_numbers(small, monkeypatch, capsys, tmp_path):
    cfg = small()
    weights = tmp_path / "w.safetensors"
    write_arrays(weights, state_arrays(build_model(cfg, 3)))
    flags = ["--test", "-c", cfg.origin.path, "-w", weights, "--eval", "mean_class_accuracy"]
    assert run(monkeypatch, *flags) == 0
    out = capsys.readouterr().out
    assert "mean_class_accuracy= " in out and "avg_acc1" not in out and "videos= 7" in out


def test_prints_the_help_without_flags(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert capsys.readouterr().out.startswith("usage: ")


def test_a_command_needs_a_config(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--validate")
    assert "-c/--config" in capsys.readouterr().err


def test_help_texts_need_no_paddle(root):
    parsers = [f"paddlevideo.commands.{name}" for name in ("train", "predict", "export")]
    code = f"""
import sys
from importlib import import_module
for name in {[*parsers, "paddlevideo.benchmarks.flags"]}:
    assert import_module(name).make_parser().format_help()
assert "paddle" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
