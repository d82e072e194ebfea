"""The sources of clips, and splits that keep each source together."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo.curate.splits import source_of, split_by_source


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("run/v_Run_g08_c03.avi", "v_Run_g08"),
        ("elsewhere/v_Run_g08_c11.mp4", "v_Run_g08"),
        ("train/run/-WfzPs4-m0k_000012_000022.mp4", "-WfzPs4-m0k"),
        ("run/April_09_run_u_nm_np1_ba_goo_0.avi", "April_09_run"),
        ("run/derby-Scene-003.mp4", "derby"),
        ("train/run/derby clip 7.mp4", "derby"),
        ("val/run/day 2/derby.part2.MP4", "day 2/derby"),
        ("run/derby_12.0_14.5.mp4", "derby"),
        ("run\\derby_scene_4.mp4", "derby"),
        ("run/кубок_часть.mp4", "run/кубок_часть"),
        ("run/кубок_clip_2.mp4", "кубок"),
    ],
)
def test_derives_the_source_from_the_name(name, source):
    assert source_of(name, "run") == source


@pytest.mark.parametrize(
    "name",
    [
        "run/derby_3.mp4",
        "run/clip 3.mp4",
        "run/video_clip_3.mp4",
        "run/VID_20240101_120000.mp4",
        "run/trip_111105_123045.mp4",
        "run/a_000022_000012.mp4",
        "train/run/0001.mp4",
    ],
)
def test_makes_each_file_with_another_name_its_own_source(name):
    assert source_of(name, "run") == name.removesuffix(".mp4")


@pytest.mark.parametrize(
    ("name", "pattern", "source"),
    [
        ("run/cam3_day1.mp4", r"cam(\d+)", "3"),
        ("run/cam3_day1.mp4", r"cam\d+", "cam3"),
        ("run/other.mp4", r"cam(\d+)", "run/other"),
        ("run/v_Run_g08_c03.avi", "none", "run/v_Run_g08_c03"),
    ],
)
def test_derives_the_source_with_a_pattern(name, pattern, source):
    assert source_of(name, "run", pattern) == source


def test_ignores_how_an_accent_is_encoded():
    assert source_of("\u00e9_clip_1.mp4") == source_of("e\u0301_clip_2.mp4") == "\u00e9"


sources = st.integers(0, 30).map("s{}".format)
clip_lists = st.lists(st.tuples(sources, st.sampled_from("abc")), max_size=80)
shares_in_range = st.floats(0.05, 0.45)


@given(clip_lists, shares_in_range, shares_in_range, st.integers(0, 5), st.randoms())
def test_keeps_sources_together_in_any_order(clips, valid, test, seed, random):
    shares = {"valid": valid, "test": test}
    splits = split_by_source(clips, shares, seed)
    assert len(splits) == len(clips) and set(splits) <= {"train", "valid", "test"}
    splits_of_source = defaultdict(set)
    for (source, _), split in zip(clips, splits, strict=True):
        splits_of_source[source].add(split)
    assert all(len(splits) == 1 for splits in splits_of_source.values())
    # Every class keeps training clips.
    trained = {label for (_, label), split in zip(clips, splits, strict=True) if split == "train"}
    assert trained == {label for _, label in clips}
    order = list(range(len(clips)))
    random.shuffle(order)
    shuffled = split_by_source([clips[n] for n in order], shares, seed)
    assert [splits[n] for n in order] == shuffled


def test_gives_each_class_the_wanted_share():
    sizes = {"a": 100, "b": 20, "c": 4}
    clips = [(f"{label}{n // 2}", label) for label, size in sizes.items() for n in range(size)]
    splits = split_by_source(clips, {"valid": 0.2, "test": 0.1})
    counts = Counter((label, split) for (_, label), split in zip(clips, splits, strict=True))
    by_class = {
        label: [counts[label, split] for split in ("train", "valid", "test")] for label in sizes
    }
    # Class c has two sources, and one of them must stay in training.
    assert by_class == {"a": [70, 20, 10], "b": [14, 4, 2], "c": [2, 2, 0]}


def test_gives_each_class_a_clip_at_a_small_share():
    clips = [(f"{label}{n}", label) for label in "ab" for n in range(3)]
    splits = split_by_source(clips, {"valid": 0.01})
    pairs = zip(clips, splits, strict=True)
    assert Counter(label for (_, label), split in pairs if split == "valid") == {"a": 1, "b": 1}


def test_draws_the_smaller_source_if_all_exceed_the_share():
    clips = [("x", "a")] * 9 + [("y", "a")] * 8
    splits = split_by_source(clips, {"valid": 0.1})
    assert splits == ["train"] * 9 + ["valid"] * 8


def test_draws_other_clips_with_another_seed():
    clips = [(f"s{n}", "a") for n in range(100)]
    first, second = (split_by_source(clips, {"valid": 0.2}, seed) for seed in (0, 1))
    assert first != second and first.count("valid") == second.count("valid") == 20


def test_moves_few_clips_when_others_are_added():
    clips = [(f"s{n}", "a") for n in range(100)]
    added = [(f"new{n}", "a") for n in range(5)]
    before = split_by_source(clips, {"valid": 0.2})
    after = split_by_source([*clips, *added], {"valid": 0.2})[:100]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 5


def test_draws_the_same_clips_on_every_machine():
    clips = [(f"source {n}", "ab"[n % 2]) for n in range(12)]
    splits = split_by_source(clips, {"valid": 0.25})
    assert [n for n, split in enumerate(splits) if split == "valid"] == [6, 7, 8, 11]


@pytest.mark.parametrize(
    "shares", [{"valid": 0.0}, {"valid": 1.0}, {"valid": 0.6, "test": 0.4}, {"valid": float("nan")}]
)
def test_rejects_shares_out_of_range(shares):
    with pytest.raises(ValueError, match="expected numbers above 0 that are together below 1"):
        split_by_source([("a", "b")], shares)
