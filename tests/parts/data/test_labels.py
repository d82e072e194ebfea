"""Class ids without names: how they are numbered."""

import pytest

from paddlevideo.data.labels import check_numbering, numbering_note
from paddlevideo.data.lists import DatasetError
from paddlevideo.sample import Record


def records(*labels):
    return [Record(f"{n}.mp4", label, id=f"{n}.mp4") for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2],
        [0, 999],
        range(0, 12_000, 5),
        [*range(200), 1900],
        [3, 30, 300],
        [],
    ],
)
def test_accepts_class_ids_with_gaps(labels):
    check_numbering("a.list", records(*labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0] * 11 + [99999],
            r"a.list: 12 records, labels 0 to 99999: label 99999 of '11.mp4' is far above the "
            r"others \(the next smaller one is 0\)\. Correct it; .* 100000 classes, .*num_classes",
        ),
        ([*range(400), 40_000, 40_001], "label 40000 of '400.mp4' is far above"),
        ([5000, 5001], r"label 5000 of '0.mp4' .* \(there is no smaller one\)"),
        ([10**15, 0], "label 1000000000000000 of '0.mp4'"),
    ],
)
def test_questions_a_class_id_far_above_the_others(labels, message):
    with pytest.raises(DatasetError, match=message):
        check_numbering("a.list", records(*labels))


def test_questions_labels_of_several():
    several = [Record("a", labels=(0, 2)), Record("b", id="b", labels=(1, 70_000))]
    with pytest.raises(DatasetError, match="label 70000 of 'b'"):
        check_numbering("a.list", several)


def test_notes_class_ids_that_count_from_1():
    assert numbering_note(records(2, 1, 3, 1)).startswith(
        "labels are 1 to 3 and no record has label 0, so class 0 stays empty; if this list counts"
    )
    for labels in ([0, 1, 2], [1, 3], [2, 3], []):
        assert numbering_note(records(*labels)) == ""
