"""Conclusions from the facts of a run: where time went, how each class did, what to do next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paddlevideo.report.learning import learning_remarks, transfer_remarks
from paddlevideo.report.run_facts import Rows, RunFacts

MAX_CONFUSIONS = 20
# Thresholds above which a remark is made.
SLOW_DATA = 0.10  # share of the step time spent waiting for data
OVERFIT = 0.15  # training score minus validation score
IMBALANCE = 5  # largest class over smallest class, training clips
FEW_CLIPS = 50  # validation clips


def waiting_share(rows: Rows) -> float | None:
    """Share of the step time that was spent waiting for data, None if no step was logged."""
    steps = [row for row in rows["train"] if row.get("batch_cost")]
    if not steps:
        return None
    return sum(row["reader_cost"] for row in steps) / sum(row["batch_cost"] for row in steps)


def time_parts(facts: RunFacts) -> list[tuple[str, float]]:
    """(name, seconds) of computing, waiting and validating; empty if times were not recorded."""
    rows = facts.rows
    ends = [
        (row["seconds"], split)
        for split in ("epoch", "valid")
        for row in rows[split]
        if "seconds" in row
    ]
    spent, previous = {"epoch": 0.0, "valid": 0.0}, 0.0
    for seconds, split in sorted(ends):
        spent[split] += seconds - previous
        previous = seconds
    share = waiting_share(rows)
    if share is None or previous <= 0:
        return []
    waiting = share * spent["epoch"]
    validating = "validating and precise BN" if facts.config.get("PRECISEBN") else "validating"
    return [
        ("computing", spent["epoch"] - waiting),
        ("waiting for data", waiting),
        (validating, spent["valid"]),
    ]


@dataclass(frozen=True)
class ClassResult:
    """Results of one class in the best validation.

    Args:
        num_clips: validation clips of the class.
        score: accuracy, or average precision if clips are multi-label.
        num_correct: correctly classified clips; 0 for multi-label.
        confused_with: the most frequent wrong prediction with its count, "" if there is none.
        num_training: training clips of the class, None if unknown.
    """

    class_id: int
    name: str
    num_clips: int
    score: float
    num_correct: int = 0
    confused_with: str = ""
    num_training: int | None = None


def class_results(facts: RunFacts) -> list[ClassResult]:
    """Results of the validated classes, worst first; of equal scores the larger class first."""
    best, names = facts.best, facts.class_names()
    assert best is not None
    num_training = best["train_samples"] or [None] * len(names)
    wrong = most_confused(best["confusion"]) if not facts.multi_label else {}
    correct = {t: count for t, p, count in best.get("confusion", ()) if t == p}
    results = []
    for k, num_clips in enumerate(best["samples"]):
        if not num_clips:
            continue
        num_correct, confused_with = correct.get(k, 0), ""
        score = best["average_precision"][k] if facts.multi_label else num_correct / num_clips
        if k in wrong:
            predicted, count = wrong[k]
            confused_with = f"{names[predicted]} ({count})"
        results.append(
            ClassResult(k, names[k], num_clips, score, num_correct, confused_with, num_training[k])
        )
    return sorted(results, key=lambda result: (result.score, -result.num_clips, result.class_id))


def most_confused(confusion: Sequence[list[int]]) -> dict[int, tuple[int, int]]:
    """{true class: (its most frequent wrong prediction, clips)}; of equal counts the lower id.

    Args:
        confusion: (true class, predicted class, clips) of every pair that occurs.
    """
    most: dict[int, tuple[int, int]] = {}
    for true, predicted, count in sorted(confusion):
        if true != predicted and count > most.get(true, (0, 0))[1]:
            most[true] = predicted, count
    return most


def confused_pairs(facts: RunFacts) -> list[tuple[str, str, int, float]]:
    """(true class, predicted class, clips, share of the true class), most frequent first."""
    assert facts.best is not None
    names, samples = facts.class_names(), facts.best["samples"]
    wrong = [cell for cell in facts.best["confusion"] if cell[0] != cell[1]]
    wrong.sort(key=lambda cell: -cell[2])
    return [
        (names[true], names[predicted], count, count / max(samples[true], 1))
        for true, predicted, count in wrong[:MAX_CONFUSIONS]
    ]


def remarks(facts: RunFacts) -> list[str]:
    """Sentences about what stands out in a run, and what may improve it."""
    sentences = learning_remarks(facts)
    share = waiting_share(facts.rows)
    if share is not None and share > SLOW_DATA:
        sentences.append(
            f"Training steps waited for data {share:.0%} of the time: "
            "increase DATASET.num_workers, or use smaller files."
        )
    if facts.best is None:
        sentences.append(
            "The folder has no best validation, so the report has no classes and no clips: "
            "train with --validate."
        )
        return sentences
    return [*sentences, *score_remarks(facts), *data_remarks(facts), *class_remarks(facts)]


def score_remarks(facts: RunFacts) -> Iterator[str]:
    """Remarks on training and validation scores."""
    best, rows, (key, _) = facts.best, facts.rows, facts.headline
    assert best is not None
    score = best["numbers"].get(key)
    training_scores = {row["epoch"] + 1: row.get(key) for row in rows["epoch"]}
    training_score = training_scores.get(best["epoch"])
    gap = 0 if training_score is None or score is None else training_score - score
    is_reported = not facts.multi_label and any(transfer_remarks(facts))
    if gap > OVERFIT and not is_reported:
        yield (
            f"In the best epoch the training score is {training_score:.3f} and the validation "
            f"score {score:.3f}: the model overfits."
        )
    last = max((row["epoch"] + 1 for row in rows["valid"]), default=0)
    if best["epoch"] == last and len(rows["valid"]) > 2 and (score or 0) < 0.999:
        yield "The last validation is the best: more epochs may improve the score."


def data_remarks(facts: RunFacts) -> Iterator[str]:
    """Remarks on the number of clips."""
    best = facts.best
    assert best is not None
    num_clips, num_failed = best["numbers"]["num_samples"], best["numbers"].get("num_failed")
    if 0 < num_clips < FEW_CLIPS:
        points = f"{100 / num_clips:.1f} points"
        yield f"There are only {num_clips} validation clips: one clip is {points} of accuracy."
    if num_failed:
        yield f"{num_failed} validation clips could not be decoded and count as wrong."
    counts = [count for count in best["train_samples"] or [] if count]
    if counts and max(counts) >= IMBALANCE * min(counts):
        yield f"The classes have between {min(counts)} and {max(counts)} training clips."


def class_remarks(facts: RunFacts) -> Iterator[str]:
    """A remark on the worst class."""
    results = class_results(facts)
    if facts.multi_label or len(results) < 2 or results[0].score == results[-1].score:
        return
    worst = results[0]
    confused = f", most often predicted as {worst.confused_with}" if worst.confused_with else ""
    counts = f"{worst.num_correct} of {worst.num_clips} clips correct"
    yield f"The worst class is {worst.name}: {counts}{confused}."
