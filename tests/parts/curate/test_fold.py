"""One fold of a cross-validation: each clip is held out once, with all clips of its source."""

import shlex
from collections import Counter
from pathlib import Path

import pytest

from paddlevideo.commands import check_data
from paddlevideo.curate.check import CheckOptions, CheckResult, check
from paddlevideo.curate.fold import Fold, hold_out, parse_fold
from paddlevideo.curate.inventory import ClipEntry, Inputs
from paddlevideo.curate.results import training_command
from paddlevideo.data.lists import DatasetError
from paddlevideo.sample import Record
from tests.parts.curate.test_earlier import write_sounds


def entries(sources: str, labels: str) -> list[ClipEntry]:
    """A clip per character: its source and its class."""
    pairs = enumerate(zip(sources, labels, strict=True))
    return [
        ClipEntry(Record(f"{i}.mp4", id=f"{i}.mp4"), label, None, source)
        for i, (source, label) in pairs
    ]


def check_fold(root: Path, text: str, **options) -> CheckResult:
    inputs = Inputs(root, source=options.pop("source", None))
    return check(CheckOptions(inputs, num_workers=0, fold=parse_fold(text), **options), show=False)


def names(result: CheckResult, split: str) -> set[str]:
    return {clip.name for clip in result.clips if clip.split == split}


# --- drawing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "fold"), [("1/2", (1, 2)), ("2/5", (2, 5)), ("10/10", (10, 10))])
def test_reads_a_fold(text, fold):
    assert parse_fold(text) == fold and str(parse_fold(text)) == text


@pytest.mark.parametrize("text", ["", "2", "2/", "/5", "a/b", "-1/5", "1.5/3", "2 of 5", "1/5/9"])
def test_rejects_what_is_no_fold(text):
    with pytest.raises(ValueError, match="is no fold; expected I/N, such as 2/5"):
        parse_fold(text)


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1/0"])
def test_rejects_a_fold_that_there_is_not(text):
    with pytest.raises(ValueError, match=f"there is no fold {text}; expected 1/N to N/N"):
        parse_fold(text)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_each_clip_is_held_out_once_with_its_source(count):
    held_out: Counter = Counter()
    for number in range(1, count + 1):
        clips = entries("aaabbbcccdddeeefff" * 2, "xyz" * 12)
        line = hold_out(clips, Fold(number, count))
        valid = {clip.source for clip in clips if clip.split == "valid"}
        train = {clip.source for clip in clips if clip.split == "train"}
        assert valid and train and not valid & train and len(valid | train) == 6
        assert f"fold {number} of {count}: " in line and f" of {len(valid)} of 6 sources" in line
        held_out.update(clip.name for clip in clips if clip.split == "valid")
    assert held_out == Counter(f"{i}.mp4" for i in range(36))


def test_another_seed_holds_out_other_sources():
    drawn = []
    for seed in range(4):
        clips = entries("abcdefghijklmnop" * 2, "xy" * 16)
        hold_out(clips, Fold(1, 4), seed)
        drawn.append(frozenset(clip.source for clip in clips if clip.split == "valid"))
    assert {len(sources) for sources in drawn} == {4} and len(set(drawn)) > 1


def test_rejects_more_folds_than_sources():
    text = "--fold 1/5: the clips are of 3 sources, .* use fewer folds, or name the sources"
    with pytest.raises(DatasetError, match=text):
        hold_out(entries("aabbcc", "xyxyxy"), Fold(1, 5))
    with pytest.raises(DatasetError, match="are of 0 sources"):
        hold_out([], Fold(1, 2))


# --- checks ---------------------------------------------------------------------------------------


def test_folds_divide_given_training_and_validation_sets(tmp_path):
    for split, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        write_sounds(tmp_path / split, numbers=numbers)
    held_out: Counter = Counter()
    for number in (1, 2, 3):
        result = check_fold(tmp_path, f"{number}/3")
        assert names(result, "test") == {
            f"test/{label}/{i}.wav" for label in ("dog", "rain") for i in (6, 7)
        }
        assert result.splits_drawn and not result.faults
        assert len(names(result, "train")) == 8
        held_out.update(names(result, "valid"))
    assert len(held_out) == 12 and set(held_out.values()) == {1}
    drawn = check_fold(tmp_path, "1/4", resplit=True)  # the test set is divided, too
    assert not names(drawn, "test") and len(names(drawn, "valid")) == 4


def test_folds_do_not_divide_a_source(tmp_path):
    write_sounds(tmp_path, numbers=range(8))
    result = check_fold(tmp_path, "1/2", source=r"/(\d)")  # 0.wav of both classes are one source
    held_out = {label: set() for label in ("dog", "rain")}
    for name in names(result, "valid"):
        label, _, number = name.partition("/")
        held_out[label].add(number)
    assert held_out["dog"] == held_out["rain"]
    assert len(names(result, "valid")) == 8
    assert result.split_lines[-1] == "fold 1 of 2: val.csv has 8 clips of 4 of 8 sources"


def test_a_class_of_one_source_is_reported(tmp_path):
    write_sounds(tmp_path, labels=("dog", "rain"), numbers=range(4))
    write_sounds(tmp_path, labels=("wind",), numbers=range(99, 100))
    kinds = [{f.kind for f in check_fold(tmp_path, f"{i}/2").faults} for i in (1, 2)]
    # Where it is held out, nothing is left to train on; where not, nothing validates it.
    assert {"no_training"} in kinds and {"few"} in kinds


def test_a_fold_has_no_share_for_a_test_set(tmp_path):
    with pytest.raises(ValueError, match="--fold 1/5 divides all clips .* leave out --test_share"):
        CheckOptions(Inputs(tmp_path), test_share=0.1, fold=Fold(1, 5))


# --- the command ----------------------------------------------------------------------------------


def run(root: Path, *flags: str) -> int:
    return check_data.main([str(root), "--workers", "0", *flags])


def csv_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def test_each_fold_needs_a_folder_of_its_own(tmp_path, capsys):
    data, out = write_sounds(tmp_path / "data", numbers=range(6)), tmp_path / "folds" / "2"
    assert run(data, "--fold", "2/3", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "fold 2 of 3: val.csv has 4 clips of 4 of 12 sources\n" in printed
    option = shlex.quote(f"DATASET.root={out}")
    assert printed.rstrip().endswith(f"-o {option} --name fold_2")
    lists = csv_files(out)
    for flags in (["--fold", "3/3"], ["--fold", "2/4"], ["--fold", "2/3", "--seed", "1"]):
        assert run(data, *flags, "--out", str(out)) == 2
        error = capsys.readouterr().err
        assert "has lists of fold 2/3 (seed 0)" in error
        assert f"--out folds/{flags[1][0]}, or replace the lists with --overwrite" in error
        assert lists == csv_files(out)
    assert run(data, "--fold", "2/3", "--out", str(out)) == 0  # the same again
    assert "splits: 12 of 12 clips are in the list" in capsys.readouterr().out
    assert lists == csv_files(out)
    assert run(data, "--fold", "3/3", "--out", str(out), "--overwrite") == 0
    assert lists != csv_files(out)


def test_a_fold_replaces_no_ordinary_lists(tmp_path, capsys):
    data = write_sounds(tmp_path, numbers=range(5))
    assert run(data) == 0
    before = (data / "val.csv").read_bytes()
    assert run(data, "--fold", "1/2") == 2
    assert "has lists of no fold" in capsys.readouterr().err
    assert (data / "val.csv").read_bytes() == before
    assert run(data, "--fold", "1/2", "--dry_run") == 0  # writes nothing


def test_flags_that_are_no_fold_write_nothing(tmp_path, capsys):
    data = write_sounds(tmp_path, numbers=range(2))
    for flag, text in (("3/2", "there is no fold 3/2"), ("x", "'x' is no fold")):
        assert run(data, "--fold", flag) == 2
        assert text in capsys.readouterr().err
    assert not (data / "train.csv").exists()


def test_the_training_command_of_a_fold_names_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = training_command(Path("folds/3"), ["val.csv"], fold=Fold(3, 5))
    assert command.endswith(
        "--validate -c configs/finetune/motion.yaml -o DATASET.root=folds/3 --name fold_3"
    )
    assert "--name" not in training_command(Path("data"), ["val.csv"])
    Path("output/fold_3").mkdir(parents=True)
    again = training_command(Path("folds/3"), ["val.csv"], fold=Fold(3, 5))
    assert again == f"{command}_2"
