"""The command line: flags reach the config, mistakes give one message and exit code 1, --check needs no data."""

import pytest

import main
from paddlevideo.commands import train as command
from paddlevideo.engine.build import build_model
from paddlevideo.weights import state_arrays, write_arrays


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["main.py", *map(str, arguments)])
    return main.main()


def test_flags_become_overrides():
    args = command.make_parser().parse_args(
        [
            "-c",
            "x.yaml",
            "-o",
            "epochs=3",
            "--seed",
            "0",
            "--amp",
            "--amp_level",
            "O2",
            "--max_iters",
            "5",
            "--deterministic",
        ]
    )
    assert command.overrides_of(args) == [
        "epochs=3",
        "seed=0",
        "amp_level=O2",
        "max_iters=5",
        "amp=true",
        "deterministic=true",
    ]
    assert (
        command.make_parser().parse_args(["-c", "x.yaml", "--resume"]).resume == "auto"
        and command.make_parser().parse_args(["-c", "x.yaml", "--resume", "x.pdstate"]).resume
        == "x.pdstate"
    )


def test_check_needs_no_data(small, monkeypatch, capsys):
    cfg = small("MODEL.head.num_classes=9", "DATASET.train.file_path=nowhere")
    assert (
        run(monkeypatch, "--check", "-c", cfg.origin.path, "-o", "DATASET.train.file_path=nowhere")
        == 0
    )
    out = capsys.readouterr().out
    assert "no mistakes found" in out and "as many classes as the training data has" in out
    assert (
        "frames [10, 2, 3, 32, 32], 10 views a video" in out
        and "CustomWarmupCosineDecay: lr 0.002 at epoch 1" in out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-o", "DATASET.batchsize=4"],
            r"-o DATASET.batchsize=4: DATASET.batchsize is not known; did you mean 'batch_size'?",
        ),
        (["--test"], "--test needs weights"),
        (["--test", "-w", "missing.pdparams"], "missing.pdparams: there is no such file"),
        (
            ["-o", "DATASET.batch_size=50"],
            "12 training records do not fill one batch of 50 on 1 rank(s); use -o DATASET.batch_size=12",
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


def test_a_gpu_that_is_not_there_is_one_line(small, monkeypatch, capsys):
    import paddle

    if paddle.is_compiled_with_cuda():
        pytest.skip("this build of Paddle has GPU support")
    assert (
        run(
            monkeypatch,
            "-c",
            small().origin.path,
            "-o",
            "use_gpu=true",
            "-o",
            "epochs=1",
            "--max_iters",
            "1",
        )
        == 0
    )
    assert (
        "a GPU was asked for, but this build of Paddle has no GPU support: running on the CPU"
        in capsys.readouterr().out
    )


def test_eval_chooses_the_numbers(small, monkeypatch, capsys, tmp_path):
    cfg = small()
    write_arrays(tmp_path / "w.safetensors", state_arrays(build_model(cfg, 3)))
    weights = ["-w", tmp_path / "w.safetensors"]
    assert (
        run(monkeypatch, "--test", "-c", cfg.origin.path, *weights, "--eval", "mean_class_accuracy")
        == 0
    )
    out = capsys.readouterr().out
    assert "mean_class_accuracy= " in out and "avg_acc1" not in out and "videos= 7" in out


def test_without_flags_the_help_is_printed(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert capsys.readouterr().out.startswith("usage: ")


def test_a_command_needs_a_config(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--validate")
    assert "-c/--config" in capsys.readouterr().err
