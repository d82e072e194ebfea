"""Fusion of scores: alignment by id, accuracy, coefficients against brute force."""

import numpy as np
import pytest

from paddlevideo.metrics.fusion import (
    NOWHERE,
    FusionError,
    Scores,
    accuracies,
    align,
    best_coefficients,
    curve,
    fuse,
    label_ranks,
    softmax,
)


def scores(name, ids, labels=None, num_classes=3, **more):
    """Row i holds the number at the end of its id in every class."""
    values = np.array([[float(video.split()[-1])] * num_classes for video in ids])
    return Scores(name, values, ids, None if labels is None else np.array(labels), **more)


def made_up(count, num_classes=6, num_videos=80, seed=0):
    """Modalities that are each right about some of the videos."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_videos)
    values = [rng.normal(size=(num_videos, num_classes)) * (m + 1) for m in range(count)]
    for m, own in enumerate(values):
        own[np.arange(num_videos), labels] += rng.uniform(0, 2, num_videos) * (m + 1)
    return values, labels


# --- alignment --------------------------------------------------------------------------------------------------------


def test_rows_are_found_by_id():
    aligned = align(
        [
            scores("a", ["v 1", "v 2", "v 3"], [0, 1, -1]),
            scores("b", ["v 3", "v 1", "v 2"], [2, 0, 1]),
        ]
    )
    assert aligned.ids == ["v 1", "v 2", "v 3"]
    assert aligned.labels.tolist() == [0, 1, 2]  # what one file does not know another may
    assert [values[:, 0].tolist() for values in aligned.values] == [[1, 2, 3]] * 2


def test_a_list_gives_the_order_and_the_rows_without_ids():
    bare = Scores("bare", np.array([[7.0] * 3, [8.0] * 3]))
    aligned = align([scores("a", ["v 1", "v 2"]), bare], ("list", ["v 2", "v 1"], np.array([0, 2])))
    assert aligned.labels.tolist() == [0, 2]
    assert [values[:, 0].tolist() for values in aligned.values] == [[2, 1], [7, 8]]


def test_a_video_and_its_feature_are_one():
    """Models of sound are tested on a.npy, those of pictures on a.mp4 or a folder of frames, and a list may name either."""
    numbers = np.arange(6.0).reshape(3, 2)
    ids = ["x/a b.npy", "x/c.d.npy", "y/a b.npy"]
    sound = Scores("sound", numbers, ids, np.array([0, 1, 1]))
    for others in (["y/a b.mp4", "x/a b.3gp", "x/c.d.webm"], ["y/a b", "x/a b", "x/c.d"]):
        pictures = Scores("pictures", numbers[[2, 0, 1]], others)
        aligned = align([sound, pictures])
        assert aligned.ids == ids and np.array_equal(*aligned.values)
        aligned = align(
            [sound, pictures], ("list", ["x/c.d", "y/a b", "x/a b"], np.array([1, 1, 0]))
        )
        assert aligned.ids == ["x/c.d", "y/a b", "x/a b"] and np.array_equal(*aligned.values)
        assert aligned.values[0].tolist() == [[2, 3], [4, 5], [0, 1]]


@pytest.mark.parametrize(
    "others", [["a.mp4", "a.npy"], ["a.mp4", "c.mp4"], ["a.mp4", "b.1"], ["a.mp4"]]
)
def test_suffixes_do_not_make_videos_equal(others):
    """Two of one stem, another video, a name that only looks as if it had a suffix, a missing one."""
    sound = Scores("sound", np.zeros((2, 2)), ["a.npy", "b.npy"], np.array([0, 1]))
    with pytest.raises(
        FusionError, match=r"the videos differ: .*'b.npy' of sound not in pictures; 'a.mp4'"
    ):
        align([sound, Scores("pictures", np.zeros((len(others), 2)), others)])


BARE = Scores("bare", np.zeros((2, 3)))
LISTED = ("list", ["v 1", "v 2"], np.array([0, 1]))


@pytest.mark.parametrize(
    ("files", "listed", "said"),
    [
        (
            [scores("a", ["v 1"], [0]), scores("b", ["v 1"], [0], 4)],
            None,
            "a has scores of 3 classes, b of 4",
        ),
        ([scores("a", ["v 1", "v 2"], [0, 0]), scores("b", ["v 1"])], None, "'v 2' of a not in b"),
        ([scores("a", ["v 1"], [0]), scores("b", ["v 1", "v 2"])], None, "'v 2' of b not in a"),
        (
            [scores("a", [f"v {i}" for i in range(9)], [0] * 9), scores("b", ["w 1"])],
            None,
            "'v 4' and 4 more of a not in b; 'w 1'",
        ),
        ([scores("a", ["v 1", "v 2", "v 1"], [0] * 3)], None, "a holds 'v 1' more than once"),
        (
            [scores("a", ["v 1", "v 2"]), scores("b", ["v 2", "v 1", "v 2"])],
            None,
            "b holds 'v 2' more than once",
        ),
        (
            [BARE, scores("b", ["v 1", "v 2"], [0, 1])],
            None,
            "bare holds rows of scores without ids; give .* --datalist",
        ),
        ([BARE], ("list", ["v 1"], np.array([0])), "bare has 2 rows, but list 1 videos"),
        (
            [BARE],
            ("list", ["v 1", "v 2", "v 3"], np.array([0] * 3)),
            "bare has 2 rows, but list 3 videos",
        ),
        ([BARE], ("list", ["v 1", "v 1"], np.array([0, 0])), "list holds 'v 1' more than once"),
        ([scores("a", ["v 1", "v 3"])], LISTED, "'v 2' of list not in a; 'v 3' of a not in list"),
        ([scores("a", ["v 1", "v 2"], [0, 2])], LISTED, "the label of 'v 2' is 2 in a, but 1"),
        (
            [scores("a", ["v 1"], [0]), scores("b", ["v 1"], [1])],
            None,
            "the label of 'v 1' is 1 in b, but 0",
        ),
        (
            [scores("a", ["v 1"], [3])],
            None,
            "the label of 'v 1' is 3, but the scores are of classes 0 to 2",
        ),
        ([scores("a", ["v 1"], [-2])], None, "the label of 'v 1' is -2"),
        ([scores("a", ["v 1"], [-1])], None, "no video of a has a label"),
        ([scores("a", ["v 1"])], None, "no video of a has a label"),
        (
            [
                scores("a", ["v 1"], [0], class_names=["x", "y", "z"]),
                scores("b", ["v 1"], class_names=["x", "z", "y"]),
            ],
            None,
            "class 1 is 'y' in a, but another in b",
        ),
    ],
)
def test_what_does_not_belong_together(files, listed, said):
    with pytest.raises(FusionError, match=said):
        align(files, listed)


# --- accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracies_by_hand():
    values = np.array([[3.0, 2, 1], [1, 3, 2], [3, 2, 1], [9, 9, 9]])
    numbers = accuracies(values, np.array([0, 2, 1, -1]))  # right, second, second, no label
    assert numbers == {
        "mean_class_accuracy": pytest.approx((1 + 0 + 0) / 3),
        "top1": pytest.approx(1 / 3),
        "top5": 1.0,
    }


def test_a_row_of_nan_is_wrong_and_no_answer():
    values = np.array([[1.0, 0, 0], [np.nan] * 3])
    assert accuracies(values, np.array([0, 0])) == {
        "mean_class_accuracy": 0.5,
        "top1": 0.5,
        "top5": 0.5,
    }
    assert label_ranks(values, np.array([0, 0])).tolist() == [0, NOWHERE]


def test_places_against_sorting():
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 4, (50, 8)).astype(float), rng.integers(0, 8, 50)
    order = np.argsort(values, axis=1, kind="stable")[:, ::-1]
    assert label_ranks(values, labels).tolist() == [
        int(np.flatnonzero(o == k)[0]) for o, k in zip(order, labels, strict=True)
    ]


def test_softmax_and_fuse():
    values = np.array([[1000.0, 1000], [0, np.log(3)]])
    assert softmax(values) == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))
    assert softmax(values.astype("float32")).dtype == np.float32
    assert fuse([np.ones((1, 2)), np.full((1, 2), 2.0)], [1, -3]).tolist() == [[-5, -5]]
    assert np.isnan(fuse([np.ones((1, 2)), np.full((1, 2), np.nan)], [1, 0])).all()


@pytest.mark.parametrize("coefficients", [[1], [1, 1, 1], [1, np.nan], [np.inf, 1], [0, 0]])
def test_coefficients_that_are_none(coefficients):
    with pytest.raises(FusionError, match="coefficients"):
        fuse([np.ones((1, 2))] * 2, coefficients)


# --- coefficients -----------------------------------------------------------------------------------------------------


def top1(values, labels, coefficients):
    return int((label_ranks(fuse(values, coefficients), labels) == 0).sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("whole", [False, True])
def test_two_modalities_against_brute_force(seed, whole):
    values, labels = made_up(2, seed=seed)
    if whole:  # many equal scores
        values = [np.round(v) for v in values]
    found = best_coefficients(values, labels)
    fine = max(top1(values, labels, [1 - w, w]) for w in np.linspace(0, 1, 4001))
    assert top1(values, labels, found) >= fine
    assert found == best_coefficients(values, labels)
    assert sum(found) == pytest.approx(1) and min(found) >= 0


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_scale_of_a_modality_does_not_matter(scale):
    values, labels = made_up(2)
    found = best_coefficients([values[0], values[1] * scale], labels)
    assert top1([values[0], values[1] * scale], labels, found) == top1(
        values, labels, best_coefficients(values, labels)
    )


def test_three_modalities_are_no_worse_than_any_two_of_them_alone():
    values, labels = made_up(3, num_videos=200)
    found = best_coefficients(values, labels)
    reached = top1(values, labels, found)
    singles = [top1(values, labels, np.eye(3)[m]) for m in range(3)]
    assert reached >= max(*singles, top1(values, labels, [1, 1, 1]))
    coarse = max(top1(values, labels, [a, b, 20 - a - b]) for a in range(21) for b in range(21 - a))
    assert reached >= coarse - 2  # a climb, not the whole space
    assert found == best_coefficients(values, labels)


def test_the_middle_of_the_widest_range():
    """Both videos are right for w between 1/4 and 3/4."""
    a, b = np.array([[3.0, 0], [-1, 0]]), np.array([[-1.0, 0], [3, 0]])
    assert best_coefficients([a, b], np.array([0, 0])) == [0.5, 0.5]


def test_a_modality_that_only_harms_gets_nothing():
    """For every share of b one video is lost to it."""
    a = np.array([[1.0, 0, 0], [1e-12, 0, 0]])
    b = np.array([[1.0, 0, 0], [0, 1e3, 0]])
    assert best_coefficients([a, b], np.array([0, 0])) == [1.0, 0.0]


def test_failed_and_unlabelled_videos_are_left_out_of_the_search():
    values, labels = made_up(2)
    more = [
        np.concatenate([v, np.full((1, 6), np.nan if m else 0), np.ones((1, 6))])
        for m, v in enumerate(values)
    ]
    assert best_coefficients(more, np.append(labels, [0, -1])) == best_coefficients(values, labels)
    with pytest.raises(FusionError, match="there is none"):
        best_coefficients(values, np.full(80, -1))
    with pytest.raises(FusionError, match="at least two"):
        best_coefficients(values[:1], labels)


def test_curve():
    values, labels = made_up(3)
    drawn = curve(values, labels, [1, 2, 5], modality=1, points=5)
    assert drawn["share"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert drawn["top1"][0] == accuracies(fuse(values, [1, 0, 5]), labels)["top1"]
    assert drawn["top1"][2] == accuracies(fuse(values, [1, 6, 5]), labels)["top1"]
    assert drawn["mean_class_accuracy"][4] == accuracies(values[1], labels)["mean_class_accuracy"]
    with pytest.raises(FusionError, match="another modality"):
        curve(values, labels, [0, 1, 0], modality=1)
