"""The reports of a check, as text and as HTML."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from paddlevideo.curate.report import (
    duration_rows,
    duration_text,
    headline,
    histograms,
    html_report,
    size_histogram,
    text_report,
)
from paddlevideo.html_page import SPLIT_COLORS
from tests.video_sets import check_set, class_folders, fault_list, write_faulty_folders


@pytest.fixture(scope="module")
def small_result(tmp_path_factory):
    return check_set(class_folders(tmp_path_factory.mktemp("data") / "my videos"))


def test_reports_classes_faults_and_notes_as_text(tmp_path):
    write_faulty_folders(tmp_path / "set")
    lines = text_report(check_set(tmp_path / "set")).splitlines()
    assert lines[0].split() == ["class", "train", "valid"]
    assert lines[1].startswith("run  ") and "duration (s)" in lines
    assert "not_video: not a video, 5 (left out); delete it, or download the video again" in lines
    problem = "the name contains a line break or another control character"
    assert f"  run/line\\nbreak.mp4: {problem}" in lines
    assert "note: 1 other file skipped: 1 .txt" in lines
    assert " clips are good: " in lines[-1] and lines[-1].endswith("classes; 5 s of video")


def test_limits_the_faults_as_text_only(tmp_path):
    class_folders(tmp_path, count=2)
    for n in range(9):
        (tmp_path / "run" / f"empty{n}.mp4").touch()
    result = check_set(tmp_path)
    assert "  ... and 4 more, see bad_files.csv" in text_report(result)
    html = html_report(result, "x")
    TagChecker().feed(html)
    assert html.count("the file is empty") == 9


def test_escapes_names_in_html(tmp_path):
    label = "<script>alert(1)<∕script>&\"'"
    result = check_set(class_folders(tmp_path, (label, "b"), 2))
    html = html_report(result, "My <videos>")
    assert "<script" not in html and "&lt;script&gt;" in html and "My &lt;videos&gt;" in html


def test_html_needs_no_other_files(small_result):
    html = html_report(small_result, "x")
    assert "http:" not in html and "https:" not in html and "src=" not in html
    assert "color-scheme: light dark" in html
    assert html.count("<table>") == html.count("</table>") == 4
    TagChecker().feed(html)


def test_a_split_has_its_color_in_every_class(small_result):
    html = html_report(small_result, "x")
    parts = re.findall(r'<i style="background:var\((--c\d)\);width:([\d.]+)%"></i>', html)
    splits = [split for split in SPLIT_COLORS if f">{split}</th>" in html]
    assert "train" in splits and len(splits) > 1
    assert [color for color, _ in parts] == [SPLIT_COLORS[split] for split in splits] * 2
    totals = np.array([float(width) for _, width in parts]).reshape(2, -1).sum(axis=1)
    assert totals == pytest.approx(100, abs=0.2), "both classes have five clips"


class TagChecker(HTMLParser):
    """Fails where a closing tag does not match the last open one."""

    def __init__(self):
        super().__init__()
        self.open_tags = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag


def test_counts_clips_by_duration_rate_and_size(small_result):
    rows = [histogram.rows for histogram in histograms(small_result)]
    assert rows == [[("0.45 - 0.5", 10)], [("25", 10)], [("64x48", 10)]]
    assert fault_list(small_result) == []


def test_groups_durations():
    assert duration_rows([]) == []
    assert sum(count for _, count in duration_rows([0.1, 5, 9.99, 1000])) == 4
    rows = duration_rows([float(n % 10) for n in range(99)] + [500.0])
    assert rows[0] == ("0 - 1", 10) and rows[-1] == ("11 and more", 1)


def test_groups_many_frame_sizes_by_their_short_side():
    few = [(640, 480)] * 3 + [(480, 640)] * 2 + [(320, 240)]
    assert size_histogram(few) == (
        "width x height (px)",
        [("640x480", 3), ("480x640", 2), ("320x240", 1)],
    )
    many = [(300 + n, 240 + n % 90) for n in range(100)] + [(1080, 1920)] * 7 + [(50, 60)]
    assert size_histogram(many) == (
        "short side (px), 102 frame sizes",
        [
            ("1 - 63", 1), ("64 - 119", 0), ("120 - 179", 0), ("180 - 239", 0), ("240 - 359", 100),
            ("360 - 479", 0), ("480 - 719", 0), ("720 - 1079", 0), ("1080 - 1439", 7),
        ],
    )  # fmt: skip
    huge = [(4000 + n, 3000 + n) for n in range(9)]
    assert size_histogram(huge)[1] == [("2160 and more", 9)]


def test_summarizes_the_set_in_one_line(small_result):
    expected = "all 10 clips are good: 8 train, 2 valid (split drawn here); 2 classes; 5 s of video"
    assert headline(small_result) == expected
    assert [duration_text(s) for s in (51, 504, 9000)] == ["51 s", "8.4 min", "2.5 h"]
