"""List files and tables -> rows, with file:line for whatever is wrong. Which files they are is told in datasets.py."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paddlevideo.media.containers import VIDEO_SUFFIXES

MAX_SHOWN = 10


class DatasetError(ValueError):
    """A list, table or folder that gives no data set; the message holds file:line of each problem."""


class Row(NamedTuple):
    """One record as written: `line` counts from 1, 0 for what a folder holds. tools/check_data.py uses `source`.

    `labels`: those of a column of that name, where a video may have several; `label` is empty then.
    """

    line: int
    path: str
    label: str
    num_frames: int | None = None
    start_sec: float | None = None
    end_sec: float | None = None
    split: str | None = None
    source: str | None = None
    labels: tuple[str, ...] | None = None


class Problems:
    """What is wrong in a file, gathered so that one run shows all of it: `found` holds (line, message)."""

    def __init__(self, source: str):
        self.source = source
        self.found: list[tuple[int, str]] = []

    @property
    def count(self) -> int:
        return len(self.found)

    def add(self, line: int, message: str) -> None:
        self.found.append((line, message))

    def stop(self) -> None:
        """Raise if there were any."""
        if self.found:
            shown = [
                f"{self.source}:{line}: {text}" if line else f"{self.source}: {text}"
                for line, text in self.found[:MAX_SHOWN]
            ]
            rest = [f"... and {self.count - len(shown)} more"] if self.count > len(shown) else []
            raise DatasetError("\n".join(shown + rest))


def read_rows(
    file: Path,
    with_num_frames: bool,
    what: str = "folder",
    whole: Callable[[str], bool] | None = None,
    several: bool = False,
) -> tuple[list[Row], Problems]:
    """The rows of a list or table, and what is wrong with the others.

    Args:
        what: stands before the number of frames in a line, for messages.
        whole: whether a text is a path already, by its suffix; such a line may leave out the number of frames.
        several: a video may have several labels: `3,17` in a list, a column `labels` in a table.

    Raises:
        DatasetError: no such file, not UTF-8 text, or nothing in it.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        what = "no such file or folder; set file_path to a list, a table, or a folder with one sub-folder per class"
        raise DatasetError(f"{file}: {what}") from None
    except UnicodeDecodeError as error:
        hint = (
            "a video is not a list: write its path into one"
            if file.suffix.lower() in VIDEO_SUFFIXES
            else "save it as UTF-8"
        )
        raise DatasetError(f"{file}: not UTF-8 text (byte {error.start}); {hint}") from None
    # Not splitlines(): it also breaks at characters that may stand in a name.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    problems = Problems(str(file))
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        rows = rows_of_dicts(json_lines(lines, problems), problems, with_num_frames, several)
    elif columns := header(lines[0]):
        rows = rows_of_dicts(
            csv_lines(lines, columns, problems), problems, with_num_frames, several
        )
    else:
        rows = list_lines(lines, problems, with_num_frames, what, whole)
        if several:
            rows = [
                row._replace(
                    label="", labels=row_labels({"labels": row.label.replace(",", ";")}, True)[1]
                )
                for row in rows
            ]
    if not rows:
        problems.stop()
        raise DatasetError(
            f"{file}: no records in it; a line is '{f'{what} num_frames label' if with_num_frames else 'path label'}'"
        )
    return rows, problems


def header(line: str) -> list[str] | None:
    """The column names of a comma-separated table; None for a list, whatever its file is called."""
    columns = [name.strip().strip('"').lower() for name in line.split(",")]
    return columns if "path" in columns and len(columns) > 1 else None


def list_lines(
    lines: list[str],
    problems: Problems,
    with_num_frames: bool,
    what: str = "folder",
    whole: Callable[[str], bool] | None = None,
) -> list[Row]:
    """Rows of a white-space list; the label is the last word, so that a path may hold spaces."""
    rows = []
    for number, line in enumerate(lines, 1):
        counted = with_num_frames and not (
            whole and line.strip() and whole(line.rsplit(None, 1)[0].strip())
        )
        words = line.rsplit(None, 2 if counted else 1)
        if not words:
            continue
        if counted:
            if len(words) < 3 or not words[1].isdecimal() or int(words[1]) == 0:
                problems.add(
                    number,
                    f"{line.strip()!r} is not '{what} num_frames label' with at least one frame",
                )
            else:
                rows.append(Row(number, words[0].strip(), words[2], int(words[1])))
        elif len(words) < 2:
            problems.add(
                number, f"{line.strip()!r} has no label behind the path; write 'path label'"
            )
        else:
            rows.append(Row(number, words[0].strip(), words[1]))
    return rows


def csv_lines(
    lines: list[str], columns: list[str], problems: Problems
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, column -> cell) of a comma-separated table below its first line; quoted cells may hold commas."""
    reader = csv.reader(lines[1:])
    for cells in reader:
        number = reader.line_num + 1
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            problems.add(
                number,
                f"{len(cells)} columns, the first line names {len(columns)}: {', '.join(columns)}",
            )
            continue
        yield number, {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}


def json_lines(lines: list[str], problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a table with one JSON object a line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            problems.add(number, f"not JSON: {error}")
            continue
        if isinstance(values, dict):
            yield number, values
        else:
            problems.add(number, f"{line.strip()!r} is not an object with path and label")


def rows_of_dicts(
    items: Iterable[tuple[int, dict[str, Any]]],
    problems: Problems,
    with_num_frames: bool,
    several: bool = False,
) -> list[Row]:
    """Rows of a table: path and label (`several`: or labels), and where given start_sec, end_sec, num_frames, split and source;
    what is wrong goes to `problems`."""
    rows = []
    for number, values in items:
        path = values.get("path")
        if not isinstance(path, str) or not path:
            problems.add(
                number, f"no path{'' if path in (None, '') else f': {path!r} is not text'}"
            )
        else:
            try:
                label, labels = row_labels(values, several)
                start, end = seconds(values, "start_sec"), seconds(values, "end_sec")
                num_frames = whole_frames(values) if with_num_frames else None
            except ValueError as error:
                problems.add(number, str(error))
                continue
            if end is not None and end <= (start or 0):
                problems.add(number, f"end_sec {end} is not after start_sec {start or 0}")
            elif with_num_frames and (start is not None or end is not None):
                problems.add(
                    number,
                    "start_sec and end_sec are for videos; a folder of frames has no frame rate",
                )
            else:
                split, source = (
                    str(values[key]) if values.get(key) else None for key in ("split", "source")
                )
                rows.append(Row(number, path, label, num_frames, start, end, split, source, labels))
    return rows


def row_labels(values: dict[str, Any], several: bool) -> tuple[str, tuple[str, ...] | None]:
    """(label, None), or ("", labels) of a video that may have several: a list, or text with `;` between them.

    Raises:
        ValueError: there is no label, or something else in its place.
    """
    label, labels = values.get("label"), values.get("labels")
    if several and "labels" in values:
        if "label" in values:
            raise ValueError("label and labels side by side; keep one of them")
        parts = labels.split(";") if isinstance(labels, str) else labels
        if not isinstance(parts, list) or not all(
            isinstance(p, int | str) and not isinstance(p, bool) for p in parts
        ):
            raise ValueError(f"labels {labels!r} is not a list of class ids or class names")
        return "", tuple(dict.fromkeys(text for part in parts if (text := str(part).strip())))
    if label in (None, "") and "labels" in values:
        raise ValueError(
            "labels, several a video: they take DATASET.multi_label: true in a training; check_data reads one"
        )
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
        raise ValueError(
            f"label {label!r} is neither a class id nor a class name" if label else "no label"
        )
    if several and ";" in str(label):
        raise ValueError(f"label {label!r}: several of them stand in a column called labels")
    return str(label), None


def seconds(values: dict[str, Any], key: str) -> float | None:
    """A time (seconds), None where the cell is empty."""
    value = values.get(key)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{key} {value!r} is not a time in seconds")
    return number


def whole_frames(values: dict[str, Any]) -> int | None:
    """The number of frames, None where the folder is to be counted."""
    value = values.get("num_frames")
    if value is None or value == "":
        return None
    if not str(value).isdecimal() or int(value) == 0:
        raise ValueError(f"num_frames {value!r} is not a number of frames")
    return int(value)
