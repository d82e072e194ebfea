"""Data sets: records from lists, tables and folders, and the message for each mistake in them."""

import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.data.datasets import DatasetError, FrameDataset, RecordList, VideoDataset


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(here, *paths):
    for path in paths:
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_bytes(b"x")


def write(here, text, name="train.list"):
    (here / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def rows(loaded: RecordList):
    return [(r.path, r.label) for r in loaded.records]


def test_reads_a_list_with_any_white_space(here):
    make(here, "a.mp4", "b c/d  e.mp4", "ein köln 视频.mp4", "#1.mp4")
    name = write(
        here, "\ufeffa.mp4 0\r\n\r\nb c/d  e.mp4\t 2  \r\nein köln 视频.mp4 1\r\n  #1.mp4 1\n"
    )
    loaded = VideoDataset(name).load()
    assert rows(loaded) == [
        ("a.mp4", 0),
        ("b c/d  e.mp4", 2),
        ("ein köln 视频.mp4", 1),
        ("#1.mp4", 1),
    ]
    assert loaded.class_names is None and loaded.max_label == 2
    assert [r.id for r in loaded.records] == [r.path for r in loaded.records]


def test_reads_a_list_that_is_named_csv(here):
    make(here, "a,b.mp4", "path,label.mp4")
    name = write(here, "a,b.mp4 0\npath,label.mp4 1\n", "train.csv")
    assert rows(VideoDataset(name).load()) == [("a,b.mp4", 0), ("path,label.mp4", 1)]


def test_reads_a_list_of_frame_folders(here):
    make(here, "v 1/f_1.jpg")
    loaded = FrameDataset(write(here, "v 1 12 0\nv2\t30\t1\n"), suffix="f_{}.jpg").load()
    first = loaded.records[0]
    assert (first.path, first.num_frames, first.label, first.frame_pattern) == (
        "v 1",
        12,
        0,
        "f_{}.jpg",
    )
    assert loaded.records[1].num_frames == 30


def test_adds_prefix_and_suffix_to_paths(here):
    make(here, "media/a.mp4")
    loaded = VideoDataset(write(here, "a 3\n"), data_prefix="media", suffix=".mp4").load()
    assert rows(loaded) == [("media/a.mp4", 3)] and loaded.records[0].id == "a.mp4"


def test_paths_of_a_list_are_relative_to_its_folder_or_to_the_working_directory(here):
    make(here, "set/a.mp4", "set/b.mp4")
    write(here, "a.mp4 0\nb.mp4 1\n", "set/l.list")
    assert rows(VideoDataset("set/l.list").load()) == [("set/a.mp4", 0), ("set/b.mp4", 1)]
    write(here, "set/a.mp4 0\nb.mp4 1\n", "set/k.list")
    assert rows(VideoDataset("set/k.list").load()) == [("set/a.mp4", 0), ("b.mp4", 1)], (
        "one folder for all paths of a list"
    )
    absolute = write(here, f"{here}/set/a.mp4 0\nb.mp4 1\n", "set/m.list")
    assert rows(VideoDataset(absolute).load()) == [(f"{here}/set/a.mp4", 0), ("set/b.mp4", 1)]
    make(here, "b.mp4")
    with pytest.raises(DatasetError, match=r"set/l.list: 'b.mp4' is both .*set/b.mp4 and .*b.mp4"):
        VideoDataset("set/l.list").load()
    assert rows(VideoDataset("set/l.list", data_prefix=".").load())[1] == ("./b.mp4", 1)


def test_rejects_a_list_whose_files_do_not_exist(here):
    name = write(here, "a.mp4 0\nb.mp4 1\n")
    with pytest.raises(
        DatasetError,
        match=r"none of its files exists \(tried 2 of 2, first 'a.mp4'\).* set data_prefix",
    ):
        VideoDataset(name).load()
    with pytest.raises(DatasetError, match="relative to data_prefix 'x'"):
        VideoDataset(name, data_prefix="x").load()
    make(here, "b.mp4")  # the loader reports single missing files
    assert len(VideoDataset(name).load().records) == 2


def test_sorts_class_names_unless_they_are_given(here):
    make(here, "a.mp4")
    name = write(here, "a.mp4 zumba\na.mp4 archery\na.mp4 Judo\n")
    loaded = VideoDataset(name).load()
    assert (loaded.class_names, [r.label for r in loaded.records]) == (
        ["Judo", "archery", "zumba"],
        [2, 1, 0],
    )
    loaded = VideoDataset(name).load(["archery", "zumba", "other", "Judo"])
    assert [r.label for r in loaded.records] == [1, 0, 3] and len(loaded.class_names) == 4
    with pytest.raises(
        DatasetError, match=r"train.list:3: a.mp4: unknown class 'Judo'; did you mean 'judo'\?"
    ):
        VideoDataset(name).load(["archery", "judo", "zumba"])


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("a.mp4 0\nb.mp4 1\n", ""),
        (
            "a.mp4 0\nb.mp4 1\na.mp4 0\n",
            "1 clip(s) occur more than once, and count as often; first 'a.mp4' (line 1 label 0, "
            "line 3 label 0)",
        ),
        (
            "b.mp4 1\na.mp4 0\nb.mp4 1\na.mp4 1\n",
            "2 clip(s) occur more than once, and count as often; 1 of them with different labels; "
            "first 'a.mp4' (line 2 label 0, line 4 label 1)",
        ),
    ],
)
def test_warns_of_repeated_clips(here, caplog, text, note):
    make(here, "a.mp4", "b.mp4")
    VideoDataset(write(here, text)).load()
    assert [r.message.removeprefix("train.list: ") for r in caplog.records] == [note] * bool(note)


def test_parts_of_one_file_are_different_clips(here, caplog):
    make(here, "a.mp4")
    text = "path,label,start_sec,end_sec\na.mp4,0,0,1\na.mp4,1,1,2\n"
    VideoDataset(write(here, text, "train.csv")).load()
    assert not caplog.records


def test_checks_class_ids_against_given_names(here):
    make(here, "a.mp4")
    assert VideoDataset(write(here, "a.mp4 1\n")).load(["x", "y"]).class_names == ["x", "y"]
    with pytest.raises(
        DatasetError, match="train.list:1: label 2: there are 2 class names, so the last id is 1"
    ):
        VideoDataset(write(here, "a.mp4 2\n")).load(["x", "y"])


def test_reads_a_folder_per_class(here):
    make(
        here,
        "d/10/b.MP4",
        "d/9/x/y.webm",
        "d/9/a b.avi",
        "d/9/notes.txt",
        "d/9/.hidden.mp4",
        "d/.git/a.mp4",
        "d/README.mp4",
    )
    loaded = VideoDataset("d").load()
    assert rows(loaded) == [("d/10/b.MP4", 0), ("d/9/a b.avi", 1), ("d/9/x/y.webm", 1)]
    assert loaded.class_names == ["10", "9"] and loaded.records[2].id == "9/x/y.webm"
    make(here, "v/9/b.mp4")
    assert rows(VideoDataset("v").load(loaded.class_names)) == [("v/9/b.mp4", 1)]
    make(here, "v/11/b.mp4")
    with pytest.raises(DatasetError, match="v: 11/b.mp4: unknown class '11'"):
        VideoDataset("v").load(loaded.class_names)


def test_reads_a_folder_per_class_of_frames(here):
    make(
        here,
        "d/cat/v1/img_00001.jpg",
        "d/cat/v1/img_00002.jpg",
        "d/dog/s/v2/img_00001.jpg",
        "d/dog/v3/other.jpg",
    )
    loaded = FrameDataset("d").load()
    assert (
        rows(loaded) == [("d/cat/v1", 0), ("d/dog/s/v2", 1)]
        and loaded.records[0].num_frames is None
    )


def test_rejects_folders_without_records(here):
    make(here, "d/a.mp4")
    with pytest.raises(
        DatasetError,
        match=r"d: no records in this folder: expected d/<class>/\*.mp4 .*, found a.mp4",
    ):
        VideoDataset("d").load()
    with pytest.raises(DatasetError, match="expected d/<class>/<video>/img_00001.jpg"):
        FrameDataset("d").load()


def test_reads_tables(here):
    make(here, "a, b.mp4")
    table = 'Path , label,start_sec,end_sec\n"a, b.mp4",run,1.5,3\n\n"a, b.mp4",walk,,\r\n'
    first = '{"path": "a, b.mp4", "label": "run", "start_sec": 1.5, "end_sec": 3, "more": 1}'
    lines = first + '\n\n{"path": "a, b.mp4", "label": "walk"}'
    for name in (write(here, table, "t.csv"), write(here, lines, "t.jsonl")):
        loaded = VideoDataset(name).load()
        assert [(r.label, r.start_sec, r.end_sec) for r in loaded.records] == [
            (0, 1.5, 3.0),
            (1, None, None),
        ]
        assert loaded.class_names == ["run", "walk"]
    make(here, "f/img_00001.jpg")
    loaded = FrameDataset(write(here, "path,label,num_frames\nf,0,7\nf,1,\n", "t.csv")).load()
    assert [r.num_frames for r in loaded.records] == [7, None]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.list", "a.mp4 0\nb.mp4\n", "t.list:2: 'b.mp4' has no label behind the path"),
        (
            "t.list",
            "a.mp4 0\na.mp4 run\n",
            "t.list:2: label 'run' is a class name, but line 1 has a class id; use one kind",
        ),
        (
            "t.list",
            "a.mp4 run\na.mp4 -1\n",
            "t.list:2: label '-1' is a class id, but line 1 has a class name",
        ),
        ("t.list", "a.mp4 0\na.mp4 -1\n", "t.list:2: label -1: class ids count from 0"),
        ("t.list", "\n \n", "t.list: no records in it; a line is 'path label'"),
        ("t.csv", "path,label\n", "t.csv: no records"),
        ("t.csv", "path,label\na.mp4\n", "t.csv:2: 1 columns, the first line names 2: path, label"),
        ("t.csv", "path,label\na.mp4,\n", "t.csv:2: no label"),
        ("t.csv", "path,label\n,1\n", "t.csv:2: no path"),
        (
            "t.csv",
            "path,label,start_sec\na.mp4,1,soon\n",
            "t.csv:2: start_sec 'soon' is not a time in seconds",
        ),
        ("t.csv", "path,label,start_sec\na.mp4,1,-1\n", "t.csv:2: start_sec '-1' is not a time"),
        (
            "t.csv",
            "path,label,start_sec,end_sec\na.mp4,1,4,3\n",
            "t.csv:2: end_sec 3.0 is not after start_sec 4.0",
        ),
        ("t.jsonl", '{"path": "a.mp4", "label": 0}\n{"path"\n', "t.jsonl:2: not JSON"),
        ("t.jsonl", "[1]\n", r"t.jsonl:1: '\[1\]' is not an object"),
        ("t.jsonl", '{"path": "a.mp4", "label": 0.5}\n', "t.jsonl:1: label 0.5 is neither"),
        ("t.jsonl", '{"path": 3, "label": 0}\n', "t.jsonl:1: no path: 3 is not text"),
        ("t.list", b"\xff\xfe\x00a", r"t.list: not UTF-8 text \(byte 0\); save it as UTF-8"),
        ("t.mp4", b"\x00\x00\xffftyp", "t.mp4: not UTF-8 text .* a video is not a list"),
    ],
)
def test_names_the_line_of_each_mistake(here, name, text, message):
    make(here, "a.mp4")
    with pytest.raises(DatasetError, match=message):
        VideoDataset(write(here, text, name)).load()


@pytest.mark.parametrize("line", ["v1 0", "v1 x 0", "v1 0 0", "v1 -3 0", "v1"])
def test_rejects_invalid_lines_of_frame_lists(here, line):
    with pytest.raises(
        DatasetError,
        match="t.list:1: '.*' is not 'folder num_frames label' with at least one frame",
    ):
        FrameDataset(write(here, line + "\n", "t.list")).load()


def test_rejects_invalid_tables_of_frame_folders(here):
    with pytest.raises(DatasetError, match="t.csv:2: start_sec and end_sec are for videos"):
        FrameDataset(write(here, "path,label,end_sec\na,1,3\n", "t.csv")).load()
    with pytest.raises(DatasetError, match="t.csv:2: num_frames '0' is not a number of frames"):
        FrameDataset(write(here, "path,label,num_frames\na,1,0\n", "t.csv")).load()


def test_reports_all_mistakes_at_once(here):
    text = "a.mp4 0\n" + "bad\n" * 12 + "a.mp4 -4\n"
    with pytest.raises(DatasetError) as caught:
        VideoDataset(write(here, text)).load()
    lines = str(caught.value).splitlines()
    assert (
        len(lines) == 11 and lines[0].startswith("train.list:2:") and lines[-1] == "... and 3 more"
    )


def test_rejects_a_missing_list():
    with pytest.raises(
        DatasetError, match="nothing.list: no such file or folder; set file_path to a list"
    ):
        VideoDataset("nothing.list").load()


def test_rejects_invalid_arguments():
    for limit in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"max_failures is {limit}"):
            VideoDataset("a", max_failures=limit)
    for limit in (0, 0.5, 1, 20):
        assert FrameDataset("a", max_failures=limit).max_failures == limit
    with pytest.raises(ValueError, match="does not contain the frame number"):
        FrameDataset("a", suffix="img.jpg")
    with pytest.raises(ValueError, match="is not a pattern of numbered frames"):
        FrameDataset("a", suffix="img_{x}.jpg")
    assert (
        "num_retries" in lookup("dataset", "VideoDataset").ignores
        and "test_mode" in lookup("dataset", "FrameDataset").ignores
    )
