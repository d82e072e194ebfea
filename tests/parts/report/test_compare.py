"""The table of several runs: best and last validation of each, and their mean."""

import pytest

from paddlevideo.commands import compare_runs
from paddlevideo.report.compare import comparison
from tests.parts.report.run_folders import make_run


def run_of(folder, scores, key="top1"):
    rows = [
        {"split": "valid", "epoch": i, "iteration": i, "seconds": 1.0 * i, "loss": 1.0, key: score}
        for i, score in enumerate(scores)
    ]
    rows.append({"split": "epoch", "epoch": 0, "iteration": 1, "loss": 1.0})
    return make_run(folder, rows)


def test_gives_best_last_and_mean(tmp_path):
    folders = [
        run_of(tmp_path / "fold_1", [0.5, 0.9, 0.8]),
        run_of(tmp_path / "fold_2", [0.7]),
        run_of(tmp_path / "fold_10", [0.2, 0.6]),
    ]
    assert comparison(folders).split("\n") == [
        "validation top-1     best    last  validations",
        "fold_1             0.9000  0.8000            3",
        "fold_2             0.7000  0.7000            1",
        "fold_10            0.6000  0.6000            2",
        "mean of 3 runs     0.7333  0.7000",
        "lowest of 3 runs   0.6000  0.6000",
        "highest of 3 runs  0.9000  0.8000",
    ]


def test_one_run_has_no_mean(tmp_path):
    text = comparison([run_of(tmp_path / "a", [0.5])], ["视频"])
    assert text.split("\n")[1:] == ["视频                0.5000  0.5000            1"]


def test_runs_without_that_score_do_not_count(tmp_path):
    folders = [
        run_of(tmp_path / "a", [0.5]),
        run_of(tmp_path / "b", [0.7]),
        run_of(tmp_path / "c", []),
        run_of(tmp_path / "d", [0.9], "gap"),
        run_of(tmp_path / "e", [None, 0.3]),  # a validation that was not finite
    ]
    lines = comparison(folders).split("\n")
    assert lines[3].split() == ["c", "-", "-", "0"] and lines[4].split() == ["d", "-", "-", "0"]
    assert lines[5].split() == ["e", "0.3000", "0.3000", "1"]
    assert lines[6].split() == ["mean", "of", "3", "runs", "0.5000", "0.5000"]


@pytest.mark.parametrize(("key", "name"), [("gap", "GAP"), ("mean_class_accuracy", "mean class")])
def test_compares_the_score_that_the_runs_have(tmp_path, key, name):
    assert comparison([run_of(tmp_path / "a", [0.5], key)]).startswith(f"validation {name}")


def test_the_command_prints_the_table(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folders = [str(run_of(tmp_path / name, [0.5])) for name in "ab"]
    out = tmp_path / "x.png"
    assert compare_runs.main([*folders, "--names", "one", "two", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("validation", "one", "two", "mean", "lowest", "highest", "plot:")
    ]  # fmt: skip
    assert compare_runs.main([str(tmp_path), "--out", str(tmp_path / "y.png")]) == 1
    assert "output folder of a training run" in capsys.readouterr().err
