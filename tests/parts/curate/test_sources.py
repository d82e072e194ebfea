"""Sources that only the names of a complete set show."""

import itertools

import pytest

from paddlevideo.curate.inventory import ClipEntry
from paddlevideo.curate.report import text_report
from paddlevideo.curate.results import write
from paddlevideo.curate.sources import find_sources, name_parts
from paddlevideo.sample import Record
from tests.video_sets import check_set, fault_list, good_clip


def clips_of(names) -> list[ClipEntry]:
    """Clips by their paths `class/name`."""
    return [
        ClipEntry(Record(name, id=name), name.split("/")[0], None, name.rsplit(".", 1)[0])
        for name in names
    ]


def grid(template, labels, *ranges):
    """Names for all combinations; `{n}` is the number of the class."""
    return [
        template.format(*values, label=label, n=number)
        for number, label in enumerate(labels)
        for values in itertools.product(*ranges)
    ]


ACTIONS = ("walking", "boxing", "hand_waving")
PEOPLE = ("daria", "denis", "eli", "ido")
# (names, title, some source, number of sources)
SETS = {
    "KTH": (
        grid("{label}/person{0:02}_{label}_d{1}_uncomp.avi", ACTIONS[:2], range(1, 26), (1, 2)),
        "the names of KTH", "person01", 25,
    ),
    "UT-Interaction sequences": (
        grid("{label}/set2_seq{0}_{n}.avi", ACTIONS, range(11, 21)),
        "the names of UT-Interaction", "seq11", 10,
    ),
    "UT-Interaction segments": (
        [f"{label}/{6 * seq + n}_{seq}_{n}.avi" for n, label in enumerate(ACTIONS)
         for seq in range(1, 11)],
        "the names of UT-Interaction", "1", 10,
    ),
    "UCF-11": (
        grid("{label}/v_{label}_{0:02}_{1:02}.mpg", ("biking", "diving"), range(1, 6), range(1, 4)),
        "the names of UCF-11", "v_biking_01", 10,
    ),
    "NTU": (
        [f"{label}/S001C00{c}P00{p}R001A00{n + 1}_rgb.avi" for n, label in enumerate(ACTIONS)
         for c in (1, 2) for p in range(1, 5)],
        "the names of NTU RGB+D", "P001", 4,
    ),
    "UTD-MHAD": (
        [f"{label}/a{n + 1}_s{s}_t{t}_color.avi" for n, label in enumerate(ACTIONS)
         for s in range(1, 9) for t in (1, 2)],
        "the names of UTD-MHAD", "s1", 8,
    ),
    "FSDD": (
        [f"{label}/{n}_{who}_{take}.wav" for n, label in enumerate(("zero", "one"))
         for who in ("jackson", "theo") for take in range(9)],
        "the names of FSDD", "jackson", 2,
    ),
    "Speech Commands": (
        grid("{label}/{0}_nohash_{1}.wav", ("up", "down"), ("0a7c2a8d", "0b09edd3"), range(2)),
        "the names of Speech Commands", "0a7c2a8d", 2,
    ),
    "ESC-50": (
        [f"{label}/1-{n}003{c}-{take}-{n}.wav" for n, label in enumerate(("dog", "rain"))
         for c in range(3) for take in "AB"],
        "the names of ESC-50", "00030", 6,
    ),
    "RAVDESS": (
        grid("{label}/03-01-0{n}-01-{0:02}-01-{1:02}.wav", ("calm", "happy"), (1, 2), range(1, 25)),
        "the names of RAVDESS", "01", 24,
    ),
    "CREMA-D": (
        grid("{label}/{0}_DFA_ANG_X{1}.wav", ("anger", "fear"), range(1001, 1009), "XY"),
        "the names of CREMA-D", "1001", 8,
    ),
    "people once per class": (
        grid("{label}/{0}_{label}.avi", ACTIONS, PEOPLE), "a part of", "daria", 4,
    ),
    "people of another alphabet": (
        grid("{label}/{0} {1}.mp4", ACTIONS, ("анна", "борис", "вера", "глеб"), (1, 2)),
        "a part of", "анна", 4,
    ),
    "subject and take": (
        grid("{label}/{0:02}_{1:02}.mp4", ACTIONS, range(1, 6), range(1, 4)), "a part of", "01", 5,
    ),
    "a word before the number": (
        grid("{label}/subject_{0}_cam{1}.mp4", ACTIONS, range(1, 4), (1, 2)),
        "a part of", "subject1", 3,
    ),
    "days": (
        grid("{label}/VID_{0}_{1}.mp4", ACTIONS, range(20240101, 20240106), (111105, 123045)),
        "a part of", "20240101", 5,
    ),
    "person behind the camera": (
        grid("{label}/cam{1}_{0}_{2}.mp4", ACTIONS, PEOPLE, range(1, 6), (1, 2)),
        "a part of", "daria", 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_finds_the_sources_of_a_set(name):
    names, title, source, num_sources = SETS[name]
    found = find_sources(clips_of(names))
    assert found is not None and found.title.startswith(title)
    assert source in found.sources and None not in found.sources
    assert len(set(found.sources)) == num_sources


NO_SOURCES = {
    "counters": grid("{label}/{0:03}.mp4", ACTIONS, range(1, 100)),
    "a word and a counter": grid("{label}/clip_{0:02}.mp4", ACTIONS, range(1, 30)),
    "the class and a counter": grid("{label}/{label}_{0:02}.mp4", ACTIONS, range(1, 30)),
    "a counter and the class": grid("{label}/{0:02}_{label}.mp4", ACTIONS, range(1, 30)),
    "a counter and a size": grid("{label}/{0:02}_320x240.mp4", ACTIONS, range(1, 30)),
    "conditions": grid("{label}/{0}_{1}.mp4", ACTIONS, ("left", "right", "front", "back"), "ab"),
    "cameras": grid("{label}/cam{0}_{1:02}.mp4", ACTIONS, range(1, 6), range(1, 9)),
    "views": grid("{label}/camera{0}_view{1}_{2}.mp4", ACTIONS, range(1, 6), range(1, 5), (1, 2)),
    "letters": grid("{label}/{0}.mp4", ACTIONS, "abcdefg"),
    "people of one class each": [
        f"{label}/{PEOPLE[n]}_{k}.mp4" for n, label in enumerate(ACTIONS) for k in range(9)
    ],
    "one class": grid("run/{0}_{1}.mp4", ("run",), PEOPLE, range(4)),
    "many kinds of names": [
        f"{label}/{name}.mp4"
        for label in ACTIONS
        for name in ("daria_1", "007", "IMG_22", "a b c", "final", "x-1-2-3")
    ],
    "nothing": [],
    # The digit is not the class, so these are not the names of FSDD.
    "other digits": grid("{label}/{1}_{0}_{2}.wav", ACTIONS, ("ab", "cd"), (1, 2), (3,)),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_SOURCES)
def test_finds_no_sources_in_other_names(name):
    assert find_sources(clips_of(NO_SOURCES[name])) is None


def test_divides_names_into_parts():
    assert name_parts("Person 01_hand-waving.d1", "hand_waving") == ["Person01", "d1"]
    assert name_parts("walk", "walk") == [] and name_parts("a1", "") == ["a1"]


# --- in a check -----------------------------------------------------------------------------------


def write_people(root, people=PEOPLE, labels=("run", "swim")):
    for number, (label, person, take) in enumerate(itertools.product(labels, people, (1, 2))):
        good_clip(root / label / f"{person}_{take}.mp4", number)
    return root


def test_keeps_people_together_and_says_so(tmp_path):
    result = check_set(write_people(tmp_path))
    assert fault_list(result) == [] and result.splits_drawn
    split_of = {}
    for clip in result.clips:
        assert split_of.setdefault(clip.source, clip.split) == clip.split
    assert set(split_of) == set(PEOPLE) and set(split_of.values()) == {"train", "valid"}
    (line,) = result.split_lines
    assert line == (
        "sources: 4 by a part of the names that repeats over the classes, such as daria of "
        "daria_1.mp4; --source none turns this off"
    )
    assert f"\n{line}\n" in text_report(result)
    write(result, tmp_path)
    again = check_set(tmp_path / "train.csv", valid=tmp_path / "val.csv")
    assert fault_list(again) == []
    assert again.split_lines[0].startswith("sources: 4 by the column source, such as")


def test_says_that_a_split_by_clip_may_leak(tmp_path):
    write_people(tmp_path)
    (line,) = check_set(tmp_path, source="none").split_lines
    assert line.startswith("sources: the names show none, so the split was drawn by clip. If")
    (line,) = check_set(tmp_path, source=r"_(\d)").split_lines
    assert line == "sources: 2 by --source, such as 1 of daria_1.mp4"


def test_keeps_given_splits_that_share_people(tmp_path):
    write_people(tmp_path / "train")
    for number, (label, person) in enumerate(itertools.product(("run", "swim"), PEOPLE)):
        good_clip(tmp_path / "val" / label / f"{person}_9.mp4", 100 + number)
    result = check_set(tmp_path)
    assert fault_list(result) == [] and len(result.clips) == 24
    (line,) = result.split_lines
    assert "4 of them are in more than one split: the accuracy is that for known ones" in line
    divided = check_set(tmp_path, resplit=True)
    assert "more than one split" not in divided.split_lines[0] and len(divided.clips) == 24


def test_names_the_scheme_of_single_names(tmp_path):
    for number, name in enumerate(("v_Run_g01_c01", "v_Run_g01_c02", "v_Run_g02_c01", "other")):
        good_clip(tmp_path / "run" / f"{name}.mp4", number)
    (line,) = check_set(tmp_path).split_lines
    assert line == (
        "sources: 2 by the names of UCF-101, such as v_Run_g01 of v_Run_g01_c01.mp4 "
        "(1 clip by other rules, or none); --source none turns this off. The split of 1 clip "
        "without a source was drawn by clip: if several show one person, place or recording, the "
        "validation is better than the truth"
    )
