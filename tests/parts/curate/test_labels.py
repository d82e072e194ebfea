"""Class ids and class names of lists."""

import pytest

from tests.video_sets import check_set, fault_list, good_clip

NAMES = ["a", "b", "c"]


@pytest.fixture
def check_labels(tmp_path):
    """`check_labels(labels, **options)` checks a list of one clip per label."""

    def run(labels, **options):
        lines = [f"{n}.mp4 {label}\n" for n, label in enumerate(labels)]
        (tmp_path / "a.list").write_text("".join(lines))
        return check_set(tmp_path / "a.list", **options)

    for n in range(6):
        good_clip(tmp_path / f"{n}.mp4", n)
    return run


def test_keeps_class_ids(check_labels):
    result = check_labels("001122")
    assert fault_list(result) == [] and result.class_names is None
    assert result.class_ids == {"0": 0, "1": 1, "2": 2}


def test_converts_class_ids_to_given_names(check_labels):
    result = check_labels("001122", class_names=NAMES)
    assert fault_list(result) == [] and result.class_names == NAMES
    assert result.class_ids == {"a": 0, "b": 1, "c": 2}


def test_reports_unused_class_ids(check_labels):
    (fault,) = check_labels("112233").faults
    assert fault.kind == "empty_class"
    assert fault.text.startswith("no clip of class 0; if the ids of this list count from 1,")
    (fault,) = check_labels("000333").faults
    assert fault.text == "no clip of the class ids 1, 2, although larger ids occur"


@pytest.mark.parametrize(
    ("last", "text"),
    [
        ("-1", "label -1: class ids count from 0"),
        ("0,1", "label 0,1: several class ids; only one label per video can be checked"),
        ("run", "label 'run' is a class name, most lines have a class id"),
    ],
)
def test_reports_invalid_labels_among_class_ids(check_labels, last, text):
    result = check_labels(["0", "0", "0", "1", "1", last])
    assert fault_list(result) == [("bad_label", "5.mp4")] and result.faults[0].text == text


def test_reports_a_class_id_among_class_names(check_labels):
    result = check_labels(["run"] * 5 + ["7"])
    assert fault_list(result) == [("bad_label", "5.mp4")]
    assert result.faults[0].text == "label 7 is a class id, most lines have a class name"


def test_reports_labels_outside_the_given_names(check_labels):
    result = check_labels("001133", class_names=NAMES)
    expected = [("bad_label", "4.mp4"), ("bad_label", "5.mp4"), ("empty_class", "c")]
    assert fault_list(result) == expected
    assert result.faults[0].text == "label 3: there are only 3 class names, from id 0"
    (fault, *_) = check_labels(["run"] * 5 + ["wolk"], class_names=["run", "walk"]).faults
    assert fault.text == "class 'wolk' is not among the class names; did you mean 'walk'?"
