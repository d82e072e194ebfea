"""Plot the curves of training runs as PNG: one run in detail, or several runs for comparison."""

import functools
import json
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Rows = dict[str, list[dict]]  # rows of metrics.jsonl by split
Across = Callable[[dict], float]  # row -> x value

# Validation scores between 0 and 1, the most common first, with their names in a legend.
SCORES = {
    "top1": "top-1",
    "mean_class_accuracy": "mean class",
    "gap": "GAP",
    "map": "mAP",
    "avg_hit_at_one": "Hit@1",
    "avg_perr": "PERR",
}
TRAIN_SCORES = {"top1": "top-1", "hit_at_one": "Hit@1"}
LINE_STYLES = {"mean_class_accuracy": "--", "map": "--", "avg_perr": ":", "avg_hit_at_one": "-."}
TOP_K = re.compile(r"top(?!1$)\d+")  # top5, but not top1
# Fonts with characters that matplotlib's own font lacks; the first line is for Linux.
FONTS = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "SimHei", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans GB", "Arial Unicode MS"),
)


def read_metrics(folder: str | Path) -> Rows:
    """Read `<folder>/metrics.jsonl`, by split.

    Returns:
        Rows of `train` (one per logged step), `epoch` (means of an epoch), `valid`, and `phase`
        (multigrid only). A last line that a kill left incomplete is ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not JSON.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; give the output folder of a training run")
    rows: Rows = {"train": [], "epoch": [], "valid": [], "phase": []}
    *lines, _incomplete = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise ValueError(f"{path}:{number}: not a line of JSON; the file is damaged") from None
        rows.setdefault(row["split"], []).append(row)
    return rows


def plot_run(folder: str | Path, out: str | Path | None = None) -> Path:
    """Plot the run in `folder` to `out` (default `<folder>/run.png`).

    Raises:
        FileNotFoundError, ValueError: metrics.jsonl is missing or damaged.
        ModuleNotFoundError: matplotlib is not installed.
    """
    rows = read_metrics(folder)
    figure = new_figure(11, 7)
    out = Path(out or Path(folder) / "run.png")
    epoch = epochs_of(rows)
    loss, score, rate, cost = figure.subplots(2, 2).flat
    draw(loss, rows["train"], "loss", epoch, "train, logged steps", alpha=0.35)
    draw(loss, rows["epoch"], "loss", epoch, "train, epoch mean")
    draw(loss, rows["valid"], "loss", epoch, "validation", marker="o")
    draw_scores(score, rows, epoch)
    draw(rate, rows["train"], "lr", epoch, "learning rate")
    draw(cost, rows["train"], "batch_cost", epoch, "complete step")
    draw(cost, rows["train"], "reader_cost", epoch, "waiting for data")
    score.set_ylim(0, 1.02)
    cost.set_ylim(bottom=0)
    finish(loss, "epoch", "loss")
    finish(score, "epoch", "accuracy")
    finish(rate, "epoch", "learning rate")
    finish(cost, "epoch", "seconds per step")
    figure.suptitle(_title(folder, rows), parse_math=False, fontfamily=fonts())
    _save(figure, out)
    return out


def plot_runs(folders: Sequence[str | Path], out: str | Path, names: Sequence[str] = ()) -> Path:
    """Plot validation score and loss of several runs, over minutes and over epochs.

    Args:
        names: one per folder; the names of the folders by default.

    Raises:
        FileNotFoundError, ValueError: metrics.jsonl is missing or damaged, or the number of names
            differs from the number of folders.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if names and len(names) != len(folders):
        raise ValueError(f"{len(names)} names for {len(folders)} runs; give one name per run")
    names = names or [Path(folder).name for folder in folders]
    runs = [(name, read_metrics(folder)) for name, folder in zip(names, folders, strict=True)]
    valid_rows = [row for _, rows in runs for row in rows["valid"]]
    score = next((key for key in SCORES if any(key in row for row in valid_rows)), "top1")
    figure = new_figure(11, 7.5)
    for across, (accuracy, loss) in zip(("minutes", "epoch"), figure.subplots(2, 2), strict=True):
        for number, (name, rows) in enumerate(runs):
            x, color = minutes if across == "minutes" else epochs_of(rows), f"C{number}"
            draw(accuracy, rows["valid"], score, x, name, marker="o", color=color)
            draw(loss, rows["epoch"], "loss", x, f"{name}, train", color=color, alpha=0.45)
            draw(loss, rows["valid"], "loss", x, f"{name}, validation", marker="o", color=color)
        accuracy.set_ylim(0, 1.02)
        for axes in (accuracy, loss):
            axes.set_xlim(left=0)
        finish(accuracy, across, f"validation {SCORES[score]}", loc="lower right")
        finish(loss, across, "loss")
    _save(figure, out)
    return Path(out)


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure; sizes in inches.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        message = "plots need matplotlib: pip install 'paddlevideo[plot]'"
        raise ModuleNotFoundError(message) from error
    return Figure(figsize=(width, height), layout="constrained")


def finish(axes: Any, across: str, label: str, **legend: Any) -> None:
    """Label the axes and add a grid and a legend; `legend` holds options of matplotlib's legend."""
    axes.set(xlabel=across, ylabel=label)
    if across == "epoch":
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(frameon=False, **legend).get_texts():
            # A name may contain a $ or characters of any script.
            text.set(parse_math=False, fontfamily=fonts())


@functools.cache
def fonts() -> list[str]:
    """The installed ones of FONTS, so that names in any script are drawn."""
    from matplotlib.font_manager import get_font_names

    # It warns about fonts without a regular weight.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    return [name for name in FONTS if name in get_font_names()]


def epochs_of(rows: Rows) -> Across:
    """Return a function from a row to the number of epochs done (epochs may differ in steps)."""
    ends = sorted({(row["iteration"], row["epoch"] + 1) for row in rows["epoch"] + rows["valid"]})
    steps, epochs = zip((0, 0), *ends, strict=True)

    def epoch(row: dict) -> float:
        if row["iteration"] <= steps[-1]:
            return float(np.interp(row["iteration"], steps, epochs))
        return float(row["epoch"])  # the epoch has not ended

    return epoch


def minutes(row: dict) -> float:
    return row.get("seconds", 0.0) / 60


def draw_scores(axes: Any, rows: Rows, across: Across) -> None:
    """Draw the scores of training and validation that carry information."""
    for key, name in TRAIN_SCORES.items():
        draw(axes, rows["epoch"], key, across, f"train {name}")
    top_k = {key: f"top-{key[3:]}" for key in (rows["valid"] or [{}])[0] if TOP_K.fullmatch(key)}
    for key, name in {**SCORES, **top_k}.items():
        if key in top_k and all(row.get(key) in (None, 1.0) for row in rows["valid"]):
            continue  # few classes: always correct
        if key == "mean_class_accuracy" and equals_top1(rows["valid"]):
            continue
        style = {"marker": "o"}
        if key in LINE_STYLES or key in top_k:
            style = {"linestyle": LINE_STYLES.get(key, ":")}
        draw(axes, rows["valid"], key, across, f"validation {name}", **style)


def equals_top1(rows: list[dict]) -> bool:
    """Whether the mean class accuracy is the same as top-1, as for classes of equal size."""
    pairs = [(row.get("mean_class_accuracy"), row.get("top1")) for row in rows]
    return all(a is None or b is None or abs(a - b) < 1e-6 for a, b in pairs)


def draw(axes: Any, rows: list[dict], key: str, across: Across, label: str, **style: Any) -> None:
    """Draw a curve of the rows that have `key`; a single point appears as a dot."""
    points = [(across(row), row[key]) for row in rows if row.get(key) is not None]
    draw_points(axes, points, label, **style)


def draw_points(axes: Any, points: Sequence[tuple[float, float]], label: str, **style: Any) -> None:
    if len(points) == 1:
        style = {"marker": "o", **style}
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


def _title(folder: str | Path, rows: Rows) -> str:
    for key, name in SCORES.items():
        values = [row[key] for row in rows["valid"] if row.get(key) is not None]
        if values:
            return f"{Path(folder).name}: best validation {name} {max(values):.4f}"
    return Path(folder).name


def _save(figure: Any, out: str | Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in other scripts
        figure.savefig(out, dpi=110)
