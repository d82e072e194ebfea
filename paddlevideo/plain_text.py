"""Names in text: one escaping function for each kind of output.

Names of files and classes come from other people. They may hold line ends, which make up lines of a
log or a list, escape sequences, which control a terminal, and formulas, which a spreadsheet runs.

| output | function |
| --- | --- |
| terminal, log lines | `readable`; `readable_lines` for several lines; `padded` for columns |
| files with one entry per line | `file_line` |
| tables for people and programs | `csv_text`, `csv_path`; `plain_cell`, `plain_path` read them |
| tables with tabs | `tab_line` |
| HTML | `html_page.escape` |
| JSON, YAML | their libraries |
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

JOINERS = "\u200c\u200d"  # part of words in Persian and Hindi, and of emoji
LINE_ENDS = ("Cc", "Zl", "Zp", "Cs")  # control characters, line and paragraph ends, invalid UTF-8
# What makes a spreadsheet calculate, also in the full-width form, and after quotes of `csv_text`.
FORMULA = re.compile(r"[\s']*[=+\-@\t\uff1d\uff0b\uff0d\uff20]")
# Begins like a formula, but does nothing: numbers, ids such as -x3_Fq, words with a hyphen.
HARMLESS = re.compile(r"[-+][\w.-]*", re.ASCII)


def readable(text: str) -> str:
    """`text` as one printable line.

    Line ends, control characters, characters that change the direction of text, and invalid UTF-8
    appear as their codes.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else _code(c) for c in text)


def readable_lines(text: str) -> str:
    """`text` with its line ends; lines after the first are indented, so that none is made up."""
    first, *others = (readable(line) for line in text.split("\n"))
    return "\n".join([first, *(line if line[:1] == " " else f"  {line}" for line in others)])


def display_width(text: str) -> int:
    """The columns of a terminal that `text` takes: two for a wide character, none for an accent."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 or c in JOINERS for c in text)


def padded(text: str, width: int) -> str:
    """`text` with spaces up to `width` columns of a terminal."""
    return text + " " * (width - display_width(text))


def _is_shown(character: str) -> bool:
    return (
        character.isprintable()
        or character in JOINERS
        or unicodedata.category(character) == "Zs"  # spaces of other scripts
    )


def file_line(text: str) -> str:
    """`text` as a line of a file that programs read: only line ends and control codes change."""
    if text.isprintable():
        return text
    return "".join(
        _code(c) if c != "\t" and unicodedata.category(c) in LINE_ENDS else c for c in text
    )


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


# --- tables -------------------------------------------------------------------------------------


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated values; text that a spreadsheet would run begins with a quote."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def csv_cell(value: Any) -> Any:
    """A cell of a table, without line ends; values that are not text stay as they are."""
    if not isinstance(value, str):
        return value
    if "\n" in value or "\r" in value:  # csv does not quote a carriage return
        value = file_line(value)
    return f"'{value}" if _is_formula(value) else value


def csv_path(path: str) -> str:
    """A path in a table, which programs open: `./=a.mp4` in place of `=a.mp4`."""
    return f"./{path}" if _is_formula(path) and not path.startswith("'") else path


def plain_path(cell: str) -> str:
    """The path of which `csv_path` made this cell."""
    return cell[2:] if cell.startswith("./") and _is_formula(cell[2:]) else cell


def plain_cell(cell: str) -> str:
    """The text of which `csv_cell` made this cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    return FORMULA.match(text) is not None and HARMLESS.fullmatch(text) is None


def tab_line(cells: Iterable[str]) -> str:
    """A line of a table with tabs between its cells, without its line end."""
    return "\t".join(str(csv_cell(readable(cell))) for cell in cells)
