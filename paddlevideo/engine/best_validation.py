"""Write what the best validation of a run found to `valid_best.json`, for the report.

The file does not grow with the data: it holds counts per class, and the NUM_HARDEST clips with the
largest loss, each with its TOP_K best classes. `main.py --test --out` writes the scores of every
video.
"""

import heapq
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from paddlevideo.engine.evaluate import Evaluation, Scored, cross_entropy_of
from paddlevideo.files import atomic_write, json_text
from paddlevideo.metrics.scores import best_classes, softmax
from paddlevideo.sample import Record

# The same as in report/run_facts.py, which reads the file.
FILE = "valid_best.json"
VERSION = 1
NUM_HARDEST = 200  # clips
TOP_K = 5  # classes per clip

# (loss, -index in the list, row of the file): the largest item is the hardest clip.
HeapItem = tuple[float, int, dict[str, Any]]


class HardestClips:
    """Collects the clips with the largest loss; of equal losses the earlier in the list.

    Args:
        size: how many are kept.

    Attributes:
        rows: of all ranks after `merge`, largest loss first; see `clip_row`.
    """

    def __init__(self, size: int = NUM_HARDEST):
        self.size = size
        self.rows: list[dict[str, Any]] = []
        self._heap: list[HeapItem] = []

    def add(self, scored: Scored) -> None:
        if not scored.labeled:
            return
        loss = cross_entropy_of(scored.logits, scored.target)
        key = (math.inf if math.isnan(loss) else loss, -scored.index)
        if len(self._heap) < self.size or key > self._heap[0][:2]:
            push = heapq.heappush if len(self._heap) < self.size else heapq.heapreplace
            push(self._heap, (*key, clip_row(scored, loss)))

    def add_failure(self, record: Record, index: int, reason: str) -> None:
        """A record without scores has no loss."""

    def state(self) -> list[HeapItem]:
        return self._heap

    def merge(self, states: Sequence[list[HeapItem]]) -> None:
        items = (item for heap in states for item in heap)
        self.rows = [row for *_, row in heapq.nlargest(self.size, items, key=lambda i: i[:2])]


def clip_row(scored: Scored, loss: float) -> dict[str, Any]:
    """Return a row of the file: record, labels, best classes with probabilities, loss."""
    multi_label = np.ndim(scored.target) > 0
    logits = scored.logits.astype(np.float64)
    with np.errstate(all="ignore"):  # values that are not finite are written as null
        probabilities = expit(logits) if multi_label else softmax(logits)
    best = best_classes(logits, TOP_K)
    labels = np.flatnonzero(scored.target > 0) if multi_label else np.array([int(scored.target)])
    return {
        **record_fields(scored.record),
        "id": scored.name or scored.record.id,
        "labels": labels.tolist(),
        "label_scores": [finite(probabilities[k]) for k in labels],
        "classes": best.tolist(),
        "scores": [finite(probabilities[k]) for k in best],
        "loss": finite(loss),
    }


def record_fields(record: Record) -> dict[str, Any]:
    """The fields of a record from which its frames can be read again."""
    return {
        key: value
        for key, value in vars(record).items()
        if value not in (None, "") and key not in ("label", "labels", "source")
    }


def finite(value: Any) -> float | None:
    """Six significant digits; None if the value is not finite, because JSON has no NaN."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def write_best_validation(
    folder: Path,
    epoch: int,
    result: Evaluation,
    hardest: Sequence[Mapping[str, Any]],
    class_names: Sequence[str] | None,
    records: Sequence[Record],
) -> None:
    """Write `<folder>/valid_best.json`, completely or not at all.

    Args:
        epoch: epochs done, from 1.
        hardest: rows of `HardestClips`.
        records: of the training, counted per class where they know their classes; those of shards
            do not.
    """
    by_class: Mapping[str, Any] = result.by_class()
    num_classes = len(by_class["samples"])
    numbers = {k: finite(v) if isinstance(v, float) else v for k, v in result.numbers.items()}
    failures = result.failures[:NUM_HARDEST]
    content = {
        "version": VERSION,
        "epoch": epoch,
        "headline": result.headline,
        "numbers": numbers,
        "class_names": class_names,
        "train_samples": count_labels(records, num_classes),
        **by_class,
        "worst": hardest,
        "failures": [{"path": failure.path, "reason": failure.reason} for failure in failures],
        "working_folder": os.getcwd(),
    }
    with atomic_write(folder / FILE) as temporary:
        temporary.write_text(json_text(content), encoding="utf-8")


def count_labels(records: Sequence[Record], num_classes: int) -> list[int] | None:
    """Training records of each class; None where the records do not know their classes."""
    if not isinstance(records, list):  # shards: labels are inside the files
        return None
    labels = [label for record in records for label in (record.labels or (record.label,))]
    known = [label for label in labels if label is not None and label >= 0]
    return np.bincount(known, minlength=num_classes).tolist() if known else None
