"""Videos and their tags from files, folders, lists and tables; nothing is opened."""

import pytest

from paddlevideo.curate.tagged_videos import find_tagged
from paddlevideo.data.lists import DatasetError


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """a/1.mp4 a/2.mp4 "b, c"/1.mp4 and top.mkv beside a folder of its own."""
    for name in ("v/a/1.mp4", "v/a/2.mp4", "v/b, c/1.mp4", "other/top.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(found):
    return [(video.record.id, video.labels) for video in found[0]]


def test_folders(videos):
    found = find_tagged(["v"])
    assert told(found) == [("a/1.mp4", (0,)), ("a/2.mp4", (0,)), ("b, c/1.mp4", (1,))] and found[
        1
    ] == ["a", "b, c"]
    assert [video.record.path for video in found[0]] == ["v/a/1.mp4", "v/a/2.mp4", "v/b, c/1.mp4"]
    assert told(find_tagged(["other"])) == [("top.mkv", ())], "a folder of videos has no classes"
    assert told(find_tagged(["v"], with_labels=False))[2] == ("b, c/1.mp4", ())
    assert told(find_tagged(["v"], ["z", "b, c", "a"])) == [
        ("a/1.mp4", (2,)),
        ("a/2.mp4", (2,)),
        ("b, c/1.mp4", (1,)),
    ]
    with pytest.raises(DatasetError, match=r"v: b, c/1.mp4: unknown class 'b, c'"):
        find_tagged(["v"], ["a", "b"])


def test_lists(videos):
    (videos / "ids.list").write_text("v/a/1.mp4 4\nv/a/2.mp4 0,4,0\n\nv/b, c/1.mp4\n")
    found = find_tagged(["ids.list"])
    assert (
        told(found) == [("v/a/1.mp4", (4,)), ("v/a/2.mp4", (0, 4)), ("v/b, c/1.mp4", ())]
        and found[1] is None
    )
    (videos / "names.txt").write_text("v/a/1.mp4 cat\nv/a/2.mp4 dog,cat\n")
    assert find_tagged(["names.txt"])[1] == ["cat", "dog"] and told(find_tagged(["names.txt"]))[
        1
    ] == ("v/a/2.mp4", (0, 1))
    (videos / "table.csv").write_text(
        "path,label,start_sec,end_sec\nv/a/1.mp4,3,0.5,2\nv/a/1.mp4,1,2,\n"
    )
    found = find_tagged(["table.csv"])
    assert told(found) == [("v/a/1.mp4#0.5-2", (3,)), ("v/a/1.mp4#2-end", (1,))]
    assert (found[0][0].record.start_sec, found[0][1].record.end_sec) == (0.5, None)
    (videos / "several.csv").write_text(
        "path,labels,split\nv/a/1.mp4,cat;dog,train\nv/a/2.mp4,,val\n"
    )
    assert told(find_tagged(["several.csv"], split="train")) == [("v/a/1.mp4", (0, 1))]
    assert told(find_tagged(["several.csv"], split="valid")) == [("v/a/2.mp4", ())]
    (videos / "own").mkdir()
    (videos / "own" / "far.list").write_text("clip.mp4 2\n")
    (videos / "own" / "clip.mp4").touch()
    assert find_tagged(["own/far.list"])[0][0].record.path == "own/clip.mp4", (
        "relative to the list's own folder"
    )


def test_several_inputs_and_single_files(videos):
    found = find_tagged(["v/a/1.mp4", "other/top.mkv"])
    assert told(found) == [("1.mp4", ()), ("top.mkv", ())]
    found = find_tagged(["v/a", "v/b, c"])
    assert told(found) == [("v/a/1.mp4", ()), ("v/a/2.mp4", ()), ("v/b, c/1.mp4", ())], (
        "two are called 1.mp4"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "v/a/1.mp4 3\nv/a/2.mp4 cat\n",
            r"x.list:2: label 'cat' is a class name, but '3' \(x.list:1\) an id; use one kind",
        ),
        ("v/a/1.mp4 3\nv/a/2.mp4 -1\n", r"x.list:2: label -1, ids are 0 .. 3"),
        (
            "v/a/1.mp4 1\nv/a/1.mp4 1\n",
            "x.list:2: v/a/1.mp4 is there twice; its features would count twice",
        ),
        (
            "nothing here\n",
            "x.list:1: 'nothing here' is not a video's path, with or without labels",
        ),
        ("\n", "no videos in this list"),
        (
            "path,labels,split\nv/a/1.mp4,0,train\n",
            "x.list: it has a column split; choose one with split: train",
        ),
        ("gone/1.mp4 1\n", "none of its files exists"),
    ],
)
def test_wrong_lists(videos, content, message):
    (videos / "x.list").write_text(content)
    with pytest.raises(DatasetError, match=message):
        find_tagged(["x.list"])


def test_wrong_inputs(videos):
    (videos / "x.list").write_text("v/a/1.mp4 7\n")
    with pytest.raises(DatasetError, match=r"x.list:1: label 7, ids are 0 .. 1"):
        find_tagged(["x.list"], ["a", "b"])
    with pytest.raises(
        DatasetError, match="nowhere: no such file or folder; give videos, folders, or lists"
    ):
        find_tagged(["nowhere"])
    (videos / "binary.list").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="not UTF-8 text .*; give videos, folders, or lists"):
        find_tagged(["binary.list"])
    (videos / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no video in this folder"):
        find_tagged(["empty"])
