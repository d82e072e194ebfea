"""The columns of tables that other people made, with and without a header."""

import logging

import pytest

from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.table_header import Header, read_header


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b c.mp4", "d,e.mp4", "f;g.avi"):
        (tmp_path / name).touch()
    for folder in ("v1", "v 2"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            (tmp_path / folder / f"img_{number + 1:05}.jpg").touch()
    return tmp_path


def load(text, dataset=VideoDataset, **options):
    with open("t.csv", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    loaded = dataset("t.csv", **options).load()
    names = loaded.class_names
    return [(r.id, names[r.label] if names else r.label) for r in loaded.records]


PAIRS = [("a.mp4", "run"), ("b c.mp4", "high jump")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "columns",
    ["path,label", "video_path,class", "filename,label", "File Name,Category", "youtube_id,action"],
)
def test_reads_common_headers_and_delimiters(caplog, columns, delimiter):
    caplog.set_level(logging.INFO)
    lines = [columns, *(",".join(pair) for pair in PAIRS)]
    assert load("\r\n".join(lines).replace(",", delimiter)) == PAIRS
    usual = columns == "path,label" and delimiter == ","
    assert ("t.csv: read as a table: " in caplog.text) == (not usual)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("pairs", [PAIRS, [("a.mp4", 1), ("b c.mp4", 0)]])
def test_reads_tables_without_a_header(delimiter, pairs):
    assert load("\n".join(f"{path}{delimiter}{label}" for path, label in pairs)) == pairs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('filename;class\n"f;g.avi";run\n', [("f;g.avi", "run")]),
        ('"d,e.mp4",run\n', [("d,e.mp4", "run")]),
        ("sep=;\nfilename;class\na.mp4;run\n", [("a.mp4", "run")]),
        ("\n\nvideo,label,fold\na.mp4,run,3\n", [("a.mp4", "run")]),
        ("id,file_name,label\n7,a.mp4,run\n", [("a.mp4", "run")]),
        ("video_id,path,label,class_id\n7,a.mp4,run,9\n", [("a.mp4", "run")]),
        ("path label\na.mp4 run\n", [("a.mp4", "run")]),
        ("video  class\nb c.mp4 run\n", [("b c.mp4", "run")]),
        ("d,e.mp4 0\na.mp4 1\n", [("d,e.mp4", 0), ("a.mp4", 1)]),  # a list, whatever its suffix
    ],
)
def test_reads_other_conventions(text, expected):
    assert load(text) == expected


def test_reads_paths_without_a_suffix():
    assert load("a,0\nb c,1\n", suffix=".mp4") == [("a.mp4", 0), ("b c.mp4", 1)]


def test_reads_times_splits_and_labels():
    text = "clip;t_start;t_end;subset;tags\na.mp4;1;2.5;train;x|y\na.mp4;;;val;x\n"
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write(text.replace("x|y", '"x;y"'))
    loaded = VideoDataset("t.csv", multi_label=True, split="train").load()
    (record,) = loaded.records
    assert (record.start_sec, record.end_sec, record.labels) == (1.0, 2.5, (0, 1))
    assert loaded.class_names == ["x", "y"]


@pytest.mark.parametrize(
    "text",
    [
        "v1,3,0\nv 2,3,1\n",
        "v1;3;0\nv 2;3;1\n",
        "v1\t3\t0\nv 2\t3\t1\n",
        "folder,total_frames,class_id\nv1,3,0\nv 2,3,1\n",
        "v1 3 0\nv 2 3 1\n",
        "path num_frames label\nv1 3 0\nv 2 3 1\n",
    ],
)
def test_reads_lists_of_frame_folders(text):
    assert load(text, FrameDataset) == [("v1", 0), ("v 2", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "filename,class,class_id\na.mp4,run,0\n",
            "t.csv:1: columns class and class_id may both be the label; rename the right one to",
        ),
        (
            "filename;video_path;label\na.mp4;a.mp4;0\n",
            "columns filename and video_path may both be the path",
        ),
        (
            "label,youtube_id,time_start,time_end,split\nrun,abc,1,2,train\n",
            "t.csv:1: this is an annotation file of Kinetics, .* tools/data/prepare_kinetics.py",
        ),
        ("filename;class\na.mp4;run;1\n", "t.csv:2: 3 columns, the first line names 2"),
        ("sep=;\nfilename;class\na.mp4\n", "t.csv:3: 1 columns"),
        ("sep=;", "t.csv:1: .sep=;. has no label behind the path"),
        ("a.mp4,0,1\nb c.mp4,1,2\n", "t.csv:1: 'a.mp4,0,1' has no label behind the path"),
    ],
)
def test_refuses_what_is_ambiguous(text, message):
    with pytest.raises(DatasetError, match=message):
        load(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('path,label\na.mp4,"run\nb c.mp4,jump\n', 2),
        ('path,label\na.mp4,run\n"b c.mp4,jump\nd\n', 3),
        ('path,label\na.mp4,"run\nb c.mp4,jump\na.mp4,"swim"\n', 2),
        ('path,label,title\na.mp4,run,"It\nb c.mp4,jump,none\n', 2),
        ('sep=;\nfilename;class\na.mp4;"run\nb c.mp4;jump\n', 3),
        ('path,label\na.mp4,"run\n' + "b c.mp4,jump\n" * 12_000, 2),
    ],
)
def test_a_quotation_mark_that_is_not_closed_hides_no_rows(text, line):
    with pytest.raises(DatasetError, match=f"^t.csv:{line}: a quotation mark is not closed"):
        load(text)


def test_quoted_cells():
    text = 'path,title,label\na.mp4,"one\ntwo, ""three""",run\n"b c.mp4",x,"high jump"\n'
    assert load(text) == PAIRS
    assert load('path,label\nb c.mp4,high jump\na.mp4,"run') == PAIRS[::-1]


@pytest.mark.parametrize("start", ["", "a.mp4 0\n\n"])
def test_a_file_with_one_endless_line_is_no_list(start):
    line = start.count("\n") + 1
    with pytest.raises(
        DatasetError, match=rf"^t.csv:{line}: a line of 150000 characters, expected"
    ):
        load(f"{start}{'{[1,2],' * 21428}abcd")


def test_lists_of_several_labels_stay_lists():
    assert read_header(["a.mp4 3,17", "b c.mp4 1,2"], False, True) is None
    assert read_header(["a b 3,17"], False, True) is None
    assert read_header(["a.mp4,3"], False, True) == Header(
        ["path", "label"], ",", 0, "commas between path, label"
    )
