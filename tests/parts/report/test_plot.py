"""Plots of runs from metrics.jsonl."""

import json

import pytest

from paddlevideo.report.plot import epochs_of, plot_run, plot_runs, read_metrics


def write_rows(folder, rows):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_plots_a_run(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    step = {"split": "train", "epoch": 0, "lr": 0.1, "batch_cost": 1.0, "reader_cost": 0.1}
    rows = [{**step, "step": i, "iteration": i, "loss": 1.0 - i / 10} for i in range(4)]
    end = {"epoch": 0, "iteration": 4, "top1": 0.5}
    rows.append({"split": "epoch", **end, "loss": 0.8})
    rows.append({"split": "valid", **end, "loss": None, "mean_class_accuracy": 0.5})
    write_rows(tmp_path, rows)
    image = imread(plot_run(tmp_path))
    assert image.shape[0] > 500 and image.std() > 0.01
    counts = {split: len(part) for split, part in read_metrics(tmp_path).items()}
    assert counts == {"train": 4, "epoch": 1, "valid": 1, "phase": 0}


def test_epochs_with_different_numbers_of_steps_have_equal_width():
    """A multigrid run has few steps in its first epochs and many in its last."""
    ends = [{"epoch": 0, "iteration": 2}, {"epoch": 1, "iteration": 10}]
    epoch = epochs_of({"train": [], "epoch": ends, "valid": []})
    assert [epoch({"epoch": 0, "iteration": i}) for i in (0, 1, 2, 6, 10)] == [0, 0.5, 1, 1.5, 2]
    assert epoch({"epoch": 2, "iteration": 11}) == 2


@pytest.fixture
def two_runs(tmp_path):
    for name, top1 in (("a", 0.5), ("b", 1.0)):
        (tmp_path / name).mkdir()
        row = {"split": "valid", "loss": 1.0, "top1": top1}
        rows = [{**row, "epoch": e, "iteration": 4 * e, "seconds": 60.0 * e} for e in range(3)]
        write_rows(tmp_path / name, rows)
    return [tmp_path / "a", tmp_path / "b"]


def test_plots_several_runs(tmp_path, two_runs):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    image = imread(plot_runs(two_runs, tmp_path / "runs.png"))
    assert image.shape[1] > 1000 and image.std() > 0.01


def test_rejects_a_wrong_number_of_names(tmp_path, two_runs):
    with pytest.raises(ValueError, match="1 names for 2 runs; give one name per run"):
        plot_runs(two_runs, tmp_path / "runs.png", ["one"])


def test_rejects_folders_that_are_not_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="output folder of a training run"):
        plot_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"split": "train"}\nhello\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2: not a line of JSON"):
        plot_run(tmp_path)
