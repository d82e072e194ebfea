"""The metrics of tagging: one video at a time, as in their definitions, or a batch at once."""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from paddlevideo.benchmarks.measure import Group, Variant, measure
from paddlevideo.metrics.multi_label import MultiLabelMetric

BATCH = 1024  # videos
TOP_K = 20  # classes of a video that count
LABELS = 3  # of a video, on average
MAX_COMPARED = 12_800  # videos for the slow variant

Batches = Iterator[tuple[np.ndarray, np.ndarray]]  # logits float32 [N, K], labels uint8 [N, K]
Score = Callable[[Batches], tuple[float, dict[str, float]]]  # -> CPU seconds, metrics


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py metrics."""
    return run(args.videos, args.classes, args.rounds)


def run(num_videos: int, num_classes: int, rounds: int) -> Iterator[Group]:
    """CPU seconds of the metrics alone, in one thread; the time to make scores does not count.

    Raises:
        ValueError: the two variants give different numbers.
    """
    count = min(MAX_COMPARED, num_videos)
    at_once = score_at_once(num_classes)
    slow, fast = (score(batches(count, num_classes))[1] for score in (score_one_by_one, at_once))
    differences = [
        f"{name} {slow[name]} and {fast[name]}"
        for name in slow
        if abs(slow[name] - fast[name]) > 1e-6 * abs(slow[name])
    ]
    if differences:
        text = ", ".join(differences)
        raise ValueError(f"metrics: one video at a time and all at once differ in {text}")
    scores = (("a video at a time", score_one_by_one), ("MultiLabelMetric", at_once))
    variants = [variant(name, score, count, num_classes) for name, score in scores]
    yield measure(_title(count, num_classes), "video", count, variants, rounds)
    if num_videos > count:
        variants = [variant("MultiLabelMetric", at_once, num_videos, num_classes)]
        yield measure(_title(num_videos, num_classes), "video", num_videos, variants, rounds)


def _title(num_videos: int, num_classes: int) -> str:
    return f"metrics of {num_videos} videos, {num_classes} classes"


def variant(name: str, score: Score, num_videos: int, num_classes: int) -> Variant:
    """A way to score as a variant."""
    last: dict[str, float] = {}

    def seconds() -> float:
        spent, numbers = score(batches(num_videos, num_classes))
        last.update(numbers)
        return spent

    def note(median: float) -> str:
        return f"{median:.2f} CPU-s in all, gap {last['gap']:.6f}, map {last['map']:.6f}"

    return Variant(name, seconds, note)


def batches(num_videos: int, num_classes: int) -> Batches:
    """Synthetic logits and labels; labels have higher logits, so no metric is 0 or 1."""
    rng = np.random.default_rng(0)
    noise = rng.normal(-7, 2, (BATCH, num_classes)).astype(np.float32)
    for start in range(0, num_videos, BATCH):
        count = min(BATCH, num_videos - start)
        labels = np.zeros((count, num_classes), np.uint8)
        number = rng.poisson(LABELS, count)
        labels[np.repeat(np.arange(count), number), rng.integers(0, num_classes, number.sum())] = 1
        # New noise for each batch would take longer than the metrics. Shifted and scaled noise
        # has no score twice either.
        shifted = np.roll(noise, rng.integers(num_classes), axis=1)[:count]
        logits = shifted * np.float32(rng.uniform(0.9, 1.1))
        logits[labels > 0] += 6
        yield logits, labels


def score_at_once(num_classes: int) -> Score:
    """The metric of this package."""

    def score(parts: Batches) -> tuple[float, dict[str, float]]:
        metric, spent = MultiLabelMetric(num_classes, TOP_K), 0.0
        for logits, labels in parts:
            start = time.process_time()
            metric.update(logits, {"label": labels})
            spent += time.process_time() - start
        start = time.process_time()
        numbers = metric.result(metric.state())
        spent += time.process_time() - start
        return spent, {k: value for k, value in numbers.items() if not k.startswith("num_")}

    return score


def score_one_by_one(parts: Batches) -> tuple[float, dict[str, float]]:
    """Hit@1, PERR, loss, GAP and MAP with Python loops over videos and over pooled pairs."""
    hits, precisions, losses, pairs, positives, spent = 0, [], [], [], defaultdict(int), 0.0
    for logits, labels in parts:
        start = time.process_time()
        for scores, own_labels in zip(logits, labels, strict=True):
            classes = np.flatnonzero(own_labels)
            top = np.argpartition(scores, -TOP_K)[-TOP_K:]
            hits += int(own_labels[scores.argmax()])
            best = []
            if len(classes):
                best = np.argpartition(scores, -len(classes))[-len(classes) :]
            precisions.append(own_labels[best].mean() if len(classes) else 0.0)
            softplus = np.logaddexp(0, scores.astype(np.float64)).sum()
            losses.append(softplus - scores[classes].sum(dtype=np.float64))
            pairs += [(float(scores[k]), int(k), int(own_labels[k])) for k in top]
            for k in classes.tolist():
                positives[k] += 1
        spent += time.process_time() - start
    start = time.process_time()
    gap, sums = average_precisions(pairs)
    videos = len(precisions)
    numbers = {
        "avg_hit_at_one": hits / videos,
        "avg_perr": np.mean(precisions),
        "avg_loss": np.mean(losses),
        "gap": gap / max(sum(positives.values()), 1),
    }
    if positives:
        numbers["map"] = np.mean([sums[k] / count for k, count in positives.items()])
    spent += time.process_time() - start
    return spent, {name: float(value) for name, value in numbers.items()}


def average_precisions(pairs: list[tuple[float, int, int]]) -> tuple[float, dict[int, float]]:
    """Sums of the precision at each hit: over all pairs, and over those of each class.

    Args:
        pairs: (score, class, whether it is a label of the video).
    """
    pairs.sort(reverse=True)
    total, num_hits = 0.0, 0
    class_rank, class_hits = defaultdict(int), defaultdict(int)
    sums: dict[int, float] = defaultdict(float)
    for rank, (_, k, hit) in enumerate(pairs, 1):
        class_rank[k] += 1
        if hit:
            num_hits, class_hits[k] = num_hits + 1, class_hits[k] + 1
            total += num_hits / rank
            sums[k] += class_hits[k] / class_rank[k]
    return total, sums
