"""Late fusion: alignment by id, accuracy, coefficients against brute force."""

import numpy as np
import pytest

from paddlevideo.metrics.fusion import (
    FusionError,
    Scores,
    accuracies,
    align,
    best_coefficients,
    curve,
    fuse,
)
from paddlevideo.metrics.scores import label_ranks


def make_scores(name, ids, labels=None, num_classes=3, **more):
    """Scores in which every class of a row has the number at the end of the row's id."""
    values = np.array([[float(video.split()[-1])] * num_classes for video in ids])
    return Scores(name, values, ids, None if labels is None else np.array(labels), **more)


def synthetic_modalities(count, num_classes=6, num_videos=80, seed=0):
    """Scores of modalities that are each right about some of the videos, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_videos)
    values = [rng.normal(size=(num_videos, num_classes)) * (m + 1) for m in range(count)]
    for m, scores in enumerate(values):
        scores[np.arange(num_videos), labels] += rng.uniform(0, 2, num_videos) * (m + 1)
    return values, labels


# --- alignment --------------------------------------------------------------------------------


def test_aligns_rows_by_id_and_joins_labels():
    aligned = align(
        [
            make_scores("a", ["v 1", "v 2", "v 3"], [0, 1, -1]),
            make_scores("b", ["v 3", "v 1", "v 2"], [2, 0, 1]),
        ]
    )
    assert aligned.ids == ["v 1", "v 2", "v 3"]
    assert aligned.labels.tolist() == [0, 1, 2]
    assert [values[:, 0].tolist() for values in aligned.values] == [[1, 2, 3]] * 2


def test_a_list_gives_the_order_of_rows_without_ids():
    no_ids = Scores("bare", np.array([[7.0] * 3, [8.0] * 3]))
    listed = ("list", ["v 2", "v 1"], np.array([0, 2]))
    aligned = align([make_scores("a", ["v 1", "v 2"]), no_ids], listed)
    assert aligned.labels.tolist() == [0, 2]
    assert [values[:, 0].tolist() for values in aligned.values] == [[2, 1], [7, 8]]


@pytest.mark.parametrize(
    "frame_ids", [["y/a b.mp4", "x/a b.3gp", "x/c.d.webm"], ["y/a b", "x/a b", "x/c.d"]]
)
def test_matches_ids_that_differ_in_the_suffix(frame_ids):
    """Audio models read a.npy, frame models a.mp4 or a folder of frames; lists have either."""
    values = np.arange(6.0).reshape(3, 2)
    ids = ["x/a b.npy", "x/c.d.npy", "y/a b.npy"]
    audio = Scores("audio", values, ids, np.array([0, 1, 1]))
    frames = Scores("frames", values[[2, 0, 1]], frame_ids)
    aligned = align([audio, frames])
    assert aligned.ids == ids and np.array_equal(*aligned.values)
    listed = ("list", ["x/c.d", "y/a b", "x/a b"], np.array([1, 1, 0]))
    aligned = align([audio, frames], listed)
    assert aligned.ids == ["x/c.d", "y/a b", "x/a b"] and np.array_equal(*aligned.values)
    assert aligned.values[0].tolist() == [[2, 3], [4, 5], [0, 1]]


@pytest.mark.parametrize(
    "others",
    [["a.mp4", "a.npy"], ["a.mp4", "c.mp4"], ["a.mp4", "b.1"], ["a.mp4"]],
    ids=["same stem twice", "another video", "not a suffix", "a missing video"],
)
def test_rejects_ids_that_differ_in_more_than_the_suffix(others):
    audio = Scores("audio", np.zeros((2, 2)), ["a.npy", "b.npy"], np.array([0, 1]))
    message = r"the videos differ: .*'b.npy' of audio not in frames; 'a.mp4'"
    with pytest.raises(FusionError, match=message):
        align([audio, Scores("frames", np.zeros((len(others), 2)), others)])


NO_IDS = Scores("bare", np.zeros((2, 3)))
ONE = make_scores("a", ["v 1"], [0])
XYZ = make_scores("a", ["v 1"], [0], class_names=["x", "y", "z"])
XZY = make_scores("b", ["v 1"], class_names=["x", "z", "y"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [ONE, make_scores("b", ["v 1"], [0], 4)],
            "a has scores of 3 classes, but b of 4; only models with the same classes",
        ),
        ([XYZ, XZY], "class 1 is 'y' in a, but 'z' in b"),
        (
            [make_scores("a", ["v 1", "v 2"], [0, 0]), make_scores("b", ["v 1"])],
            "'v 2' of a not in b",
        ),
        ([ONE, make_scores("b", ["v 1", "v 2"])], "'v 2' of b not in a"),
        (
            [make_scores("a", [f"v {i}" for i in range(9)], [0] * 9), make_scores("b", ["w 1"])],
            "'v 4' and 4 more of a not in b; 'w 1'",
        ),
        ([make_scores("a", ["v 1", "v 2", "v 1"], [0] * 3)], "a has 'v 1' more than once"),
        (
            [make_scores("a", ["v 1", "v 2"]), make_scores("b", ["v 2", "v 1", "v 2"])],
            "b has 'v 2' more than once",
        ),
        (
            [NO_IDS, make_scores("b", ["v 1", "v 2"], [0, 1])],
            "bare has rows of scores without ids; give .* --datalist",
        ),
        ([ONE, make_scores("b", ["v 1"], [1])], "the label of 'v 1' is 1 in b, but 0 in the list"),
        (
            [make_scores("a", ["v 1"], [3])],
            "the label of 'v 1' is 3, but the scores are for classes 0 to 2",
        ),
        ([make_scores("a", ["v 1"], [-2])], "the label of 'v 1' is -2"),
        ([make_scores("a", ["v 1"], [-1])], "no video of a has a label"),
        ([make_scores("a", ["v 1"])], "no video of a has a label"),
    ],
)
def test_rejects_files_that_do_not_fit_together(files, message):
    with pytest.raises(FusionError, match=message):
        align(files)


@pytest.mark.parametrize(
    ("file", "ids", "labels", "message"),
    [
        (NO_IDS, ["v 1"], [0], "bare has 2 rows, but list has 1 videos"),
        (NO_IDS, ["v 1", "v 2", "v 3"], [0] * 3, "bare has 2 rows, but list has 3 videos"),
        (NO_IDS, ["v 1", "v 1"], [0, 0], "list has 'v 1' more than once"),
        (
            make_scores("a", ["v 1", "v 3"]),
            ["v 1", "v 2"],
            [0, 1],
            "'v 2' of list not in a; 'v 3' of a not in list",
        ),
        (
            make_scores("a", ["v 1", "v 2"], [0, 2]),
            ["v 1", "v 2"],
            [0, 1],
            "the label of 'v 2' is 2 in a, but 1 in the list or an earlier file",
        ),
    ],
)
def test_rejects_a_list_that_does_not_fit_a_file(file, ids, labels, message):
    with pytest.raises(FusionError, match=message):
        align([file], ("list", ids, np.array(labels)))


# --- accuracy ---------------------------------------------------------------------------------


def test_accuracies_of_right_second_and_unlabeled_rows():
    values = np.array([[3.0, 2, 1], [1, 3, 2], [3, 2, 1], [9, 9, 9]])
    numbers = accuracies(values, np.array([0, 2, 1, -1]))
    third = pytest.approx(1 / 3)
    assert numbers == {"mean_class_accuracy": third, "top1": third, "top5": 1.0}


def test_the_highest_of_tied_classes_ranks_first_for_top1():
    tied = np.array([[1.0, 1.0]])
    assert [accuracies(tied, np.array([k]))["top1"] for k in (0, 1)] == [0, 1]


def test_a_row_with_nan_is_wrong_for_any_k_and_no_prediction():
    values = np.array([[1.0, 0, 0], [np.nan] * 3])
    numbers = accuracies(values, np.array([0, 0]))
    assert numbers == {"mean_class_accuracy": 0.5, "top1": 0.5, "top5": 0.5}


def test_fuse_adds_weighted_scores_and_keeps_nan():
    assert fuse([np.ones((1, 2)), np.full((1, 2), 2.0)], [1, -3]).tolist() == [[-5, -5]]
    assert np.isnan(fuse([np.ones((1, 2)), np.full((1, 2), np.nan)], [1, 0])).all()


@pytest.mark.parametrize("coefficients", [[1], [1, 1, 1], [1, np.nan], [np.inf, 1], [0, 0]])
def test_rejects_invalid_coefficients(coefficients):
    with pytest.raises(FusionError, match="coefficients"):
        fuse([np.ones((1, 2))] * 2, coefficients)


def test_curve_over_the_share_of_a_modality():
    values, labels = synthetic_modalities(3)
    points = curve(values, labels, [1, 2, 5], modality=1, points=5)
    assert points["share"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert points["top1"][0] == accuracies(fuse(values, [1, 0, 5]), labels)["top1"]
    assert points["top1"][2] == accuracies(fuse(values, [1, 6, 5]), labels)["top1"]
    alone = accuracies(values[1], labels)["mean_class_accuracy"]
    assert points["mean_class_accuracy"][4] == alone
    with pytest.raises(FusionError, match="another modality"):
        curve(values, labels, [0, 1, 0], modality=1)


# --- search for coefficients ------------------------------------------------------------------


def num_correct(values, labels, coefficients):
    ranks = label_ranks(fuse(values, coefficients), labels, first_of_ties="highest")
    return int((ranks == 0).sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_search_of_two_modalities_is_as_good_as_brute_force(seed, ties):
    values, labels = synthetic_modalities(2, seed=seed)
    if ties:
        values = [np.round(scores) for scores in values]
    found = best_coefficients(values, labels)
    grid = max(num_correct(values, labels, [1 - w, w]) for w in np.linspace(0, 1, 1001))
    assert num_correct(values, labels, found) >= grid
    assert found == best_coefficients(values, labels)
    assert sum(found) == pytest.approx(1) and min(found) >= 0


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_search_does_not_depend_on_the_scale_of_a_modality(scale):
    values, labels = synthetic_modalities(2)
    scaled = [values[0], values[1] * scale]
    expected = num_correct(values, labels, best_coefficients(values, labels))
    assert num_correct(scaled, labels, best_coefficients(scaled, labels)) == expected


def test_search_of_three_modalities_is_close_to_brute_force():
    values, labels = synthetic_modalities(3, num_videos=200)
    found = best_coefficients(values, labels)
    reached = num_correct(values, labels, found)
    singles = [num_correct(values, labels, np.eye(3)[m]) for m in range(3)]
    assert reached >= max(*singles, num_correct(values, labels, [1, 1, 1]))
    pairs = [(a, b) for a in range(21) for b in range(21 - a)]
    grid = max(num_correct(values, labels, [a, b, 20 - a - b]) for a, b in pairs)
    assert reached >= grid - 2
    assert found == best_coefficients(values, labels)


def test_search_takes_the_middle_of_the_widest_range():
    """Both videos are right for w between 1/4 and 3/4."""
    a, b = np.array([[3.0, 0], [-1, 0]]), np.array([[-1.0, 0], [3, 0]])
    assert best_coefficients([a, b], np.array([0, 0])) == [0.5, 0.5]


def test_search_gives_0_to_a_modality_that_only_harms():
    """Any share of b makes one video wrong."""
    a = np.array([[1.0, 0, 0], [1e-12, 0, 0]])
    b = np.array([[1.0, 0, 0], [0, 1e3, 0]])
    assert best_coefficients([a, b], np.array([0, 0])) == [1.0, 0.0]


def test_search_ignores_failed_and_unlabeled_videos():
    values, labels = synthetic_modalities(2)
    more = [
        np.concatenate([scores, np.full((1, 6), np.nan if m else 0), np.ones((1, 6))])
        for m, scores in enumerate(values)
    ]
    assert best_coefficients(more, np.append(labels, [0, -1])) == best_coefficients(values, labels)


def test_search_rejects_too_few_modalities_or_labels():
    values, _ = synthetic_modalities(2)
    with pytest.raises(FusionError, match="needs labeled videos .*; there are none"):
        best_coefficients(values, np.full(80, -1))
    with pytest.raises(FusionError, match="at least two"):
        best_coefficients(values[:1], np.zeros(80, int))
