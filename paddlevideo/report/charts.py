"""Charts of a report: matplotlib draws SVG that is part of the page and uses its colors.

Matplotlib, because its SVG needs no script: a page of ten charts has 300 kB. A library that draws
in the browser would add 4 MB of scripts to every report.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from paddlevideo.html_page import PALETTE
from paddlevideo.report.learning import Guess
from paddlevideo.report.plot import (
    CYCLE,
    FAINT,
    INK,
    TRAIN,
    VALID,
    WAITING,
    Across,
    draw,
    draw_losses,
    draw_scores,
    draw_steps,
    epochs_of,
    finish,
    limit_top,
    new_figure,
)
from paddlevideo.report.run_facts import Rows

MAX_CELLS = 400  # per side of a confusion matrix; more classes are grouped
MAX_NAMED = 30  # classes up to which a matrix shows names
MAX_NUMBERED = 20  # classes up to which a matrix shows counts
MAX_BARS = 40  # classes up to which each has its own bar
MAX_NAME = 24  # characters
MAX_PHASE_NUMBERS = 20  # multigrid phases up to which they are numbered
CARD = PALETTE["--card"][0]
# Colors that matplotlib uses -> CSS variables of the page.
DRAWN = (INK, FAINT, CARD, *CYCLE)
THEME = {color: name for name, (color, _) in PALETTE.items() if color in DRAWN}
COLORS = {"training": TRAIN, "validation": VALID}
# Cells of a confusion matrix (RGB); the opacity shows the count.
CORRECT, WRONG = (0.29, 0.56, 0.89), (0.90, 0.49, 0.13)
RC_PARAMS = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the font of the page
    "svg.hashsalt": "report",
    "text.parse_math": False,  # a name may contain a $
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "legend.facecolor": CARD,
    "font.size": 9,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}


@contextmanager
def themed() -> Iterator[None]:
    """Make matplotlib draw in the style of the page inside the block.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    new_figure(1, 1)  # raises a message that says what to install
    from matplotlib import rc_context, rcsetup

    params: Any = {**RC_PARAMS, "axes.prop_cycle": rcsetup.cycler(color=CYCLE)}
    with rc_context(params):
        yield


def svg(figure: Any, name: str, about: str) -> str:
    """Return a figure as an <svg> element with unique ids and the colors of the page.

    Args:
        name: prefix of its ids, different for each chart of the page.
        about: description for screen readers, already HTML-escaped.
    """
    with io.StringIO() as buffer, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has its own fonts
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
        text = buffer.getvalue()
    width, height = (round(side * 72) for side in figure.get_size_inches())
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font-family: [^;\"]*(; )?", "", body)
    for color, variable in THEME.items():
        body = body.replace(f": {color}", f": var({variable})")
    body = re.sub(r"[ \n]*\n *", "\n", body)
    size = f'viewBox="0 0 {width} {height}" style="max-width:{1.4 * width:.0f}px"'
    return f'<svg class="chart" {size} role="img" aria-label="{about}">{body}'


# --- curves over the epochs ---------------------------------------------------------------------


def draw_loss_parts(axes: Any, rows: Rows, across: Across) -> None:
    """Draw the terms of a training loss that has several, and the numbers of the sync task."""
    keys = {key for row in rows["epoch"] for key in row}
    parts = [key for key in keys if "loss" in key or key.startswith("sync_")]
    for key in sorted(set(parts) - {"loss"}):
        draw(axes, rows["epoch"], key, across, key.replace("_", " "))
    limit_top(axes)


def draw_step_time(axes: Any, rows: Rows, across: Across) -> None:
    draw_steps(axes, rows, "batch_cost", across, "complete step", color=TRAIN)
    draw_steps(axes, rows, "reader_cost", across, "waiting for data", color=WAITING)
    limit_top(axes)


def draw_learning_rate(axes: Any, rows: Rows, across: Across) -> None:
    draw_steps(axes, rows, "lr", across, "learning rate", color=TRAIN)


def curves(
    rows: Rows, best: int | None, accuracy: Guess | None = None, loss: Guess | None = None
) -> list[tuple[str, str]]:
    """(title, SVG) of each value over the epochs; values that were not recorded have no chart.

    Args:
        best: number of epochs done at the best validation.
        accuracy, loss: what guessing reaches, drawn as lines.
    """
    losses, scores = partial(draw_losses, guess=loss), partial(draw_scores, guess=accuracy)
    fills: list[tuple[str, str, Callable[..., None], float | None]] = [
        ("Loss", "loss", losses, None),
        ("Scores", "score (0 to 1)", scores, 1.03),
        ("Parts of the training loss", "mean of an epoch", draw_loss_parts, None),
        ("Learning rate", "learning rate", draw_learning_rate, None),
        ("Time of a step", "seconds", draw_step_time, None),
    ]
    across, charts = epochs_of(rows), []
    for title, unit, fill, top in fills:
        figure = new_figure(6.2, 3.0)
        axes = figure.subplots()
        fill(axes, rows, across)
        if not axes.lines:
            continue
        draw_phases(axes, rows)
        if best is not None:
            axes.axvline(best, color=INK, alpha=0.6, linestyle=":", label="best")
        axes.set_ylim(bottom=0, top=top)
        finish(axes, "epoch", unit)
        charts.append((title, svg(figure, f"curve{len(charts)}", f"{title} over the epochs")))
    return charts


def draw_phases(axes: Any, rows: Rows) -> None:
    """Shade every other multigrid phase, and number the phases at the top if there is space."""
    spans = [(row["epoch"], row["end"]) for row in rows["phase"]]
    x_data_y_axes = axes.get_xaxis_transform()
    style = {"transform": x_data_y_axes, "ha": "center", "va": "bottom", "fontsize": 7}
    for number, (first, end) in enumerate(spans, 1):
        if number % 2:
            axes.axvspan(first, end, color=INK, alpha=0.06, linewidth=0)
        if len(spans) <= MAX_PHASE_NUMBERS:
            axes.text((first + end) / 2, 1.0, str(number), **style)


def format_seconds(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


# --- classes and data ---------------------------------------------------------------------------


def confusion_chart(counts: np.ndarray, names: Sequence[str], group_size: int = 1) -> str:
    """Draw the confusion matrix; the opacity of a cell is its share of the row.

    Args:
        counts: clips by true (rows) and predicted class, [n, n].
        group_size: neighboring classes that a cell stands for.
    """
    number = len(counts)
    side = 3.2 + 0.22 * number if number <= MAX_NAMED else 8.0
    figure = new_figure(side + 1.2, side)
    axes = figure.subplots()
    axes.imshow(confusion_colors(counts), interpolation="none", aspect="equal")
    grouping = f", {group_size} classes per cell" if group_size > 1 else ""
    axes.set(xlabel=f"predicted{grouping}", ylabel=f"true{grouping}")
    if number <= MAX_NAMED:
        short = [shorten(name) for name in names]
        style = {"rotation": 45, "ha": "right"} if number > 3 else {"rotation": 0, "ha": "center"}
        axes.set_xticks(range(number), short, **style)
        axes.set_yticks(range(number), short)
        axes.tick_params(length=0)
    if number <= MAX_NUMBERED:
        for row, column in np.argwhere(counts):
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center")
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(True)
    return svg(figure, "confusion", "confusion matrix")


def confusion_colors(counts: np.ndarray) -> np.ndarray:
    """RGBA [K, K, 4]; even a single clip is visible."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colors = np.zeros((*counts.shape, 4))
    colors[..., :3] = WRONG
    diagonal = np.arange(len(counts))
    colors[diagonal, diagonal, :3] = CORRECT
    colors[..., 3] = np.where(share > 0, 0.2 + 0.65 * share, 0)
    return colors


def shorten(name: str, size: int = MAX_NAME) -> str:
    return name if len(name) <= size else name[: size - 1] + "…"


def class_chart(counts: dict[str, Sequence[int]], names: Sequence[str]) -> str:
    """Draw the clips per class: one bar per class, or sorted curves.

    Args:
        counts: clips of each class, [K], of `training`, `validation` or both.
    """
    number = len(names)
    if number > MAX_BARS:
        figure = new_figure(6.2, 3.0)
        axes = figure.subplots()
        for split, values in counts.items():
            style = {"color": COLORS[split], "label": split}
            axes.plot(np.arange(1, number + 1), sorted(values, reverse=True), **style)
        axes.set_ylim(bottom=0)
        finish(axes, "classes, largest first", "clips")
        return svg(figure, "classes", "clips per class")
    figure = new_figure(6.2, 1.0 + number * 0.2 * max(1.2, len(counts)))
    axes = figure.subplots()
    centers, height = np.arange(number), 0.8 / len(counts)
    for i, (split, values) in enumerate(counts.items()):
        offset = (i - (len(counts) - 1) / 2) * height
        axes.barh(centers + offset, values, height, color=COLORS[split], label=split)
    axes.set_yticks(centers, [shorten(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    # Above the bars, because matplotlib's automatic legend location does not avoid bars.
    above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
    finish(axes, "clips", "", ncols=len(counts), **above)
    return svg(figure, "classes", "clips per class")


def histogram(rows: Sequence[tuple[str, int]], unit: str) -> str:
    """Draw a histogram of (range, number of clips)."""
    figure = new_figure(6.2, 1.0 + 0.22 * len(rows))
    axes = figure.subplots()
    axes.barh(range(len(rows)), [count for _, count in rows], color=CYCLE[0])
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    finish(axes, "clips", unit)
    return svg(figure, "durations", unit)
