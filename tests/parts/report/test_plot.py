"""Plots of runs from metrics.jsonl."""

import json

import pytest

from paddlevideo.report import plot
from paddlevideo.report.learning import Guess
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


def test_a_name_without_a_suffix_replaces_no_other_image(tmp_path, two_runs):
    pytest.importorskip("matplotlib")
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"mine\.png: this file exists"):
        plot_runs(two_runs, tmp_path / "mine")
    with pytest.raises(FileExistsError, match=r"mine\.png: this file exists"):
        plot_run(two_runs[0], tmp_path / "mine")
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
    for _ in range(2):
        assert plot_run(two_runs[0], tmp_path / "new") == tmp_path / "new.png"


def test_rejects_a_wrong_number_of_names(tmp_path, two_runs):
    with pytest.raises(ValueError, match="1 names for 2 runs; give one name per run"):
        plot_runs(two_runs, tmp_path / "runs.png", ["one"])


def test_rejects_folders_that_are_not_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="output folder of a training run"):
        plot_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"split": "train"}\nhello\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2: not a line of JSON"):
        plot_run(tmp_path)


def test_thins_long_curves():
    x, y = plot.thin([(i, i % 2) for i in range(10_000)])
    assert len(x) == plot.MAX_POINTS and x[0] == pytest.approx(12)
    assert y == pytest.approx(0.5, abs=0.021)
    assert [list(part) for part in plot.thin([(0, 1), (1, 3)])] == [[0, 1], [1, 3]]


# --- axes ---------------------------------------------------------------------------------------


@pytest.fixture
def axes():
    pytest.importorskip("matplotlib")
    return plot.new_figure(4, 3).subplots()


def labels_of(axes):
    return axes.get_legend_handles_labels()[1]


def rows_of(**losses):
    """Rows of metrics.jsonl with the losses of each split, an epoch each."""
    rows = {"train": [], "epoch": [], "valid": [], "phase": []}
    for split, values in losses.items():
        rows[split] = [
            {"epoch": e, "iteration": e + 1, "loss": loss} for e, loss in enumerate(values)
        ]
    return rows


EARLY = [11.5, 2.0, 0.9, 0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    "losses",
    [
        {"valid": EARLY, "epoch": [1.5, 1.0, 0.8, 0.6, 0.5, 0.4]},
        {"valid": [9.9, 1.8, 1.7, 1.6]},
        {"epoch": [50.0, *[1.0] * 9]},
        {"train": [30.0, 20.0, *[1.0] * 8]},
    ],
)
def test_cuts_off_a_few_high_points_and_marks_them(axes, losses):
    rows, highest = rows_of(**losses), max(max(values) for values in losses.values())
    plot.draw_losses(axes, rows, epochs_of(rows))
    others = [value for values in losses.values() for value in values if value < 8]
    assert max(others) < axes.get_ylim()[1] < 3.5
    assert labels_of(axes)[-1] == f"above the axis, up to {highest:.3g}"
    marks = [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert [len(line.get_xdata()) for line in marks if len(line.get_xdata())] == [1]
    assert marks[0].get_color() == (plot.VALID if "valid" in losses else plot.TRAIN)


@pytest.mark.parametrize(
    ("losses", "guess"),
    [
        ({"valid": [2.0, 1.5, 1.0, 0.8, 0.6]}, None),  # an ordinary curve
        ({"epoch": [1.8 / (1 + n) for n in range(30)]}, Guess(1.79, "ln 6")),  # begins at guessing
        ({"valid": [9.0, 1.0]}, None),  # no usual value
        ({"epoch": [5.0, 5.1, 4.9, 5.0, 1.0, 0.9]}, None),  # most points are high
        ({"epoch": [0.0] * 5}, None),
    ],
)
def test_shows_ordinary_curves_completely(axes, losses, guess):
    rows = rows_of(**losses)
    plot.draw_losses(axes, rows, epochs_of(rows), guess)
    low, high = axes.get_ylim()
    assert low == 0 and high > max(max(values) for values in losses.values())
    assert not any("above the axis" in label for label in labels_of(axes))


def test_marks_each_group_of_high_points_once(axes):
    axes.plot(range(20), [9.0, 8.0, *[1.0] * 8, 7.0, *[1.0] * 9])
    plot.limit_top(axes)
    assert list(axes.lines[1].get_xdata()) == [0, 10]


def test_a_split_has_one_color_and_a_score_one_line_style(axes):
    end = {"epoch": 0, "iteration": 1, "gap": 0.5, "map": 0.4, "avg_hit_at_one": 0.7}
    rows = {"train": [], "phase": [], "valid": [end, {**end, "iteration": 2}]}
    rows["epoch"] = [{**end, "hit_at_one": 0.6}]
    plot.draw_scores(axes, rows, epochs_of(rows))
    colors = {line.get_label(): line.get_color() for line in axes.lines}
    assert colors == {
        "train Hit@1": plot.TRAIN,
        "validation GAP": plot.VALID,
        "validation mAP": plot.VALID,
        "validation Hit@1": plot.VALID,
    }
    styles = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert styles["train Hit@1"] == styles["validation Hit@1"] != styles["validation mAP"]


def test_draws_what_guessing_reaches(axes):
    rows = {"train": [], "epoch": [], "phase": []}
    rows["valid"] = [{"epoch": 0, "iteration": 1, "top1": 0.5, "loss": 1.0}]
    plot.draw_scores(axes, rows, epochs_of(rows), Guess(1 / 6, "1 of 6 classes"))
    assert axes.lines[-1].get_ydata()[0] == 1 / 6
    assert labels_of(axes)[-1] == "chance 17 %, 1 of 6 classes"
    axes.clear()
    plot.draw_losses(axes, rows, epochs_of(rows), Guess(1.79, "ln 6"))
    assert labels_of(axes) == ["validation", "guessing, ln 6"] and axes.get_ylim()[1] > 1.79
    axes.clear()
    plot.draw_scores(axes, {**rows, "valid": []}, epochs_of(rows), Guess(0.5, "ab"))
    assert not axes.lines, "a run without scores has no chart"


def test_a_damaged_file_of_classes_leaves_the_curves(two_runs, caplog, monkeypatch):
    pytest.importorskip("matplotlib")
    shown = []
    monkeypatch.setattr(plot, "save", lambda figure, *_: shown.append(figure))
    (two_runs[0] / "valid_best.json").write_text("{")
    (two_runs[1] / "labels.txt").write_text("a\nb\nc\n")
    with caplog.at_level("WARNING", "paddlevideo"):
        plot_runs(two_runs, "runs.png")
        plot_run(two_runs[0])
        plot_run(two_runs[1])
    assert caplog.text.count("the plot has no line for guessing: ") == 2
    labels = labels_of(shown[0].axes[0])
    assert labels == ["a", "b", "chance 33 %, 1 of 3 classes"], "of the run that has classes"
    assert labels_of(shown[1].axes[1]) == ["validation top-1"]
    assert labels_of(shown[2].axes[0]) == ["validation", "guessing, ln 3"]
    assert labels_of(shown[2].axes[1]) == ["validation top-1", "chance 33 %, 1 of 3 classes"]
