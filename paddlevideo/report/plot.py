"""Plot the curves of training runs as PNG: one run in detail, or several runs for comparison."""

import functools
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.files import atomic_write
from paddlevideo.html_page import PALETTE, SPLIT_COLORS
from paddlevideo.log import logger
from paddlevideo.report.compare import common_score
from paddlevideo.report.learning import Guess, guess_accuracy, guess_loss, has_accuracy
from paddlevideo.report.outputs import check_replaced, made_of
from paddlevideo.report.run_facts import (
    SCORES,
    Rows,
    RunFacts,
    count_labels,
    read_best_validation,
    read_metrics,
)

Across = Callable[[dict], float]  # row -> x value

# Colors of the light mode. The curves of a split have its color, those of a score its line style.
INK, FAINT = PALETTE["--ink"][0], PALETTE["--faint"][0]
CYCLE = [PALETTE[f"--c{number}"][0] for number in range(1, 6)]
TRAIN, VALID = (PALETTE[SPLIT_COLORS[split]][0] for split in ("train", "valid"))
WAITING = CYCLE[4]
TRAIN_SCORES = {"top1": "top-1", "hit_at_one": "Hit@1"}
LINE_STYLES = {"mean_class_accuracy": "--", "map": "--", "avg_perr": ":", "avg_hit_at_one": "-."}
LINE_STYLES |= {"hit_at_one": "-."}
MAX_POINTS = 400  # per curve of single steps; more are averaged
# The axis does not show the points of a curve that are MUCH higher than its usual ones.
RARE = 0.2  # share of its points that are not usual
MUCH = 2.5  # times the highest usual point
TOP_K = re.compile(r"top(?!1$)\d+")  # top5, but not top1
# Fonts with characters that matplotlib's own font lacks; the first line is for Linux.
FONTS = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "SimHei", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans GB", "Arial Unicode MS"),
)


def plot_run(folder: str | Path, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Plot the run in `folder` to `out` (default `<folder>/run.png`).

    Args:
        overwrite: replace an `out` that is no plot of this run.

    Raises:
        FileExistsError: `out` is no plot of this run.
        FileNotFoundError, ValueError: metrics.jsonl is missing or damaged.
        ModuleNotFoundError: matplotlib is not installed.
    """
    inputs = made_of([folder])
    if out is not None:
        check_replaced(image_file(out), inputs, overwrite)
    facts = read_learning(folder)
    rows = facts.rows
    figure = new_figure(11, 7)
    epoch = epochs_of(rows)
    loss, score, rate, cost = figure.subplots(2, 2).flat
    draw_losses(loss, rows, epoch, guess_loss(facts))
    draw_scores(score, rows, epoch, guess_accuracy(facts))
    draw_steps(rate, rows, "lr", epoch, "learning rate", color=TRAIN)
    draw_steps(cost, rows, "batch_cost", epoch, "complete step", color=TRAIN)
    draw_steps(cost, rows, "reader_cost", epoch, "waiting for data", color=WAITING)
    score.set_ylim(0, 1.02)
    limit_top(cost)
    finish(loss, "epoch", "loss")
    finish(score, "epoch", "accuracy" if has_accuracy(rows) else "score")
    finish(rate, "epoch", "learning rate")
    finish(cost, "epoch", "seconds per step")
    figure.suptitle(_title(folder, rows), parse_math=False, fontfamily=fonts())
    return save(figure, out or Path(folder) / "run.png", inputs)


def plot_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    names: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Plot validation score and loss of several runs, over minutes and over epochs.

    Args:
        names: one per folder; the names of the folders by default.
        overwrite: replace an `out` that is no plot of these runs.

    Raises:
        FileExistsError: `out` is no plot of these runs.
        FileNotFoundError, ValueError: metrics.jsonl is missing or damaged, or the number of names
            differs from the number of folders.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if names and len(names) != len(folders):
        raise ValueError(f"{len(names)} names for {len(folders)} runs; give one name per run")
    inputs = made_of(folders)
    check_replaced(image_file(out), inputs, overwrite)
    names = names or [Path(folder).name for folder in folders]
    facts = [read_learning(folder) for folder in folders]
    runs = [(name, each.rows) for name, each in zip(names, facts, strict=True)]
    guesses = {guess for each in facts if (guess := guess_accuracy(each))}
    score = common_score([rows for _, rows in runs])
    figure = new_figure(11, 7.5)
    for across, (accuracy, loss) in zip(("minutes", "epoch"), figure.subplots(2, 2), strict=True):
        for number, (name, rows) in enumerate(runs):
            x = minutes if across == "minutes" else epochs_of(rows)
            color = CYCLE[number % len(CYCLE)]
            draw(accuracy, rows["valid"], score, x, name, marker="o", color=color)
            draw(loss, rows["epoch"], "loss", x, f"{name}, train", color=color, alpha=0.45)
            draw(loss, rows["valid"], "loss", x, f"{name}, validation", marker="o", color=color)
        for guess in sorted(guesses, key=lambda guess: guess.value) if score == "top1" else ():
            draw_guess(accuracy, guess)
        accuracy.set_ylim(0, 1.02)
        limit_top(loss)
        for axes in (accuracy, loss):
            axes.set_xlim(left=0)
        finish(accuracy, across, f"validation {SCORES[score]}", loc="lower right")
        finish(loss, across, "loss")
    return save(figure, out, inputs)


def read_learning(folder: str | Path) -> RunFacts:
    """Read what the plots need from the folder of a run: `rows`, `best` and `labels`.

    A damaged valid_best.json is a warning: the curves are complete without it.

    Raises:
        FileNotFoundError, ValueError: metrics.jsonl is missing or damaged.
    """
    folder = Path(folder)
    facts = RunFacts(folder, read_metrics(folder), labels=count_labels(folder))
    try:
        facts.best = read_best_validation(folder)
    except ValueError as error:
        logger.warning(f"the plot has no line for guessing: {error}")
    return facts


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
        # Lines behind the legend must not cross out its text.
        for text in axes.legend(edgecolor="none", framealpha=0.85, **legend).get_texts():
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


def thin(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Average neighboring points until at most MAX_POINTS are left; return x and y."""
    array = np.array(points, np.float64).reshape(-1, 2)
    if len(array) > MAX_POINTS:
        array = np.array([part.mean(axis=0) for part in np.array_split(array, MAX_POINTS)])
    return array[:, 0], array[:, 1]


def draw_steps(axes: Any, rows: Rows, key: str, across: Across, label: str, **style: Any) -> None:
    """Draw a value of the logged steps, thinned."""
    points = [(across(row), row[key]) for row in rows["train"] if row.get(key) is not None]
    draw_points(axes, list(zip(*thin(points), strict=True)), label, **style)


def draw_losses(axes: Any, rows: Rows, across: Across, guess: Guess | None = None) -> None:
    """Draw the losses of training and validation, and that of guessing."""
    draw_steps(axes, rows, "loss", across, "train, logged steps", alpha=0.35, color=TRAIN)
    draw(axes, rows["epoch"], "loss", across, "train, epoch mean", color=TRAIN)
    draw(axes, rows["valid"], "loss", across, "validation", marker="o", color=VALID)
    if guess and axes.lines:
        draw_guess(axes, guess, f"guessing, {guess.reason}")
    limit_top(axes)


def draw_scores(axes: Any, rows: Rows, across: Across, guess: Guess | None = None) -> None:
    """Draw the scores of training and validation that carry information, and guessing."""
    for key, name in TRAIN_SCORES.items():
        style = {"linestyle": LINE_STYLES.get(key, "-"), "color": TRAIN}
        draw(axes, rows["epoch"], key, across, f"train {name}", **style)
    top_k = {key: f"top-{key[3:]}" for key in (rows["valid"] or [{}])[0] if TOP_K.fullmatch(key)}
    for key, name in {**SCORES, **top_k}.items():
        if key in top_k and all(row.get(key) in (None, 1.0) for row in rows["valid"]):
            continue  # few classes: always correct
        if key == "mean_class_accuracy" and equals_top1(rows["valid"]):
            continue
        style = {"marker": "o"}
        if key in LINE_STYLES or key in top_k:
            style = {"linestyle": LINE_STYLES.get(key, ":")}
        draw(axes, rows["valid"], key, across, f"validation {name}", color=VALID, **style)
    if guess and axes.lines:
        draw_guess(axes, guess)


def draw_guess(axes: Any, guess: Guess, label: str = "") -> None:
    """Draw a dashed line at what guessing reaches."""
    label = label or f"chance {guess.percent}, {guess.reason}"
    axes.axhline(guess.value, color=INK, alpha=0.7, linestyle=(0, (6, 4)), lw=1, label=label)


def limit_top(axes: Any) -> None:
    """Begin the y axis at 0, and end it where a few high points would flatten all curves.

    Of each curve the highest points, at most a share RARE of them, may lie above the axis. A
    triangle at the edge marks each group of them, and the legend has the highest value.
    """
    curves = [
        (line, np.asarray(line.get_ydata(), np.float64), np.asarray(line.get_xdata(), np.float64))
        for line in axes.lines
    ]
    curves = [(line, x[np.isfinite(y)], y[np.isfinite(y)]) for line, y, x in curves]
    curves = [(line, x, y) for line, x, y in curves if len(y)]
    axes.set_ylim(bottom=0)
    usual = max((usual_top(y) for _, _, y in curves), default=0.0)
    highest = max((y.max() for *_, y in curves), default=0.0)
    if not usual or highest <= MUCH * usual:
        return
    top = 1.1 * max(y[y <= MUCH * usual].max(initial=0) for *_, y in curves)
    axes.set_ylim(0, top)
    edge = {"transform": axes.get_xaxis_transform(), "clip_on": False, "linestyle": "none"}
    for line, x, y in curves:
        groups = np.split(np.arange(len(y)), np.flatnonzero(np.diff(y > top)) + 1)
        peaks = [group[y[group].argmax()] for group in groups if y[group[0]] > top]
        if peaks:
            axes.plot(x[peaks], np.ones(len(peaks)), marker="^", color=line.get_color(), **edge)
    label = f"above the axis, up to {highest:.3g}"
    axes.plot([], [], marker="^", linestyle="none", color=INK, label=label)


def usual_top(values: np.ndarray) -> float:
    """The largest of `values` [n] without the highest ones: a share RARE of them, at least one.

    Of one or two values it is the largest.
    """
    num_high = max(1, int(RARE * len(values))) if len(values) > 2 else 0
    return float(np.sort(values)[len(values) - 1 - num_high])


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


def image_file(out: str | Path) -> Path:
    """The file that `save` writes: .png is appended to a name without a suffix."""
    return Path(out) if Path(out).suffix else Path(f"{out}.png")


def save(figure: Any, out: str | Path, inputs: str) -> Path:
    """Write a figure, completely or not at all.

    Args:
        out: an image file, see `image_file`.
        inputs: what the figure is made of, see `outputs.made_of`.

    Returns:
        the file.

    Raises:
        ValueError: matplotlib writes no files of this suffix.
        OSError: `out` cannot be written.
    """
    out = image_file(out)
    suffix = out.suffix[1:].lower()
    metadata = {"Keywords": inputs} if suffix in ("png", "svg", "pdf") else None
    with warnings.catch_warnings(), atomic_write(out) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in other scripts
        figure.savefig(temporary, format=suffix, dpi=110, metadata=metadata)
    return out
