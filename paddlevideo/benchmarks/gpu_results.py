"""The results of gpu-check: a row for each check, as JSON and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddlevideo.files import atomic_write, json_text
from paddlevideo.html_page import escape, page

STYLE = "body { max-width: 72rem; margin: 2rem auto; } td { vertical-align: top; padding: .3rem; }"


@dataclass(frozen=True)
class Row:
    """The result of one check.

    Args:
        status: pass, fail or skipped.
        result: what was measured.
        reason: why it failed or was skipped.
        seconds: that the whole row took.
        speed: relative to the same work on the CPU; 2 takes half the time.
    """

    name: str
    status: str
    result: str = ""
    reason: str = ""
    seconds: float = 0.0
    speed: float | None = None


def write_results(folder: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Write gpu_check.json and gpu_check.html."""
    content = {"rows": [asdict(row) for row in rows], "facts": facts}
    with atomic_write(folder / "gpu_check.json") as temporary:
        temporary.write_text(json_text(content, indent=1), encoding="utf-8")
    with atomic_write(folder / "gpu_check.html") as temporary:
        temporary.write_text(html_of(rows, facts), encoding="utf-8")


def html_of(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """The page: a table of the rows, and the facts of the doctor."""
    colors = {"pass": "good", "fail": "bad", "skipped": ""}
    lines = ["<table><tr><th>check<th>result<th>measured<th class=n>speed<th class=n>s</tr>"]
    for row in rows:
        speed = "" if row.speed is None else f"{row.speed:.2f} x CPU"
        reason = f"<pre>{escape_lines(row.reason)}</pre>" if row.reason else ""
        lines.append(
            f"<tr><td>{escape(row.name)}<td class='{colors[row.status]}'>{row.status}"
            f"<td>{escape(row.result)}{reason}<td class=n>{speed}<td class=n>{row.seconds}</tr>"
        )
    counts = summary(rows)
    body = [f"<h1>GPU check</h1><p>{escape(counts)}</p>", *lines, "</table>"]
    facts_text = json_text(dict(facts), indent=1)
    body.append(f"<details><summary>this machine</summary><pre>{escape_lines(facts_text)}</pre>")
    return page("GPU check", "\n".join([*body, "</details>"]), STYLE)


def escape_lines(text: str) -> str:
    return "\n".join(escape(line) for line in text.splitlines())


def summary(rows: Sequence[Row]) -> str:
    """How many rows passed, failed and were skipped."""
    words = {"pass": "passed", "fail": "failed", "skipped": "skipped"}
    counts = {w: sum(row.status == status for row in rows) for status, w in words.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items())
