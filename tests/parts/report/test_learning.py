"""What a run has learned: guessing, and remarks that appear only where the numbers support them."""

import math
from pathlib import Path

import pytest

from paddlevideo.report.conclusions import remarks
from paddlevideo.report.learning import (
    guess_accuracy,
    guess_loss,
    learning_remarks,
    loss_course,
    percent,
)
from paddlevideo.report.run_facts import RunFacts, read_run
from tests.parts.report.run_folders import make_metrics, make_run

TOO_HIGH = "the learning rate is too high"
NOTHING = "has learned almost nothing"


def make_facts(losses=(), top1=None, confusion=(), train=(), labels=None, steps=(), **config):
    """Facts of a run.

    Args:
        losses: mean training loss of each epoch; dicts are further numbers of the row.
        top1: training accuracy of every epoch.
        confusion: clips by true and predicted class, [K][K].
        train: training clips of each class.
        labels: number of names in labels.txt.
        steps: loss of each logged step.
    """
    rows = {"train": [], "epoch": [], "valid": [], "phase": []}
    for number, loss in enumerate(losses):
        numbers = loss if isinstance(loss, dict) else {"loss": loss}
        accuracy = 0.5 if top1 is None else top1
        row = {"split": "epoch", "epoch": number, "iteration": number + 1, "top1": accuracy}
        rows["epoch"].append({**row, **numbers})
    for number, loss in enumerate(steps):
        row = {"split": "train", "epoch": 0, "iteration": number, "top1": 0.5}
        rows["train"].append({**row, "loss": loss})
    best = None
    if confusion:
        cells = [
            [true, predicted, count]
            for true, row in enumerate(confusion)
            for predicted, count in enumerate(row)
            if count
        ]
        samples = [sum(row) for row in confusion]
        correct = sum(confusion[k][k] for k in range(len(confusion)))
        numbers = {"top1": correct / sum(samples), "num_samples": sum(samples), "num_failed": 0}
        best = {
            "epoch": 1,
            "headline": ["top1", "top1 acc"],
            "samples": samples,
            "confusion": cells,
            "class_names": [f"class{k}" for k in range(len(samples))],
            "train_samples": list(train) or None,
            "numbers": numbers,
            "worst": [],
            "failures": [],
        }
    return RunFacts(Path("run"), rows, best, labels=labels, config=config)


def multi_label_facts():
    scores = ("gap", "map", "avg_hit_at_one", "hit_at_one")
    rows = {split: [] for split in ("train", "epoch", "valid", "phase")}
    for row in make_metrics(scores=scores):
        rows[row["split"]].append({**row, "loss": 9.0})
    best = {"epoch": 4, "headline": ["gap", "GAP"], "samples": [5, 5], "train_samples": [5, 5]}
    best |= {"average_precision": [0.1, 0.2], "class_names": None, "worst": [], "failures": []}
    best["numbers"] = {"gap": 0.1, "num_samples": 10}
    return RunFacts(Path("run"), rows, best)


# --- guessing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confusion", "labels", "value", "reason"),
    [
        ([[3, 1], [2, 2]], None, 0.5, "1 of 2 classes"),
        ([[4, 0, 0], [1, 1, 0], [0, 0, 2]], None, 0.5, "always class0"),
        ([[0, 0, 0], [0, 0, 0], [0, 1, 2]], None, 1.0, "always class2"),
        ((), 400, 1 / 400, "1 of 400 classes"),
    ],
)
def test_the_accuracy_of_guessing(confusion, labels, value, reason):
    guess = guess_accuracy(make_facts([1.0], confusion=confusion, labels=labels))
    assert guess is not None and guess.value == pytest.approx(value) and guess.reason == reason


def test_guessing_is_unknown_without_classes_and_for_several_labels():
    for facts in (make_facts([1.0]), make_facts([1.0], labels=1), multi_label_facts()):
        assert guess_accuracy(facts) is None and guess_loss(facts) is None
    assert learning_remarks(multi_label_facts()) == []
    assert not any("guessing" in remark for remark in remarks(multi_label_facts()))


def test_shares_as_text():
    texts = [percent(share) for share in (1 / 6, 1 / 400, 0.996, 1.0, 0.0)]
    assert texts == ["17 %", "0.25 %", "100 %", "100 %", "0 %"]


def entropy(*shares):
    return -sum(share * math.log(share) for share in shares if share)


@pytest.mark.parametrize(
    ("train", "config", "value", "reason"),
    [
        ((5, 5), {}, math.log(2), "ln 2"),
        ((9, 1), {}, entropy(0.9, 0.1), "class shares"),
        ((9, 1), {"DATASET": {"sampling": "class_balanced"}}, math.log(2), "ln 2"),
        ((9, 1), {"LOSS": {"class_weights": "balanced"}}, math.log(2), "ln 2"),
        ((9, 1), {"MODEL": {"head": {"ls_eps": 0.2}}}, entropy(0.82, 0.18), "class shares"),
        ((5, 5), {"MODEL": {"head": {"ls_eps": 0.2}}}, math.log(2), "ln 2"),
    ],
)
def test_the_loss_of_guessing(train, config, value, reason):
    guess = guess_loss(make_facts([1.0], confusion=[[1, 0], [0, 1]], train=train, **config))
    assert guess is not None and guess.value == pytest.approx(value) and guess.reason == reason


def test_a_loss_that_is_no_plain_cross_entropy_has_no_guess():
    confusion = [[1, 0], [0, 1]]
    weighted = make_facts([9.0] * 8, confusion=confusion, LOSS={"class_weights": [1, 5]})
    distilled = [{"loss": 9.0, "ce_student": 0.1, "kl": 8.9, "teacher_top1": 1.0}] * 8
    for facts in (weighted, make_facts(distilled, confusion=confusion)):
        assert guess_loss(facts) is None
        assert not any(TOO_HIGH in remark for remark in learning_remarks(facts))


# --- the training loss --------------------------------------------------------------------------

# Six classes: ln 6 is 1.79.
RISES = [1.9, 2.3, 2.9, 2.99, 2.5, 2.2, 1.9, 1.85]
ABOVE_TO_THE_END = [5.0] + [1.95] * 7
LEARNS_LATE = [2.9] + [1.9] * 3 + [1.2] * 2 + [0.4] * 3
WARM_UP_ONLY = [4.0, 1.7, 1.5, 1.2, 1.1, 1.0, 0.9, 0.9]
SLIGHTLY_ABOVE = [1.80, 1.83, 1.84, 1.82, 1.80, 1.79, 1.80, 1.80]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (RISES, "reaches 2.99 in epoch 4, above that of guessing (1.79, ln 6), and ends at 1.88"),
        (ABOVE_TO_THE_END, "reaches 1.95 in epoch 2"),
        ([1.5, 1.4, 1.3, 1.6, 2.4, 3.0], "reaches 3.00 in epoch 6"),
        ([2.5, 2.4], "reaches 2.40 in epoch 2"),
    ],
)
def test_names_a_rate_that_is_too_high(losses, expected):
    (remark,) = learning_remarks(make_facts(losses, labels=6))
    assert expected in remark and TOO_HIGH in remark and NOTHING not in remark


@pytest.mark.parametrize("losses", [LEARNS_LATE, WARM_UP_ONLY, [9.0], [9.0, 0.5], [], [None, None]])
def test_a_loss_that_is_high_only_at_first_has_no_remark(losses):
    assert learning_remarks(make_facts(losses, labels=6)) == []


def test_a_real_multigrid_training_that_recovers_has_no_remark():
    """Four classes; the loss rose to twice ln 4, and then 100 % of the clips were correct."""
    losses = [1.59, 2.89, 1.86, 2.2, 2.2, 2.34, 1.27, 1.08, 0.9, 0.7, 0.53, 0.43, 0.33, 0.32, 0.33]
    assert learning_remarks(make_facts(losses, labels=4)) == []


def test_a_loss_near_that_of_guessing_has_learned_nothing():
    (remark,) = learning_remarks(make_facts(SLIGHTLY_ABOVE, labels=6))
    assert NOTHING in remark and TOO_HIGH not in remark
    assert learning_remarks(make_facts([1.79, 1.75, 1.7, 1.68, 1.66], labels=6)) == []


def test_few_epochs_are_judged_by_their_steps():
    steps = [1.8] * 8 + [4.0] * 32
    (remark,) = learning_remarks(make_facts([3.5], labels=6, steps=steps))
    assert "reaches 4.00 in steps 8 to 15" in remark and TOO_HIGH in remark
    assert learning_remarks(make_facts([1.9], labels=6, steps=[9.0] * 8 + [0.5] * 32)) == []
    assert loss_course(make_facts([3.5], steps=[4.0] * 19).rows) == [("in epoch 1", 3.5)]


def test_reads_the_classification_loss_of_an_audio_visual_model():
    losses = [{"loss": 3.0, "label_loss": 0.3, "sync_s3": 2.7}] * 6
    assert learning_remarks(make_facts(losses, labels=6)) == []
    losses = [{"loss": 1.0, "label_loss": 3.0, "sync_s3": 0.2}] * 6
    assert TOO_HIGH in learning_remarks(make_facts(losses, labels=6))[0]


def test_the_loss_of_unequal_classes_is_compared_with_their_shares():
    """Nine of ten clips have one class, so that a loss of 0.6 is worse than guessing."""
    confusion = [[9, 0], [0, 1]]
    facts = make_facts([0.6] * 6, confusion=confusion, train=(90, 10))
    assert "above that of guessing (0.33, class shares)" in learning_remarks(facts)[0]
    facts = make_facts([0.6] * 6, confusion=[[5, 0], [0, 5]], train=(50, 50))
    assert learning_remarks(facts) == []


# --- validation ---------------------------------------------------------------------------------


def spread(correct, num_clips, num_classes=6):
    """A confusion of equal classes; each wrong clip gets the following class."""
    each, rest = divmod(correct, num_classes)
    rows = [[0] * num_classes for _ in range(num_classes)]
    for k in range(num_classes):
        rows[k][k] = each + (k < rest)
        rows[k][(k + 1) % num_classes] += num_clips // num_classes - rows[k][k]
    return rows


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        (
            spread(4, 24),
            "no better than guessing: 4 of 24 clips are correct, guessing gets 4 (17 %",
        ),
        (spread(0, 24), "no better than guessing: 0 of 24"),
        (spread(6, 24), "hardly better than guessing: 6 of 24 clips are correct"),
        ([[90, 0], [10, 0]], "no better than guessing: 90 of 100 clips are correct, guessing gets"),
    ],
)
def test_compares_validation_with_guessing(confusion, expected):
    (remark,) = learning_remarks(make_facts([0.9], confusion=confusion))
    assert expected in remark and remark.endswith("which recipe sees what.")


@pytest.mark.parametrize(
    "confusion",
    [
        spread(9, 24),  # guessing gets 9 of 24 in 1 % of the tries
        spread(60, 240),  # 25 % of many clips
        [[2, 0], [0, 2]],  # guessing gets 4 of 4 in 6 %: too few clips to say anything
        [[0, 1], [1, 0]],
        [[88, 2], [2, 8]],
    ],
)
def test_validation_that_is_better_than_guessing_has_no_remark(confusion):
    sentences = learning_remarks(make_facts([0.9], confusion=confusion))
    assert not any("than guessing" in sentence for sentence in sentences)


def test_names_few_training_clips():
    confusion, train = spread(12, 24), [16] * 6
    sentences = remarks(make_facts([0.1], 0.98, confusion, train))
    (remark,) = (sentence for sentence in sentences if "are few" in sentence)
    assert "Training is right (98%) and validation is not (50%)" in remark
    assert "96 training clips of 6 classes are few" in remark
    assert not any("overfits" in sentence for sentence in sentences), "it is the same remark"


@pytest.mark.parametrize(
    ("top1", "confusion", "train"),
    [
        (0.6, spread(12, 24), [16] * 6),  # training is not right
        (0.98, spread(22, 24), [16] * 6),  # validation is right
        (0.95, [[2, 0], [1, 2]], [16] * 2),  # 4 of 5 is no evidence
        (0.98, spread(12, 24), [500] * 6),  # many clips
        (0.98, spread(12, 24), ()),  # of unknown number
    ],
)
def test_does_not_name_few_clips_without_evidence(top1, confusion, train):
    sentences = remarks(make_facts([0.1], top1, confusion, train))
    assert not any("are few" in sentence for sentence in sentences)


def test_many_training_clips_overfit():
    sentences = remarks(make_facts([0.1], 0.98, spread(12, 24), [500] * 6))
    assert any("the model overfits" in sentence for sentence in sentences)


# --- pairs of classes ---------------------------------------------------------------------------

PAIR = [[7, 3, 0, 0], [3, 7, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]]


def pairs_in(confusion):
    sentences = learning_remarks(make_facts([0.1], confusion=confusion))
    return [sentence for sentence in sentences if "taken for each other" in sentence]


def test_names_two_classes_that_are_taken_for_each_other():
    (remark,) = pairs_in(PAIR)
    assert "Classes class0 and class1 are taken for each other: 6 of their 20 clips" in remark
    assert "reported from 5 clips on" in remark


@pytest.mark.parametrize(
    "confusion",
    [
        [[8, 2, 0, 0], [2, 8, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]],  # 4 clips
        [[9, 1, 0, 0], [6, 4, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]],  # one direction
        [[97, 3, 0], [3, 97, 0], [0, 0, 100]],  # 6 of 200 clips
        [[7, 3], [3, 7]],  # of two classes, each error is of this kind
        [[4, 2, 2, 2], [3, 4, 2, 2], [2, 2, 4, 2], [2, 2, 2, 4]],  # errors are everywhere
    ],
)
def test_few_or_scattered_confusions_have_no_remark(confusion):
    assert pairs_in(confusion) == []


def test_a_guessing_model_has_no_pairs():
    confusion = [[1, 3, 3, 3], [3, 1, 3, 3], [3, 3, 1, 3], [9, 0, 0, 1]]
    assert pairs_in(confusion) == []


def test_names_at_most_three_pairs():
    rows = [[0] * 10 for _ in range(10)]
    for k in range(10):
        rows[k][k], rows[k][k ^ 1] = 12, 8 if k > 3 else 7
    sentences = pairs_in(rows)
    assert len(sentences) == 3 and "class4 and class5" in sentences[0]


# --- from files ---------------------------------------------------------------------------------


def test_counts_the_names_of_a_run_without_validation(tmp_path):
    rows = [row for row in make_metrics() if row["split"] != "valid"]
    folder = make_run(tmp_path / "run", rows)
    assert read_run(folder).num_classes is None
    (folder / "labels.txt").write_text("a\nb\nrot und 红色\n", encoding="utf-8")
    guess = guess_accuracy(read_run(folder))
    assert guess is not None and guess.reason == "1 of 3 classes"
