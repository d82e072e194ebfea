"""The plot of a run is drawn from metrics.jsonl and refuses what is not one."""

import json

import pytest

from paddlevideo.report.plot import epochs_of, plot_run, plot_runs, read_metrics


def write_rows(folder, rows):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    rows = [{"split": "train", "epoch": 0, "step": s, "iteration": s, "loss": 1.0 - s / 10, "lr": 0.1, "batch_cost": 1.0,
             "reader_cost": 0.1} for s in range(4)]  # fmt: skip
    rows += [{"split": "epoch", "epoch": 0, "iteration": 4, "loss": 0.8, "top1": 0.5}]
    rows += [
        {
            "split": "valid",
            "epoch": 0,
            "iteration": 4,
            "loss": None,
            "top1": 0.5,
            "mean_class_accuracy": 0.5,
        }
    ]
    write_rows(tmp_path, rows)
    picture = imread(plot_run(tmp_path))
    assert picture.shape[0] > 500 and picture.std() > 0.01
    assert {k: len(v) for k, v in read_metrics(tmp_path).items()} == {
        "train": 4,
        "epoch": 1,
        "valid": 1,
        "phase": 0,
    }


def testepochs_of_of_different_lengths_are_as_wide():
    """A multigrid run has few steps in its first epochs and many in its last."""
    ends = [{"epoch": 0, "iteration": 2}, {"epoch": 1, "iteration": 10}]
    epoch = epochs_of({"train": [], "epoch": ends, "valid": []})
    assert [epoch({"epoch": 0, "iteration": i}) for i in (0, 1, 2, 6, 10)] == [0, 0.5, 1, 1.5, 2]
    assert epoch({"epoch": 2, "iteration": 11}) == 2


def test_several_runs_share_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    for name, top in (("a", 0.5), ("b", 1.0)):
        (tmp_path / name).mkdir()
        rows = [
            {
                "split": "valid",
                "epoch": e,
                "iteration": 4 * e,
                "seconds": 60.0 * e,
                "loss": 1.0,
                "top1": top,
            }
            for e in range(3)
        ]
        write_rows(tmp_path / name, rows)
    picture = imread(plot_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "runs.png"))
    assert picture.shape[1] > 1000 and picture.std() > 0.01
    with pytest.raises(ValueError, match="1 names for 2 runs"):
        plot_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "runs.png", ["one"])


def test_refuses_what_is_not_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="output folder of a training run"):
        plot_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"split": "train"}\nhello\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2: not a line of JSON"):
        plot_run(tmp_path)
