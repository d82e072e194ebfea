"""A check of a data set for people: as text for the console, and as one HTML file that needs nothing else."""

import html
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from paddlevideo.curate.check import SPLITS, Checked
from paddlevideo.curate.faults import KINDS, Fault
from paddlevideo.curate.results import BAD, readable

BAR = 40  # characters of the longest bar
MAX_ROWS = 12  # of a histogram
SHOWN = 5  # faults of a kind on the console
SHOWN_HTML = 500
STYLE = """
:root { color-scheme: light dark; --bar: #3b7dd8; --bad: #c0392b; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .15rem .6rem .15rem 0; vertical-align: top; }
tr { border-bottom: 1px solid var(--line); } .n { text-align: right; white-space: nowrap; } .bar { width: 45%; }
.bar div { background: var(--bar); height: .8rem; border-radius: 2px; } .name { overflow-wrap: anywhere; }
.bad { color: var(--bad); } summary { cursor: pointer; margin-top: .6rem; } details .name { width: 42%; }
@media (prefers-color-scheme: dark) { :root { --bar: #6aa5f5; --bad: #ff8a7a; } }
"""


class Histogram(NamedTuple):
    """`rows`: (what, how many clips)."""

    title: str
    rows: list[tuple[str, int]]


def histograms(checked: Checked) -> list[Histogram]:
    """Of the good clips: seconds, frames per second, and size of the picture."""
    seen = [checked.of(item) for item in checked.items]
    rates = Counter(f"{facts.fps:.2f}".rstrip("0").rstrip(".") for facts in seen)
    sizes = Counter(f"{facts.width}x{facts.height}" for facts in seen)
    return [
        Histogram("duration (s)", durations([facts.seconds for facts in seen if facts.fps])),
        Histogram("frames per second", most(rates)),
        Histogram("width x height (px)", most(sizes)),
    ]


def durations(seconds: Sequence[float]) -> list[tuple[str, int]]:
    """Clips in steps of 1, 2 or 5 times a power of ten; the longest twentieth may share the last row."""
    if not seconds:
        return []
    top = sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
    rough = max(top, 1e-3) / (MAX_ROWS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    bins = Counter(min(int(value / step + 1e-9), MAX_ROWS - 1) for value in seconds)
    rows = []
    for number in range(min(bins), max(bins) + 1):
        over = number == MAX_ROWS - 1 and max(seconds) >= MAX_ROWS * step
        rows.append(
            (
                f"{number * step:g} and more"
                if over
                else f"{number * step:g} - {(number + 1) * step:g}",
                bins[number],
            )
        )
    return rows


def most(counts: Counter) -> list[tuple[str, int]]:
    rows = counts.most_common(MAX_ROWS)
    rest = counts.total() - sum(count for _, count in rows)
    return rows + ([(f"{len(counts) - MAX_ROWS} others", rest)] if rest else [])


def by_kind(faults: Sequence[Fault]) -> dict[str, list[Fault]]:
    groups: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[fault.kind].append(fault)
    return groups


def headline(checked: Checked) -> str:
    """`118 of 120 clips are good: 96 train, 22 val; 3 classes; 8.4 min`."""
    parts = Counter(str(item.split) for item in checked.items)
    splits = ", ".join(f"{parts[split]} {split}" for split in SPLITS if parts[split])
    seconds = sum(checked.of(item).seconds for item in checked.items)
    length = (
        f"{seconds / 3600:.1f} h"
        if seconds >= 7200
        else f"{seconds / 60:.1f} min"
        if seconds >= 120
        else f"{seconds:.0f} s"
    )
    good = "all" if len(checked.items) == checked.total else f"{len(checked.items)} of"
    classes = len({item.label for item in checked.items})
    drawn = " (split drawn here)" if checked.drawn else ""
    return f"{good} {checked.total} clips are good: {splits or 'none'}{drawn}; {classes} classes; {length} of video"


# --- text ------------------------------------------------------------------------------------------------------------


def text_report(checked: Checked) -> str:
    """Lines for the console; faults last, where one looks."""
    lines = []
    counts = checked.counts()
    splits = [split for split in SPLITS if any(split in count for count in counts.values())]
    width = min(40, max((len(readable(label)) for label in counts), default=0))
    if counts:
        lines.append(f"{'class':<{max(width, 5)}}  " + "  ".join(f"{split:>6}" for split in splits))
        top = max(count.total() for count in counts.values())
        for label, count in sorted(counts.items(), key=lambda pair: (-pair[1].total(), pair[0])):
            numbers = "  ".join(f"{count[split]:>6}" for split in splits)
            name = readable(label)
            name = name if len(name) <= 40 else name[:37] + "..."
            lines.append(
                f"{name:<{max(width, 5)}}  {numbers}  {'#' * max(1, round(BAR * count.total() / top))}"
            )
    for title, rows in histograms(checked):
        if rows:
            lines += ["", title]
            wide, top = max(len(name) for name, _ in rows), max(count for _, count in rows)
            lines += [
                f"  {name:<{wide}}  {n:>6}  {'#' * (n and max(1, round(BAR * n / top)))}".rstrip()
                for name, n in rows
            ]
    if checked.notes:
        lines += ["", *(f"note: {readable(note)}" for note in checked.notes)]
    for kind, group in by_kind(checked.faults).items():
        about = KINDS[kind]
        lines += [
            "",
            f"{kind}: {about.title}, {len(group)}{' (left out)' if about.left_out else ''}; {about.advice}",
        ]
        lines += [f"  {readable(str(fault))}" for fault in group[:SHOWN]]
        lines += [f"  ... and {len(group) - SHOWN} more, see {BAD}"] if len(group) > SHOWN else []
    return "\n".join([*lines, "", headline(checked)])


# --- HTML ------------------------------------------------------------------------------------------------------------


def html_report(checked: Checked, title: str) -> str:
    """One page without scripts and without anything from elsewhere; readable in light and dark."""
    say = lambda text: html.escape(readable(text))  # noqa: E731
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{say(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{say(title)}</h1><p>{say(headline(checked))}</p>",
    ]
    parts += [f"<p>Note: {say(note)}</p>" for note in checked.notes]
    groups = by_kind(checked.faults)
    parts.append(
        f'<h2>Faults: <span class="{"bad" if groups else ""}">{len(checked.faults) or "none"}</span></h2>'
    )
    for kind, group in groups.items():
        about = KINDS[kind]
        advice = f"{len(group)}{', left out' * about.left_out}; {say(about.advice)}"
        parts.append(f"<details open><summary><b>{say(about.title)}</b>: {advice}</summary><table>")
        for fault in group[:SHOWN_HTML]:
            where = (
                f"{say(fault.path)}<br><small>{say(fault.place)}</small>"
                if fault.place
                else say(fault.path)
            )
            parts.append(f'<tr><td class="name">{where}</td><td>{say(fault.text)}</td></tr>')
        more = len(group) - SHOWN_HTML
        parts.append(
            "</table>"
            + (f"<p>... and {more} more, see {BAD}</p>" if more > 0 else "")
            + "</details>"
        )
    counts = checked.counts()
    splits = [split for split in SPLITS if any(split in count for count in counts.values())]
    rows = sorted(counts.items(), key=lambda pair: (-pair[1].total(), pair[0]))
    head = "".join(f'<th class="n">{split}</th>' for split in splits)
    parts.append(f"<h2>Classes: {len(counts)}</h2><table><tr><th>class</th>{head}<th></th></tr>")
    top = max((count.total() for count in counts.values()), default=1)
    for label, count in rows:
        numbers = "".join(f'<td class="n">{count[split]}</td>' for split in splits)
        parts.append(
            f'<tr><td class="name">{say(label)}</td>{numbers}{bar(count.total(), top)}</tr>'
        )
    parts.append("</table>")
    for name, values in histograms(checked):
        top = max((n for _, n in values), default=1)
        parts.append(f"<h2>{say(name)}</h2><table>")
        parts += [
            f'<tr><td>{say(what)}</td><td class="n">{n}</td>{bar(n, top)}</tr>'
            for what, n in values
        ]
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def bar(count: int, top: int) -> str:
    return f'<td class="bar"><div style="width:{100 * count / max(1, top):.1f}%"></div></td>'
