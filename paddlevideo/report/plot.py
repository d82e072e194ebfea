"""Curves of a run as one PNG, from its `metrics.jsonl`: loss, accuracy, learning rate, and where the time went."""

import json
from pathlib import Path


def read_metrics(folder: str | Path) -> dict[str, list[dict]]:
    """Rows of `<folder>/metrics.jsonl` by split: train (per logged step), epoch (averages), valid.

    Raises:
        FileNotFoundError: there is no such file; the message says what writes it.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; give the output folder of a training run")
    rows: dict[str, list[dict]] = {"train": [], "epoch": [], "valid": []}
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
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'paddlevideo[plot]'") from error
    out = Path(out or Path(folder) / "run.png")
    per_epoch = max((r["iteration"] / (r["epoch"] + 1) for r in rows["epoch"] + rows["valid"]), default=1)

    figure = Figure(figsize=(11, 7), layout="constrained")
    loss, accuracy, rate, cost = figure.subplots(2, 2).flat
    _draw(loss, rows["train"], "loss", per_epoch, "train, each logged step", alpha=0.35)
    _draw(loss, rows["epoch"], "loss", per_epoch, "train, epoch mean")
    _draw(loss, rows["valid"], "loss", per_epoch, "validation", marker="o")
    _draw(accuracy, rows["epoch"], "top1", per_epoch, "train top-1")
    _draw(accuracy, rows["valid"], "top1", per_epoch, "validation top-1", marker="o")
    _draw(accuracy, rows["valid"], "mean_class_accuracy", per_epoch, "validation mean class", linestyle="--")
    _draw(rate, rows["train"], "lr", per_epoch, "learning rate")
    _draw(cost, rows["train"], "batch_cost", per_epoch, "whole step")
    _draw(cost, rows["train"], "reader_cost", per_epoch, "waiting for data")
    accuracy.set_ylim(0, 1.02)
    cost.set_ylim(bottom=0)
    for axes, label in ((loss, "loss"), (accuracy, "accuracy"), (rate, "learning rate"), (cost, "seconds per step")):
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    figure.suptitle(_title(folder, rows))
    figure.savefig(out, dpi=110)
    return out


def _draw(axes, rows: list[dict], key: str, per_epoch: float, label: str, **style) -> None:
    points = [(row["iteration"] / per_epoch, row[key]) for row in rows if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


def _title(folder: str | Path, rows: dict[str, list[dict]]) -> str:
    best = max((r["top1"] for r in rows["valid"] if r.get("top1") is not None), default=None)
    return f"{Path(folder).name}" + (f": best validation top-1 {best:.4f}" if best is not None else "")
