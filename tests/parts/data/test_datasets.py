"""Lists, tables and folders -> records: what is read, and what each mistake in them says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo.config.registry import lookup
from paddlevideo.data.class_names import read_class_names, resolve_num_classes
from paddlevideo.data.datasets import DatasetError, FrameDataset, RecordList, VideoDataset
from paddlevideo.data.lists import Problems, header, list_lines


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


def test_list_of_videos_with_any_white_space(here):
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


def test_list_named_csv_is_a_list(here):
    make(here, "a,b.mp4", "path,label.mp4")
    name = write(here, "a,b.mp4 0\npath,label.mp4 1\n", "train.csv")
    assert rows(VideoDataset(name).load()) == [("a,b.mp4", 0), ("path,label.mp4", 1)]


def test_list_of_frame_folders(here):
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


def test_prefix_and_suffix(here):
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


def test_files_that_are_nowhere(here):
    name = write(here, "a.mp4 0\nb.mp4 1\n")
    with pytest.raises(
        DatasetError,
        match=r"none of its files exists \(tried 2 of 2, first 'a.mp4'\).* set data_prefix",
    ):
        VideoDataset(name).load()
    with pytest.raises(DatasetError, match="relative to data_prefix 'x'"):
        VideoDataset(name, data_prefix="x").load()
    make(here, "b.mp4")  # one that is missing is the loader's affair
    assert len(VideoDataset(name).load().records) == 2


def test_class_names_are_sorted_or_given(here):
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


def test_ids_with_given_names(here):
    make(here, "a.mp4")
    assert VideoDataset(write(here, "a.mp4 1\n")).load(["x", "y"]).class_names == ["x", "y"]
    with pytest.raises(
        DatasetError, match="train.list:1: label 2: there are 2 class names, ids end at 1"
    ):
        VideoDataset(write(here, "a.mp4 2\n")).load(["x", "y"])


def test_folder_per_class(here):
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


def test_folder_per_class_of_frames(here):
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


def test_folders_without_records(here):
    make(here, "d/a.mp4")
    with pytest.raises(
        DatasetError,
        match=r"d: no records in this folder: expected d/<class>/\*.mp4 .*, found a.mp4",
    ):
        VideoDataset("d").load()
    with pytest.raises(DatasetError, match="expected d/<class>/<video>/img_00001.jpg"):
        FrameDataset("d").load()


def test_tables(here):
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
def test_mistakes_are_named_with_their_place(here, name, text, message):
    make(here, "a.mp4")
    with pytest.raises(DatasetError, match=message):
        VideoDataset(write(here, text, name)).load()


@pytest.mark.parametrize("line", ["v1 0", "v1 x 0", "v1 0 0", "v1 -3 0", "v1"])
def test_mistakes_in_lists_of_frames(here, line):
    with pytest.raises(
        DatasetError,
        match="t.list:1: '.*' is not 'folder num_frames label' with at least one frame",
    ):
        FrameDataset(write(here, line + "\n", "t.list")).load()


def test_frame_tables_have_no_times(here):
    with pytest.raises(DatasetError, match="t.csv:2: start_sec and end_sec are for videos"):
        FrameDataset(write(here, "path,label,end_sec\na,1,3\n", "t.csv")).load()
    with pytest.raises(DatasetError, match="t.csv:2: num_frames '0' is not a number of frames"):
        FrameDataset(write(here, "path,label,num_frames\na,1,0\n", "t.csv")).load()


def test_all_mistakes_at_once(here):
    text = "a.mp4 0\n" + "bad\n" * 12 + "a.mp4 -4\n"
    with pytest.raises(DatasetError) as caught:
        VideoDataset(write(here, text)).load()
    lines = str(caught.value).splitlines()
    assert (
        len(lines) == 11 and lines[0].startswith("train.list:2:") and lines[-1] == "... and 3 more"
    )


def test_missing_list():
    with pytest.raises(
        DatasetError, match="nothing.list: no such file or folder; set file_path to a list"
    ):
        VideoDataset("nothing.list").load()


def test_arguments_are_checked():
    for limit in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"max_failures is {limit}"):
            VideoDataset("a", max_failures=limit)
    for limit in (0, 0.5, 1, 20):
        assert FrameDataset("a", max_failures=limit).max_failures == limit
    with pytest.raises(ValueError, match="has no place for the number"):
        FrameDataset("a", suffix="img.jpg")
    with pytest.raises(ValueError, match="no pattern of numbered pictures"):
        FrameDataset("a", suffix="img_{x}.jpg")
    assert (
        "num_retries" in lookup("dataset", "VideoDataset").ignores
        and "test_mode" in lookup("dataset", "FrameDataset").ignores
    )


@given(
    st.lists(
        st.tuples(
            st.text(
                st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1
            ).map(lambda name: f"d {name}"),
            st.integers(0, 10**6),
        ),
        max_size=20,
    )
)
def test_any_list_comes_back(pairs):
    problems = Problems("x")
    found = list_lines([f"{path}\t{label}" for path, label in pairs], problems, False)
    assert [(row.path, int(row.label)) for row in found] == pairs and problems.count == 0


def test_header():
    assert header("path,label") == ["path", "label"]
    assert header('"path" , "label"') == ["path", "label"]
    assert (
        header("path label") is None
        and header("a/path,label.mp4 3") is None
        and header("path") is None
    )


def test_num_classes():
    assert resolve_num_classes(None, 9, None) == 10
    assert resolve_num_classes(None, 9, 400) == 400
    assert resolve_num_classes(["a", "b"], 1, None) == 2
    assert resolve_num_classes(["a", "b"], 1, 2) == 2
    assert resolve_num_classes(None, -1, 5) == 5
    cases = [
        (
            (["archery", "b", "c"], 2, 400),
            r"num_classes is 400 in the config, but the data has 3 classes \(archery, b, c\); set num_classes: 3",
        ),
        (
            (None, 9, 5),
            "num_classes is 5 in the config, but the data has label 9, so at least 10 classes",
        ),
        ((["a"], 4, None), "the data has label 4, but there are 1 class names"),
        ((None, -1, None), "no labels to derive num_classes from"),
    ]
    for arguments, message in cases:
        with pytest.raises(DatasetError, match=message):
            resolve_num_classes(*arguments)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffrun fast\r\nwälk\r\n\r\n2 step\r\n",
        "1 wälk\n0 run fast\n2 2 step\n",
        '["run fast", "wälk", "2 step"]',
        '{"0": "run fast", "2": "2 step", "1": "wälk"}',
        '{"run fast": 0, "2 step": 2, "wälk": 1}',
    ],
)
def test_class_name_files(here, text):
    assert read_class_names(write(here, text, "labels.txt")) == ["run fast", "wälk", "2 step"]


def test_class_name_files_wrong(here):
    cases = [
        ("a\nb\na\n", "duplicate class names: a"),
        ("\n", "ids must be 0 .. 0"),
        ('{"1": "a", "2": "b"}', "ids must be 0 .. 1"),
        ("{", "not JSON"),
        (b"\xff", "not UTF-8"),
    ]
    for text, message in cases:
        with pytest.raises(DatasetError, match=message):
            read_class_names(write(here, text, "labels.txt"))
    with pytest.raises(DatasetError, match="no such file of class names"):
        read_class_names("nothing.txt")
