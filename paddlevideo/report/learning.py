"""What a run has learned: its numbers next to those of guessing, and what to change if need be.

Two ways of guessing need no look at a clip. The accuracy is best if every clip gets the largest
class. The loss is best if every clip gets the shares of the classes as its probabilities: ln K for
K classes of equal size.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, bdtrc

from paddlevideo.report.run_facts import Rows, RunFacts

NEXT = "docs/first_hour.md says which recipe sees what."  # movement, frames or audio
LUCK = 0.05  # results that guessing reaches more often may be luck
# Training losses, in units of the loss of guessing.
ABOVE = 1.05  # clearly above, at the end
PEAK = 1.25  # far above, at some time after the beginning
LEARNED = 0.75  # a run that ends below has learned in spite of a peak
MIN_EPOCHS = 4  # with fewer, the loss of single steps is used, if there are MIN_STEPS
MIN_STEPS = 20
STEP_PARTS = 5  # into which the logged steps are divided
# Training right, validation not.
RIGHT = 0.9  # training accuracy
GAP = 0.15  # training accuracy minus validation accuracy
FEW_PER_CLASS = 100  # training clips
# Classes that are taken for each other.
MIN_CONFUSED = 5  # clips, of both classes together
MIN_CONFUSED_EACH = 2  # clips of each of the two
MIN_CONFUSED_SHARE = 0.2  # of the clips of both classes
MAX_PAIRS = 3
NUMBERS_OF_ROW = {"split", "epoch", "step", "iteration", "seconds", "time", "loss"}
ACCURACY = re.compile(r"top\d+")


@dataclass(frozen=True)
class Guess:
    """A number that guessing reaches.

    Args:
        value: an accuracy (0 to 1), or a loss.
        reason: how, for a legend: `1 of 6 classes`, `ln 6`, `always hug`.
    """

    value: float
    reason: str

    @property
    def percent(self) -> str:
        """An accuracy as text: `17 %`, `0.25 %`."""
        return percent(self.value)


def percent(share: float) -> str:
    """A share as text: `17 %`, `0.25 %`, `0 %`."""
    number = 100 * share
    return f"{number:.0f} %" if number >= 1 or not number else f"{number:.2g} %"


def guess_accuracy(facts: RunFacts) -> Guess | None:
    """The top-1 accuracy of guessing; None for multi-label runs and unknown classes.

    It is 1/K, or the share of the largest class of the validation where that is higher.
    """
    if facts.multi_label or not has_accuracy(facts.rows):
        return None
    num_classes = facts.num_classes or 0
    if num_classes < 2:
        return None
    if facts.best:
        return best_guess(facts.best["samples"], facts.class_names())
    return best_guess([1] * num_classes, [])


def best_guess(samples: Sequence[int], names: Sequence[str]) -> Guess:
    """The top-1 accuracy of guessing.

    Args:
        samples: clips of each class that are scored, [K], with K of at least 2.
        names: of the classes.
    """
    largest, num_classes = max(samples), len(samples)
    if largest * num_classes > sum(samples):
        return Guess(largest / sum(samples), f"always {names[samples.index(largest)]}")
    return Guess(1 / num_classes, f"1 of {num_classes} classes")


def has_accuracy(rows: Rows) -> bool:
    """Whether the clips of a run have one class each."""
    return any("top1" in row for split in ("train", "epoch", "valid") for row in rows[split])


def guess_loss(facts: RunFacts) -> Guess | None:
    """The training loss of guessing; None if the loss is no plain cross entropy of one class.

    It is the entropy of the classes as the loss sees them, with label smoothing.
    """
    num_classes = facts.num_classes or 0
    weights = section(facts, "LOSS").get("class_weights")
    if facts.multi_label or not has_accuracy(facts.rows) or num_classes < 2:
        return None
    if loss_key(facts.rows) is None or weights not in (None, "balanced"):
        return None
    counts = np.array((facts.best or {}).get("train_samples") or [1] * num_classes, np.float64)
    if weights or section(facts, "DATASET").get("sampling") == "class_balanced":
        counts = np.minimum(counts, 1)
    smoothing = label_smoothing(facts.config.get("MODEL"))
    shares = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)
    shares = shares[shares > 0]
    entropy = float(-(shares * np.log(shares)).sum())
    equal = len(shares) > 1 and np.ptp(shares) < 1e-9
    return Guess(entropy, f"ln {len(shares)}" if equal else "class shares") if entropy else None


def section(facts: RunFacts, key: str) -> Mapping[str, Any]:
    """A section of run.yaml; empty if it is missing, as in a run of another version."""
    value = facts.config.get(key)
    return value if isinstance(value, dict) else {}


def label_smoothing(model: Any) -> float:
    """The first `ls_eps` in a MODEL section; 0 without one."""
    if not isinstance(model, dict):
        return 0.0
    if isinstance(model.get("ls_eps"), (int, float)):
        return float(model["ls_eps"])
    return max((label_smoothing(part) for part in model.values()), default=0.0)


def loss_key(rows: Rows) -> str | None:
    """The key of the classification loss in the training rows; None if it is part of a sum."""
    keys = {key for row in rows["epoch"] + rows["train"][:1] for key in row} - NUMBERS_OF_ROW
    if "label_loss" in keys:  # an audio-visual model that also learns synchronization
        return "label_loss"
    others = {key for key in keys if not ACCURACY.fullmatch(key)}
    return None if others - {"lr", "batch_cost", "reader_cost"} else "loss"


def loss_course(rows: Rows) -> list[tuple[str, float]]:
    """(when, mean classification loss) over the training; empty if there is none."""
    key = loss_key(rows)
    if key is None:
        return []
    epochs = [
        (f"in epoch {row['epoch'] + 1}", row[key])
        for row in rows["epoch"]
        if row.get(key) is not None
    ]
    steps = [(row["iteration"], row[key]) for row in rows["train"] if row.get(key) is not None]
    if len(epochs) >= MIN_EPOCHS or len(steps) < MIN_STEPS:
        return epochs
    parts = np.array_split(np.array(steps, np.float64), STEP_PARTS)
    return [
        (f"in steps {part[0, 0]:.0f} to {part[-1, 0]:.0f}", float(part[:, 1].mean()))
        for part in parts
    ]


# --- remarks ------------------------------------------------------------------------------------


def learning_remarks(facts: RunFacts) -> list[str]:
    """Sentences about what went wrong in learning, with the next thing to try; often none."""
    sentences = list(loss_remarks(facts))
    if facts.best is None or facts.multi_label:
        return sentences
    guessing = list(guessing_remarks(facts))
    sentences += [*guessing, *transfer_remarks(facts)]
    return sentences if guessing else [*sentences, *pair_remarks(facts)]


def loss_remarks(facts: RunFacts) -> Iterator[str]:
    """A remark on a training loss that stays above that of guessing, rises above it, or stays."""
    guess, course = guess_loss(facts), loss_course(facts.rows)
    after = course[max(1, len(course) // 10) :]  # the first steps start anywhere
    if guess is None or not after:
        return
    losses = [loss for _, loss in course[-max(1, len(course) // 4) :]]
    when, peak = max(after, key=lambda pair: pair[1])
    last = sum(losses) / len(losses)
    than = f"that of guessing ({guess.value:.2f}, {guess.reason})"
    if last > ABOVE * guess.value or (peak > PEAK * guess.value and last > LEARNED * guess.value):
        yield (
            f"The training loss reaches {peak:.2f} {when}, above {than}, and ends at {last:.2f}: "
            "the learning rate is too high; divide OPTIMIZER.learning_rate by 3 to 10."
        )
    elif last > guess.value * (2 - ABOVE) and len(course) >= MIN_EPOCHS:
        yield (
            f"The training loss ends at {last:.2f}, no better than {than}: the model has learned "
            "almost nothing; train longer, start from weights, or try another learning rate."
        )


def guessing_remarks(facts: RunFacts) -> Iterator[str]:
    """A remark if guessing reaches the accuracy of the best validation by luck."""
    guess = guess_accuracy(facts)
    num_clips, correct = scored_clips(facts)
    if guess is None or not num_clips or chance_of(num_clips, num_clips, guess.value) > LUCK:
        return  # of so few clips, guessing gets all right
    luck = chance_of(correct, num_clips, guess.value)
    if luck <= LUCK:
        return
    counts = f"{correct} of {num_clips} clips are correct"
    expected = f"guessing gets {guess.value * num_clips:.2g} ({guess.percent}, {guess.reason})"
    if correct <= guess.value * num_clips:
        yield f"Validation is no better than guessing: {counts}, {expected}. {NEXT}"
    else:
        tries = f"and {correct} or more in {luck:.0%} of the tries"
        yield f"Validation is hardly better than guessing: {counts}, {expected}, {tries}. {NEXT}"


def chance_of(correct: int, num_clips: int, share: float) -> float:
    """Probability that at least `correct` of `num_clips` clips are right, each with `share`."""
    return float(bdtrc(correct - 1, num_clips, share)) if correct else 1.0


def scored_clips(facts: RunFacts) -> tuple[int, int]:
    """(scored clips, correct ones) of the best validation, without those that failed."""
    assert facts.best is not None
    cells = facts.best["confusion"]
    correct = sum(count for true, predicted, count in cells if true == predicted)
    return sum(count for *_, count in cells), correct


def transfer_remarks(facts: RunFacts) -> Iterator[str]:
    """A remark on a model that knows its few training clips, but not those of the validation."""
    assert facts.best is not None
    training = [row["top1"] for row in facts.rows["epoch"] if row.get("top1") is not None]
    (num_clips, correct), counts = scored_clips(facts), facts.best["train_samples"]
    if not training or not num_clips or not counts or training[-1] < RIGHT:
        return
    share = correct / num_clips
    # So few correct ones would be rare if validation clips were as easy as those of the training.
    differs = float(bdtr(correct, num_clips, min(training[-1], 0.99))) < LUCK
    num_classes = sum(count > 0 for count in counts)
    if differs and training[-1] - share > GAP and sum(counts) < FEW_PER_CLASS * num_classes:
        yield (
            f"Training is right ({training[-1]:.0%}) and validation is not ({share:.0%}): "
            f"{sum(counts)} training clips of {num_classes} classes are few; use clips from more "
            "sources, pretrained weights, or frozen features."
        )


def pair_remarks(facts: RunFacts) -> Iterator[str]:
    """Remarks on pairs of classes that are taken for each other, the most frequent first.

    With two classes, every error is of this kind, and with few clips it is luck: see MIN_CONFUSED.
    """
    assert facts.best is not None
    samples, names = facts.best["samples"], facts.class_names()
    cells = {(true, predicted): n for true, predicted, n in facts.best["confusion"]}
    if sum(count > 0 for count in samples) < 3:
        return
    pairs = Counter({
        (a, b): n + cells[b, a] for (a, b), n in cells.items() if a < b and (b, a) in cells
    })  # fmt: skip
    shown = 0
    for (a, b), count in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0])):
        if shown < MAX_PAIRS and is_confused(cells, samples, a, b):
            shown += 1
            yield (
                f"Classes {names[a]} and {names[b]} are taken for each other: {count} of their "
                f"{samples[a] + samples[b]} clips (reported from {MIN_CONFUSED} clips on)."
            )


def is_confused(
    cells: Mapping[tuple[int, int], int], samples: Sequence[int], a: int, b: int
) -> bool:
    """Whether enough clips of the classes `a` and `b` are taken for each other.

    Args:
        cells: {(true class, predicted class): clips}.
        samples: clips of each class.
    """
    each = cells[a, b], cells[b, a]
    wrong = (pair for pair in cells if pair[0] != pair[1])
    errors = sum(cells[pair] for pair in wrong if pair[0] in (a, b))
    even = errors / (sum(count > 0 for count in samples) - 1)  # if errors had no preference
    return (
        sum(each) >= MIN_CONFUSED
        and min(each) >= MIN_CONFUSED_EACH
        and sum(each) >= MIN_CONFUSED_SHARE * (samples[a] + samples[b])
        and sum(each) >= 1.5 * even
    )
