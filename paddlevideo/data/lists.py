"""Read list files and tables into rows; each mistake is reported with file:line.

What the relative paths of a list mean is in paths.py, and how rows become records in datasets.py.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paddlevideo.data.table_header import (
    Header,
    HeaderError,
    names_columns,
    read_header,
    table_rows,
)
from paddlevideo.log import logger
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.plain_text import plain_cell, plain_path
from paddlevideo.remote import local_copy, path_suffix, shown
from paddlevideo.urls import without_secrets

MAX_SHOWN = 10  # problems in one message
# Columns of a table that are used.
COLUMNS = ("path", "label", "labels", "num_frames", "start_sec", "end_sec", "split", "source")
OPEN_QUOTE = "a quotation mark is not closed, so the next lines belong to the same cell; close it"


class DatasetError(ValueError):
    """A list, table or folder that is not a data set; the message has file:line of each problem."""


class Row(NamedTuple):
    """One record as written in a list.

    Attributes:
        line: its line, counted from 1; 0 for a file found in a folder.
        label: class id or class name; empty where `labels` is given.
        source: the recording that the clip was cut from.
        labels: class ids or names in multi-label data.
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
    """Collects the mistakes of a file, so that one run reports all of them.

    Attributes:
        found: (line, message) of each; line 0 is the file itself.
    """

    def __init__(self, source: str):
        self.source = source
        self.found: list[tuple[int, str]] = []

    @property
    def count(self) -> int:
        return len(self.found)

    def add(self, line: int, message: str) -> None:
        self.found.append((line, message))

    def stop(self) -> None:
        """Stop if there are problems.

        Raises:
            DatasetError: with the first `MAX_SHOWN` problems.
        """
        if not self.found:
            return
        shown = []
        for line, text in self.found[:MAX_SHOWN]:
            where = f"{self.source}:{line}" if line else self.source
            shown.append(f"{where}: {text}")
        if self.count > MAX_SHOWN:
            shown.append(f"... and {self.count - MAX_SHOWN} more")
        raise DatasetError(without_secrets("\n".join(shown)))


# --- text files -----------------------------------------------------------------------------------


def read_lines(file: str | Path, fix_missing: str, fix_encoding: str) -> list[str]:
    """The lines of a UTF-8 text file, with or without a byte order mark.

    Args:
        file: a local file, or a URL.
        fix_missing, fix_encoding: what the messages of the two errors advise.

    Raises:
        DatasetError: no such file, or not UTF-8.
    """
    place = shown(file)
    try:
        text = local_copy(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{place}: no such file or folder; {fix_missing}") from None
    except UnicodeDecodeError as error:
        message = f"{place}: not UTF-8 text (byte {error.start}); {fix_encoding}"
        raise DatasetError(message) from None
    # str.splitlines() also splits at characters that are allowed in file names.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_path_list(file: str | Path, expected: str) -> list[list[Row]]:
    """Read a list of paths, each perhaps followed by a label, or by a number of frames and a label.

    A path may contain spaces, so a line can be read as `path`, as `path label` and, where the last
    word but one is a number, as `path num_frames label`. The caller chooses, by the suffix of the
    path or by what exists.

    Args:
        expected: what the file should be, for messages.

    Returns:
        for each line that is not empty its readings, the longest path first.

    Raises:
        DatasetError: no such file, or not UTF-8.
    """
    lines = read_lines(file, f"expected {expected}", f"expected {expected}")
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [path_readings(number, line) for number, line in stripped if line]


def path_readings(number: int, line: str) -> list[Row]:
    """The readings of a line without white space around it; see `read_path_list`."""
    readings = [Row(number, line, "")]
    words = line.rsplit(None, 1)
    if len(words) == 2:
        readings.append(Row(number, words[0], words[1]))
    words = line.rsplit(None, 2)
    if len(words) == 3 and words[1].isdecimal():
        readings.append(Row(number, words[0], words[2], int(words[1])))
    return readings


# --- lists and tables of labeled data -------------------------------------------------------------


def read_rows(
    file: str | Path,
    with_num_frames: bool,
    path_kind: str = "folder",
    has_suffix: Callable[[str], bool] | None = None,
    multi_label: bool = False,
) -> tuple[list[Row], Problems]:
    """The valid rows of a list or table, and the problems of the others.

    Args:
        file: a local file, or a URL.
        with_num_frames: a line of a list is `path num_frames label` instead of `path label`.
        path_kind: what messages call the path in such a line.
        has_suffix: whether a path is complete; after such a path the number of frames is optional.
        multi_label: allow `3,17` as the label in a list, and a column `labels` in a table.

    Raises:
        DatasetError: no such file, not UTF-8 text, or nothing in it.
    """
    suffix, place = path_suffix(file), shown(file)
    is_video = suffix in VIDEO_SUFFIXES
    lines = read_lines(
        file,
        "set file_path to a list, a table, or a folder with one sub-folder per class",
        "a video is not a list: write its path into one" if is_video else "save it as UTF-8",
    )
    problems = Problems(place)
    if suffix in (".jsonl", ".ndjson"):
        table = json_lines(lines, problems)
        rows = rows_of_dicts(table, problems, with_num_frames, multi_label)
    elif header := header_of(place, lines, with_num_frames, multi_label):
        table = csv_lines(lines, header, problems)
        rows = rows_of_dicts(table, problems, with_num_frames, multi_label)
    else:
        if names_columns(lines[0]):
            logger.info(f"{place}: the first line, {lines[0].strip()!r}, names the columns")
            lines[0] = ""
        rows = list_lines(lines, problems, with_num_frames, path_kind, has_suffix)
        if multi_label:
            labels = (split_labels(row.label.replace(",", ";")) for row in rows)
            rows = [
                row._replace(label="", labels=own) for row, own in zip(rows, labels, strict=True)
            ]
    if not rows:
        problems.stop()
        line = f"{path_kind} num_frames label" if with_num_frames else "path label"
        raise DatasetError(f"{place}: no records in it; a line is '{line}'")
    return rows, problems


def header_of(
    file: str, lines: list[str], with_num_frames: bool, multi_label: bool
) -> Header | None:
    """The header of a table, which is logged if it is unusual; None for a list, whatever its suffix
    is. Arguments as of `read_rows`.

    Raises:
        DatasetError: its columns are ambiguous, or it is a file of another kind.
    """
    try:
        header = read_header(lines, with_num_frames, multi_label)
    except HeaderError as error:
        raise DatasetError(f"{file}:{error.line}: {error}") from None
    if header and header.note:
        logger.info(f"{file}: read as a table: {header.note}")
    return header


def list_lines(
    lines: list[str],
    problems: Problems,
    with_num_frames: bool,
    path_kind: str = "folder",
    has_suffix: Callable[[str], bool] | None = None,
) -> list[Row]:
    """The rows of a white-space separated list; the label is the last word, so a path may contain
    spaces. Arguments as of `read_rows`."""
    rows = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line:
            continue
        path, *label = line.rsplit(None, 1)
        needs_num_frames = with_num_frames and not (has_suffix and has_suffix(path))
        if not needs_num_frames and label:
            rows.append(Row(number, path, label[0]))
        elif not needs_num_frames:
            problems.add(number, f"{line!r} has no label behind the path; write 'path label'")
        else:
            words = line.rsplit(None, 2)
            if len(words) == 3 and words[1].isdecimal() and int(words[1]) > 0:
                rows.append(Row(number, words[0], words[2], int(words[1])))
            else:
                expected = f"'{path_kind} num_frames label' with at least one frame"
                problems.add(number, f"{line!r} is not {expected}")
    return rows


def csv_lines(
    lines: list[str], header: Header, problems: Problems
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, column -> cell) of a table; quoted cells may contain the delimiter."""
    columns = header.columns
    for number, cells in table_rows(lines, header):
        if cells is None:
            problems.add(number, OPEN_QUOTE)
        elif not any(cell.strip() for cell in cells):
            continue
        elif len(cells) == len(columns):
            pairs = list(zip(columns, map(str.strip, cells), strict=True))
            if any("\n" in cell for column, cell in pairs if column in COLUMNS):
                problems.add(number, OPEN_QUOTE)
                continue
            yield number, {k: plain_path(c) if k == "path" else plain_cell(c) for k, c in pairs}
        else:
            expected = f"the first line names {len(columns)}: {', '.join(columns)}"
            problems.add(number, f"{len(cells)} columns, {expected}")


def json_lines(lines: list[str], problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a table with one JSON object per line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
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
    multi_label: bool = False,
) -> list[Row]:
    """The rows of a table.

    Columns are path and label (or labels, if `multi_label`), and optionally start_sec, end_sec,
    num_frames, split and source.
    """
    rows = []
    for number, values in items:
        try:
            rows.append(row_of_dict(number, values, with_num_frames, multi_label))
        except ValueError as error:
            problems.add(number, str(error))
    return rows


def row_of_dict(
    number: int, values: dict[str, Any], with_num_frames: bool, multi_label: bool
) -> Row:
    """The row of one line of a table.

    Raises:
        ValueError: a cell is missing or wrong.
    """
    path = values.get("path")
    if path in (None, ""):
        raise ValueError("no path")
    if not isinstance(path, str):
        raise ValueError(f"no path: {path!r} is not text")
    label, labels = row_labels(values, multi_label)
    start, end = seconds(values, "start_sec"), seconds(values, "end_sec")
    num_frames = frame_count(values) if with_num_frames else None
    if end is not None and end <= (start or 0):
        raise ValueError(f"end_sec {end} is not after start_sec {start or 0}")
    if with_num_frames and (start is not None or end is not None):
        raise ValueError(
            "start_sec and end_sec are for videos; a folder of frames has no frame rate"
        )
    split, source = (str(values[key]) if values.get(key) else None for key in ("split", "source"))
    return Row(number, path, label, num_frames, start, end, split, source, labels)


def row_labels(values: dict[str, Any], multi_label: bool) -> tuple[str, tuple[str, ...] | None]:
    """(label, None) of a row, or ("", labels) if it has a column `labels`.

    Labels are a JSON list, or text with `;` between them.

    Raises:
        ValueError: the label is missing or neither a class id nor a class name.
    """
    label, labels = values.get("label"), values.get("labels")
    if multi_label and "labels" in values:
        if "label" in values:
            raise ValueError("it has both label and labels; keep one of them")
        return "", split_labels(labels)
    if label in (None, "") and "labels" in values:
        raise ValueError(
            "it has labels instead of a label: training needs DATASET.multi_label: true, "
            "and check_data checks data with one label"
        )
    is_label = isinstance(label, int | str) and not isinstance(label, bool) and label != ""
    if not is_label:
        problem = f"label {label!r} is neither a class id nor a class name" if label else "no label"
        raise ValueError(problem)
    if multi_label and ";" in str(label):
        raise ValueError(f"label {label!r}: name the column labels if a row has several")
    return str(label), None


def split_labels(labels: Any) -> tuple[str, ...]:
    """The distinct labels of a row, in order, from a list or from text with `;` between them.

    Raises:
        ValueError: an entry is neither a class id nor a class name.
    """
    parts = labels.split(";") if isinstance(labels, str) else labels
    valid = isinstance(parts, list) and all(
        isinstance(part, int | str) and not isinstance(part, bool) for part in parts
    )
    if not valid:
        raise ValueError(f"labels {labels!r} is not a list of class ids or class names")
    return tuple(dict.fromkeys(text for part in parts if (text := str(part).strip())))


def seconds(values: dict[str, Any], key: str) -> float | None:
    """A time (seconds) of a table, None for an empty cell."""
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


def frame_count(values: dict[str, Any]) -> int | None:
    """The number of frames of a table, None for an empty cell."""
    value = values.get("num_frames")
    if value is None or value == "":
        return None
    if not str(value).isdecimal() or int(value) == 0:
        raise ValueError(f"num_frames {value!r} is not a number of frames")
    return int(value)
