"""The inputs of a prediction. tests/parts/data/test_paths.py tests relative paths in lists."""

import numpy as np
import pytest

from paddlevideo.data.lists import DatasetError
from paddlevideo.predict.inputs import InputRules, find_inputs
from paddlevideo.sample import Record

VIDEOS = InputRules()


def paths(inputs, rules=VIDEOS):
    return [record.path for record, _ in find_inputs(inputs, rules)]


@pytest.fixture
def videos(tmp_path):
    for name in ("a.mp4", "b/Motion.MP4", "c d.avi", ".hidden.mp4", "notes.md"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    return tmp_path / "videos"


def test_finds_files_of_folders_and_globs(videos):
    a, motion, spaced = (str(videos / name) for name in ("a.mp4", "b/Motion.MP4", "c d.avi"))
    assert paths(videos) == [a, motion, spaced]
    assert paths(str(videos / "*.mp4")) == [a]
    assert paths(str(videos / "**" / "*.[aMm]*[4i]")) == [a, motion, spaced]
    assert paths([spaced, a]) == [spaced, a]


def test_reads_lists_with_and_without_labels(videos):
    a, motion, spaced = (str(videos / name) for name in ("a.mp4", "b/Motion.MP4", "c d.avi"))
    names = videos / "names.txt"
    names.write_text(
        "a.mp4 4\nc d.avi\n\nc d.avi 2\nb/Motion.MP4 some_class\nnone here.mp4\nx.mp4 3\n",
        encoding="utf-8",
    )
    assert paths(names) == [a, spaced, spaced, motion, "none here.mp4", "x.mp4"]


def test_reads_lists_with_num_frames_and_a_suffix(tmp_path):
    for name in ("a.npy", "b c.npy", "d.wav"):
        (tmp_path / name).touch()
    lines = {
        "a 30 2": ("a.npy", 30),
        "a.npy": ("a.npy", None),
        "b c 44 1": ("b c.npy", 44),
        "b c.npy 7": ("b c.npy", None),
        "d.wav 12 3": ("d.wav", 12),
        "none here.npy 5 6": ("none here.npy", None),
        "gone.wav 1": ("gone.wav", None),
        "gone 1": ("gone", None),
    }
    (tmp_path / "x.list").write_text("\n".join(lines))
    rules = InputRules((".npy", ".wav"), suffix=".npy")
    found = [
        (record.path.removeprefix(f"{tmp_path}/"), record.num_frames)
        for record, _ in find_inputs(tmp_path / "x.list", rules)
    ]
    assert found == list(lines.values())


def test_reads_a_folder_of_frames_as_one_clip(tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "img_00001.jpg").touch()
    (record,) = (record for record, _ in find_inputs(tmp_path / "clip"))
    assert (record.path, record.frame_pattern) == (str(tmp_path / "clip"), "img_{:05}.jpg")


@pytest.mark.parametrize("pattern", ["frame_{:03}.PNG", "{}.webp", "img_{:05}.jpg"])
def test_reads_frames_of_any_name(tmp_path, pattern):
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(3):
            (tmp_path / folder / pattern.format(number)).touch()
    assert paths(tmp_path) == [str(tmp_path / "a"), str(tmp_path / "b/c")]
    assert paths(tmp_path / "a") == [str(tmp_path / "a")]
    (tmp_path / "film.mp4").touch()  # a folder of videos may have images in it
    assert paths(tmp_path) == [str(tmp_path / "film.mp4")]
    with pytest.raises(ValueError, match="no video or audio file in this folder"):
        paths(tmp_path / "a", InputRules((".wav", ".mp4")))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "path,label,start_sec,end_sec\na.mp4,run,,\na.mp4,run,1,2.5\n"),
        ("t.TSV", "filename\tclass\tstart\tend\na.mp4\trun\t\t\na.mp4\trun\t1\t2.5\n"),
        ("t.jsonl", '{"path": "a.mp4", "label": 3}\n{"path": "a.mp4", "labels": [], "start_sec": 1,'
         ' "end_sec": 2.5}\n'),
    ],
)  # fmt: skip
def test_reads_tables(tmp_path, name, text):
    (tmp_path / "a.mp4").touch()
    (tmp_path / name).write_text(text, encoding="utf-8")
    records = [record for record, _ in find_inputs(tmp_path / name)]
    assert [(r.path, r.start_sec, r.end_sec) for r in records] == [
        (str(tmp_path / "a.mp4"), None, None),
        (str(tmp_path / "a.mp4"), 1.0, 2.5),
    ]
    (tmp_path / name).write_text("path,label\n,x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name}:"):
        find_inputs(tmp_path / name)


def test_takes_an_existing_file_for_a_file_rather_than_a_pattern(tmp_path):
    file = tmp_path / "clip[1].mp4"
    file.touch()
    assert paths(file) == [str(file)]


def test_rejects_inputs_without_files(tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.list").write_bytes(b"a\xff")
    for wrong, message in (
        (tmp_path, "no video in this folder; known suffixes: .3gp"),
        (tmp_path / "*.mp4", "no file matches this pattern"),
        (tmp_path / "empty.txt", "empty.txt: no path in this list; write one on each line"),
        (tmp_path / "binary.list", "not UTF-8 text .*; expected a list with a path on each line"),
        (" ", "an input is empty text"),
        ("x.tfrecord", "x.tfrecord: a shard of frame features, but this model takes .3gp"),
    ):
        with pytest.raises(ValueError, match=message):
            paths(wrong)


def test_rejects_inputs_of_another_type():
    with pytest.raises(ValueError, match="input 1 is a int, expected a path or frames uint8"):
        paths(["a.mp4", 3])
    with pytest.raises(ValueError, match="input 0 is a int, expected a path or a FrameExample"):
        paths([3], InputRules((), find_records=lambda text: []))
    with pytest.raises(ValueError, match="input 0 is a ndarray, expected a path$"):
        paths(np.zeros((1, 2, 2, 3), np.uint8), InputRules((".npy",)))
    with pytest.raises(ValueError, match=r"input 0 is uint8 \[2, 3\], expected frames uint8"):
        paths(np.zeros((2, 3), np.uint8))


def test_finds_videos_for_a_model_of_features_that_extracts_them(videos):
    def find_records(text):
        if text.endswith(".tfrecord"):
            return [Record(text, offset=0), Record(text, offset=9)]
        raise DatasetError(f"{text}: no shards")

    rules = InputRules((".tfrecord",), find_records, extracts=True)
    assert paths("x.tfrecord", rules) == ["x.tfrecord"] * 2
    assert paths(videos / "a.mp4", rules) == [str(videos / "a.mp4")]
    with pytest.raises(ValueError, match=r"a\.mp4: video, but this model takes frame features"):
        paths(videos / "a.mp4", InputRules((".tfrecord",), find_records))
    with pytest.raises(DatasetError, match="notes.md: no shards"):
        paths(videos / "notes.md", rules)
    signed = "https://host/videos/a.MP4?signature=1.2"
    assert paths(signed, rules) == [signed]
