"""Report a check of a data set to people: as text for the console, and as an HTML page."""

import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from paddlevideo.curate.check import CheckResult
from paddlevideo.curate.faults import KINDS, Fault
from paddlevideo.curate.probe import VideoInfo
from paddlevideo.curate.probe_audio import AudioInfo
from paddlevideo.curate.results import BAD_FILES
from paddlevideo.data.paths import SPLITS
from paddlevideo.html_page import SPLIT_COLORS, escape, page
from paddlevideo.plain_text import readable

BAR_WIDTH = 40  # characters of the longest bar
NAME_WIDTH = 40  # characters of the longest class name
MAX_ROWS = 12  # of a histogram
MAX_SIZES = 5  # frame sizes that have a row each
# Lower limits of the bins of short sides (px): common sizes of videos.
SHORT_SIDES = (64, 120, 180, 240, 360, 480, 720, 1080, 1440, 2160)
MAX_FAULTS_TEXT = 5  # of each kind
MAX_FAULTS_HTML = 500
STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
td, th { padding: .15rem .6rem .15rem 0; vertical-align: top; }
tr { border-bottom: 1px solid var(--faint); } summary { margin-top: .6rem; }
.bar { width: 45%; } .bar div { background: var(--c1); height: .8rem; border-radius: 2px; }
.bar span { border-radius: 2px; display: flex; height: .8rem; overflow: hidden; }
details .name { width: 42%; }
"""


class Histogram(NamedTuple):
    """A histogram of clips.

    Args:
        title: the property and its unit.
        rows: (value or range, number of clips).
    """

    title: str
    rows: list[tuple[str, int]]


def histograms(result: CheckResult) -> list[Histogram]:
    """Count the usable clips by duration, and by frame rate and size or by sample rate and
    channels."""
    infos = [result.info(clip) for clip in result.clips]
    videos = [info for info in infos if isinstance(info, VideoInfo)]
    sounds = [info for info in infos if isinstance(info, AudioInfo)]
    seconds = [info.seconds for info in videos if info.fps] + [info.seconds for info in sounds]
    found = [Histogram("duration (s)", duration_rows(seconds))]
    if videos:
        rates = Counter(f"{info.fps:.2f}".rstrip("0").rstrip(".") for info in videos)
        found.append(Histogram("frames per second", most_common_rows(rates)))
        found.append(size_histogram([(info.width, info.height) for info in videos]))
    if sounds:
        sample_rates = Counter(f"{info.sample_rate}" for info in sounds)
        channels = Counter(f"{info.num_channels}" for info in sounds)
        found.append(Histogram("sample rate (Hz)", most_common_rows(sample_rates)))
        found.append(Histogram("channels", most_common_rows(channels)))
    return found


def size_histogram(sizes: Sequence[tuple[int, int]]) -> Histogram:
    """Count clips by frame size (width, height), or by short side where there are many sizes."""
    counts = Counter(f"{width}x{height}" for width, height in sizes)
    if len(counts) <= MAX_SIZES:
        return Histogram("width x height (px)", most_common_rows(counts))
    bins = Counter(bisect.bisect(SHORT_SIDES, min(size)) for size in sizes)
    rows = []
    for number in range(min(bins), max(bins) + 1):
        start = SHORT_SIDES[number - 1] if number else 1
        is_last = number == len(SHORT_SIDES)
        name = f"{start} and more" if is_last else f"{start} - {SHORT_SIDES[number] - 1}"
        rows.append((name, bins[number]))
    return Histogram(f"short side (px), {len(counts)} frame sizes", rows)


def duration_rows(seconds: Sequence[float]) -> list[tuple[str, int]]:
    """Count clips by duration.

    The bins are 1, 2 or 5 times a power of ten wide. Where the longest clips, at most 5 %, would
    need more than MAX_ROWS bins, they share the last one.

    Args:
        seconds: duration of each clip.

    Returns:
        (range in seconds, number of clips), without empty bins at both ends.
    """
    if not seconds:
        return []
    longest = sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
    min_width = max(longest, 1e-3) / (MAX_ROWS - 1)
    unit = 10.0 ** math.floor(math.log10(min_width))
    width = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= min_width)
    last = MAX_ROWS - 1
    counts = Counter(min(int(value / width + 1e-9), last) for value in seconds)
    is_last_open = max(seconds) >= MAX_ROWS * width
    rows = []
    for number in range(min(counts), max(counts) + 1):
        if number == last and is_last_open:
            name = f"{number * width:g} and more"
        else:
            name = f"{number * width:g} - {(number + 1) * width:g}"
        rows.append((name, counts[number]))
    return rows


def most_common_rows(counts: Counter) -> list[tuple[str, int]]:
    """Return the MAX_ROWS most common values, and the sum of the others."""
    rows = counts.most_common(MAX_ROWS)
    rest = counts.total() - sum(count for _, count in rows)
    return rows + ([(f"{len(counts) - MAX_ROWS} others", rest)] if rest else [])


def class_rows(result: CheckResult) -> tuple[list[str], list[tuple[str, Counter]]]:
    """Return the splits that have clips, and (label, counts of each split), largest first."""
    counts = result.counts()
    splits = [split for split in SPLITS if any(split in count for count in counts.values())]
    return splits, sorted(counts.items(), key=lambda pair: (-pair[1].total(), pair[0]))


def faults_by_kind(faults: Sequence[Fault]) -> dict[str, list[Fault]]:
    groups: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[fault.kind].append(fault)
    return groups


def headline(result: CheckResult) -> str:
    """Summarize the check: `11 of 35 clips are good: 9 train, 2 valid; 3 classes; 5 s of video`."""
    num_good = len(result.clips)
    good = "all" if num_good == result.num_listed else f"{num_good} of"
    counts = Counter(str(clip.split) for clip in result.clips)
    splits = ", ".join(f"{counts[split]} {split}" for split in SPLITS if counts[split]) or "none"
    drawn = " (split drawn here)" if result.splits_drawn else ""
    num_classes = len({clip.label for clip in result.clips})
    classes = "1 class" if num_classes == 1 else f"{num_classes} classes"
    length = duration_text(sum(result.info(clip).seconds for clip in result.clips))
    return (
        f"{good} {result.num_listed} clips are good: {splits}{drawn}; "
        f"{classes}; {length} of {result.media}"
    )


def duration_text(seconds: float) -> str:
    """Format a duration: `51 s`, `8.4 min`, `2.5 h`."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s"


# --- text -----------------------------------------------------------------------------------------


def text_report(result: CheckResult) -> str:
    """Return the report for the console. It ends with the faults and the headline."""
    lines = class_lines(result)
    for title, rows in histograms(result):
        if rows:
            lines += ["", title]
            width = max(len(name) for name, _ in rows)
            top = max(count for _, count in rows)
            for name, count in rows:
                lines.append(f"  {name:<{width}}  {count:>6}  {text_bar(count, top)}".rstrip())
    if result.notes:
        lines += ["", *(f"note: {readable(note)}" for note in result.notes)]
    for kind, group in faults_by_kind(result.faults).items():
        title, left_out, advice = KINDS[kind]
        count = f"{len(group)} (left out)" if left_out else f"{len(group)}"
        lines += ["", f"{kind}: {title}, {count}; {advice}"]
        lines += [f"  {readable(str(fault))}" for fault in group[:MAX_FAULTS_TEXT]]
        if len(group) > MAX_FAULTS_TEXT:
            lines.append(f"  ... and {len(group) - MAX_FAULTS_TEXT} more, see {BAD_FILES}")
    lines += ["", *(readable(line) for line in result.split_lines)] if result.split_lines else []
    return "\n".join([*lines, "", headline(result)])


def class_lines(result: CheckResult) -> list[str]:
    """Return a table of the classes; no lines without clips."""
    splits, rows = class_rows(result)
    if not rows:
        return []
    names = [readable(label) for label, _ in rows]
    width = max(len("class"), min(NAME_WIDTH, max(map(len, names))))
    top = max(count.total() for _, count in rows)
    lines = [f"{'class':<{width}}  " + "  ".join(f"{split:>6}" for split in splits)]
    for name, (_, count) in zip(names, rows, strict=True):
        numbers = "  ".join(f"{count[split]:>6}" for split in splits)
        shown = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 3] + "..."
        lines.append(f"{shown:<{width}}  {numbers}  {text_bar(count.total(), top)}")
    return lines


def text_bar(count: int, top: int) -> str:
    return "#" * max(1, round(BAR_WIDTH * count / top)) if count else ""


# --- HTML -----------------------------------------------------------------------------------------


def html_report(result: CheckResult, title: str) -> str:
    """Return the report as one HTML page that needs no other files."""
    parts = [f"<h1>{escape(title)}</h1><p>{escape(headline(result))}</p>"]
    parts += [f"<p>Note: {escape(note)}</p>" for note in result.notes]
    parts += [f"<p>{escape(line)}</p>" for line in result.split_lines]
    parts += html_faults(result)
    parts += html_classes(result)
    for name, rows in histograms(result):
        top = max((count for _, count in rows), default=1)
        parts.append(f"<h2>{escape(name)}</h2><table>")
        for value, count in rows:
            cells = f'<td>{escape(value)}</td><td class="n">{count}</td>{html_bar(count, top)}'
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table>")
    return page(title, "\n".join(parts), STYLE)


def html_faults(result: CheckResult) -> list[str]:
    """Return a heading, and a table of the faults of each kind."""
    css_class, total = ("bad", len(result.faults)) if result.faults else ("", "none")
    parts = [f'<h2>Faults: <span class="{css_class}">{total}</span></h2>']
    for kind, group in faults_by_kind(result.faults).items():
        title, left_out, advice = KINDS[kind]
        count = f"{len(group)}, left out" if left_out else f"{len(group)}"
        summary = f"<b>{escape(title)}</b>: {count}; {escape(advice)}"
        parts.append(f"<details open><summary>{summary}</summary><table>")
        for fault in group[:MAX_FAULTS_HTML]:
            name = escape(fault.path)
            if fault.location:
                name += f"<br><small>{escape(fault.location)}</small>"
            parts.append(f'<tr><td class="name">{name}</td><td>{escape(fault.text)}</td></tr>')
        parts.append("</table>")
        if len(group) > MAX_FAULTS_HTML:
            parts.append(f"<p>... and {len(group) - MAX_FAULTS_HTML} more, see {BAD_FILES}</p>")
        parts.append("</details>")
    return parts


def html_classes(result: CheckResult) -> list[str]:
    """Return a heading and a table of the classes."""
    splits, rows = class_rows(result)
    head = "".join(
        f'<th class="n" style="color:var({SPLIT_COLORS[split]})">{split}</th>' for split in splits
    )
    parts = [f"<h2>Classes: {len(rows)}</h2><table><tr><th>class</th>{head}<th></th></tr>"]
    top = max((count.total() for _, count in rows), default=1)
    for label, count in rows:
        numbers = "".join(f'<td class="n">{count[split]}</td>' for split in splits)
        bar = html_split_bar(count, splits, top)
        parts.append(f'<tr><td class="name">{escape(label)}</td>{numbers}{bar}</tr>')
    parts.append("</table>")
    return parts


def html_bar(count: int, top: int) -> str:
    percent = 100 * count / max(1, top)
    return f'<td class="bar"><div style="width:{percent:.1f}%"></div></td>'


def html_split_bar(counts: Counter, splits: Sequence[str], top: int) -> str:
    """A bar with a part in the color of each split; `top` is the largest total of all bars."""
    parts = "".join(
        f'<i style="background:var({SPLIT_COLORS[split]});width:{100 * counts[split] / top:.1f}%">'
        "</i>"
        for split in splits
    )
    return f'<td class="bar"><span>{parts}</span></td>'
