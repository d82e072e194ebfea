"""The report of a training run: one HTML file that needs nothing else, no network, no script.

page = write_report("output/ppTSN")     # output/ppTSN/report.html
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from paddlevideo.files import atomic_write
from paddlevideo.html_page import escape, page
from paddlevideo.log import error_text, logger, readable
from paddlevideo.report import charts
from paddlevideo.report.pictures import source, strip_of
from paddlevideo.report.run_facts import (
    RunFacts,
    class_table,
    confused_pairs,
    data_share,
    read_run,
    remarks,
    resolve,
    time_parts,
)
from paddlevideo.sample import DecodeError

NAME = "report.html"
CLIPS = 48  # worst clips that are shown
MAX_BYTES = 4_500_000  # of a report; the pictures of the least bad clips are left out above it
SHOWN = 30  # rows of a table that stand open
MAX_ROWS = 1000  # of a table
MAX_TEXT = 200_000  # characters of a config
STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .3rem; } figure h3 { font-size: .95rem; margin-top: 0; }
p { margin: .4rem 0; } .soft { color: var(--soft); }
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
.square { max-width: 58rem; } .wide .chart { min-width: 42rem; } .scroll { overflow-x: auto; }
td, th { border-bottom: 1px solid color-mix(in srgb, var(--faint) 55%, transparent);
  padding: .25rem .8rem .25rem 0; vertical-align: middle; }
th { color: var(--soft); font-size: .85rem; font-weight: 600; }
.bar { min-width: 7rem; width: 24%; }
.bar div { background: var(--c1); border-radius: 3px; height: .7rem; min-width: 1px; }
.clips { display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.clip img { border-radius: 4px; display: block; height: auto; margin-bottom: .5rem;
  max-width: 100%; width: 100%; }
.clip p { margin: 0; overflow-wrap: anywhere; } .path { color: var(--soft); font-size: .8rem; }
pre { background: var(--card); border-radius: 8px; font-size: .82rem; overflow-x: auto;
  padding: .8rem; }
summary { margin: .5rem 0; } ul { padding-left: 1.2rem; }
"""


def write_report(folder: str | Path, out: str | Path | None = None, clips: int = CLIPS) -> Path:
    """Write the report of the run in `folder` to `out` (`<folder>/report.html`), whole or not at all.

    Args:
        clips: how many of the worst clips are shown.

    Raises:
        FileNotFoundError, ValueError: not the folder of a run, or damaged files in it.
        ModuleNotFoundError: matplotlib is not installed.
        OSError: it cannot be written.
    """
    facts = read_run(folder)
    with charts.themed():
        text = render(facts, clips)
    out = Path(out or Path(folder) / NAME)
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out


def report_finished(folder: str | Path) -> None:
    """Write the report of a training that has just ended; whatever goes wrong is a warning, the training is done."""
    try:
        logger.info(f"report: {write_report(folder)}")
    except (
        Exception
    ) as error:  # a page of pictures must not turn a finished training into a failed one
        logger.warning(
            f"no report was written: {error_text(error)}; later: python tools/report.py {folder}"
        )


def render(facts: RunFacts, clips: int = CLIPS) -> str:
    """Return the page as HTML. Call it inside `charts.themed()`."""
    title = f"{facts.name}: training report"
    start = [
        *header(facts),
        *curves(facts),
        *phases(facts),
        *(classes(facts) if facts.best else ()),
    ]
    end = [*data(facts), *config(facts)]
    used = len(page(title, "\n".join([*start, *end]), STYLE).encode()) + 1
    body = [*start, *worst_clips(facts, clips, MAX_BYTES - used), *end]
    return page(title, "\n".join(body), STYLE)


def header(facts: RunFacts) -> Iterable[str]:
    """Name, the numbers that one looks for first, and what is worth a sentence."""
    rows, best = facts.rows, facts.best
    key, name = facts.headline
    scores = [(row[key], row["epoch"] + 1) for row in rows["valid"] if row.get(key) is not None]
    score, epoch = (
        (best["numbers"].get(key), best["epoch"]) if best else max(scores, default=(None, None))
    )
    tiles = [(f"{score:.4f}", f"best validation {name}")] if score is not None else []
    done = max((row["epoch"] + 1 for row in rows["epoch"]), default=0)
    tiles += [(f"{epoch} of {done}", "best epoch")] if epoch else [(str(done), "epochs")]
    if best:
        tiles.append(
            (
                f"{best['numbers']['num_samples']}",
                f"validation clips of {sum(n > 0 for n in best['samples'])} classes",
            )
        )
    parts = time_parts(facts)
    tiles += [(charts.span(sum(seconds for _, seconds in parts)), "time")] if parts else []
    share = data_share(rows)
    tiles += [(f"{share:.0%}", "of a step waits for data")] if share is not None else []
    yield f'<h1>{escape(facts.name)}</h1><p class="soft">{escape(facts.head.get("command", facts.folder))}</p>'
    yield (
        '<div class="tiles">'
        + "".join(f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in tiles)
        + "</div>"
    )
    found = remarks(facts)
    if found:
        yield "<ul>" + "".join(f"<li>{escape(remark)}</li>" for remark in found) + "</ul>"


def curves(facts: RunFacts) -> Iterable[str]:
    """Everything over the epochs, and where the time went."""
    best = facts.best["epoch"] if facts.best else None
    drawn = charts.curves(facts.rows, best, bool(facts.rows["phase"]))
    yield "<h2>Curves</h2>"
    if not drawn:
        yield "<p>No step has been logged yet.</p>"
    yield (
        '<div class="charts">' + "".join(framed(title, chart) for title, chart in drawn) + "</div>"
    )
    parts = time_parts(facts)
    if parts:
        yield "<h2>Time</h2>" + framed("", charts.shares(parts), "wide")


def framed(title: str, chart: str, kind: str = "") -> str:
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<figure class="{kind}">{heading}{chart}</figure>'


def table(head: Sequence[str], rows: Sequence[str], plain: int = 1) -> str:
    """Rows that are HTML already; SHOWN of them stand open, the others are folded. `plain`: columns that are no numbers."""
    top = "".join(
        f"<th{'' if i < plain else ' class=n'}>{escape(name)}</th>" for i, name in enumerate(head)
    )
    parts, left = [], rows[:MAX_ROWS]
    for part in (left[:SHOWN], left[SHOWN:]):
        if part:
            body = f'<div class="scroll"><table><tr>{top}</tr>{"".join(part)}</table></div>'
            more = f"{len(part)} more" + (
                f", {len(rows) - MAX_ROWS} are left out" if len(rows) > MAX_ROWS else ""
            )
            parts.append(
                body if not parts else f"<details><summary>{more}</summary>{body}</details>"
            )
    return "".join(parts)


def phases(facts: RunFacts) -> Iterable[str]:
    """The phases of a multigrid run."""
    rows = []
    for number, row in enumerate(facts.rows["phase"], 1):
        epochs = f"{row['epoch'] + 1}" + (
            f" to {row['end']}" if row["end"] > row["epoch"] + 1 else ""
        )
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in (number, epochs, row["shapes"]))
        rows.append(f'<tr>{cells}<td class="n">{escape(row["bn_splits"])}</td></tr>')
    if rows:
        yield "<h2>Phases</h2>" + table(
            ("phase", "epochs", "clips x frames x crop, in turn", "BN splits"), rows, 3
        )


def classes(facts: RunFacts) -> Iterable[str]:
    """Confusion matrix, what is taken for what, and every class, worst first."""
    assert facts.best is not None
    found, names = class_table(facts), [readable(name) for name in facts.class_names()]
    unit = "videos" if facts.multi_label else "clips"
    yield f'<h2>Classes</h2><p class="soft">Of the validation after epoch {facts.best["epoch"]}, the best one.</p>'
    if facts.multi_label:
        head: tuple[str, ...] = ("class", "training", unit, "average precision", "")
        rows = [
            f'<tr><td class="name">{escape(c.name)}</td><td class="n">{"" if c.train is None else c.train}</td>'
            f'<td class="n">{c.samples}</td><td class="n">{c.score:.3f}</td>{bar(c.score)}</tr>'
            for c in found
        ]
    else:
        if facts.best["confusion"]:
            about = "Confusion: rows are true classes, blue is right, orange is wrong"
            yield framed(about, charts.confusion_chart(facts.confusion(), names), "square")
        pairs = confused_pairs(facts)
        if pairs:
            lines = [
                f'<tr><td class="name">{escape(true)}</td><td class="name">{escape(said)}</td><td class="n">{count}</td>'
                f'<td class="n">{share:.0%}</td></tr>'
                for true, said, count, share in pairs
            ]
            yield "<h3>Taken for each other</h3>" + table(
                ("true", "predicted", "clips", "of the class"), lines, 2
            )
        head = ("class", "most often taken for", "training", unit, "right", "accuracy", "")
        rows = [
            f'<tr><td class="name">{escape(c.name)}</td><td class="name">{escape(c.taken_for)}</td>'
            f'<td class="n">{"" if c.train is None else c.train}</td><td class="n">{c.samples}</td><td class="n">{c.right}</td>'
            f'<td class="n">{c.score:.1%}</td>{bar(c.score)}</tr>'
            for c in found
        ]
    yield f"<h3>Every class, worst first</h3>{table(head, rows, 1 if facts.multi_label else 2)}"


def bar(share: float) -> str:
    return f'<td class="bar"><div style="width:{100 * share:.1f}%"></div></td>'


def worst_clips(facts: RunFacts, number: int, room: int) -> Iterable[str]:
    """The clips of the largest loss, with pictures as long as there is room (bytes) for them; then those that failed."""
    best = facts.best
    rows = best["worst"][:number] if best else []
    if rows:
        names, reasons, cards = facts.class_names(), [], []
        for row in rows:
            image = ""
            try:
                jpeg = strip_of(row, resolve(facts, row["path"]))
                image = f'<img alt="three frames" src="{source(jpeg)}">'
            except (DecodeError, OSError) as error:
                reasons.append(error_text(error))
            text = card(row, names)
            room -= len(text.encode()) + len(image)
            if room < 0:
                break
            cards.append(f'<div class="clip">{image}{text}</div>')
        wrong = sum(row["classes"][0] not in row["labels"] for row in rows[: len(cards)])
        about = f"{len(cards)} of the largest loss in that validation, worst first; {wrong} of them wrong."
        yield f'<h2>Worst clips</h2><p class="soft">{about}</p>'
        if len(reasons) == len(rows):
            yield f'<p class="soft">Without pictures: {escape(reasons[0])}.</p>'
        yield f'<div class="clips">{"".join(cards)}</div>'
    if best and best["failures"]:
        lines = [
            f'<tr><td class="name">{escape(f["path"])}</td><td>{escape(f["reason"])}</td></tr>'
            for f in best["failures"]
        ]
        yield "<h2>Could not be decoded</h2>" + table(("file", "why"), lines, 2)


def card(row: dict, names: Sequence[str]) -> str:
    """The text of a clip: labels, what the model said, the file."""
    right = row["classes"][0] in row["labels"]
    percent = lambda score: "?" if score is None else f"{100 * score:.0f} %"  # noqa: E731
    said = [
        f"{escape(names[k])} {percent(score)}"
        for k, score in zip(row["classes"], row["scores"], strict=True)
    ]
    shown = 5 if len(row["labels"]) > 1 else 3
    true = (
        ", ".join(
            f"{escape(names[k])} {percent(s)}"
            for k, s in zip(row["labels"], row["label_scores"], strict=True)
        )
        or "none"
    )
    part = (
        f", {row.get('start_sec', 0):g} to {row.get('end_sec', float('inf')):g} s"
        if {"start_sec", "end_sec"} & set(row)
        else ""
    )
    name = f"{row['id']} in {row['path']}" if "offset" in row else row["path"]
    loss = "not finite" if row["loss"] is None else f"{row['loss']:.2f}"
    return (
        f'<p>true: <b>{true}</b></p><p class="{"good" if right else "bad"}">said: <b>{said[0]}</b></p>'
        f'<p class="soft">{", ".join(["then " + said[1], *said[2:shown]]) if said[1:] else ""}</p>'
        f'<p class="path">{escape(name)}{escape(part)}, loss {loss}</p>'
    )


def data(facts: RunFacts) -> Iterable[str]:
    """How many clips of each class, and how long they are."""
    drawn = []
    if facts.best and sum(facts.best["samples"]):
        names = [readable(name) for name in facts.class_names()]
        counts = {"training": facts.best["train_samples"]} if facts.best["train_samples"] else {}
        counts["validation"] = facts.best["samples"]
        drawn.append(framed("Clips of each class", charts.class_chart(counts, names)))
    if facts.durations:
        drawn.append(framed("How long the clips are", charts.histogram(facts.durations, "seconds")))
    if drawn:
        yield f'<h2>Data</h2><div class="charts">{"".join(drawn)}</div>'
    faults = facts.checked.get("faults")
    if faults is not None:
        found = ", ".join(f"{count} {kind}" for kind, count in faults.items()) or "nothing wrong"
        yield f"<p>check_data found: {escape(found)}. Its data_report.html says more.</p>"


def config(facts: RunFacts) -> Iterable[str]:
    """What was run, with which versions."""
    if facts.head:
        lines = [
            f'<tr><td>{escape(key)}</td><td class="name">{escape(value)}</td></tr>'
            for key, value in facts.head.items()
        ]
        yield f"<h2>Run</h2><table>{''.join(lines)}</table>"
    if facts.config:
        text = "\n".join(escape(line) for line in facts.config[:MAX_TEXT].splitlines())
        yield f"<h2>Config</h2><details><summary>run.yaml</summary><pre>{text}</pre></details>"
