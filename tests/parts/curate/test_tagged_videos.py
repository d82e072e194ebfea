"""Videos and labels of files, folders, lists and tables; the videos themselves are not opened."""

import pytest

from paddlevideo.curate.tagged_videos import find_tagged
from paddlevideo.data.lists import DatasetError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two class folders in `v`, and a folder with one video; the working directory."""
    for name in ("v/a/1.mp4", "v/a/2.mp4", "v/b, c/1.mp4", "other/top.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids_and_labels(inputs, *arguments, **options):
    videos, _ = find_tagged(inputs, *arguments, **options)
    return [(video.record.id, video.labels) for video in videos]


# --- inputs --------------------------------------------------------------------------------------


def test_class_folders(folder):
    videos, class_names = find_tagged(["v"])
    assert class_names == ["a", "b, c"]
    assert [video.record.path for video in videos] == ["v/a/1.mp4", "v/a/2.mp4", "v/b, c/1.mp4"]
    labels = [("a/1.mp4", (0,)), ("a/2.mp4", (0,)), ("b, c/1.mp4", (1,))]
    assert ids_and_labels(["v"]) == labels
    labels = [("a/1.mp4", (2,)), ("a/2.mp4", (2,)), ("b, c/1.mp4", (1,))]
    assert ids_and_labels(["v"], ["z", "b, c", "a"]) == labels
    assert ids_and_labels(["v"], with_labels=False)[2] == ("b, c/1.mp4", ())
    assert ids_and_labels(["other"]) == [("top.mkv", ())], "a folder of videos has no classes"


def test_rejects_unknown_class_folders(folder):
    with pytest.raises(DatasetError, match=r"v: b, c/1.mp4: unknown class 'b, c'"):
        find_tagged(["v"], ["a", "b"])


def test_lists_of_ids_and_names(folder):
    (folder / "ids.list").write_text("v/a/1.mp4 4\nv/a/2.mp4 0,4,0\n\nv/b, c/1.mp4\n")
    labels = [("v/a/1.mp4", (4,)), ("v/a/2.mp4", (0, 4)), ("v/b, c/1.mp4", ())]
    assert ids_and_labels(["ids.list"]) == labels
    assert find_tagged(["ids.list"])[1] is None
    (folder / "names.txt").write_text("v/a/1.mp4 cat\nv/a/2.mp4 dog,cat\n")
    assert find_tagged(["names.txt"])[1] == ["cat", "dog"]
    assert ids_and_labels(["names.txt"]) == [("v/a/1.mp4", (0,)), ("v/a/2.mp4", (0, 1))]


def test_paths_may_be_relative_to_the_list(folder):
    (folder / "own").mkdir()
    (folder / "own" / "far.list").write_text("clip.mp4 2\n")
    (folder / "own" / "clip.mp4").touch()
    videos, _ = find_tagged(["own/far.list"])
    assert videos[0].record.path == "own/clip.mp4"


def test_tables_with_times(folder):
    rows = ["path,label,start_sec,end_sec", "v/a/1.mp4,3,0.5,2", "v/a/1.mp4,1,2,"]
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    labels = [("v/a/1.mp4#0.5-2", (3,)), ("v/a/1.mp4#2-end", (1,))]
    assert ids_and_labels(["table.csv"]) == labels
    videos, _ = find_tagged(["table.csv"])
    assert (videos[0].record.start_sec, videos[1].record.end_sec) == (0.5, None)


def test_multi_label_tables_with_splits(folder):
    rows = ["path,labels,split", "v/a/1.mp4,cat;dog,train", "v/a/2.mp4,,val"]
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    assert ids_and_labels(["table.csv"], split="train") == [("v/a/1.mp4", (0, 1))]
    assert ids_and_labels(["table.csv"], split="valid") == [("v/a/2.mp4", ())]


def test_ids_include_the_folder_if_names_are_ambiguous(folder):
    assert ids_and_labels(["v/a/1.mp4", "other/top.mkv"]) == [("1.mp4", ()), ("top.mkv", ())]
    expected = [("v/a/1.mp4", ()), ("v/a/2.mp4", ()), ("v/b, c/1.mp4", ())]
    assert ids_and_labels(["v/a", "v/b, c"]) == expected, "two files are named 1.mp4"


# --- errors --------------------------------------------------------------------------------------

MIXED = r"x.list:2: label 'cat' is a class name, but '3' \(x.list:1\) is an id; use one kind"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("v/a/1.mp4 3\nv/a/2.mp4 cat\n", MIXED),
        ("v/a/1.mp4 3\nv/a/2.mp4 -1\n", r"x.list:2: label -1, expected an id of 0 .. 3"),
        (
            "v/a/1.mp4 1\nv/a/1.mp4 1\n",
            "x.list:2: v/a/1.mp4 occurs twice; its features would count twice",
        ),
        (
            "nothing here\n",
            "x.list:1: 'nothing here' is not the path of a video, with or without labels",
        ),
        ("\n", "no videos in this list"),
        (
            "path,labels,split\nv/a/1.mp4,0,train\n",
            "x.list: it has a column split; choose one with split: train",
        ),
        ("gone/1.mp4 1\n", "none of its files exists"),
    ],
)
def test_rejects_wrong_lists(folder, content, message):
    (folder / "x.list").write_text(content)
    with pytest.raises(DatasetError, match=message):
        find_tagged(["x.list"])


def test_rejects_ids_without_class_name(folder):
    (folder / "x.list").write_text("v/a/1.mp4 7\n")
    with pytest.raises(DatasetError, match=r"x.list:1: label 7, expected an id of 0 .. 1"):
        find_tagged(["x.list"], ["a", "b"])


def test_rejects_other_inputs(folder):
    message = "nowhere: no such file or folder; give videos, folders, or lists"
    with pytest.raises(DatasetError, match=message):
        find_tagged(["nowhere"])
    (folder / "binary.list").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="not UTF-8 text .*; give videos, folders, or lists"):
        find_tagged(["binary.list"])
    (folder / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no video in this folder"):
        find_tagged(["empty"])
