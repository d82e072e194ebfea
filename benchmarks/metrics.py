"""The metrics of tagging: a video at a time as their definitions read, and the whole batch at once; then a data set's worth."""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import Group, Variant, measure
from paddlevideo.metrics.multi_label import MultiLabelMetric

BATCH, TOP_K, LABELS = (
    1024,
    20,
    3,
)  # videos, classes of each that are kept, labels of each on average
FEW = 12_800  # videos that the slow way is given, too
Score = Callable[[Iterator[tuple[np.ndarray, np.ndarray]]], tuple[float, dict[str, float]]]


def run(num_videos: int, num_classes: int, rounds: int) -> Iterator[Group]:
    """CPU seconds in the metric alone, which is one thread; making scores is not counted.

    Raises:
        ValueError: the two ways give different numbers.
    """
    few = min(FEW, num_videos)
    slow, fast = (way(batches(few, num_classes))[1] for way in (one_by_one, at_once(num_classes)))
    differ = [
        f"{name} {slow[name]} and {fast[name]}"
        for name in slow
        if abs(slow[name] - fast[name]) > 1e-6 * abs(slow[name])
    ]
    if differ:
        raise ValueError(f"metrics: a video at a time and at once differ in {', '.join(differ)}")
    ways = (("a video at a time", one_by_one), ("MultiLabelMetric", at_once(num_classes)))
    compared = [variant(name, way, few, num_classes) for name, way in ways]
    yield measure(f"metrics of {few} videos, {num_classes} classes", "video", few, compared, rounds)
    if num_videos > few:
        whole = [variant("MultiLabelMetric", at_once(num_classes), num_videos, num_classes)]
        yield measure(
            f"metrics of {num_videos} videos, {num_classes} classes",
            "video",
            num_videos,
            whole,
            rounds,
        )


def variant(name: str, way: Score, num_videos: int, num_classes: int) -> Variant:
    last: dict[str, float] = {}

    def seconds() -> float:
        spent, numbers = way(batches(num_videos, num_classes))
        last.update(numbers)
        return spent

    return Variant(
        name,
        seconds,
        lambda median: f"{median:.2f} CPU-s in all, gap {last['gap']:.6f}, map {last['map']:.6f}",
    )


def batches(num_videos: int, num_classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Made-up logits float32 [N, K] and labels uint8 [N, K]; labels stand out, so that the metrics are neither 0 nor 1."""
    rng = np.random.default_rng(0)
    noise = rng.normal(-7, 2, (BATCH, num_classes)).astype(np.float32)
    for start in range(0, num_videos, BATCH):
        count = min(BATCH, num_videos - start)
        labels = np.zeros((count, num_classes), np.uint8)
        number = rng.poisson(LABELS, count)
        labels[np.repeat(np.arange(count), number), rng.integers(0, num_classes, number.sum())] = 1
        # The same noise every time, but no score twice: drawing all of it anew would take longer than the metric.
        logits = np.roll(noise, rng.integers(num_classes), axis=1)[:count] * np.float32(
            rng.uniform(0.9, 1.1)
        )
        logits[labels > 0] += 6
        yield logits, labels


def at_once(num_classes: int) -> Score:
    def score(parts):
        metric, spent = MultiLabelMetric(num_classes, TOP_K), 0.0
        for logits, labels in parts:
            start = time.process_time()
            metric.update(logits, {"label": labels})
            spent += time.process_time() - start
        start = time.process_time()
        numbers = metric.result(metric.state())
        spent += time.process_time() - start
        return spent, {
            name: value for name, value in numbers.items() if not name.startswith("num_")
        }

    return score


def one_by_one(parts) -> tuple[float, dict[str, float]]:
    """Hit@1, PERR, loss, GAP and MAP with a Python loop over videos and one over the pooled pairs."""
    hits, precisions, losses, pairs, positives, spent = 0, [], [], [], defaultdict(int), 0.0
    for logits, labels in parts:
        start = time.process_time()
        for row, own in zip(logits, labels, strict=True):
            wanted = np.flatnonzero(own)
            top = np.argpartition(row, -TOP_K)[-TOP_K:]
            hits += int(own[row.argmax()])
            first = np.argpartition(row, -len(wanted))[-len(wanted) :] if len(wanted) else []
            precisions.append(own[first].mean() if len(wanted) else 0.0)
            losses.append(
                np.logaddexp(0, row.astype(np.float64)).sum() - row[wanted].sum(dtype=np.float64)
            )
            pairs += [(float(row[k]), int(k), int(own[k])) for k in top]
            for k in wanted.tolist():
                positives[k] += 1
        spent += time.process_time() - start
    start = time.process_time()
    pairs.sort(reverse=True)
    found, total, rank_of, found_of, sums = (
        0,
        0.0,
        defaultdict(int),
        defaultdict(int),
        defaultdict(float),
    )
    for rank, (_, k, hit) in enumerate(pairs, 1):
        rank_of[k] += 1
        if hit:
            found, found_of[k] = found + 1, found_of[k] + 1
            total += found / rank
            sums[k] += found_of[k] / rank_of[k]
    videos = len(precisions)
    numbers = {"avg_hit_at_one": hits / videos, "avg_perr": np.mean(precisions), "avg_loss": np.mean(losses),
               "gap": total / max(sum(positives.values()), 1)}  # fmt: skip
    if positives:
        numbers["map"] = np.mean([sums[k] / count for k, count in positives.items()])
    return spent + time.process_time() - start, {
        name: float(value) for name, value in numbers.items()
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=int, default=1_100_000)
    parser.add_argument("--classes", type=int, default=3862)


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    return run(args.videos, args.classes, args.rounds)
