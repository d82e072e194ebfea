"""The readers of lists and tables. What data sets make of them is in test_datasets.py."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo.data.lists import DatasetError, Problems, list_lines, path_readings, read_path_list
from paddlevideo.data.table_header import Header, read_header

NAME_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs"))
# Two words, so that every path has a space in it.
PATHS = st.text(NAME_CHARACTERS, min_size=1).map(lambda name: f"d {name}")


@given(st.lists(st.tuples(PATHS, st.integers(0, 10**6)), max_size=20))
def test_reads_any_path_and_label(pairs):
    problems = Problems("x")
    rows = list_lines([f"{path}\t{label}" for path, label in pairs], problems, False)
    assert [(row.path, int(row.label)) for row in rows] == pairs and problems.count == 0


@given(PATHS, st.integers(1, 10**6), st.integers(0, 10**6))
def test_reads_any_path_number_of_frames_and_label(path, num_frames, label):
    problems = Problems("x")
    (row,) = list_lines([f"{path}  {num_frames} {label}"], problems, True)
    assert (row.path, row.num_frames, row.label) == (path, num_frames, str(label))
    assert problems.count == 0


@given(PATHS, st.integers(1, 10**6), st.integers(0, 10**6))
def test_one_reading_of_a_path_list_is_the_path(path, num_frames, label):
    assert path_readings(1, path)[0].path == path
    with_label = [(row.path, row.label) for row in path_readings(1, f"{path} {label}")]
    assert with_label[1] == (path, str(label))
    with_both = path_readings(7, f"{path} {num_frames} {label}")
    assert with_both[2] == (7, path, str(label), num_frames, *[None] * 5)


def test_reads_a_path_list_longest_path_first(tmp_path):
    file = tmp_path / "x.list"
    file.write_bytes("\ufeffa b.mp4\r\n\r\n  c.mp4 run \nd 25 3\n".encode())
    readings = [
        [(row.line, row.path, row.num_frames, row.label) for row in line]
        for line in read_path_list(file, "a list")
    ]
    assert readings == [
        [(1, "a b.mp4", None, ""), (1, "a", None, "b.mp4")],
        [(3, "c.mp4 run", None, ""), (3, "c.mp4", None, "run")],
        [(4, "d 25 3", None, ""), (4, "d 25", None, "3"), (4, "d", 25, "3")],
    ]


def test_rejects_path_lists_that_are_not_text(tmp_path):
    with pytest.raises(DatasetError, match=r"no.list: no such file or folder; expected a list"):
        read_path_list(tmp_path / "no.list", "a list")
    (tmp_path / "x.list").write_bytes(b"a\xff")
    with pytest.raises(DatasetError, match=r"x.list: not UTF-8 text \(byte 1\); expected a list"):
        read_path_list(Path(tmp_path, "x.list"), "a list")


def test_distinguishes_a_table_from_a_list_by_its_first_line():
    for line in ("path,label", '"path" , "label"'):
        assert read_header([line], False, False) == Header(["path", "label"])
    for line in ("path label", "a/path,label.mp4 3", "path"):
        assert read_header([line], False, False) is None


def test_reports_the_first_ten_problems():
    problems = Problems("x.list")
    problems.stop()
    problems.add(0, "whole file")
    for line in range(1, 13):
        problems.add(line, "bad")
    with pytest.raises(DatasetError) as caught:
        problems.stop()
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["x.list: whole file", "x.list:1: bad"]
    assert len(lines) == 11 and lines[-1] == "... and 3 more"
