"""The charts of a report: drawn by matplotlib as SVG that stands inside a page and takes its colours, light or dark, from it.

matplotlib, because its SVG needs no script: a page of ten charts has 300 kB. A library that draws in the browser would put
4 MB of its own code into every report.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from paddlevideo.report.plot import Rows, draw, draw_scores, epochs_of, finish, new_figure

POINTS = 400  # of a curve; more are averaged
CELLS = 400  # of a side of a matrix; more classes are put together
NAMED = 30  # classes up to which a matrix names them
NUMBERED = 20  # ... and up to which it has numbers
BARS = 40  # classes up to which each has a bar
NAME = 24  # characters of a name
# Colours while matplotlib draws, and what the page calls them.
THEME = {"#010101": "--ink", "#010102": "--faint"} | {
    f"#01010{n}": f"--c{n - 2}" for n in range(3, 8)
}
INK, FAINT, *CYCLE = THEME
RIGHT, WRONG = (
    (0.29, 0.56, 0.89),
    (0.90, 0.49, 0.13),
)  # cells of a matrix; how opaque they are says how many


def rules() -> dict[str, Any]:
    """How matplotlib draws for a page."""
    return {
        "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
        "svg.hashsalt": "report",
        "text.parse_math": False,  # a name may hold a $
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
        "font.size": 9,
        "lines.linewidth": 1.4,
        "lines.markersize": 4,
    }


@contextmanager
def themed() -> Iterator[None]:
    """Inside, matplotlib draws for a page; outside it is as it was.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    new_figure(1, 1)  # says what to install
    import matplotlib

    with matplotlib.rc_context({**rules(), "axes.prop_cycle": matplotlib.cycler(color=CYCLE)}):
        yield


def svg(figure: Any, name: str, about: str) -> str:
    """A figure as an element of a page: no references to elsewhere, ids of its own, colours by name.

    Args:
        name: a word that no other chart of the page has.
        about: what it shows, for those who cannot see it; HTML-escaped.
    """
    with io.StringIO() as buffer, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has fonts of its own
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=none)
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


# --- over the epochs -------------------------------------------------------------------------------------------------


def thin(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points: means of as many neighbours each as it takes."""
    array = np.array(points, np.float64).reshape(-1, 2)
    groups = (
        np.array_split(array, POINTS)
        if len(array) > POINTS
        else [array[i : i + 1] for i in range(len(array))]
    )
    means = np.array([group.mean(axis=0) for group in groups]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def draw_steps(
    axes: Any, rows: Rows, key: str, place: Callable[[dict], float], label: str, **style
) -> None:
    """A value of the logged steps, thinned."""
    points = [(place(row), row[key]) for row in rows["train"] if row.get(key) is not None]
    if points:
        axes.plot(
            *thin(points), label=label, **({"marker": "o"} if len(points) == 1 else {}) | style
        )


def curves(rows: Rows, best: int | None, several: bool) -> list[tuple[str, str]]:
    """(title, SVG) of everything that went on over the epochs; what was not recorded has no chart.

    Args:
        best: epochs done when the validation was best.
        several: a multigrid run, whose phases are shown.
    """
    place, made = epochs_of(rows), []

    def chart(title: str, unit: str, fill: Callable[[Any], None], top: float | None = None) -> None:
        figure = new_figure(6.2, 3.0)
        axes = figure.subplots()
        fill(axes)
        if not axes.lines:
            return
        if several:
            show_phases(axes, rows)
        if best is not None:
            axes.axvline(best, color=INK, alpha=0.6, linestyle=":", label="best")
        axes.set_ylim(bottom=0, top=top)
        axes.xaxis.get_major_locator().set_params(integer=True)
        finish(axes, "epoch", unit)
        made.append((title, svg(figure, f"curve{len(made)}", f"{title} over the epochs")))

    def loss(axes):
        draw_steps(axes, rows, "loss", place, "train, logged steps", alpha=0.35, color=CYCLE[0])
        draw(axes, rows["epoch"], "loss", place, "train, epoch mean", color=CYCLE[0])
        draw(axes, rows["valid"], "loss", place, "validation", marker="o", color=CYCLE[1])

    def parts(axes):
        for key in sorted(
            {
                key
                for row in rows["epoch"]
                for key in row
                if "loss" in key or key.startswith("sync_")
            }
            - {"loss"}
        ):
            draw(axes, rows["epoch"], key, place, key.replace("_", " "))

    def seconds(axes):
        draw_steps(axes, rows, "batch_cost", place, "a whole step")
        draw_steps(axes, rows, "reader_cost", place, "waiting for data")

    chart("Loss", "loss", loss)
    chart("Scores", "share of 1", lambda axes: draw_scores(axes, rows, place), top=1.03)
    chart("Parts of the training loss", "mean of an epoch", parts)
    chart(
        "Learning rate",
        "learning rate",
        lambda axes: draw_steps(axes, rows, "lr", place, "learning rate"),
    )
    chart("Time of a step", "seconds", seconds)
    return made


def show_phases(axes: Any, rows: Rows) -> None:
    """Every other phase on a shaded ground, numbered at the top where there is room."""
    spans = [(row["epoch"], row["end"]) for row in rows["phase"]]
    for number, (first, end) in enumerate(spans, 1):
        if number % 2:
            axes.axvspan(first, end, color=INK, alpha=0.06, linewidth=0)
        if len(spans) <= 20:
            across = axes.get_xaxis_transform()
            axes.text(
                (first + end) / 2,
                1.0,
                str(number),
                transform=across,
                ha="center",
                va="bottom",
                fontsize=7,
            )


def shares(parts: Sequence[tuple[str, float]]) -> str:
    """A bar of seconds, in the order given."""
    figure, left, total = new_figure(12.6, 1.0), 0.0, sum(seconds for _, seconds in parts)
    axes = figure.subplots()
    for (name, seconds), color in zip(parts, (CYCLE[0], CYCLE[1], CYCLE[2]), strict=True):
        axes.barh(
            0,
            seconds,
            left=left,
            color=color,
            label=f"{name}: {span(seconds)}, {100 * seconds / total:.0f} %",
        )
        left += seconds
    axes.set_xlim(0, total)
    axes.axis("off")
    axes.legend(
        frameon=False, ncols=len(parts), loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=0.2
    )
    return svg(figure, "shares", "shares of the time")


def span(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


# --- classes and data ------------------------------------------------------------------------------------------------


def confusion_chart(counts: np.ndarray, names: Sequence[str]) -> str:
    """The matrix of true (rows) and predicted classes; a cell is as opaque as its share of the row.

    Args:
        counts: [K, K]; of more than CELLS classes several neighbours make a cell.
    """
    group = -(-len(counts) // CELLS)
    if group > 1:
        edges = np.arange(0, len(counts), group)
        counts = np.add.reduceat(np.add.reduceat(counts, edges, axis=0), edges, axis=1)
    number = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = np.zeros((number, number, 4))
    cells[...] = (*WRONG, 0)
    cells[np.arange(number), np.arange(number)] = (*RIGHT, 0)
    cells[..., 3] = np.where(share > 0, 0.2 + 0.65 * share, 0)  # a single one is seen, too
    side = 3.2 + 0.22 * number if number <= NAMED else 8.0
    figure = new_figure(side + 1.2, side)
    axes = figure.subplots()
    axes.imshow(cells, interpolation="none", aspect="equal")
    together = f", {group} classes a cell" if group > 1 else ""
    axes.set(xlabel=f"predicted{together}", ylabel=f"true{together}")
    if number <= NAMED:
        short = [shorten(name) for name in names]
        axes.set_xticks(
            range(number),
            short,
            rotation=45 if number > 3 else 0,
            ha="right" if number > 3 else "center",
        )
        axes.set_yticks(range(number), short)
        axes.tick_params(length=0)
    if number <= NUMBERED:
        for row, column in np.argwhere(counts):
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center")
    for side_name in ("top", "right"):
        axes.spines[side_name].set_visible(True)
    return svg(figure, "confusion", "confusion matrix")


def shorten(name: str, size: int = NAME) -> str:
    return name if len(name) <= size else name[: size - 1] + "…"


def class_chart(counts: dict[str, Sequence[int]], names: Sequence[str]) -> str:
    """Clips of each class in the splits that are given: bars by name, or of many classes their sizes, largest first."""
    number = len(names)
    if number <= BARS:
        figure = new_figure(6.2, 1.0 + number * 0.2 * max(1.2, len(counts)))
        axes = figure.subplots()
        places, height = np.arange(number), 0.8 / len(counts)
        for i, (split, values) in enumerate(counts.items()):
            axes.barh(places + (i - (len(counts) - 1) / 2) * height, values, height, label=split)
        axes.set_yticks(places, [shorten(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        # Above the bars: matplotlib looks for room among curves, not among bars.
        finish(
            axes,
            "clips",
            "",
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=len(counts),
            borderaxespad=0,
        )
    else:
        figure = new_figure(6.2, 3.0)
        axes = figure.subplots()
        for split, values in counts.items():
            axes.plot(np.arange(1, number + 1), sorted(values, reverse=True), label=split)
        axes.set_ylim(bottom=0)
        finish(axes, "classes, largest first", "clips")
    return svg(figure, "classes", "clips of each class")


def histogram(rows: Sequence[tuple[str, int]], unit: str) -> str:
    """Bars of (what, how many)."""
    figure = new_figure(6.2, 1.0 + 0.22 * len(rows))
    axes = figure.subplots()
    axes.barh(range(len(rows)), [count for _, count in rows], color=CYCLE[0])
    axes.set_yticks(range(len(rows)), [what for what, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    finish(axes, "clips", unit)
    return svg(figure, "durations", unit)
