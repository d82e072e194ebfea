"""Write the report of a training run: one HTML file that fetches nothing and runs no script.

page = write_report("output/ppTSN")     # output/ppTSN/report.html
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from paddlevideo.config.shipped import typed
from paddlevideo.files import atomic_write, remove_leftovers
from paddlevideo.html_page import SPLIT_COLORS, escape, page
from paddlevideo.log import error_text, logger
from paddlevideo.plain_text import readable
from paddlevideo.report import charts
from paddlevideo.report.clip_cards import hardest_clips
from paddlevideo.report.conclusions import (
    ClassResult,
    class_results,
    confused_pairs,
    remarks,
    time_parts,
    waiting_share,
)
from paddlevideo.report.learning import guess_accuracy, guess_loss, learning_remarks
from paddlevideo.report.outputs import check_replaced, made_of
from paddlevideo.report.run_facts import RunFacts, read_run
from paddlevideo.urls import shown

FILE = "report.html"
NUM_CLIPS = 48  # hardest clips that are shown
MAX_BYTES = 4_500_000  # above this size, the easier ones of these clips are left out
OPEN_ROWS = 30  # rows of a table that are visible at once; the others are folded
MAX_ROWS = 1000  # per table
MAX_CONFIG = 200_000  # characters
# Of computing, waiting for data, and validating.
TIME_COLORS = (SPLIT_COLORS["train"], "--c5", SPLIT_COLORS["valid"])
STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .3rem; } figure h3 { font-size: .95rem; margin-top: 0; }
p, li, .tiles span { overflow-wrap: anywhere; } p { margin: .4rem 0; } .soft { color: var(--soft); }
.tiles { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  margin: 1.2rem 0; }
.tiles div, .clip, figure { background: var(--card); border-radius: 8px; padding: .7rem .9rem; }
.tiles b { display: block; font-size: 1.35rem; line-height: 1.3; overflow-wrap: anywhere; }
.tiles span { color: var(--soft); font-size: .85rem; }
.charts { align-items: start; display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; overflow-x: auto; }
.chart { display: block; height: auto; margin: 0 auto; width: 100%; }
.chart text { font-family: inherit; } .chart path, .chart line { stroke-linejoin: round; }
.square { max-width: 58rem; } .scroll { overflow-x: auto; }
.stack { border-radius: 3px; display: flex; height: 1.6rem; overflow: hidden; width: 100%; }
.legend { display: flex; flex-wrap: wrap; font-size: .85rem; gap: .1rem 1.2rem; }
.legend i { border-radius: 2px; display: inline-block; height: .75em; margin-right: .4em;
  width: .75em; }
td, th { border-bottom: 1px solid color-mix(in srgb, var(--faint) 55%, transparent);
  padding: .25rem .8rem .25rem 0; vertical-align: middle; }
th { color: var(--soft); font-size: .85rem; font-weight: 600; } th.n { white-space: normal; }
.scroll td.name { min-width: 7.5rem; }
.bar { min-width: 7rem; width: 24%; }
.bar div { background: var(--c1); border-radius: 3px; height: .7rem; min-width: 1px; }
.clips { display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.clip img { border-radius: 4px; display: block; height: auto; margin-bottom: .5rem;
  max-width: 100%; width: 100%; }
.clip audio { display: block; height: 2.2rem; margin-bottom: .5rem; width: 100%; }
.clip p { margin: 0; overflow-wrap: anywhere; } .path { color: var(--soft); font-size: .8rem; }
pre { background: var(--card); border-radius: 8px; font-size: .82rem; overflow-x: auto;
  padding: .8rem; }
summary { margin: .5rem 0; } ul { padding-left: 1.2rem; }
"""


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    clips: int = NUM_CLIPS,
    overwrite: bool = False,
) -> Path:
    """Write the report of the run in `folder` to `out` (default `<folder>/report.html`).

    Args:
        clips: how many of the hardest clips are shown.
        overwrite: replace an `out` that is no report of this run.

    Raises:
        FileExistsError: `out` is no report of this run.
        FileNotFoundError, ValueError: `folder` is not that of a run, or its files are damaged.
        ModuleNotFoundError: matplotlib is not installed.
        OSError: `out` cannot be written; a file that was there before is kept.
    """
    inputs = made_of([folder])
    if out is not None:
        check_replaced(out, inputs, overwrite)
    facts = read_run(folder)
    with charts.themed():
        text = f"{render(facts, clips)}<!-- {inputs} -->\n"
    out = Path(out or Path(folder) / FILE)
    remove_leftovers(out.parent, {out.name})
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out


def report_finished(folder: str | Path) -> None:
    """Write the report of a training that has just ended, and log what went wrong in learning.

    Errors become warnings.
    """
    try:
        for remark in learning_remarks(read_run(folder)):
            logger.warning(remark)
        logger.info(f"report: {write_report(folder)}")
    except Exception as error:  # the training has succeeded, whatever happens to its report
        reason, command = error_text(error), f"{typed('tools/report.py', 'report')} {folder}"
        logger.warning(f"no report was written: {reason}; to try again: {command}")


def render(facts: RunFacts, clips: int = NUM_CLIPS) -> str:
    """Return the page as HTML. Call it inside `charts.themed()`."""
    title = f"{facts.name}: training report"
    before = [*header(facts), *curves(facts), *phases(facts), *classes(facts)]
    after = [*failures(facts), *data(facts), *config(facts)]
    num_bytes = len(page(title, "\n".join([*before, *after]), STYLE).encode()) + 1
    hardest = hardest_clips(facts, clips, MAX_BYTES - num_bytes)
    return page(title, "\n".join([*before, *hardest, *after]), STYLE)


# --- parts of any section -----------------------------------------------------------------------


def figure(title: str, chart: str, css_class: str = "") -> str:
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<figure class="{css_class}">{heading}{chart}</figure>'


def table(head: Sequence[str], rows: Sequence[str], num_text: int = 1) -> str:
    """Return a table; rows after OPEN_ROWS are folded.

    Args:
        head: column titles.
        rows: <tr> elements.
        num_text: number of text columns; the columns after them hold numbers.
    """
    cells = [
        f"<th{'' if i < num_text else ' class=n'}>{escape(name)}</th>"
        for i, name in enumerate(head)
    ]
    template = '<div class="scroll"><table><tr>{}</tr>{}</table></div>'
    visible, folded = rows[:OPEN_ROWS], rows[OPEN_ROWS:MAX_ROWS]
    html = template.format("".join(cells), "".join(visible)) if visible else ""
    if folded:
        num_omitted = len(rows) - MAX_ROWS
        omitted = f", {num_omitted} are left out" if num_omitted > 0 else ""
        body = template.format("".join(cells), "".join(folded))
        html += f"<details><summary>{len(folded)} more{omitted}</summary>{body}</details>"
    return html


def name_cell(text: object) -> str:
    return f'<td class="name">{escape(text)}</td>'


def number_cell(number: object) -> str:
    """A cell with a number; None leaves it empty."""
    return f'<td class="n">{"" if number is None else escape(number)}</td>'


def bar_cell(share: float) -> str:
    return f'<td class="bar"><div style="width:{100 * share:.1f}%"></div></td>'


# --- sections -----------------------------------------------------------------------------------


def header(facts: RunFacts) -> Iterator[str]:
    """Name and command, the most important numbers, remarks."""
    command = facts.header.get("command", facts.folder)
    yield f'<h1>{escape(facts.name)}</h1><p class="soft">{escape(command)}</p>'
    boxes = [f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in tiles(facts)]
    yield f'<div class="tiles">{"".join(boxes)}</div>'
    items = [f"<li>{escape(remark)}</li>" for remark in remarks(facts)]
    if items:
        yield f"<ul>{''.join(items)}</ul>"


def tiles(facts: RunFacts) -> Iterator[tuple[str, str]]:
    """(value, caption) of the most important numbers."""
    rows, best, (key, name) = facts.rows, facts.best, facts.headline
    if best:
        score, epoch = best["numbers"].get(key), best["epoch"]
    else:
        scored = [row for row in rows["valid"] if row.get(key) is not None]
        scores = [(row[key], row["epoch"] + 1) for row in scored]
        score, epoch = max(scores, default=(None, None))
    if score is not None:
        yield f"{score:.4f}", f"best validation {name}"
    num_epochs = max((row["epoch"] + 1 for row in rows["epoch"]), default=0)
    yield (f"{epoch} of {num_epochs}", "best epoch") if epoch else (str(num_epochs), "epochs")
    if best:
        num_classes = sum(count > 0 for count in best["samples"])
        yield str(best["numbers"]["num_samples"]), f"validation clips of {num_classes} classes"
    guess = guess_accuracy(facts)
    if guess:
        yield guess.percent, f"accuracy of guessing: {guess.reason}"
    parts = time_parts(facts)
    if parts:
        yield charts.format_seconds(sum(seconds for _, seconds in parts)), "time"
    share = waiting_share(rows)
    if share is not None:
        yield f"{share:.0%}", "of the step time waiting for data"


def curves(facts: RunFacts) -> Iterator[str]:
    """All values over the epochs, and where the time went."""
    best = facts.best["epoch"] if facts.best else None
    drawn = charts.curves(facts.rows, best, guess_accuracy(facts), guess_loss(facts))
    yield "<h2>Curves</h2>"
    if not drawn:
        yield "<p>No training step has been logged yet.</p>"
    figures = [figure(title, chart) for title, chart in drawn]
    yield f'<div class="charts">{"".join(figures)}</div>'
    parts = time_parts(facts)
    if parts:
        yield "<h2>Time</h2>" + figure("", time_bar(parts))


def time_bar(parts: Sequence[tuple[str, float]]) -> str:
    """One stacked bar of (name, seconds), and its legend, which wraps on narrow screens."""
    total, bars, legend = sum(seconds for _, seconds in parts), [], []
    for (name, seconds), color in zip(parts, TIME_COLORS, strict=True):
        share = f"{100 * seconds / total:.2f}%"
        bars.append(f'<div style="background:var({color});width:{share}"></div>')
        text = f"{name}: {charts.format_seconds(seconds)}, {100 * seconds / total:.0f} %"
        key = f'<i style="background:var({color})"></i>'
        legend.append(f"<span>{key}{escape(text)}</span>")
    return f'<div class="stack">{"".join(bars)}</div><p class="legend">{"".join(legend)}</p>'


def phases(facts: RunFacts) -> Iterator[str]:
    """The phases of a multigrid run."""
    rows = []
    for number, row in enumerate(facts.rows["phase"], 1):
        first, last = row["epoch"] + 1, row["end"]
        epochs = f"{first} to {last}" if last > first else str(first)
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in (number, epochs, row["shapes"]))
        rows.append(f"<tr>{cells}{number_cell(row['bn_splits'])}</tr>")
    if rows:
        shapes = "clips x frames x crop size, in rotation"
        yield "<h2>Phases</h2>" + table(("phase", "epochs", shapes, "BN splits"), rows, 3)


def classes(facts: RunFacts) -> Iterator[str]:
    """Confusion matrix, most frequent confusions, and every class, worst first."""
    if not facts.best:
        return
    about = f"Best validation, after epoch {facts.best['epoch']}."
    yield f'<h2>Classes</h2><p class="soft">{about}</p>'
    results = class_results(facts)
    yield from multi_label_classes(results) if facts.multi_label else confusions(facts, results)


def multi_label_classes(results: Sequence[ClassResult]) -> Iterator[str]:
    """A table of the average precision of every class."""
    head = ("class", "training videos", "validation videos", "average precision", "")
    rows = []
    for result in results:
        numbers = (result.num_training, result.num_clips, f"{result.score:.3f}")
        cells = "".join(map(number_cell, numbers))
        rows.append(f"<tr>{name_cell(result.name)}{cells}{bar_cell(result.score)}</tr>")
    yield "<h3>Every class, worst first</h3>" + table(head, rows)


def confusions(facts: RunFacts, results: Sequence[ClassResult]) -> Iterator[str]:
    """Confusion matrix, most frequent confusions, and a table of the accuracy of every class."""
    assert facts.best is not None
    if facts.best["confusion"]:
        title = "Confusion matrix: rows are true classes, blue is correct, orange is wrong"
        names = [readable(name) for name in facts.class_names()]
        group_size = -(-len(names) // charts.MAX_CELLS)
        counts = facts.confusion(group_size)
        yield figure(title, charts.confusion_chart(counts, names, group_size), "square")
    rows = []
    for true, predicted, count, share in confused_pairs(facts):
        numbers = number_cell(count) + number_cell(f"{share:.0%}")
        rows.append(f"<tr>{name_cell(true)}{name_cell(predicted)}{numbers}</tr>")
    if rows:
        head = ("true", "predicted", "clips", "share of the class")
        yield "<h3>Most frequent confusions</h3>" + table(head, rows, 2)
    rows = []
    for result in results:
        accuracy = f"{result.score:.1%}"
        numbers = (result.num_training, result.num_clips, result.num_correct, accuracy)
        names = name_cell(result.name) + name_cell(result.confused_with)
        cells = names + "".join(map(number_cell, numbers))
        rows.append(f"<tr>{cells}{bar_cell(result.score)}</tr>")
    counts = ("training clips", "validation clips", "correct", "accuracy", "")
    yield "<h3>Every class, worst first</h3>"
    yield table(("class", "most often confused with", *counts), rows, 2)


def failures(facts: RunFacts) -> Iterator[str]:
    """The clips that could not be decoded."""
    rows = [
        f"<tr>{name_cell(shown(failure['path']))}<td>{escape(failure['reason'])}</td></tr>"
        for failure in (facts.best["failures"] if facts.best else ())
    ]
    if rows:
        yield "<h2>Could not be decoded</h2>" + table(("file", "reason"), rows, 2)


def data(facts: RunFacts) -> Iterator[str]:
    """Clips per class and durations of clips."""
    figures, best = [], facts.best
    if best and sum(best["samples"]):
        names = [readable(name) for name in facts.class_names()]
        counts = {"training": best["train_samples"]} if best["train_samples"] else {}
        counts["validation"] = best["samples"]
        figures.append(figure("Clips per class", charts.class_chart(counts, names)))
    if facts.durations:
        chart = charts.histogram(facts.durations, "seconds")
        figures.append(figure("Duration of the clips", chart))
    if figures:
        yield f'<h2>Data</h2><div class="charts">{"".join(figures)}</div>'
    faults = facts.check.get("faults")
    if faults is not None:
        found = ", ".join(f"{count} {kind}" for kind, count in faults.items()) or "no problems"
        yield f"<p>check_data found: {escape(found)}. Details are in its data_report.html.</p>"


def config(facts: RunFacts) -> Iterator[str]:
    """Command, versions and the complete config."""
    if facts.header:
        rows = [
            f"<tr><td>{escape(key)}</td>{name_cell(value)}</tr>"
            for key, value in facts.header.items()
        ]
        yield f"<h2>Run</h2><table>{''.join(rows)}</table>"
    if facts.config_text:
        text = "\n".join(map(escape, facts.config_text[:MAX_CONFIG].splitlines()))
        yield f"<h2>Config</h2><details><summary>run.yaml</summary><pre>{text}</pre></details>"
