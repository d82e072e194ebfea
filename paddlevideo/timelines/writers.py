"""Files of timelines: JSON, JSON lines, CSV, WebVTT and SRT subtitles, and an HTML page.

with timeline_file("out.vtt") as out:
    out.begin("long.mp4")
    for segment in timeline.segments("long.mp4"):
        out.write(segment)
    out.end()
"""

import csv
import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from paddlevideo.files import atomic_write, json_text
from paddlevideo.plain_text import readable
from paddlevideo.timelines.page import timeline_page
from paddlevideo.timelines.segments import DIGITS, Segment

SUFFIXES = (".json", ".jsonl", ".csv", ".vtt", ".srt", ".html")
SUBTITLES = (".vtt", ".srt")  # a player takes one of them per video
COLUMNS = ("input_path", "start", "end", "rank", "class_id", "score", "label_name", "error")


@dataclass
class VideoTimeline:
    """The timeline of one input, complete.

    Args:
        input_path: the file as it was given.
        segments: in the order in which they were closed.
        error: why there is no timeline, or why it is incomplete; None if it is complete.
    """

    input_path: str
    segments: list[Segment] = field(default_factory=list)
    error: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        """Plain data: input_path, segments by their start, and error if there is one."""
        segments = sorted(self.segments, key=lambda segment: segment.start)
        content: dict[str, Any] = {"input_path": self.input_path}
        content["segments"] = [segment.json for segment in segments]
        return content | ({"error": self.error} if self.error is not None else {})


class TimelineWriter:
    """Writes the timelines of one or several inputs to an open file."""

    def __init__(self, file: TextIO):
        self._file, self._path = file, ""

    def begin(self, input_path: str) -> None:
        """Begin the timeline of an input."""
        self._path = input_path

    def write(self, segment: Segment) -> None:
        """Write a segment of this input."""
        raise NotImplementedError

    def end(self, error: str | None = None) -> None:
        """End the timeline of this input.

        Args:
            error: why there is none, or why it is incomplete.
        """

    def close(self) -> None:
        """Write what ends the file."""


class JsonLines(TimelineWriter):
    """A line per segment, readable at once."""

    def write(self, segment: Segment) -> None:
        self._line({"input_path": self._path, **segment.json})

    def end(self, error: str | None = None) -> None:
        if error is not None:
            self._line({"input_path": self._path, "error": error})

    def _line(self, content: dict[str, Any]) -> None:
        self._file.write(json_text(content) + "\n")
        self._file.flush()


class Table(TimelineWriter):
    """CSV with a row per class of a segment.

    Args:
        live: whether there is a column for the latency.
    """

    def __init__(self, file: TextIO, live: bool = False):
        super().__init__(file)
        self._rows, self._live = csv.writer(file, lineterminator="\n"), live
        self._rows.writerow([*COLUMNS, *(["latency"] if live else [])])

    def write(self, segment: Segment) -> None:
        span = (self._path, f"{segment.start:.{DIGITS}f}", f"{segment.end:.{DIGITS}f}")
        late = [] if segment.latency is None else [f"{segment.latency:.{DIGITS}f}"]
        late = late or [""] if self._live else []
        if segment.error is not None:
            self._rows.writerow([*span, "", "", "", "", readable(segment.error), *late])
        classes = zip(segment.class_ids, segment.scores, segment.label_names, strict=True)
        for rank, (class_id, score, name) in enumerate(classes, 1):
            self._rows.writerow([*span, rank, class_id, score, name, "", *late])

    def end(self, error: str | None = None) -> None:
        if error is not None:
            late = [""] if self._live else []
            self._rows.writerow([self._path, "", "", "", "", "", "", readable(error), *late])


class Subtitles(TimelineWriter):
    """WebVTT or SRT. A segment is shown with the names and scores of its classes.

    Segments of several classes at a time are closed in another order than they begin, and WebVTT
    has its cues in the order of their start. So they are written at the end.

    Args:
        vtt: whether it is WebVTT, else SRT.
    """

    def __init__(self, file: TextIO, vtt: bool):
        super().__init__(file)
        self._vtt = vtt
        self._cues: list[tuple[float, str]] = []  # (start, text)

    def write(self, segment: Segment) -> None:
        start, end = (self._time(second) for second in (segment.start, segment.end))
        if start == end:
            return
        lines = [f"{start} --> {end}", *map(self._text, segment_lines(segment))]
        self._cues.append((segment.start, "\n".join(lines) + "\n"))

    def close(self) -> None:
        cues = [text for _, text in sorted(self._cues, key=lambda cue: cue[0])]
        if self._vtt:
            cues = ["WEBVTT\n", *cues]
        else:
            cues = [f"{number}\n{text}" for number, text in enumerate(cues, 1)]
        self._file.write("\n".join(cues))

    def _time(self, second: float) -> str:
        """A time as hours:minutes:seconds and milliseconds, after the comma in SRT."""
        seconds, ms = divmod(round(second * 1000), 1000)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:02}:{minutes:02}:{seconds:02}{'.' if self._vtt else ','}{ms:03}"

    def _text(self, text: str) -> str:
        """A line that players show as it is. SRT has no way to write the signs of its tags."""
        if self._vtt:
            return html.escape(text, quote=False)
        return text.translate(str.maketrans("<>{}", "‹›()")).replace("-->", "→").replace("--›", "→")


class Collected(TimelineWriter):
    """Formats whose file is written when everything is known: JSON and HTML.

    Args:
        as_page: whether it is HTML, else JSON.
    """

    def __init__(self, file: TextIO, as_page: bool):
        super().__init__(file)
        self._as_page = as_page
        self._timelines: list[VideoTimeline] = []

    def begin(self, input_path: str) -> None:
        self._timelines.append(VideoTimeline(input_path))

    def write(self, segment: Segment) -> None:
        self._timelines[-1].segments.append(segment)

    def end(self, error: str | None = None) -> None:
        self._timelines[-1].error = error

    def close(self) -> None:
        content = [timeline.json for timeline in self._timelines]
        text = timeline_page(content) if self._as_page else json_text(content, indent=1) + "\n"
        self._file.write(text)


def segment_lines(segment: Segment) -> list[str]:
    """A line for each class of a segment, as "archery 0.99", or one with its error."""
    if segment.error is not None:
        return [f"({readable(segment.error)})"]
    rows = zip(segment.label_names, segment.scores, strict=True)
    return [f"{readable(name) or 'no name'} {score:.2f}" for name, score in rows]


def check_timeline_suffix(path: str | Path) -> None:
    """Check that timelines can be written to a file of this name.

    Raises:
        ValueError: they cannot.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path}: expected a file for timelines, which ends in {', '.join(SUFFIXES)}"
        )


@contextmanager
def timeline_file(path: str | Path, live: bool = False) -> Iterator[TimelineWriter]:
    """Yield a writer for a file; its suffix selects the format.

    `.jsonl` grows line by line. Any other file appears when the block ends without an error.

    Args:
        live: whether segments have a latency.

    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written.
    """
    check_timeline_suffix(path)
    suffix = Path(path).suffix.lower()
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    if suffix == ".jsonl":
        with Path(path).open("w", **options) as file:
            yield JsonLines(file)
        return
    with atomic_write(path) as temporary, temporary.open("w", **options) as file:
        if suffix == ".csv":
            writer: TimelineWriter = Table(file, live)
        elif suffix in SUBTITLES:
            writer = Subtitles(file, suffix == ".vtt")
        else:
            writer = Collected(file, suffix == ".html")
        yield writer
        writer.close()
