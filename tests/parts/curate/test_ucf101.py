"""Lists of UCF-101: three splits, videos and frames, file names in another case, annotations."""

import shutil
from pathlib import Path

import pytest

from paddlevideo.curate import ucf101
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.curate.ucf101 import prepare, read_annotations, read_classes, read_split
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.data.lists import DatasetError
from tests.clips import write_clip
from tests.scripts import run_script

CLASSES = ["ApplyEyeMakeup", "Archery", "HandstandPushups"]
GROUPS = (1, 2, 3)
SPLITS = (1, 2, 3)


def clip_name(label: int, group: int) -> str:
    # The official lists spell this class in two ways.
    spelling = CLASSES[label].replace("Handstand", "HandStand")
    return f"{CLASSES[label]}/v_{spelling}_g{group:02}_c01.avi"


def write_official_lists(folder: Path) -> None:
    """Write lists of three classes and three groups; split N tests on group N."""
    folder.mkdir()
    class_lines = "".join(f"{number} {name}\r\n" for number, name in enumerate(CLASSES, 1))
    (folder / "classInd.txt").write_text(class_lines, newline="")
    labels = range(len(CLASSES))
    for split in SPLITS:
        groups = [group for group in GROUPS if group != split]
        train = [f"{clip_name(label, group)} {label + 1}\n" for label in labels for group in groups]
        test = [f"{clip_name(label, split)}\n" for label in labels]
        (folder / f"trainlist{split:02}.txt").write_text("".join(train))
        (folder / f"testlist{split:02}.txt").write_text("".join(test))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The official lists in `ucfTrainTestlist`, and their videos in `videos`."""
    root = tmp_path_factory.mktemp("ucf")
    write_official_lists(root / "ucfTrainTestlist")
    clip = write_clip(root / "a.avi", num_frames=3, codec="mpeg4")
    for label in range(len(CLASSES)):
        for group in GROUPS:
            target = root / "videos" / clip_name(label, group)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, target)
    return root


@pytest.fixture
def tree(source, tmp_path) -> Path:
    shutil.copytree(source, tmp_path / "ucf")
    return tmp_path / "ucf"


@pytest.fixture
def command(tree, monkeypatch, capsys):
    """`command(*options)` -> (exit code, standard output, standard error) of the command."""

    def run(*options):
        arguments = (tree / "ucfTrainTestlist", "--out", tree, "--workers", 0, *options)
        return run_script(monkeypatch, capsys, "tools/data/prepare_ucf101.py", *arguments)

    return run


# --- videos --------------------------------------------------------------------------------------


def test_lists_the_videos_of_three_splits(tree, command):
    code, printed, _ = command("--videos", tree / "videos")
    assert code == 0 and "3 classes" in printed
    assert "ucf101_train_split_1_videos.txt: 6 of 6 clips are listed\n" in printed
    names = read_class_names(tree / "labels.txt")
    assert names == CLASSES

    def records(kind: str, split: int):
        return (
            VideoDataset(str(tree / f"ucf101_{kind}_split_{split}_videos.txt")).load(names).records
        )

    for split in SPLITS:
        train, val = records("train", split), records("val", split)
        assert [record.label for record in train] == [0, 0, 1, 1, 2, 2]
        assert [record.label for record in val] == [0, 1, 2]
        assert all(f"_g{split:02}_" in record.path for record in val)
        assert all(Path(record.path).is_file() for record in val)
        assert not {record.path for record in train} & {record.path for record in val}
    lines = (tree / "ucf101_val_split_2_videos.txt").read_text().splitlines()
    assert lines[1] == "videos/Archery/v_Archery_g02_c01.avi 1"
    assert len(list(tree.glob("ucf101_*_videos.txt"))) == len(list(tree.glob("ucf101_*"))) == 6


def test_reports_missing_and_damaged_videos(tree, command):
    videos = tree / "videos"
    (videos / clip_name(0, 1)).unlink()
    (videos / clip_name(1, 2)).write_bytes(b"not a video" * 9)
    code, printed, _ = command("--videos", videos)
    assert code == 1 and "missing: 1, not listed" in printed and "16.7% are not" in printed
    problems = (tree / "problems.tsv").read_text().splitlines()
    assert [problem.split("\t")[:2] for problem in problems] == [
        ["missing", clip_name(0, 1)],
        ["damaged", clip_name(1, 2)],
    ]
    for file, count in {"train_split_1": 5, "val_split_1": 2, "train_split_3": 4}.items():
        assert len((tree / f"ucf101_{file}_videos.txt").read_text().splitlines()) == count


def test_finds_videos_in_other_places_formats_and_cases(tree):
    videos = tree / "videos"
    (videos / clip_name(2, 3)).unlink()
    write_clip(videos / "V_HANDSTANDPUSHUPS_G03_C01.mp4", num_frames=2)
    options = ProbeOptions(1)
    annotations = tree / "ucfTrainTestlist"
    prepared = prepare(annotations, tree, videos=videos, num_workers=0, options=options)
    assert not prepared.problems
    lines = prepared.lists["ucf101_val_split_3_videos.txt"]
    assert lines[2] == "videos/V_HANDSTANDPUSHUPS_G03_C01.mp4 2"


def test_rejects_folders_without_clips(tree, command):
    code, _, error = command()
    assert code == 2 and "give --videos, --frames or both" in error
    code, _, error = command("--videos", tree / "none")
    assert code == 2 and "no such folder of videos" in error
    code, _, error = command("--videos", tree / "ucfTrainTestlist")
    assert code == 2
    assert "none of 9 clips exists; expected ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi" in error


# --- frames --------------------------------------------------------------------------------------


@pytest.fixture
def frames(tree, monkeypatch, capsys) -> Path:
    """The folders of frames that tools/data/extract_frames.py writes."""
    script, out = "tools/data/extract_frames.py", tree / "frames"
    arguments = (tree / "videos", out, "--num-workers", 1)
    assert run_script(monkeypatch, capsys, script, *arguments)[0] == 0
    return out


def test_lists_the_frames_of_a_single_split(tree, frames, command):
    code, printed, _ = command("--frames", frames, "--splits", 2)
    assert code == 0 and printed.count("clips are listed") == 2
    file = tree / "ucf101_val_split_2_rawframes.txt"
    lines = file.read_text().splitlines()
    assert lines[2] == "frames/HandstandPushups/v_HandStandPushups_g02_c01 3 2"
    records = FrameDataset(str(file)).load(CLASSES).records
    assert [(record.num_frames, record.label) for record in records] == [(3, 0), (3, 1), (3, 2)]


def test_reports_missing_frames(tree, frames):
    (frames / "Archery" / "v_Archery_g02_c01" / "img_00002.jpg").unlink()
    prepared = prepare(tree / "ucfTrainTestlist", tree, frames=frames, splits=[2])
    (problem,) = prepared.problems
    assert (problem.kind, problem.name) == ("gap", "Archery/v_Archery_g02_c01.avi")
    assert "frames are missing: 2 files, img_00001.jpg to img_00003.jpg" in problem.text
    assert len(prepared.lists["ucf101_val_split_2_rawframes.txt"]) == 2


# --- annotations ---------------------------------------------------------------------------------


def test_names_all_wrong_lines(tree):
    file = tree / "ucfTrainTestlist" / "trainlist01.txt"
    lines = [
        "Archery/v_Archery_g01_c01.avi 3",
        "Rowing/v_Rowing_g01_c01.avi 2",
        "v_Archery_g01_c01.avi 2",
        "Archery/v_Archery_g02_c01.avi 2",
        "Archery/v_Archery_g02_c01.avi 2",
        "",
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(DatasetError) as error:
        read_split(file, CLASSES)
    messages = [line.removeprefix(f"{file}:") for line in str(error.value).splitlines()]
    not_a_clip = "is not 'Class/video.avi' or 'Class/video.avi number'"
    assert messages == [
        "1: Archery/v_Archery_g01_c01.avi: class 3 here, 2 in classInd.txt",
        "2: Rowing/v_Rowing_g01_c01.avi: classInd.txt has no class 'Rowing'",
        f"3: 'v_Archery_g01_c01.avi 2' {not_a_clip}",
        "5: Archery/v_Archery_g02_c01.avi is listed twice",
    ]


def test_rejects_recordings_in_training_and_test(tree):
    lists = tree / "ucfTrainTestlist"
    (lists / "trainlist01.txt").write_text("Archery/v_Archery_g01_c02.avi 2\n")
    message = "split 1 has clips of v_Archery_g01 in training and test; these are not the official"
    with pytest.raises(DatasetError, match=message):
        read_annotations(lists, [1])


def test_rejects_missing_and_empty_lists(tree):
    lists = tree / "ucfTrainTestlist"
    (lists / "testlist03.txt").unlink()
    message = r"testlist03.txt: no such file; give the folder of the official lists"
    with pytest.raises(DatasetError, match=message):
        read_annotations(lists)
    (lists / "testlist03.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"testlist03.txt: no clips"):
        read_annotations(lists)
    (lists / "testlist03.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=r"testlist03.txt: not UTF-8 text \(byte 0\)"):
        read_annotations(lists)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 Archery\n", "1: '0 Archery' is not '1 ClassName' with a new name"),
        ("1 Archery\n3 Rowing\n", "2: '3 Rowing' is not '2 ClassName' with a new name"),
        ("1 Archery\n2 Archery\n", "2: '2 Archery' is not '2 ClassName' with a new name"),
        ("Archery\n", "1: 'Archery' is not '1 ClassName' with a new name"),
        ("", " no classes"),
    ],
)
def test_rejects_wrong_class_files(tmp_path, text, message):
    (tmp_path / "classInd.txt").write_text(text)
    with pytest.raises(DatasetError, match=rf"classInd.txt:{message}"):
        read_classes(tmp_path / "classInd.txt")


def test_finds_other_classes_before_it_opens_videos(tree, monkeypatch):
    monkeypatch.setattr(ucf101, "probe_videos", None)
    (tree / "labels.txt").write_text("Archery\n")
    options = ProbeOptions()
    with pytest.raises(FileExistsError, match="labels.txt has 1 classes, the annotations have 3"):
        prepare(tree / "ucfTrainTestlist", tree, videos=tree / "videos", options=options)
    monkeypatch.undo()
    prepare(tree / "ucfTrainTestlist", tree, videos=tree / "videos", overwrite=True)
