"""What the first lines of a list or table say: its columns, and what separates them; and its rows.

The columns have the names of this package or common ones: `filename;class` and
`video_path<TAB>category` are read as `path,label`. A file without a header whose lines are
`path,label` is a table too, unless its lines are also good lines of a white-space separated list.
"""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paddlevideo.config.shipped import typed
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "|"}
NUM_TRIED = 100  # lines without a header that decide what separates the columns

# Column -> names that people give it. Those of the path are tried in groups: a table may also have
# an id of each video.
PATH_NAMES = (
    ("video_path", "file_path", "filepath", "filename", "file_name", "video_file", "clip_path"),
    ("video_name", "clip_name", "audio_path", "frame_dir", "folder", "file"),
    ("video", "clip", "video_id", "youtube_id", "id"),
)
OTHER_NAMES = {
    "label": (
        "class", "class_name", "class_id", "class_label", "class_idx", "class_index", "category",
        "action", "target", "label_name", "label_id", "label_idx",
    ),
    "labels": ("classes", "tags"),
    "num_frames": ("n_frames", "nframes", "frame_count", "total_frames"),
    "start_sec": ("start", "start_time", "time_start", "t_start"),
    "end_sec": ("end", "end_time", "time_end", "t_end"),
    "split": ("subset", "partition"),
}  # fmt: skip


class HeaderError(ValueError):
    """A line whose columns have two meanings, or which belongs to another kind of file.

    Args:
        line: its number.
    """

    def __init__(self, message: str, line: int = 1):
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Header:
    """How to read a table.

    Args:
        columns: names of this package where they are known, otherwise as in the file.
        delimiter: between the columns.
        num_lines: lines of the header.
        note: what was understood; "" for commas and the names of this package.
    """

    columns: list[str]
    delimiter: str = ","
    num_lines: int = 1
    note: str = ""


def read_header(lines: Sequence[str], with_num_frames: bool, multi_label: bool) -> Header | None:
    """How to read the lines as a table; None for a white-space separated list.

    Args:
        with_num_frames: a line of a list is `path num_frames label` instead of `path label`.
        multi_label: a label may be `3,17`.

    Raises:
        HeaderError: see there.
    """
    start = next((number for number, line in enumerate(lines) if line.strip()), 0)
    first = lines[start : start + 1]
    excel = re.fullmatch(r"sep=(.)", first[0].strip()) if first else None
    if excel and excel[1] in DELIMITERS and start + 1 < len(lines):
        start += 1
        return _named_columns(lines[start], excel[1], start + 1)
    for delimiter in DELIMITERS if first else ():
        header = _named_columns(first[0], delimiter, start + 1)
        if header:
            return header
    return _without_header(lines, with_num_frames, multi_label)


def names_columns(line: str) -> bool:
    """Whether a line of a white-space separated list names its columns, as `path label`."""
    words = [_cell(word) for word in line.split()]
    try:
        meanings = _meanings(words)
    except HeaderError:
        return False
    required = {"path", "label"} if "label" in meanings else {"path", "labels"}
    return required <= set(meanings) and len(meanings) == len(words)


# --- a first line with names ----------------------------------------------------------------------


def _named_columns(line: str, delimiter: str, num_lines: int) -> Header | None:
    """The header in a line, None if it does not name the path and one more column."""
    cells = [_cell(text) for text in line.split(delimiter)]
    if len(cells) < 2:
        return None
    if {"youtube_id", "time_start", "time_end"} <= set(cells):
        raise HeaderError(
            "this is an annotation file of Kinetics, which names no files; "
            f"make lists of it with {typed('tools/data/prepare_kinetics.py', 'data kinetics')}"
        )
    meanings = _meanings(cells)
    if "path" not in meanings or not ({"label", "labels"} & set(meanings) or "path" in cells):
        return None
    known = {name: column for column, name in meanings.items()}
    columns = [known.get(name, name) for name in cells]
    read = [f"{name} is {column}" for column, name in meanings.items() if name != column]
    between = [] if delimiter == "," else [f"{DELIMITERS[delimiter]} between the columns"]
    return Header(columns, delimiter, num_lines, ", ".join(between + read))


def _cell(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text.strip().strip('"').strip().lower())


def _meanings(cells: Sequence[str]) -> dict[str, str]:
    """{column of this package: name in the file}.

    Raises:
        HeaderError: two names may be the same column.
    """
    groups = [("path", group) for group in (("path",), *PATH_NAMES)]
    for column, names in OTHER_NAMES.items():
        groups += [(column, (column,)), (column, names)]
    meanings: dict[str, str] = {}
    for column, names in groups:
        found = [name for name in cells if name in names]
        if column in meanings or not found:
            continue
        if len(found) > 1:
            raise HeaderError(
                f"columns {' and '.join(found)} may both be the {column}; "
                f"rename the right one to {column}"
            )
        meanings[column] = found[0]
    return meanings


# --- lines without a header -----------------------------------------------------------------------


def _without_header(
    lines: Sequence[str], with_num_frames: bool, multi_label: bool
) -> Header | None:
    filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    numbered = list(itertools.islice(filled, NUM_TRIED))
    sample = [line for _, line in numbered]
    columns = ["path", "num_frames", "label"] if with_num_frames else ["path", "label"]
    for delimiter in DELIMITERS:
        rows = [_cells(number, line, delimiter) for number, line in numbered]
        pairs = list(zip(sample, rows, strict=True))
        answers = [_is_row(line, row, columns, multi_label) for line, row in pairs]
        if True in answers and False not in answers:
            note = f"{DELIMITERS[delimiter]} between {', '.join(columns)}"
            return Header(columns, delimiter, 0, note)
    return None


def _cells(number: int, line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.strip()], delimiter=delimiter), [])
    except csv.Error as error:  # a cell of more than 131,072 characters
        raise HeaderError(
            f"a line of {len(line)} characters, expected one record on each line", number
        ) from error


def _is_row(
    line: str, row: Sequence[str], columns: Sequence[str], multi_label: bool
) -> bool | None:
    """Whether a line is a row of these columns and no line of a list; None if it is both, with the
    same meaning."""
    cells = [cell.strip() for cell in row]
    if len(cells) != len(columns) or not all(cells):
        return False
    if "num_frames" in columns and not cells[1].isdecimal():
        return False
    words = line.strip().rsplit(None, len(columns) - 1)
    if words == cells:
        return None
    if len(words) < len(columns) or ("num_frames" in columns and not words[1].isdecimal()):
        return True
    if _has_suffix(words[0]) or multi_label:
        return False
    return _has_suffix(cells[0]) or (cells[-1].isdecimal() and not words[-1].isdecimal())


def _has_suffix(path: str) -> bool:
    return path.lower().endswith((*VIDEO_SUFFIXES, *AUDIO_SUFFIXES))


# --- rows -----------------------------------------------------------------------------------------


def table_rows(lines: Sequence[str], header: Header) -> Iterator[tuple[int, list[str] | None]]:
    """(number of its first line, cells) of each row. The last row has None in place of its cells if
    a quoted cell is never closed, and would swallow all lines behind it."""
    rest, begin, end = lines[header.num_lines :], 0, 0
    reader = csv.reader((f"{line}\n" for line in rest), delimiter=header.delimiter)
    try:
        for cells in reader:
            begin, end = end, reader.line_num
            has_more = end == len(rest) and any(map(str.strip, rest[begin + 1 :]))
            is_open = has_more and _ends_in_a_cell(rest[begin:], header.delimiter)
            yield header.num_lines + begin + 1, None if is_open else cells
    except csv.Error:  # the cell has more than 131,072 characters
        yield header.num_lines + end + 1, None


def _ends_in_a_cell(lines: Sequence[str], delimiter: str) -> bool:
    """Whether a quoted cell goes on behind the last line."""
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False
