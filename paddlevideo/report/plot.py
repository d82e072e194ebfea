"""Curves of training runs as one PNG, from their `metrics.jsonl`: of one run in detail, or of several side by side."""

import functools
import json
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Rows = dict[str, list[dict]]

# Scores of a validation that are shares of 1, best known first, and what they are called; then those of a training.
SCORES = {
    "top1": "top-1",
    "mean_class_accuracy": "mean class",
    "gap": "GAP",
    "map": "mAP",
    "avg_hit_at_one": "Hit@1",
    "avg_perr": "PERR",
}
FONTS = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"),  # Linux
    *(
        "Microsoft YaHei",
        "SimHei",
        "Malgun Gothic",
        "PingFang SC",
        "Hiragino Sans GB",
        "Arial Unicode MS",
    ),  # Windows, macOS
)
TRAIN_SCORES = {"top1": "top-1", "hit_at_one": "Hit@1"}


def read_metrics(folder: str | Path) -> Rows:
    """Rows of `<folder>/metrics.jsonl` by split: train (per logged step), epoch (averages), valid, phase (of a multigrid run).

    Raises:
        FileNotFoundError: there is no such file; the message says what writes it.
        ValueError: a line is not JSON; a last one that was not written to its end is left out.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such file; give the output folder of a training run"
        )
    rows: Rows = {"train": [], "epoch": [], "valid": [], "phase": []}
    *lines, _ = path.read_text(encoding="utf-8").split(
        "\n"
    )  # what a kill cut short has no line end
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise ValueError(f"{path}:{number}: not a line of JSON; the file is damaged") from None
        rows.setdefault(row["split"], []).append(row)
    return rows


def plot_run(folder: str | Path, out: str | Path | None = None) -> Path:
    """Draw the run in `folder` to `out` (`<folder>/run.png`).

    Raises:
        FileNotFoundError, ValueError: no metrics, or damaged ones.
        ModuleNotFoundError: matplotlib is not installed.
    """
    rows = read_metrics(folder)
    figure = new_figure(11, 7)
    out = Path(out or Path(folder) / "run.png")
    epoch = epochs_of(rows)
    loss, accuracy, rate, cost = figure.subplots(2, 2).flat
    draw(loss, rows["train"], "loss", epoch, "train, each logged step", alpha=0.35)
    draw(loss, rows["epoch"], "loss", epoch, "train, epoch mean")
    draw(loss, rows["valid"], "loss", epoch, "validation", marker="o")
    draw_scores(accuracy, rows, epoch)
    draw(rate, rows["train"], "lr", epoch, "learning rate")
    draw(cost, rows["train"], "batch_cost", epoch, "whole step")
    draw(cost, rows["train"], "reader_cost", epoch, "waiting for data")
    accuracy.set_ylim(0, 1.02)
    cost.set_ylim(bottom=0)
    for axes, label in (
        (loss, "loss"),
        (accuracy, "accuracy"),
        (rate, "learning rate"),
        (cost, "seconds per step"),
    ):
        finish(axes, "epoch", label)
    figure.suptitle(_title(folder, rows), parse_math=False, fontfamily=fonts())
    _save(figure, out)
    return out


def plot_runs(folders: Sequence[str | Path], out: str | Path, names: Sequence[str] = ()) -> Path:
    """Draw several runs into one picture: validation score and loss, over the minutes that they took and over epochs.

    Args:
        names: one for each folder; their own names where there are none.

    Raises:
        FileNotFoundError, ValueError: no metrics, damaged ones, or names that are not as many as folders.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if names and len(names) != len(folders):
        raise ValueError(f"{len(names)} names for {len(folders)} runs; give as many, or none")
    runs = [
        (name, read_metrics(folder))
        for name, folder in zip(names or [Path(f).name for f in folders], folders, strict=True)
    ]
    score = next(
        (key for key in SCORES if any(key in row for _, rows in runs for row in rows["valid"])),
        "top1",
    )
    figure = new_figure(11, 7.5)
    for across, (accuracy, loss) in zip(("minutes", "epoch"), figure.subplots(2, 2), strict=True):
        for number, (name, rows) in enumerate(runs):
            place, color = _minutes if across == "minutes" else epochs_of(rows), f"C{number}"
            draw(accuracy, rows["valid"], score, place, name, marker="o", color=color)
            draw(loss, rows["epoch"], "loss", place, f"{name}, train", color=color, alpha=0.45)
            draw(loss, rows["valid"], "loss", place, f"{name}, validation", marker="o", color=color)
        accuracy.set_ylim(0, 1.02)
        for axes in (accuracy, loss):
            axes.set_xlim(left=0)  # equal beginnings
        finish(accuracy, across, f"validation {SCORES[score]}", loc="lower right")  # scores rise
        finish(loss, across, "loss")
    _save(figure, out)
    return Path(out)


def new_figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'paddlevideo[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def finish(axes, across: str, label: str, **legend) -> None:
    """Name the axes, and the curves; `legend`: where their names stand, matplotlib finds a place where it says nothing."""
    axes.set(xlabel=across, ylabel=label)
    if across == "epoch":
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(frameon=False, **legend).get_texts():
            text.set(parse_math=False, fontfamily=fonts())  # a name may hold a $


@functools.cache
def fonts() -> list[str]:
    """For names in any script: matplotlib's own font, and those here that have what it lacks."""
    from matplotlib.font_manager import get_font_names

    logging.getLogger("matplotlib.font_manager").setLevel(
        logging.ERROR
    )  # it tells of fonts that have no plain weight
    return [name for name in FONTS if name in get_font_names()]


def epochs_of(rows: Rows) -> Callable[[dict], float]:
    """Row -> how many epochs were done then; in a multigrid run they have different numbers of steps."""
    ends = sorted({(row["iteration"], row["epoch"] + 1) for row in rows["epoch"] + rows["valid"]})
    steps, epochs = zip((0, 0), *ends, strict=True)

    def epoch(row: dict) -> float:
        if row["iteration"] <= steps[-1]:
            return float(np.interp(row["iteration"], steps, epochs))
        return float(row["epoch"])  # of an epoch that has not ended

    return epoch


def _minutes(row: dict) -> float:
    return row.get("seconds", 0.0) / 60


def draw_scores(axes, rows: Rows, place: Callable[[dict], float]) -> None:
    """Scores of training and validation, those that there are; a top-k that is always 1 tells nothing."""
    for key, name in TRAIN_SCORES.items():
        draw(axes, rows["epoch"], key, place, f"train {name}")
    styles = {"mean_class_accuracy": "--", "map": "--", "avg_perr": ":", "avg_hit_at_one": "-."}
    several = {
        key: f"top-{key[3:]}"
        for row in rows["valid"][:1]
        for key in row
        if re.fullmatch(r"top(?!1$)\d+", key)
    }
    for key, name in {**SCORES, **several}.items():
        values = [row.get(key) for row in rows["valid"]]
        others = [(row.get(key), row.get("top1")) for row in rows["valid"]]
        twice = key == "mean_class_accuracy" and all(
            a is None or abs(a - b) < 1e-6 for a, b in others if b is not None
        )
        if not twice and (key in SCORES or any(value not in (None, 1.0) for value in values)):
            style = (
                {"linestyle": styles.get(key, ":")}
                if key in styles or key in several
                else {"marker": "o"}
            )
            draw(axes, rows["valid"], key, place, f"validation {name}", **style)


def draw(
    axes, rows: list[dict], key: str, place: Callable[[dict], float], label: str, **style
) -> None:
    """A curve of what rows have; a single point, which is no line yet, is a dot."""
    points = [(place(row), row[key]) for row in rows if row.get(key) is not None]
    if points:
        axes.plot(
            *zip(*points, strict=True),
            label=label,
            **({"marker": "o"} if len(points) == 1 else {}) | style,
        )


def _title(folder: str | Path, rows: Rows) -> str:
    for key, name in SCORES.items():
        values = [row[key] for row in rows["valid"] if row.get(key) is not None]
        if values:
            return f"{Path(folder).name}: best validation {name} {max(values):.4f}"
    return Path(folder).name


def _save(figure, out: str | Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name in another script
        figure.savefig(out, dpi=110)
