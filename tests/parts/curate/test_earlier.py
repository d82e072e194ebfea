"""Clips keep their splits when a check runs again."""

import itertools
import shutil
from collections import Counter

import numpy as np
import pytest

from paddlevideo.curate import check_command
from paddlevideo.curate.check import CheckOptions
from paddlevideo.curate.check_command import run_command
from paddlevideo.curate.earlier import EarlierSplits, describe_changes, divide
from paddlevideo.curate.inventory import ClipEntry, Inputs
from paddlevideo.curate.results import read_earlier
from paddlevideo.curate.splits import split_by_source
from paddlevideo.sample import Record
from tests.audio_clips import write_audio

SHARES = {"valid": 0.2}


def clips_of(labels="ab", count=20, clips_per_source=1, start=0) -> list[ClipEntry]:
    clips = []
    for label, number in itertools.product(labels, range(start, start + count)):
        name = f"{label}/{number}.mp4"
        source = f"{label}/{number // clips_per_source}"
        clips.append(ClipEntry(Record(name, id=name), label, None, source))
    return clips


def drawn(clips, shares, earlier=None, seed=0) -> tuple[list[str], EarlierSplits]:
    """Return the splits of the clips, and what the next check knows of them."""
    earlier = earlier or EarlierSplits()
    known = [earlier.split_of(clip, "") for clip in clips]
    splits = divide(clips, known, shares, earlier, seed)
    of_clip = {clip.key: split for clip, split in zip(clips, splits, strict=True)}
    return splits, EarlierSplits(of_clip, shares=shares, seed=seed)


# --- drawing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [SHARES, {"valid": 0.3, "test": 0.1}, {"test": 0.25}])
def test_draws_as_before_without_earlier_lists(shares):
    clips = clips_of(clips_per_source=3)
    pairs = [(clip.source, clip.label) for clip in clips]
    assert drawn(clips, shares)[0] == split_by_source(pairs, shares)


@pytest.mark.parametrize(
    ("shares", "seed"),
    [(SHARES, 0), ({"valid": 0.5}, 0), ({"valid": 0.05}, 0), ({}, 0), (SHARES, 9)],
)
def test_keeps_all_splits_with_other_shares_and_seeds(shares, seed):
    clips = clips_of()
    splits, earlier = drawn(clips, SHARES)
    assert drawn(clips, shares, earlier, seed)[0] == splits


def test_keeps_splits_when_clips_are_added_and_removed():
    splits, earlier = drawn(clips_of(), SHARES)
    more = clips_of()[5:] + clips_of(start=20, count=20)
    again, _ = drawn(more, SHARES, earlier)
    assert again[:35] == splits[5:]
    new = Counter(again[35:])
    assert new["valid"] + again[:35].count("valid") == 15 and new["train"] > 20


def test_takes_new_clips_first_for_a_new_test_set():
    splits, earlier = drawn(clips_of(), SHARES)
    more = clips_of() + clips_of(start=20, count=5)
    again, _ = drawn(more, SHARES | {"test": 0.2}, earlier)
    assert again[:40] == splits and again[40:] == ["test"] * 10


def test_takes_training_clips_for_a_test_set_only_where_new_ones_are_too_few():
    splits, earlier = drawn(clips_of(), SHARES)
    more = clips_of() + clips_of(start=20, count=1)
    again, _ = drawn(more, SHARES | {"test": 0.2}, earlier)
    pairs = Counter(zip(splits, again[:40], strict=True))
    assert again[40:] == ["test"] * 2 and pairs["train", "test"] == 6
    assert set(pairs) == {("train", "train"), ("train", "test"), ("valid", "valid")}


def test_adds_new_clips_of_a_source_to_its_split():
    first = clips_of(count=16, clips_per_source=4)
    splits, earlier = drawn(first, {"valid": 0.25})
    split_of = dict(zip((clip.source for clip in first), splits, strict=True))
    more = [ClipEntry(Record(f"{s}_new.mp4"), s[0], None, s) for s in split_of for _ in range(5)]
    assert drawn(more, SHARES, earlier)[0] != []
    both = first + more
    again, _ = drawn(both, {"valid": 0.25}, earlier)
    assert again == [split_of[clip.source] for clip in both]


def test_knows_a_source_whose_earlier_clips_are_gone():
    new = [ClipEntry(Record(f"new {n}.mp4"), "a", None, f"s{n % 3}") for n in range(9)]
    earlier = EarlierSplits({("gone", None, None): "valid"}, of_source={"s1": "valid"})
    assert drawn(new, SHARES, earlier)[0] == ["train", "valid", "train"] * 3


def test_keeps_clips_whose_source_was_divided_before():
    clips = clips_of("a", 8, clips_per_source=8)
    of_clip = {clip.key: ("train", "valid")[n % 2] for n, clip in enumerate(clips)}
    new = ClipEntry(Record("a/new.mp4"), "a", None, clips[0].source)
    splits, _ = drawn([*clips, new], SHARES, EarlierSplits(of_clip))
    assert splits == ["train", "valid"] * 4 + ["train"]


def test_gives_a_new_class_clips_in_each_split():
    splits, earlier = drawn(clips_of("ab"), SHARES)
    again, _ = drawn(clips_of("abc"), SHARES, earlier)
    assert again[:40] == splits and Counter(again[40:]) == {"train": 16, "valid": 4}


# --- messages -------------------------------------------------------------------------------------


def changes(pairs, shares=SHARES, seed: int | None = 0, earlier=None) -> list[str]:
    """Lines for (earlier split, new split) of each clip."""
    clips = clips_of("a", len(pairs))
    for clip, (_, split) in zip(clips, pairs, strict=True):
        clip.split = split
    known = [split for split, _ in pairs]
    of_clip = {clip.key: split for clip, split in zip(clips, known, strict=True) if split}
    earlier = earlier or EarlierSplits(of_clip, shares=SHARES, seed=0)
    return describe_changes(clips, known, shares, earlier, seed)


def test_names_what_moved():
    kept = [("train", "train")] * 3 + [("valid", "valid"), (None, "train"), (None, "valid")]
    assert changes(kept) == [
        "splits: 4 of 6 clips are in the list that they were in before; new: 1 in train.csv, "
        "1 in val.csv"
    ]
    lines = changes([("train", "test")] * 7 + kept)
    assert lines[1] == (
        "moved from train.csv to test.csv: 7 clips (a/0.mp4, a/1.mp4, a/2.mp4, a/3.mp4, a/4.mp4, "
        "...); a model that was trained on the earlier train.csv has seen them, and its accuracy "
        "on test.csv means nothing: train again"
    )
    lines = changes([("valid", "train"), *kept])
    assert lines[1].startswith("moved from val.csv to train.csv: 1 clip (a/0.mp4); accuracies from")
    assert lines[1].endswith("cannot be compared") and len(lines) == 2
    assert changes([("valid", "test"), *kept])[1].endswith("1 clip (a/0.mp4)")


def test_says_that_a_share_or_seed_changes_nothing():
    kept = [("train", "train")] * 3 + [("valid", "valid")]
    assert changes(kept, {"valid": 0.5})[1] == (
        "val.csv keeps its clips (25% of all), although --valid_share is 0.5: only new clips fill "
        "it. --resplit draws all splits again"
    )
    assert "although --valid_share is 0:" in changes(kept, {})[1]
    with_test = [*kept, ("test", "test")]
    earlier = EarlierSplits({("x", None, None): "test"}, shares={"test": 0.2}, seed=0)
    assert "test.csv keeps its clips (20% of all), although --test_share is 0" in "".join(
        changes(with_test, {}, earlier=earlier)
    )
    assert (
        changes(kept, seed=3)[1]
        == "--seed 3 only draws new clips; --resplit draws all splits again"
    )
    assert len(changes(kept, seed=None)) == 1  # fmt: skip


# --- the command ----------------------------------------------------------------------------------


def write_sounds(root, labels=("dog", "rain"), numbers=range(10)):
    for class_number, label in enumerate(labels):
        for number in numbers:
            rng = np.random.default_rng(1000 * class_number + number)
            wave = rng.uniform(-0.5, 0.5, 800).astype(np.float32)
            write_audio(root / label / f"{number}.wav", wave, 8000)
    return root


def run(root, capsys, **options) -> tuple[str, dict[str, set[str]]]:
    """Run the command; return what it printed, and the paths in each list."""
    assert run_command(CheckOptions(Inputs(root), num_workers=0, **options)) == 0
    lists = {}
    for name in ("train", "val", "test"):
        path = root / f"{name}.csv"
        lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
        lists[name] = {line.split(",")[0] for line in lines}
    return capsys.readouterr().out, lists


def test_keeps_the_lists_of_a_folder(tmp_path, capsys):
    out, first = run(write_sounds(tmp_path), capsys)
    assert "splits:" not in out and (len(first["train"]), len(first["val"])) == (16, 4)
    out, again = run(tmp_path, capsys, valid_share=0.4, seed=5)
    assert again == first
    assert "splits: 20 of 20 clips are in the list that they were in before\n" in out
    assert "although --valid_share is 0.4" in out and "--seed 5 only draws new clips" in out
    # Other names of files and classes, and one clip less.
    (tmp_path / "dog" / "0.wav").unlink()
    for path in sorted((tmp_path / "rain").iterdir()):
        path.rename(path.with_name(f"r{path.name}"))
    (tmp_path / "rain").rename(tmp_path / "storm")
    out, renamed = run(tmp_path, capsys)
    back = {
        name: {path.replace("storm/r", "rain/") for path in paths}
        for name, paths in renamed.items()
    }
    assert "not in the data any more: 1 of " in out and "removed" not in out
    assert back == {name: paths - {"dog/0.wav"} for name, paths in first.items()}


def test_tells_when_training_clips_become_test_clips(tmp_path, capsys):
    _, first = run(write_sounds(tmp_path), capsys)
    out, again = run(tmp_path, capsys, test_share=0.1)
    assert again["val"] == first["val"] and len(again["test"]) == 2
    assert again["test"] <= first["train"]
    assert "moved from train.csv to test.csv: 2 clips (" in out and "train again\n" in out
    out, third = run(tmp_path, capsys)  # without --test_share
    assert third == again and "test.csv keeps its clips" in out and "moved" not in out
    assert "val.csv keeps" not in out
    out, drawn_again = run(tmp_path, capsys, resplit=True)
    assert not drawn_again["test"] and "moved from test.csv to train.csv: 2 clips" in out


def test_keeps_the_lists_of_another_set(tmp_path, capsys):
    options, others = (
        CheckOptions(Inputs(write_sounds(tmp_path / name, numbers=numbers)), num_workers=0)
        for name, numbers in (("a", range(4)), ("b", range(4, 8)))
    )
    out = tmp_path / "lists"
    for replaced in (options, options):  # the same set may be checked again
        assert run_command(replaced, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(FileExistsError, match=r"lists has the lists of another data set; .*--over"):
        run_command(others, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run_command(others, out, dry_run=True) == 0
    assert run_command(others, out, overwrite=True) == 0
    # In the folder of the data, the lists of clips that are gone are replaced.
    assert run_command(options) == 0
    shutil.rmtree(tmp_path / "a/dog")
    shutil.rmtree(tmp_path / "a/rain")
    write_sounds(tmp_path / "a", numbers=range(8, 12))
    assert run_command(options) == 0


def test_files_of_one_name_in_another_folder_are_no_leak(tmp_path, capsys):
    data = write_sounds(tmp_path / "data", numbers=range(5))
    _, first = run(data, capsys)
    new = write_sounds(tmp_path / "new", numbers=range(5, 7))
    for label in ("dog", "rain"):
        (new / label / "5.wav").rename(new / label / "0.wav")
    for inputs in (
        Inputs(data, test=new),
        Inputs(data / "train.csv", data / "val.csv", data / "test.csv"),
    ):
        assert run_command(CheckOptions(inputs, num_workers=0)) == 0
    out, lists = run(data, capsys, valid_share=0.3)
    assert "not in the data any more: 4 of test.csv; test.csv is removed\n" in out
    assert (lists["train"], lists["val"]) == (first["train"], first["val"])


def test_knows_only_lists_that_were_not_edited(tmp_path, capsys, monkeypatch):
    run(write_sounds(tmp_path, numbers=range(5)), capsys)
    earlier = read_earlier(tmp_path)
    assert earlier is not None and earlier.splits == {"train", "valid"} and earlier.seed == 0
    assert earlier.shares == {"valid": 0.2} and len(earlier.of_content) == 10
    for name in ("train.csv", "val.csv"):
        with (tmp_path / name).open("a") as file:
            file.write("x.wav,0\n")
    assert read_earlier(tmp_path) is None
    assert read_earlier(tmp_path / "none") is None
    monkeypatch.setattr(check_command, "check", lambda options: pytest.fail("files are read"))
    with pytest.raises(FileExistsError, match="train.csv was edited since"):
        run(tmp_path, capsys)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"draw": 3, "contents": [], "files": {}}', '{"draw": {"val": "x"}}', "{"],
)
def test_survives_a_damaged_manifest(tmp_path, capsys, content):
    run(write_sounds(tmp_path, numbers=range(3)), capsys)
    (tmp_path / "check.json").write_text(content)
    assert read_earlier(tmp_path) is None
