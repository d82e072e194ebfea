"""Timelines as an HTML page: one file that fetches nothing and runs no script."""

from collections.abc import Mapping, Sequence
from typing import Any

from paddlevideo.html_page import escape, page

COLORS = ("--c1", "--c2", "--c3", "--c4", "--c5")
MAX_ROWS = 12  # classes that are drawn, those with most time; the table has all
OPEN_ROWS = 30  # rows of a table that are visible at once; the others are folded
WIDTH = 1000  # units of a drawing, which is as wide as the page
MAX_MARKS = 6
STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.2rem 1rem 3rem; }
h1 { font-size: 1.5rem; margin: 0 0 .4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
h2, p { overflow-wrap: anywhere; } p { margin: .2rem 0 .8rem; } .soft { color: var(--soft); }
.row { margin: .35rem 0; } .row span { font-size: .85rem; overflow-wrap: anywhere; }
.row .sum { color: var(--soft); float: right; padding-left: .6rem; }
.row svg, .marks svg { background: var(--card); border-radius: 4px; clear: both; display: block;
  height: 1.1rem; width: 100%; }
.marks { color: var(--soft); display: flex; font-size: .75rem; justify-content: space-between; }
.scroll { overflow-x: auto; }
td, th { border-bottom: 1px solid color-mix(in srgb, var(--faint) 55%, transparent);
  padding: .25rem .7rem .25rem 0; vertical-align: top; }
th { color: var(--soft); font-size: .85rem; font-weight: 600; }
td.n, th.n { white-space: nowrap; width: 1%; }
.class { display: flex; gap: 1rem; justify-content: space-between; }
.n { font-variant-numeric: tabular-nums; } i { border-radius: 2px; display: inline-block;
  height: .75em; margin-right: .4em; width: .75em; }
"""
FAULT = "no scores"  # the row of the segments with errors


def timeline_page(timelines: Sequence[Mapping[str, Any]]) -> str:
    """The page of one or several timelines.

    Args:
        timelines: plain data, as `writers.VideoTimeline.json`.
    """
    parts = ["<h1>Timelines</h1>" if len(timelines) > 1 else "<h1>Timeline</h1>"]
    for timeline in timelines:
        parts.append(_section(timeline))
    return page("Timeline", "\n".join(parts), STYLE)


def clock(second: float) -> str:
    """A time for people: 1:05.2, or 1:02:05.2 with hours."""
    tenths = round(second * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{head}:{tenths // 10:02}.{tenths % 10}"


def _section(timeline: Mapping[str, Any]) -> str:
    """One video: a strip per class, and all segments as a table."""
    segments = timeline["segments"]
    parts = [f'<section><h2 class="name">{escape(timeline["input_path"])}</h2>']
    if timeline.get("error") is not None:
        parts.append(f'<p class="bad">{escape(timeline["error"])}</p>')
    if not segments:
        return "\n".join([*parts, '<p class="soft">no segments</p></section>'])
    end = max(segment["end"] for segment in segments)
    rows = _rows(segments)
    number = f"{len(segments)} segment{'s' * (len(segments) > 1)}"
    parts.append(f'<p class="soft">{number} up to {clock(end)}</p>')
    colors = {}
    for place, name in enumerate(name for name in rows if name != FAULT):
        colors[name] = COLORS[place % len(COLORS)]
    colors[FAULT] = "--bad"
    for name, row in list(rows.items())[:MAX_ROWS]:
        parts.append(_strip(name, row, end, colors[name]))
    parts.append(_marks(end))
    if len(rows) > MAX_ROWS:
        parts.append(f'<p class="soft">{len(rows) - MAX_ROWS} classes with less time are not '
                     "drawn; the table has all of them</p>")  # fmt: skip
    return "\n".join([*parts, _table(segments, colors), "</section>"])


def _name(segment: Mapping[str, Any]) -> str:
    return FAULT if "error" in segment else str(segment["label_names"][0])


def _rows(segments: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """{class: its segments}, those with most time first."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for segment in segments:
        rows.setdefault(_name(segment), []).append(segment)
    return dict(sorted(rows.items(), key=lambda row: -_seconds(row[1])))


def _seconds(row: Sequence[Mapping[str, Any]]) -> float:
    return sum(segment["end"] - segment["start"] for segment in row)


def _strip(name: str, row: Sequence[Mapping[str, Any]], end: float, color: str) -> str:
    """A class: its segments as bars over the time, darker for higher scores."""
    bars = []
    for segment in row:
        left = WIDTH * segment["start"] / max(end, 1e-9)
        width = max(1.5, WIDTH * (segment["end"] - segment["start"]) / max(end, 1e-9))
        score = segment["scores"][0] if "scores" in segment else 1.0
        text = f"{clock(segment['start'])} - {clock(segment['end'])} "
        text += f"{score:.2f}" if "scores" in segment else segment["error"]
        bars.append(
            f'<rect x="{left:.1f}" width="{width:.1f}" height="20" style="fill: var({color})" '
            f'opacity="{0.35 + 0.65 * min(max(score, 0), 1):.2f}">'
            f"<title>{escape(text)}</title></rect>"
        )
    drawing = f'<svg viewBox="0 0 {WIDTH} 20" preserveAspectRatio="none" role="img" '
    drawing += f'aria-label="{escape(name)}">{"".join(bars)}</svg>'
    total = f'<span class="sum">{_seconds(row):.1f} s</span>'
    return f'<div class="row">{total}<span>{escape(name)}</span>{drawing}</div>'


def _marks(end: float) -> str:
    """Times below the strips, at even distances from 0 to the end."""
    number = max(1, min(MAX_MARKS, int(end))) if end < MAX_MARKS else MAX_MARKS - 1
    texts = [clock(end * place / number) for place in range(number + 1)]
    return f'<div class="marks">{"".join(f"<span>{text}</span>" for text in texts)}</div>'


def _table(segments: Sequence[Mapping[str, Any]], colors: Mapping[str, str]) -> str:
    lines = []
    for segment in segments:
        name = _name(segment)
        span = "".join(f'<td class="n">{clock(segment[key])}</td>' for key in ("start", "end"))
        if "error" in segment:
            lines.append(f'<tr>{span}<td class="bad name">{escape(segment["error"])}</td>')
            continue
        mark = f'<i style="background: var({colors[name]})"></i>'
        classes = zip(segment["label_names"], segment["scores"], strict=True)
        rows = [
            f'<div class="class"><span class="name">{mark if place == 0 else ""}{escape(label)}'
            f'</span><span class="n">{score:.2f}</span></div>'
            for place, (label, score) in enumerate(classes)
        ]
        lines.append(f"<tr>{span}<td>{''.join(rows)}</td>")
    head = '<tr><th class="n">start</th><th class="n">end</th><th>class and score</th></tr>'
    table = f'<div class="scroll"><table>{head}{"</tr>".join(lines)}</tr></table></div>'
    if len(segments) <= OPEN_ROWS:
        return table
    return f"<details><summary>all {len(segments)} segments</summary>{table}</details>"
