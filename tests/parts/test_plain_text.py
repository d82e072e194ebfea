"""Names as an attack: on terminals, logs, lists and spreadsheets."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo.plain_text import (
    csv_cell,
    csv_path,
    csv_text,
    display_width,
    file_line,
    padded,
    plain_cell,
    plain_path,
    readable,
    tab_line,
)

ATTACKS = {
    "clear screen": "\x1b[2J",
    "8-bit escape": "\x9b2J",
    "title": "\x1b]0;title\x07",
    "line end": "a\n[01/01 00:00:00] training finished",
    "carriage return": "bad\rgood",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "vertical tab": "a\x0bb",
    "backspaces": "rm\x08\x08ls",
    "right to left": "gpj.\u202emp4",
    "isolate": "a\u2066b",
    "null": "a\0b",
    "invalid UTF-8": "a\udc80b",
}
ORDINARY = ["green", "红色", "blå grønn", "می‌خواهم", "👩‍🚒", "a　b", "a\u00a0b", "C:\\n", "50 %"]
FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "@SUM(A1)",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "\t=1+1",
    " =1+1",
    "＝1+1",
    "'=1",
]
NO_FORMULAS = ["a=b", "a@b.mp4", "-1", "+1.5", "-x3_Fq-9", "1-2", "", "'", "'a", "run-ning"]


@pytest.mark.parametrize("name", ATTACKS.values(), ids=ATTACKS)
def test_readable_text_is_one_line_without_control(name):
    shown = readable(name)
    assert shown.isprintable() and shown.splitlines() == [shown]
    shown.encode("utf-8")


@pytest.mark.parametrize("name", ATTACKS.values(), ids=ATTACKS)
def test_a_file_line_is_one_line_without_control_codes(name):
    line = file_line(name)
    assert line.splitlines() == [line] and "\x1b" not in line and "\x9b" not in line
    line.encode("utf-8")


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_stay_as_they_are(name):
    assert readable(name) == name and file_line(name) == name


def test_a_file_line_keeps_tabs_and_the_direction_of_text():
    assert file_line("a\tb") == "a\tb" and file_line("\u200fא") == "\u200fא"


@given(st.text())
def test_no_text_gets_through(text):
    shown = readable(text)
    assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(c) for c in shown}
    assert len(file_line(text).splitlines()) <= 1


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_runs_no_formula(text):
    assert csv_cell(text)[0] == "'" and plain_cell(csv_cell(text)) == text
    table = csv_text(["name"], [[text]])
    assert next(csv.reader(io.StringIO(table.split("\n", 1)[1])))[0].startswith("'")


@pytest.mark.parametrize("text", NO_FORMULAS)
def test_other_cells_stay_as_they_are(text):
    assert csv_cell(text) == text and plain_cell(text) == text


def test_a_cell_has_no_line_ends():
    assert csv_text(["name"], [["a\r=1"], ["b\nc"]]) == "name\na\\r=1\nb\\nc\n"


def test_numbers_stay_numbers():
    assert csv_text(["a", "b"], [[-1, None], [0.5, "-7"]]) == "a,b\n-1,\n0.5,-7\n"


@pytest.mark.parametrize("path", ["=a.mp4", "@b/c.mp4", "+x (1).mp4", "-y'!.mp4"])
def test_a_path_stays_a_path(path):
    assert csv_path(path) == f"./{path}" and plain_path(csv_path(path)) == path


def test_ordinary_paths_stay_as_they_are():
    for path in ("a.mp4", "./a.mp4", "/data/=a.mp4", "../=a.mp4", "-a.mp4"):
        assert csv_path(path) == path and plain_path(path) == path


@given(st.text(st.characters(exclude_characters="\r\n")))
def test_every_cell_can_be_read_back(text):
    assert plain_cell(csv_cell(text)) == text


def test_a_line_with_tabs_has_as_many_cells():
    line = tab_line(["=a\tb\n", "\x1b[2J", "reason"])
    assert line == "'=a\\tb\\n\t\\x1b[2J\treason"


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("红色", 4), ("e\u0301", 1), ("\uff21b", 3)]
)
def test_pads_to_columns_of_a_terminal(text, columns):
    assert display_width(text) == columns
    assert display_width(padded(text, 6)) == 6 and padded(text, 6).startswith(text)
    assert padded(text, 0) == text
