"""Files of timelines: what each format holds, and that players and parsers read it."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from paddlevideo.timelines.page import clock, timeline_page
from paddlevideo.timelines.segments import Segment
from paddlevideo.timelines.writers import SUFFIXES, check_timeline_suffix, timeline_file

NASTY = "a --> b <i>&amp; {\\an8}\n\nWEBVTT"
SEGMENTS = [
    Segment(0.0, 1.5, [1, 0], [0.9, 0.05], ["run", "walk"]),
    Segment(1.5, 1.75, error="damaged: it cannot be decoded"),
    Segment(3661.0, 3662.0004, [2], [0.5], [NASTY]),
]


def write(path, *timelines):
    """The text of a file of (input, segments, error) each."""
    with timeline_file(path) as out:
        for name, segments, error in timelines:
            out.begin(name)
            for segment in segments:
                out.write(segment)
            out.end(error)
    return path.read_text(encoding="utf-8")


ONE, FAILED = ("a.mp4", SEGMENTS, None), ("b.mp4", [], "no such file")


def test_json(tmp_path):
    first, second = json.loads(write(tmp_path / "a.json", ONE, FAILED))
    assert first == {"input_path": "a.mp4", "segments": [s.json for s in SEGMENTS]}
    assert second == {"input_path": "b.mp4", "segments": [], "error": "no such file"}
    early = Segment(0.5, 9.0, [0], [0.4], ["walk"])  # closed last, begins first
    (only,) = json.loads(write(tmp_path / "b.json", ("a.mp4", [*SEGMENTS[1:], early], None)))
    assert [s["start"] for s in only["segments"]] == [0.5, 1.5, 3661.0]


def test_json_lines_are_readable_at_once(tmp_path):
    path = tmp_path / "a.jsonl"
    with timeline_file(path) as out:
        out.begin("a.mp4")
        for count, segment in enumerate(SEGMENTS, 1):
            out.write(segment)
            lines = path.read_text(encoding="utf-8").splitlines()
            assert len(lines) == count
            assert json.loads(lines[-1]) == {"input_path": "a.mp4", **segment.json}
        out.end("cut short")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1]) == {"input_path": "a.mp4", "error": "cut short"}


def test_csv(tmp_path):
    rows = list(csv.DictReader(io.StringIO(write(tmp_path / "a.csv", ONE, FAILED))))
    assert [(r["start"], r["rank"], r["label_name"]) for r in rows[:2]] == [
        ("0.000", "1", "run"),
        ("0.000", "2", "walk"),
    ]
    assert rows[2]["error"].startswith("damaged") and rows[2]["class_id"] == ""
    assert rows[3]["label_name"] == NASTY and rows[3]["end"] == "3662.000"
    assert rows[4]["input_path"] == "b.mp4" and rows[4]["error"] == "no such file"


CUE = re.compile(r"(\d\d):(\d\d):(\d\d)[.,](\d\d\d) --> (\d\d):(\d\d):(\d\d)[.,](\d\d\d)")


@pytest.mark.parametrize("suffix", [".vtt", ".srt"])
def test_subtitles(tmp_path, suffix):
    text = write(tmp_path / f"a{suffix}", ONE)
    blocks = text.rstrip("\n").split("\n\n")
    if suffix == ".vtt":
        assert blocks.pop(0) == "WEBVTT"
    assert len(blocks) == 3
    for number, block in enumerate(blocks, 1):
        lines = block.split("\n")
        assert suffix == ".vtt" or lines.pop(0) == str(number)
        assert CUE.fullmatch(lines[0]) and all(lines)
        assert not any("-->" in line or "<" in line for line in lines[1:])
    point = "." if suffix == ".vtt" else ","
    assert f"01:01:01{point}000 --> 01:01:02{point}000" in blocks[2]
    assert blocks[0].endswith("run 0.90\nwalk 0.05")
    assert "(damaged: it cannot be decoded)" in blocks[1]


def test_subtitles_leave_out_what_is_shorter_than_a_millisecond(tmp_path):
    short = Segment(1, 1.0001, [0], [1.0], ["x"])
    text = write(tmp_path / "a.srt", ("a", [short, SEGMENTS[0]], None))
    assert text.startswith("1\n00:00:00,000 --> 00:00:01,500\n") and "x 1.00" not in text


@pytest.mark.parametrize("suffix", [".vtt", ".srt"])
def test_subtitles_are_in_the_order_of_their_start(tmp_path, suffix):
    """A long segment of one class is closed after short ones of others."""
    spans = [(2, 3), (4, 5), (0, 9), (6, 10)]
    segments = [Segment(*span, [0], [1.0], [f"from {span[0]}"]) for span in spans]
    text = write(tmp_path / f"a{suffix}", ("a.mp4", segments, None))
    assert re.findall(r"from (\d)", text) == ["0", "2", "4", "6"]
    if suffix == ".srt":
        assert re.findall(r"^(\d)$", text, re.MULTILINE) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(("suffix", "text"), [(".vtt", "WEBVTT\n"), (".srt", "")])
def test_subtitles_without_segments(tmp_path, suffix, text):
    assert write(tmp_path / f"a{suffix}", ("a.mp4", [], None)) == text


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "rect", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag or tag in ("p", "rect")

    def handle_data(self, data):
        self.text += data


def test_html_is_one_offline_page(tmp_path):
    page = Page(write(tmp_path / "a.html", ONE, FAILED))
    names = [tag for tag, _ in page.tags]
    assert "script" not in names and "i" in names and "link" not in names and "img" not in names
    assert not any("src" in attrs or "href" in attrs for _, attrs in page.tags)
    for text in ("a.mp4", "run", "0.90", "damaged: it cannot be decoded", "1:01:02.0", "b.mp4"):
        assert text in page.text
    assert "no such file" in page.text and "<i>&amp; {" in page.text  # as text, not as a tag


def test_a_long_html_timeline_is_folded_and_draws_the_longest_classes():
    many = [
        {"start": n, "end": n + 1 + (n == 40) * 0.5, "class_ids": [n], "scores": [0.5],
         "label_names": [f"class {n}"]}
        for n in range(50)
    ]  # fmt: skip
    text = timeline_page([{"input_path": "a", "segments": many}])
    assert "<details>" in text and text.count("<svg") == 12
    assert text.index("class 40") < text.index("class 0<")
    assert "38 classes with less time are not drawn" in text


@pytest.mark.parametrize(
    ("second", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (65.24, "1:05.2"), (3725.2, "1:02:05.2")],
)
def test_times_for_people(second, text):
    assert clock(second) == text


def test_a_file_appears_when_all_is_well(tmp_path):
    for suffix in SUFFIXES:
        if suffix == ".jsonl":
            continue
        with pytest.raises(RuntimeError), timeline_file(tmp_path / f"a{suffix}") as out:
            out.begin("a.mp4")
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_wrong_suffix():
    with pytest.raises(ValueError, match=r"a\.txt: expected a file for timelines, which ends in"):
        check_timeline_suffix("a.txt")
