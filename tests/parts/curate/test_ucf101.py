"""UCF-101 from its official lists: three splits, ids from 0, videos and frames, capitals that differ, and what is wrong."""

import shutil
from pathlib import Path

import pytest

from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.curate.ucf101 import prepare, read_annotations, read_classes, read_split
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.data.lists import DatasetError
from tests.clips import write_clip
from tests.scripts import run_script

CLASSES = ["ApplyEyeMakeup", "Archery", "HandstandPushups"]
GROUPS = 3


def clip_name(label: int, group: int) -> str:
    # The real set spells this class in two ways, too.
    inner = CLASSES[label].replace("Handstand", "HandStand")
    return f"{CLASSES[label]}/v_{inner}_g{group:02}_c01.avi"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Official lists of three classes, each with three groups, of which another one is tested on in each split; videos."""
    root = tmp_path_factory.mktemp("ucf")
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text(
        "".join(f"{n} {name}\r\n" for n, name in enumerate(CLASSES, 1)), newline=""
    )
    for split in (1, 2, 3):
        train = [
            (label, group) for label in range(3) for group in range(1, GROUPS + 1) if group != split
        ]
        test = [(label, split) for label in range(3)]
        text = "".join(f"{clip_name(*pair)} {pair[0] + 1}\n" for pair in train)
        (lists / f"trainlist{split:02}.txt").write_text(text)
        (lists / f"testlist{split:02}.txt").write_text(
            "".join(f"{clip_name(*pair)}\n" for pair in test)
        )
    first = write_clip(root / "a.avi", num_frames=3, codec="mpeg4")
    for label in range(3):
        for group in range(1, GROUPS + 1):
            target = root / "videos" / clip_name(label, group)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(first, target)
    return root


@pytest.fixture
def tree(source, tmp_path) -> Path:
    shutil.copytree(source, tmp_path / "ucf")
    return tmp_path / "ucf"


def test_three_splits(tree, monkeypatch, capsys):
    args = (
        "tools/data/prepare_ucf101.py",
        tree / "ucfTrainTestlist",
        "--videos",
        tree / "videos",
        "--out",
        tree,
    )
    code, out, _ = run_script(monkeypatch, capsys, *args, "--workers", 0)
    assert (
        code == 0
        and "ucf101_train_split_1_videos.txt: 6 of 6 clips are listed\n" in out
        and "3 classes" in out
    )
    names = read_class_names(tree / "labels.txt")
    assert names == CLASSES
    for split in (1, 2, 3):
        train, val = (
            VideoDataset(str(tree / f"ucf101_{kind}_split_{split}_videos.txt")).load(names).records
            for kind in ("train", "val")
        )
        assert [record.label for record in train] == [0, 0, 1, 1, 2, 2] and [
            record.label for record in val
        ] == [0, 1, 2]
        assert all(
            f"_g{split:02}_" in record.path and Path(record.path).is_file() for record in val
        )
        assert not {record.path for record in train} & {record.path for record in val}
    assert (tree / "ucf101_val_split_2_videos.txt").read_text().splitlines()[
        1
    ] == "videos/Archery/v_Archery_g02_c01.avi 1"
    assert sorted(path.name for path in tree.glob("ucf101_*")) == sorted(
        f"ucf101_{kind}_split_{split}_videos.txt"
        for kind in ("train", "val")
        for split in (1, 2, 3)
    )


def test_frames_and_a_single_split(tree, monkeypatch, capsys):
    frames = tree / "frames"
    script = "tools/data/extract_frames.py"
    assert (
        run_script(monkeypatch, capsys, script, tree / "videos", frames, "--num-workers", 1)[0] == 0
    )
    args = (
        "tools/data/prepare_ucf101.py",
        tree / "ucfTrainTestlist",
        "--frames",
        frames,
        "--out",
        tree,
        "--splits",
        2,
    )
    code, out, _ = run_script(monkeypatch, capsys, *args)
    assert code == 0 and out.count("clips are listed") == 2
    file = tree / "ucf101_val_split_2_rawframes.txt"
    assert (
        file.read_text().splitlines()[2] == "frames/HandstandPushups/v_HandStandPushups_g02_c01 3 2"
    )
    records = FrameDataset(str(file)).load(CLASSES).records
    assert [(record.num_frames, record.label) for record in records] == [(3, 0), (3, 1), (3, 2)]
    # A picture that is missing in the middle is found.
    (frames / "Archery" / "v_Archery_g02_c01" / "img_00002.jpg").unlink()
    made = prepare(tree / "ucfTrainTestlist", tree, frames=frames, splits=[2])
    assert [(problem.kind, problem.name) for problem in made.problems] == [
        ("gap", "Archery/v_Archery_g02_c01.avi")
    ]
    assert "2 pictures, but img_00002.jpg is not there" in made.problems[0].text
    assert len(made.lists[file.name]) == 2


def test_missing_damaged_and_elsewhere(tree, monkeypatch, capsys):
    videos = tree / "videos"
    (videos / clip_name(0, 1)).unlink()
    (videos / clip_name(1, 2)).write_bytes(b"nothing that could be a video" * 9)
    # Flat, in another format, and in other capitals.
    (videos / clip_name(2, 3)).unlink()
    write_clip(videos / "V_HANDSTANDPUSHUPS_G03_C01.mp4", num_frames=2)
    made = prepare(tree / "ucfTrainTestlist", tree, videos=videos, workers=0, how=ProbeOptions(1))
    assert [(problem.kind, problem.name) for problem in made.problems] == [
        ("missing", clip_name(0, 1)),
        ("damaged", clip_name(1, 2)),
    ]
    assert {name: len(lines) for name, lines in made.lists.items()} == {
        "ucf101_train_split_1_videos.txt": 5,
        "ucf101_val_split_1_videos.txt": 2,
        "ucf101_train_split_2_videos.txt": 5,
        "ucf101_val_split_2_videos.txt": 2,
        "ucf101_train_split_3_videos.txt": 4,
        "ucf101_val_split_3_videos.txt": 3,
    }
    assert (
        made.lists["ucf101_val_split_3_videos.txt"][2] == "videos/V_HANDSTANDPUSHUPS_G03_C01.mp4 2"
    )
    args = (
        "tools/data/prepare_ucf101.py",
        tree / "ucfTrainTestlist",
        "--videos",
        videos,
        "--out",
        tree,
        "--workers",
        0,
    )
    code, out, _ = run_script(monkeypatch, capsys, *args)
    assert code == 1 and "missing: 1, not listed" in out and "16.7% are not" in out
    assert len((tree / "problems.tsv").read_text().splitlines()) == 2
    code, _, err = run_script(monkeypatch, capsys, *args[:2], "--out", tree)
    assert code == 2 and "give --videos, --frames or both" in err
    code, _, err = run_script(
        monkeypatch, capsys, *args[:2], "--videos", tree / "ucfTrainTestlist", "--out", tree
    )
    assert (
        code == 2
        and "none of 9 clips is there, as ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi" in err
    )


def test_wrong_annotations(tree):
    lists = tree / "ucfTrainTestlist"
    (lists / "testlist03.txt").rename(lists / "moved.txt")
    with pytest.raises(
        DatasetError, match=r"testlist03.txt: no such file; give the folder of the official lists"
    ):
        read_annotations(lists)
    file = lists / "trainlist01.txt"
    rows = [
        "Archery/v_Archery_g01_c01.avi 3",
        "Rowing/v_Rowing_g01_c01.avi 2",
        "v_Archery_g01_c01.avi 2",
    ]
    rows += ["Archery/v_Archery_g02_c01.avi 2", "Archery/v_Archery_g02_c01.avi 2", ""]
    file.write_text("\n".join(rows))
    with pytest.raises(DatasetError) as error:
        read_split(file, CLASSES)
    assert [line.removeprefix(f"{file}:") for line in str(error.value).splitlines()] == [
        "1: Archery/v_Archery_g01_c01.avi: class 3 here, 2 in classInd.txt",
        "2: Rowing/v_Rowing_g01_c01.avi: classInd.txt has no class 'Rowing'",
        "3: 'v_Archery_g01_c01.avi 2' is not 'Class/video.avi' with a class id at most",
        "5: Archery/v_Archery_g02_c01.avi is listed twice",
    ]
    file.write_text("Archery/v_Archery_g01_c02.avi 2\n")
    with pytest.raises(
        DatasetError,
        match="split 1 trains and tests on clips of v_Archery_g01; these are not the official",
    ):
        read_annotations(lists, [1])
    for text in ("0 Archery\n", "1 Archery\n3 Rowing\n", "1 Archery\n2 Archery\n", "Archery\n", ""):
        (lists / "classInd.txt").write_text(text)
        with pytest.raises(DatasetError, match=r"classInd.txt"):
            read_classes(lists / "classInd.txt")
