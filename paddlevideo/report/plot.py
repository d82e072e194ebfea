"""Curves of training runs as one PNG, from their `metrics.jsonl`: of one run in detail, or of several side by side."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Rows = dict[str, list[dict]]


def read_metrics(folder: str | Path) -> Rows:
    """Rows of `<folder>/metrics.jsonl` by split: train (per logged step), epoch (averages), valid.

    Raises:
        FileNotFoundError: there is no such file; the message says what writes it.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; give the output folder of a training run")
    rows: Rows = {"train": [], "epoch": [], "valid": []}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
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
    figure = _figure(11, 7)
    out = Path(out or Path(folder) / "run.png")
    epoch = _epochs(rows)
    loss, accuracy, rate, cost = figure.subplots(2, 2).flat
    _draw(loss, rows["train"], "loss", epoch, "train, each logged step", alpha=0.35)
    _draw(loss, rows["epoch"], "loss", epoch, "train, epoch mean")
    _draw(loss, rows["valid"], "loss", epoch, "validation", marker="o")
    _draw(accuracy, rows["epoch"], "top1", epoch, "train top-1")
    _draw(accuracy, rows["valid"], "top1", epoch, "validation top-1", marker="o")
    _draw(accuracy, rows["valid"], "mean_class_accuracy", epoch, "validation mean class", linestyle="--")
    _draw(rate, rows["train"], "lr", epoch, "learning rate")
    _draw(cost, rows["train"], "batch_cost", epoch, "whole step")
    _draw(cost, rows["train"], "reader_cost", epoch, "waiting for data")
    accuracy.set_ylim(0, 1.02)
    cost.set_ylim(bottom=0)
    for axes, label in ((loss, "loss"), (accuracy, "accuracy"), (rate, "learning rate"), (cost, "seconds per step")):
        _finish(axes, "epoch", label)
    figure.suptitle(_title(folder, rows))
    figure.savefig(out, dpi=110)
    return out


def plot_runs(folders: Sequence[str | Path], out: str | Path, names: Sequence[str] = ()) -> Path:
    """Draw several runs into one picture: validation accuracy and loss over the minutes that they took.

    Args:
        names: one for each folder; their own names where there are none.

    Raises:
        FileNotFoundError, ValueError: no metrics, damaged ones, or names that are not as many as folders.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if names and len(names) != len(folders):
        raise ValueError(f"{len(names)} names for {len(folders)} runs; give as many, or none")
    runs = [
        (name, read_metrics(folder)) for name, folder in zip(names or [Path(f).name for f in folders], folders, strict=True)
    ]
    figure = _figure(11, 4)
    accuracy, loss = figure.subplots(1, 2)
    for number, (name, rows) in enumerate(runs):
        color = f"C{number}"
        _draw(accuracy, rows["valid"], "top1", _minutes, name, marker="o", color=color)
        _draw(loss, rows["epoch"], "loss", _minutes, f"{name}, train", color=color, alpha=0.45)
        _draw(loss, rows["valid"], "loss", _minutes, f"{name}, validation", marker="o", color=color)
    accuracy.set_ylim(0, 1.02)
    for axes, label in ((accuracy, "validation top-1"), (loss, "loss")):
        _finish(axes, "minutes", label)
    figure.savefig(out, dpi=110)
    return Path(out)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'paddlevideo[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _finish(axes, across: str, label: str) -> None:
    axes.set(xlabel=across, ylabel=label)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _epochs(rows: Rows) -> Callable[[dict], float]:
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


def _draw(axes, rows: list[dict], key: str, place: Callable[[dict], float], label: str, **style) -> None:
    points = [(place(row), row[key]) for row in rows if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


def _title(folder: str | Path, rows: Rows) -> str:
    best = max((r["top1"] for r in rows["valid"] if r.get("top1") is not None), default=None)
    return f"{Path(folder).name}" + (f": best validation top-1 {best:.4f}" if best is not None else "")
