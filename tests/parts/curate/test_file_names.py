"""Paths that are spelled differently from their files, and names that no list can hold."""

import pytest

from paddlevideo.curate.file_names import find_spelling, name_problem


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Files with accents, spaces, and names that differ only in capitals."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    for name in ("Été.mp4", "d/a b.mp4", "x.mp4", "X.mp4"):
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("path", "found", "difference"),
    [
        ("d\\a b.mp4", "d/a b.mp4", "written with backslashes; the file is named a b.mp4"),
        ('"d/a b.mp4"', "d/a b.mp4", "written with quotes; the file is named a b.mp4"),
        ("'d/a b.mp4'", "d/a b.mp4", "written with quotes; the file is named a b.mp4"),
        # Accents as separate characters, and other capitals.
        ("E\u0301te\u0301.MP4", "Été.mp4", "the file is named Été.mp4"),
    ],
)
def test_finds_files_that_are_spelled_differently(path, found, difference):
    assert find_spelling(path) == (found, difference)


@pytest.mark.parametrize(
    "path",
    [
        "x.mp4",
        # Both x.mp4 and X.mp4 are similar.
        "x.MP4",
        "none/at all.mp4",
    ],
)
def test_keeps_other_paths(path):
    assert find_spelling(path) == (path, "")


def test_sees_files_that_are_added_later(tmp_path):
    assert find_spelling("d/new.mp4")[1] == ""
    (tmp_path / "d" / "NEW.mp4").touch()
    assert find_spelling("d/new.mp4") == ("d/NEW.mp4", "the file is named NEW.mp4")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a b.mp4", ""),
        ('视频, "x".mp4', ""),
        ("a\nb", "line break or another control character"),
        ("a\u2028b", "line break"),
        ("a\udcff", "not UTF-8"),
        (" a", "begins or ends with a space"),
    ],
)
def test_explains_names_that_no_list_can_hold(name, problem):
    assert problem in name_problem(name) and bool(name_problem(name)) == bool(problem)
