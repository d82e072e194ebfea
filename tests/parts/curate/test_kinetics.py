"""Lists of Kinetics: class ids, file names, missing, damaged and ambiguous clips, annotations."""

import shutil
from pathlib import Path

import pytest

from paddlevideo.curate import kinetics, known_sets
from paddlevideo.curate.kinetics import (
    Clip,
    VideoFolder,
    letters_and_digits,
    prepare,
    read_annotations,
)
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.processes import Crash
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
    """CSV files, and a folder `videos` where one video is missing and one is truncated."""
    (tmp_path / "train.csv").write_text(HEADER + TRAIN, encoding="utf-8")
    with_bom = b"\xef\xbb\xbf" + (HEADER + VAL).replace("\n", "\r\n").encode()
    (tmp_path / "val.csv").write_bytes(with_bom)
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
    truncated = tmp_path / "videos" / "train" / "Zorbing" / "Abcdefghij3_000001_000011.mp4"
    truncated.parent.mkdir()
    truncated.write_bytes(clip.read_bytes()[:-300])
    return tmp_path


def csv_files(tree: Path) -> list[Path]:
    return [tree / "train.csv", tree / "val.csv"]


def prepared_from(tree: Path, options: ProbeOptions | None):
    return prepare(csv_files(tree), tree / "videos", tree / "out", num_workers=0, options=options)


@pytest.fixture
def command(tree, monkeypatch, capsys):
    """`command(*options)` -> (exit code, standard output, standard error) of the command."""

    def run(*options):
        arguments = (*csv_files(tree), "--videos", tree / "videos", "--out", tree, "--workers", 0)
        script = "tools/data/prepare_kinetics.py"
        return run_script(monkeypatch, capsys, script, *arguments, *options)

    return run


# --- lists ---------------------------------------------------------------------------------------


def test_lists_the_good_clips_and_reports_the_others(tree):
    prepared = prepared_from(tree, ProbeOptions(2))
    assert prepared.class_names == NAMES, "sorted as Python sorts text"
    videos = (tree / "videos").as_posix()
    assert prepared.lists["train.list"] == [
        f"{videos}/train/zumba/---QUuC4vJs_000084_000094.mp4 3",
        f"{videos}/train/massaging_persons_head/Abc_efghij1.mp4 2",
        f"{videos}/Abc-efghij2_000005_000015.mp4 1",
        f"{videos}/train/air_drumming/Abcdefghij4_000100_000110.MP4 1",
    ]
    assert prepared.lists["val.list"] == [
        f"{videos}/val/air drumming/Abcdefghij6.mkv 1",
        f"{videos}/val/zumba/Abcdefghij7_000003_000013.mp4 3",
    ]
    assert prepared.wanted == {"train.list": 6, "val.list": 2}
    assert [(problem.kind, problem.name) for problem in prepared.problems] == [
        ("damaged", "Abcdefghij3_000001_000011"),
        ("missing", "Abcdefghij5_000007_000017"),
        ("untrained", "Zorbing"),
    ]
    assert prepared.problems[0].text.endswith("bytes are missing at the end")
    assert not prepared.notes, "videos without annotation are ignored"


def test_without_probing_lists_damaged_videos_too(tree):
    prepared = prepared_from(tree, None)
    assert len(prepared.lists["train.list"]) == 5
    assert [problem.kind for problem in prepared.problems] == ["missing"]


def test_reports_videos_that_crash_the_decoder(tree, monkeypatch):
    monkeypatch.setattr(known_sets, "run_each", lambda *_: [(0, Crash())])
    prepared = prepared_from(tree, ProbeOptions(2))
    damaged = [problem.text for problem in prepared.problems if problem.kind == "damaged"]
    assert len(damaged) == 1 and damaged[0].endswith(": the decoder crashes on this file")


def test_the_command_writes_lists_that_load(tree, command):
    code, printed, _ = command("--num_classes", 4)
    assert code == 1
    assert "train.list: 4 of 6 clips are listed, 33.3% are not" in printed
    assert "val.list: 2 of 2 clips are listed\n" in printed
    assert "missing: 1, not listed" in printed and "damaged: 1, not listed" in printed
    assert "problems.tsv" in printed
    loaded = VideoDataset(str(tree / "train.list")).load(read_class_names(tree / "labels.txt"))
    assert [record.label for record in loaded.records] == [3, 2, 1, 1]
    assert loaded.class_names == NAMES
    assert all(Path(record.path).is_file() for record in loaded.records)
    first_line = (tree / "train.list").read_text().splitlines()[0]
    assert first_line.startswith("videos/train/zumba/"), "relative to the list"


def test_replaces_lists_only_with_overwrite(tree, command):
    assert command()[0] == 1
    assert command()[0] == 1, "the same lists may be written again"
    (tree / "videos" / "Abc-efghij2_000005_000015.mp4").unlink()
    code, _, error = command()
    assert code == 2 and "train.list exists with another content" in error
    assert len((tree / "train.list").read_text().splitlines()) == 4
    assert command("--overwrite")[0] == 1
    assert len((tree / "train.list").read_text().splitlines()) == 3


def test_a_good_copy_replaces_a_damaged_file(tree, clip, command):
    for name in ("Abcdefghij3.mp4", "Abcdefghij5.mp4"):
        shutil.copy(clip, tree / "videos" / name)
    assert command()[0] == 0, "all clips are listed"
    assert (tree / "problems.tsv").read_text() == ""


def test_does_not_replace_other_class_names(tree, command):
    (tree / "labels.txt").write_text("\n".join(["abseiling", *NAMES]) + "\n", encoding="utf-8")
    code, _, error = command()
    assert code == 2 and not (tree / "train.list").exists()
    assert "labels.txt has 5 classes, the annotations have 4; class 0 is abseiling" in error
    assert "in the file and Zorbing in the annotations. Use --class_names" in error
    assert command("--class_names", tree / "labels.txt")[0] == 1
    first_line = (tree / "val.list").read_text().splitlines()[0]
    assert first_line.endswith(" 2"), "the id in the file"


def test_rejects_another_number_of_classes(command):
    code, _, error = command("--num_classes", 400)
    assert code == 2
    assert "the annotations have 4 classes, --num_classes is 400; give all CSV files" in error


def test_rejects_unknown_classes(tree, command):
    (tree / "names.txt").write_text("zumba\n", encoding="utf-8")
    code, _, error = command("--class_names", tree / "names.txt")
    assert code == 2 and "not among the 1 class names: 'Zorbing', 'air drumming'" in error


def test_rejects_folders_without_videos(tree):
    with pytest.raises(DatasetError, match="no such folder of videos"):
        prepare(csv_files(tree), tree / "none", tree)
    (tree / "empty").mkdir()
    message = (
        "none of 8 clips exists; expected files such as ---QUuC4vJs_000084_000094.mp4, "
        "found no video"
    )
    with pytest.raises(DatasetError, match=message):
        prepare(csv_files(tree), tree / "empty", tree)


# --- files ---------------------------------------------------------------------------------------


def test_prefers_exact_names_and_right_folders(tmp_path, clip):
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
        "train/OtherId.mp4",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    videos = VideoFolder(tmp_path, {"zumba", "air drumming"})

    def candidates(clip: Clip) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in videos.candidates(clip)]

    assert candidates(clips[0]) == ["zumba/SameId.mp4"]
    assert candidates(clips[1]) == ["air_drumming/SameId.mp4"]
    exact = "air drumming/OtherId_000000_000010.mp4"
    assert candidates(clips[2]) == [exact, "train/OtherId.mp4", "val/OtherId.mp4"]
    assert videos.wrong_class_folder(tmp_path / exact, clips[2]) == "air drumming"


def test_reports_doubtful_files(tmp_path, clip):
    rows = [
        "a,TwoPieces,0,10,train",
        "a,TwoPieces,50,60,train",
        "b,Wrong,0,10,train",
        "a,Long,0,1,train",
        "a,Again,0,9,train",
        "a,Again,0,9,train",
        "b,Again,0,9,train",
    ]
    (tmp_path / "train.csv").write_text(HEADER + "\n".join(rows), encoding="utf-8")
    videos = tmp_path / "videos" / "a"
    videos.mkdir(parents=True)
    for name in ("TwoPieces.mp4", "Wrong_000000_000010.mp4", "Again_000000_000009.mp4"):
        shutil.copy(clip, videos / name)
    write_clip(videos / "Long.mp4", num_frames=80)
    annotations, options = [tmp_path / "train.csv"], ProbeOptions(1)
    prepared = prepare(annotations, tmp_path / "videos", tmp_path, num_workers=0, options=options)
    assert [(problem.kind, problem.name) for problem in prepared.problems] == [
        ("ambiguous", "TwoPieces_000000_000010"),
        ("ambiguous", "TwoPieces_000050_000060"),
        ("uncut", "Long_000000_000001"),
    ]
    assert "3 s long, but the annotation has 1 s" in prepared.problems[2].text
    assert [(note.kind, note.name[:5]) for note in prepared.notes] == [
        ("repeated", "Again"),
        ("twice", "Again"),
        ("misplaced", "Wrong"),
        ("misplaced", "Again"),
    ]
    assert prepared.lists["train.list"] == [
        "videos/a/Wrong_000000_000010.mp4 1",
        "videos/a/Again_000000_000009.mp4 0",
        "videos/a/Again_000000_000009.mp4 1",
    ]


def test_class_folders_are_distinct(root):
    names = read_class_names(root / "data" / "k400" / "labels.txt")
    assert len(names) == 400 and names == sorted(names)
    assert len({letters_and_digits(name) for name in names}) == 400


# --- annotations ---------------------------------------------------------------------------------


def test_names_all_wrong_rows(tmp_path):
    file = tmp_path / "train.csv"
    rows = {
        "a,#NAME?,0,10,train": "'#NAME?' is not a youtube_id; if a spreadsheet changed it",
        "a,Good_id,10,5,train": "time_start '10' and time_end '5' are not increasing integers",
        "a,Good_id,x,5,train": "time_start 'x' and time_end '5' are not increasing integers",
        "a,Good_id,0,5,noon": "split 'noon' is not one of train",
        ",Good_id,0,5,test": "no label for Good_id; a test set without labels cannot be used",
        "a,b": "time_start None and time_end None",
    }
    file.write_text(HEADER + "\n".join(rows), encoding="utf-8")
    with pytest.raises(DatasetError) as error:
        read_annotations([file])
    lines = str(error.value).splitlines()
    assert len(lines) == len(rows)
    for number, (line, message) in enumerate(zip(lines, rows.values(), strict=True), 2):
        assert line.startswith(f"{file}:{number}: ") and message in line


def test_the_file_name_may_give_the_split(tmp_path):
    file = tmp_path / "train.csv"
    file.write_text("label,youtube_id,time_start,time_end\na,b,0,10.0\n")
    assert read_annotations([file]) == [Clip("train", "a", "b", 0, 10, f"{file}:2")]
    message = "no column split; name the file after its split, such as train.csv"
    with pytest.raises(DatasetError, match=message):
        read_annotations([file.rename(tmp_path / "mine.csv")])


def test_rejects_other_files(tmp_path):
    file = tmp_path / "test.csv"
    with pytest.raises(DatasetError, match="no such file"):
        read_annotations([file])
    file.write_text("youtube_id,time_start,time_end,split\na,0,10,test\n")
    message = r"test.csv:1: no column label in .*; a test set without labels cannot be used"
    with pytest.raises(DatasetError, match=message):
        read_annotations([file])
    file.write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        read_annotations([file])
    file.write_text(HEADER)
    with pytest.raises(DatasetError, match=r"test.csv: no clips"):
        read_annotations([file])


@pytest.mark.parametrize(
    ("names", "expected", "message"),
    [
        ("zumba\n", None, "labels.txt has 1 classes, the annotations have 4"),
        (None, 400, "the annotations have 4 classes, --num_classes is 400"),
    ],
)
def test_finds_mistakes_before_it_opens_videos(tree, monkeypatch, names, expected, message):
    monkeypatch.setattr(kinetics, "probe_videos", None)
    (tree / "out").mkdir()
    if names:
        (tree / "out" / "labels.txt").write_text(names)
    files = (csv_files(tree), tree / "videos", tree / "out")
    with pytest.raises((DatasetError, FileExistsError), match=message):
        prepare(*files, options=ProbeOptions(), num_classes=expected)
    monkeypatch.undo()
    prepare(*files, num_classes=4, overwrite=True)


def test_finds_a_folder_that_cannot_be_written_before_it_opens_videos(tree, monkeypatch):
    monkeypatch.setattr(kinetics, "probe_videos", None)
    (tree / "out").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write .*problems\.tsv"):
        prepare(csv_files(tree), tree / "videos", tree / "out", options=ProbeOptions())
