"""Kinetics from its CSV files: ids, files under every name, what is missing, damaged or doubtful, and lists that are read."""

import shutil
from pathlib import Path

import pytest

from paddlevideo.curate.kinetics import Clip, Videos, plain, prepare, read_annotations
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.data.lists import DatasetError
from tests.clips import write_clip
from tests.scripts import run_script

HEADER = "label,youtube_id,time_start,time_end,split\n"
TRAIN = """zumba,---QUuC4vJs,84,94,train
"massaging person's head",Abc_efghij1,0,10,train
air drumming,Abc-efghij2,5,15,train
Zorbing,Abcdefghij3,1,11,train
air drumming,Abcdefghij4,100,110,train
zumba,Abcdefghij5,7,17,train
"""
VAL = """air drumming,Abcdefghij6,20,30,validate
zumba,Abcdefghij7,3,13,validate
"""
NAMES = ["Zorbing", "air drumming", "massaging person's head", "zumba"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", num_frames=4)


@pytest.fixture
def tree(tmp_path, clip) -> Path:
    """CSV files, and videos below `videos`; all are there but one, and one is cut short."""
    (tmp_path / "train.csv").write_text(HEADER + TRAIN, encoding="utf-8")
    (tmp_path / "val.csv").write_bytes(
        b"\xef\xbb\xbf" + (HEADER + VAL).replace("\n", "\r\n").encode()
    )
    for name in (
        "train/zumba/---QUuC4vJs_000084_000094.mp4",
        "train/massaging_persons_head/Abc_efghij1.mp4",
        "Abc-efghij2_000005_000015.mp4",
        "train/air_drumming/Abcdefghij4_000100_000110.MP4",
        "val/air drumming/Abcdefghij6.mkv",
        "val/zumba/Abcdefghij7_000003_000013.mp4",
        "train/zumba/Unknown1234_000003_000013.mp4",
    ):
        target = tmp_path / "videos" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    cut = tmp_path / "videos" / "train" / "Zorbing" / "Abcdefghij3_000001_000011.mp4"
    cut.parent.mkdir()
    cut.write_bytes(clip.read_bytes()[:-300])
    return tmp_path


def files(tree: Path) -> list[Path]:
    return [tree / "train.csv", tree / "val.csv"]


def made_from(tree: Path, **more):
    return prepare(
        files(tree), tree / "videos", tree / "out", workers=0, **{"how": ProbeOptions(2), **more}
    )


def test_lists_ids_and_what_is_wrong(tree):
    made = made_from(tree)
    assert made.class_names == NAMES, "sorted as Python sorts text"
    videos = (tree / "videos").as_posix()
    assert made.lists["train.list"] == [
        f"{videos}/train/zumba/---QUuC4vJs_000084_000094.mp4 3",
        f"{videos}/train/massaging_persons_head/Abc_efghij1.mp4 2",
        f"{videos}/Abc-efghij2_000005_000015.mp4 1",
        f"{videos}/train/air_drumming/Abcdefghij4_000100_000110.MP4 1",
    ]
    assert made.lists["val.list"] == [
        f"{videos}/val/air drumming/Abcdefghij6.mkv 1",
        f"{videos}/val/zumba/Abcdefghij7_000003_000013.mp4 3",
    ]
    assert made.wanted == {"train.list": 6, "val.list": 2}
    kinds = [(problem.kind, problem.name) for problem in made.problems]
    assert kinds == [
        ("damaged", "Abcdefghij3_000001_000011"),
        ("missing", "Abcdefghij5_000007_000017"),
        ("untrained", "Zorbing"),
    ]
    assert made.problems[0].text.endswith("bytes are missing at the end")
    assert not made.notes, "a video that no row names is nobody's business"


def test_without_looking_the_damaged_one_is_listed(tree):
    made = made_from(tree, how=None)
    assert len(made.lists["train.list"]) == 5 and [problem.kind for problem in made.problems] == [
        "missing"
    ]


def test_the_command_and_what_reads_its_lists(tree, monkeypatch, capsys):
    args = [
        "tools/data/prepare_kinetics.py",
        *files(tree),
        "--videos",
        tree / "videos",
        "--out",
        tree,
        "--workers",
        0,
    ]
    code, out, _ = run_script(monkeypatch, capsys, *args, "--num_classes", 4)
    assert code == 1
    assert (
        "train.list: 4 of 6 clips are listed, 33.3% are not" in out
        and "val.list: 2 of 2 clips are listed\n" in out
    )
    assert (
        "missing: 1, not listed" in out
        and "damaged: 1, not listed" in out
        and "problems.tsv" in out
    )
    records = VideoDataset(str(tree / "train.list")).load(read_class_names(tree / "labels.txt"))
    assert [record.label for record in records.records] == [
        3,
        2,
        1,
        1,
    ] and records.class_names == NAMES
    assert all(Path(record.path).is_file() for record in records.records)
    assert (tree / "train.list").read_text().startswith("videos/train/zumba/"), (
        "relative to the list"
    )
    # Nothing changed: the same files. Something changed: not without being told to.
    assert run_script(monkeypatch, capsys, *args)[0] == 1
    (tree / "videos" / "Abc-efghij2_000005_000015.mp4").unlink()
    code, _, err = run_script(monkeypatch, capsys, *args)
    assert code == 2 and "train.list is there and says something else" in err
    assert len((tree / "train.list").read_text().splitlines()) == 4
    assert run_script(monkeypatch, capsys, *args, "--overwrite")[0] == 1
    assert len((tree / "train.list").read_text().splitlines()) == 3
    shutil.copy(
        tree / "videos" / "val" / "zumba" / "Abcdefghij7_000003_000013.mp4",
        tree / "videos" / "Abcdefghij5.mp4",
    )
    for name in ("Abc-efghij2.mp4", "Abcdefghij3.mp4"):
        shutil.copy(tree / "videos" / "Abcdefghij5.mp4", tree / "videos" / name)
    assert run_script(monkeypatch, capsys, *args, "--overwrite")[0] == 0, (
        "all is there: the good copy stands for the damaged one"
    )
    assert (tree / "problems.tsv").read_text() == ""


def test_other_class_names_are_not_replaced(tree, monkeypatch, capsys):
    (tree / "labels.txt").write_text("\n".join(["abseiling", *NAMES]) + "\n", encoding="utf-8")
    args = [
        "tools/data/prepare_kinetics.py",
        *files(tree),
        "--videos",
        tree / "videos",
        "--out",
        tree,
        "--workers",
        0,
    ]
    code, _, err = run_script(monkeypatch, capsys, *args)
    assert code == 2 and not (tree / "train.list").exists()
    assert (
        "has 5 classes, the annotations have 4; the first difference is class 0: abseiling there, Zorbing here"
        in err
    )
    assert run_script(monkeypatch, capsys, *args, "--class_names", tree / "labels.txt")[0] == 1
    assert (tree / "val.list").read_text().splitlines()[0].endswith(" 2"), (
        "ids as the file numbers them"
    )
    code, _, err = run_script(monkeypatch, capsys, *args, "--num_classes", 400, "--overwrite")
    assert code == 2 and "4 classes, --num_classes says 400" in err
    (tree / "labels.txt").write_text("zumba\n", encoding="utf-8")
    code, _, err = run_script(monkeypatch, capsys, *args, "--class_names", tree / "labels.txt")
    assert code == 2 and "not among the 1 class names: 'Zorbing', 'air drumming'" in err


def test_which_of_several_files(tmp_path, clip):
    clips = [
        Clip("train", "zumba", "SameId", 0, 10, "a:2"),
        Clip("val", "air drumming", "SameId", 30, 40, "a:3"),
        Clip("train", "zumba", "OtherId", 0, 10, "a:4"),
    ]
    for name in (
        "zumba/SameId.mp4",
        "air_drumming/SameId.mp4",
        "air drumming/OtherId_000000_000010.mp4",
        "val/OtherId.mp4",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    (tmp_path / "train").mkdir()
    shutil.copy(clip, tmp_path / "train" / "OtherId.mp4")
    videos = Videos(tmp_path, {"zumba", "air drumming"})
    names = [
        [path.relative_to(tmp_path).as_posix() for path in videos.candidates(clip)]
        for clip in clips
    ]
    assert names == [
        ["zumba/SameId.mp4"],
        ["air_drumming/SameId.mp4"],
        ["air drumming/OtherId_000000_000010.mp4", "train/OtherId.mp4", "val/OtherId.mp4"],
    ]
    assert videos.misplaced(tmp_path / names[2][0], clips[2]) == "air drumming"


def test_doubtful_files_are_told(tmp_path, clip):
    rows = "a,TwoPieces,0,10,train\na,TwoPieces,50,60,train\nb,Wrong,0,10,train\na,Long,0,1,train\na,Again,0,9,train\n"
    rows += "a,Again,0,9,train\nb,Again,0,9,train\n"
    (tmp_path / "train.csv").write_text(HEADER + rows, encoding="utf-8")
    videos = tmp_path / "videos" / "a"
    videos.mkdir(parents=True)
    for name in ("TwoPieces.mp4", "Wrong_000000_000010.mp4", "Again_000000_000009.mp4"):
        shutil.copy(clip, videos / name)
    write_clip(videos / "Long.mp4", num_frames=80)
    made = prepare(
        [tmp_path / "train.csv"], tmp_path / "videos", tmp_path, workers=0, how=ProbeOptions(1)
    )
    assert [(problem.kind, problem.name) for problem in made.problems] == [
        ("ambiguous", "TwoPieces_000000_000010"),
        ("ambiguous", "TwoPieces_000050_000060"),
        ("uncut", "Long_000000_000001"),
    ]
    assert "3 s long, 1 s are annotated" in made.problems[2].text
    assert [(note.kind, note.name[:5]) for note in made.notes] == [
        ("repeated", "Again"),
        ("twice", "Again"),
        ("misplaced", "Wrong"),
        ("misplaced", "Again"),
    ]
    assert made.lists["train.list"] == [
        "videos/a/Wrong_000000_000010.mp4 1",
        "videos/a/Again_000000_000009.mp4 0",
        "videos/a/Again_000000_000009.mp4 1",
    ]


def test_mistakes_in_the_annotations_are_all_named(tmp_path):
    file = tmp_path / "train.csv"
    rows = [
        "a,#NAME?,0,10,train",
        "a,Good_id,10,5,train",
        "a,Good_id,x,5,train",
        "a,Good_id,0,5,noon",
        ",Good_id,0,5,test",
        "a,b",
    ]
    file.write_text(HEADER + "\n".join(rows), encoding="utf-8")
    with pytest.raises(DatasetError) as error:
        read_annotations([file])
    said = str(error.value).splitlines()
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in said] == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
    ]
    assert "youtube_id '#NAME?' is none; a spreadsheet may have changed it" in said[0]
    assert (
        "time_start '10' and time_end '5' are not seconds" in said[1]
        and "split 'noon' is none of train" in said[3]
    )
    assert "no label for Good_id" in said[4]
    file.write_text("youtube_id,time_start,time_end,split\na,0,10,test\n")
    with pytest.raises(
        DatasetError, match=r"train.csv:1: no column label .*a test set without labels"
    ):
        read_annotations([file])
    file.write_text("label,youtube_id,time_start,time_end\na,b,0,10.0\n")
    assert read_annotations([file]) == [Clip("train", "a", "b", 0, 10, f"{file}:2")], (
        "the split of the file's name"
    )
    with pytest.raises(DatasetError, match="no column split; call the file after it"):
        read_annotations([file.rename(tmp_path / "mine.csv")])
    with pytest.raises(DatasetError, match="no such file"):
        read_annotations([file])
    (tmp_path / "zip.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        read_annotations([tmp_path / "zip.csv"])


def test_nothing_there(tree):
    with pytest.raises(DatasetError, match="no such folder of videos"):
        prepare(files(tree), tree / "none", tree)
    (tree / "empty").mkdir()
    with pytest.raises(
        DatasetError,
        match=r"none of 8 clips is there, as ---QUuC4vJs_000084_000094.mp4; found no video at all",
    ):
        prepare(files(tree), tree / "empty", tree)


def test_the_alphabet_is_that_of_the_published_labels(root):
    names = read_class_names(root / "data" / "k400" / "labels.txt")
    assert len(names) == 400 and names == sorted(names)
    assert len({plain(name) for name in names}) == 400, "folder names tell all classes apart"
