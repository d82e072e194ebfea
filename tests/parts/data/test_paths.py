"""Split names, listing files, and what the relative paths of a list mean to all its readers."""

import glob
import os
from pathlib import Path

import pytest

from paddlevideo.curate.batch_jobs import plan_jobs
from paddlevideo.curate.inventory import Inputs
from paddlevideo.curate.known_sets import jobs_of_list
from paddlevideo.curate.read_inputs import read_inputs
from paddlevideo.curate.tagged_videos import find_tagged
from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.paths import (
    NUM_TRIED,
    SPLITS,
    base_folder,
    find_frame_folders,
    glob_files,
    list_files,
    list_name,
    split_name,
    split_under,
    walk_folders,
)
from paddlevideo.data.youtube8m.find import find_shards
from paddlevideo.predict.inputs import find_inputs


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def write(path, text):
    make(path)
    Path(path).write_text(text, encoding="utf-8")
    return path


# --- splits ---------------------------------------------------------------------------------------


def test_reads_every_name_of_a_split():
    assert [split_name(name) for name in ("train", " Training ", "TRAIN")] == ["train"] * 3
    names = ("val", "Valid", "validation", "validate", "dev")
    assert [split_name(name) for name in names] == ["valid"] * 5
    assert [split_name(name) for name in ("test", "Testing")] == ["test"] * 2
    assert split_name("archery") is None and split_name("") is None


def test_writes_split_names_that_it_reads():
    assert [list_name(split) for split in SPLITS] == ["train", "val", "test"]
    assert tuple(split_name(list_name(split)) for split in SPLITS) == SPLITS


def test_finds_the_splits_of_a_folder():
    make("d/validation/a/1.mp4")
    assert split_under("d", "valid") == {"file_path": "d/validation"}
    write("d/val.list", "")
    expected = {"file_path": "d/val.list", "data_prefix": "d"}
    assert split_under("d", "valid") == split_under("d", "val") == expected
    write("l/val.list", "")
    make("l/train.csv", "c/train.csv", "c/run/1.mp4", "f/train/a/1.mp4")
    start = "no test.csv in it. A model that was trained on this folder may know clips that are "
    start += "drawn from it now, so use other videos: "
    given = "give a folder per class: -o DATASET.test.file_path=FOLDER"
    draw = ". For the next training, draw a test set first: python tools/check_data.py"
    valid = ", or test on the validation clips: -o DATASET.test.file_path="
    messages = {
        "d": f"{given}{valid}d/val.list{draw} d --test_share 0.1",
        "c": f"{given}{draw} c --test_share 0.1",  # a folder per class
        "l": f"{given}{valid}l/val.list{draw} FOLDER_OF_VIDEOS --out l --test_share 0.1",
        "f": "put them into f/test/<class>/",  # a folder per split, which are never divided again
    }
    for folder, message in messages.items():
        with pytest.raises(DatasetError) as error:
            split_under(folder, "test")
        assert str(error.value) == f"{folder}: {start}{message}"
    with pytest.raises(DatasetError, match=r"f: no val.csv in it; make one with: python \S+ f$"):
        split_under("f", "valid")
    with pytest.raises(DatasetError, match="e: no such folder"):
        split_under("e", "train")


# --- files below a folder -------------------------------------------------------------------------


def listed(folder, suffixes=(".mp4",), **options):
    return [path.as_posix() for path in list_files(folder, suffixes, **options)]


def test_lists_files_of_a_folder_before_those_of_its_sub_folders():
    make("d/b/z.mp4", "d/b/a/y.mp4", "d/c.MP4", "d/b.mp4", "d/x.avi", "d/mp4")
    assert listed("d") == ["d/b.mp4", "d/c.MP4", "d/b/z.mp4", "d/b/a/y.mp4"]
    assert listed(Path("d"), (".avi",)) == ["d/x.avi"]
    assert listed("d", skip=Path("d/b/a")) == ["d/b.mp4", "d/c.MP4", "d/b/z.mp4"]


def test_leaves_out_hidden_names():
    make("d/.a.mp4", "d/.git/b.mp4", "d/c/.d/e.mp4", "d/f.mp4")
    assert listed("d") == ["d/f.mp4"]


def test_follows_links():
    make("store/x.mp4", "d/a.mp4")
    os.symlink("../store", "d/link")
    os.symlink("../store/x.mp4", "d/y.mp4")
    assert listed("d") == ["d/a.mp4", "d/y.mp4", "d/link/x.mp4"]
    os.symlink("d", "e")
    assert listed("e") == ["e/a.mp4", "e/y.mp4", "e/link/x.mp4"]


@pytest.mark.parametrize("target", [".", "..", "../..", "../../d"])
def test_lists_no_file_twice_through_a_link_to_a_folder_above(target):
    make("d/run/a.mp4", "d/run/deep/b.mp4", "d/swim/c.mp4")
    os.symlink(target, "d/run/up")
    assert listed("d") == ["d/run/a.mp4", "d/run/deep/b.mp4", "d/swim/c.mp4"]
    assert listed("d/run") == ["d/run/a.mp4", "d/run/deep/b.mp4"]
    rows = [(record.id, record.label) for record in VideoDataset("d").load().records]
    assert rows == [("run/a.mp4", 0), ("run/deep/b.mp4", 0), ("swim/c.mp4", 1)]


GLOBS = [
    "d/**/*.mp4",
    "d/**",
    "d/*/*.mp4",
    "*/run/*.mp4",
    "**/b.*",
    "d/r*/**/[ab].mp4",
    "d/**/deep/**",
]


@pytest.mark.parametrize("pattern", [*GLOBS, "d/*.mp4", "no/**/*.mp4", "./d/**/*.mp4", "d/x.[m]p4"])
def test_patterns_find_what_python_finds(pattern):
    make("d/run/a.mp4", "d/run/deep/b.mp4", "d/swim/c.avi", "d/x.mp4", "e/run/f.mp4", "d/.h/b.mp4")
    names = filter(os.path.isfile, glob.glob(pattern, recursive=True))
    expected = sorted(map(os.path.normpath, names))
    assert glob_files(pattern) == expected
    absolute = glob_files(os.path.abspath(pattern))
    assert absolute == [os.path.abspath(name) for name in expected]


@pytest.mark.parametrize("pattern", GLOBS)
def test_patterns_find_no_file_twice_through_links_to_folders_above(pattern):
    make("d/run/a.mp4", "d/run/deep/b.mp4", "d/swim/c.avi", "d/x.mp4", "e/run/f.mp4")
    expected = glob_files(pattern)
    for number, folder in enumerate(("d/run", "d/run/deep", "d/swim", "e/run")):
        os.symlink(os.path.abspath("d"), f"{folder}/up{number}")
        os.symlink("..", f"{folder}/parent")
    assert [name for name in glob_files(pattern) if name in expected] == expected
    real = [os.path.realpath(name) for name in glob_files("d/**/*.*")]
    assert len(real) == len(set(real)) == 4


def test_lists_a_folder_once_that_two_links_lead_to():
    make("store/x.mp4", "d/a/1.mp4", "d/b/2.mp4")
    os.symlink("../store", "d/one")
    os.symlink("../store", "d/two")
    os.symlink("../b", "d/a/b")
    assert listed("d") == ["d/a/1.mp4", "d/b/2.mp4", "d/one/x.mp4"]


def test_passes_over_broken_links_and_reports_folders_it_cannot_read():
    make("d/a.mp4")
    os.symlink("nowhere", "d/broken")
    assert listed("d") == ["d/a.mp4"]
    errors = []
    assert list(walk_folders("nowhere", errors.append)) == []
    assert [error.filename for error in errors] == ["nowhere"]


def test_finds_folders_of_frames():
    make("d/v1/img_00001.jpg", "d/s/v2/img_00001.jpg", "d/s/v3/img_00002.jpg")
    os.symlink("..", "d/s/up")
    found = [path.as_posix() for path in find_frame_folders("d", "img_{:05}.jpg")]
    assert found == ["d/s/v2", "d/v1"]


# --- relative paths: all readers of a list use the same files -------------------------------------


def train(file):
    return [record.path for record in VideoDataset(file).load().records]


def predict(file):
    return [record.path for record, _ in find_inputs(file)]


def check(file):
    return [clip.record.path for clip in read_inputs(Inputs(Path(file))).clips]


def resize_or_extract_frames(file):
    _, jobs = jobs_of_list(Path(file), Path("out"), ".mp4", None, use_spans=False)
    return [job.source for job in jobs]


def extract_audio(file):
    return [job.source for job in plan_jobs(Path(file), Path("out"), ".wav")]


def extract_features(file):
    return [video.record.path for video in find_tagged([file])[0]]


READERS = [train, predict, check, resize_or_extract_frames, extract_audio, extract_features]
reads = pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
LINES = "b.mp4 0\nc d/e f.mp4 1\n"


@reads
def test_uses_files_next_to_the_list(read):
    write("lists/l.list", LINES)
    make("lists/b.mp4", "lists/c d/e f.mp4")
    assert read("lists/l.list") == ["lists/b.mp4", "lists/c d/e f.mp4"]


@reads
def test_uses_files_in_the_working_directory(read):
    write("lists/l.list", LINES)
    make("b.mp4", "c d/e f.mp4")
    assert read("lists/l.list") == ["b.mp4", "c d/e f.mp4"]


@reads
def test_rejects_a_path_that_means_two_different_files(read, here):
    write("lists/l.list", LINES)
    make("b.mp4", "c d/e f.mp4", "lists/b.mp4", "lists/c d/e f.mp4")
    with pytest.raises(ValueError) as caught:
        read("lists/l.list")
    assert str(caught.value).startswith(
        f"lists/l.list: 'b.mp4' is both {here}/lists/b.mp4 and {here}/b.mp4, "
        "which are different files; "
    )


@reads
def test_accepts_a_path_that_means_the_same_file_twice(read):
    write("lists/l.list", LINES)
    make("b.mp4", "c d/e f.mp4")
    os.symlink("../b.mp4", "lists/b.mp4")
    assert read("lists/l.list") == ["b.mp4", "c d/e f.mp4"]
    assert read(write("l.list", LINES)) == ["b.mp4", "c d/e f.mp4"]


@reads
def test_uses_one_folder_for_all_paths_of_a_list(read):
    write("lists/l.list", "b.mp4 0\nc.mp4 0\n")
    make("lists/b.mp4", "c.mp4")
    first, second = read("lists/l.list")
    assert first == "lists/b.mp4" and not os.path.samefile(".", os.path.dirname(second) or "lists")
    assert second != "./c.mp4"


def test_a_given_folder_wins():
    write("lists/l.list", LINES)
    make("b.mp4", "lists/b.mp4", "videos/b.mp4", "videos/c d/e f.mp4")
    expected = ["videos/b.mp4", "videos/c d/e f.mp4"]
    records = VideoDataset("lists/l.list", data_prefix="videos").load().records
    assert [record.path for record in records] == expected
    clips = read_inputs(Inputs(Path("lists/l.list"), data_prefix="videos")).clips
    assert [clip.record.path for clip in clips] == expected
    list_file, out = Path("lists/l.list"), Path("out")
    _, jobs = jobs_of_list(list_file, out, ".mp4", Path("videos"), use_spans=False)
    assert [job.source for job in jobs] == expected
    jobs = plan_jobs(list_file, out, ".wav", root=Path("videos"))
    assert [job.source for job in jobs] == expected


def test_names_the_setting_that_chooses_the_folder():
    write("lists/l.list", LINES)
    make("b.mp4", "lists/b.mp4")
    for read, fix in ((train, "set data_prefix"), (check, "set data_prefix")):
        with pytest.raises(DatasetError, match=fix):
            read("lists/l.list")
    for read in (resize_or_extract_frames, extract_audio):
        with pytest.raises(DatasetError, match="set --list-root"):
            read("lists/l.list")
    for read in (predict, extract_features):
        with pytest.raises(DatasetError, match="write absolute paths into the list"):
            read("lists/l.list")


def test_reads_absolute_paths_unchanged(here):
    write("lists/l.list", f"{here}/b.mp4 0\n{here}/c.mp4 1\n")
    make("b.mp4", "lists/b.mp4", "c.mp4")
    expected = [f"{here}/b.mp4", f"{here}/c.mp4"]
    for read in (train, predict, check, extract_features):
        assert read("lists/l.list") == expected


def test_folders_of_frames_follow_the_same_rule():
    write("lists/l.list", "v 1 12 0\n")
    make("lists/v 1/img_00001.jpg")
    (record,) = FrameDataset("lists/l.list").load().records
    ((predicted, _),) = find_inputs("lists/l.list")
    assert record.path == predicted.path == "lists/v 1" and predicted.num_frames == 12
    make("v 1/img_00001.jpg")
    for read in (lambda: FrameDataset("lists/l.list").load(), lambda: find_inputs("lists/l.list")):
        with pytest.raises(DatasetError, match="'v 1' is both .*/lists/v 1 and .*/v 1, which"):
            read()


def test_lists_of_shards_follow_the_same_rule():
    write("lists/l.list", "a.tfrecord\n")
    make("lists/a.tfrecord")
    assert find_shards("lists/l.list") == ["lists/a.tfrecord"]
    make("a.tfrecord")
    with pytest.raises(DatasetError, match="'a.tfrecord' is both"):
        find_shards("lists/l.list")
    assert find_shards("lists/l.list", "lists") == ["lists/a.tfrecord"]


def test_predict_adds_the_suffix_of_its_model():
    from paddlevideo.predict.inputs import InputRules

    write("lists/l.list", "a 30 2\n")
    make("lists/a.npy", "a.npy")
    with pytest.raises(DatasetError, match="'a.npy' is both"):
        find_inputs("lists/l.list", InputRules((".npy",), suffix=".npy"))


def test_tries_only_the_first_paths_of_a_long_list():
    make("lists/last.mp4")
    paths = [f"{number}.mp4" for number in range(NUM_TRIED)] + ["last.mp4"]
    assert base_folder(paths, Path("lists/l.list")) == ""
    assert base_folder(paths, Path("lists/l.list"), limit=None) == "lists"
    assert base_folder(["/absolute.mp4"] * NUM_TRIED + paths[-1:], Path("lists/l.list")) == "lists"


def test_stops_at_a_list_whose_files_do_not_exist(here):
    write("lists/l.list", LINES)
    with pytest.raises(DatasetError) as caught:
        VideoDataset("lists/l.list").load()
    assert str(caught.value) == (
        "lists/l.list: none of its files exists (tried 2 of 2, first 'b.mp4'), relative to the "
        f"list's own folder and the working directory {here}; "
        "set data_prefix to the folder that contains them"
    )
