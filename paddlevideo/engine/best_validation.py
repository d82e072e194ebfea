"""Write what the best validation of a run found to `valid_best.json`, for the report.

The file does not grow with the data: it holds counts per class, and the NUM_HARDEST clips with the
largest loss, each with its TOP_K best classes. `main.py --test --out` writes the scores of every
video.
"""

import heapq
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from paddlevideo.files import atomic_write
from paddlevideo.sample import Record

# The same as in report/run_facts.py, which reads the file.
FILE = "valid_best.json"
VERSION = 1
NUM_HARDEST = 200  # clips
TOP_K = 5  # classes per clip

# (loss, -index in the list, row of the file): the largest item is the hardest clip.
HeapItem = tuple[float, int, dict[str, Any]]


class HardestClips:
    """Keep the clips with the largest loss; of equal losses, those that come first in the list.

    Args:
        size: how many clips are kept; 0 keeps none.
    """

    def __init__(self, size: int):
        self.size = size
        self.heap: list[HeapItem] = []

    def offer(
        self,
        record: Record,
        name: str,
        index: int,
        target: np.ndarray,
        logits: np.ndarray,
        loss: float,
    ) -> None:
        """Keep a clip if its loss is large enough.

        Args:
            name: id that came with the data, "" if only the record has one.
            index: index of the record in its list.
            target: class id, or multi-hot [K].
            logits: [K]
            loss: of this clip; NaN counts as infinite.
        """
        key = (math.inf if math.isnan(loss) else loss, -index)
        if len(self.heap) < self.size:
            heapq.heappush(self.heap, (*key, clip_row(record, name, target, logits, loss)))
        elif self.size and key > self.heap[0][:2]:
            heapq.heapreplace(self.heap, (*key, clip_row(record, name, target, logits, loss)))

    def rows(self, heaps: Sequence[Sequence[HeapItem]]) -> list[dict[str, Any]]:
        """Rows of the hardest clips of all ranks (`heaps`), hardest first."""
        items = [item for heap in heaps for item in heap]
        return [row for *_, row in heapq.nlargest(self.size, items, key=lambda item: item[:2])]


def cross_entropy_of(logits: np.ndarray, target: np.ndarray) -> float:
    """Cross-entropy of one clip: softmax for a class id, sigmoid summed over multi-hot targets.

    Args:
        logits: [K]
        target: class id, or multi-hot [K].
    """
    if np.ndim(target):
        return float(np.logaddexp(0, logits).sum() - logits[target > 0].sum())
    return float(np.logaddexp.reduce(logits) - logits[target])


def clip_row(
    record: Record, name: str, target: np.ndarray, logits: np.ndarray, loss: float
) -> dict[str, Any]:
    """Return a row of the file: the record, its labels, its best classes, its loss."""
    multi_label = np.ndim(target) > 0
    logits = logits.astype(np.float64)
    with np.errstate(all="ignore"):  # values that are not finite become null
        scores = expit(logits) if multi_label else np.exp(logits - np.logaddexp.reduce(logits))
    best = np.argsort(-logits, kind="stable")[:TOP_K]
    labels = np.flatnonzero(target > 0) if multi_label else np.array([int(target)])
    return {
        **record_fields(record),
        "id": name or record.id,
        "labels": labels.tolist(),
        "label_scores": [finite(scores[k]) for k in labels],
        "classes": best.tolist(),
        "scores": [finite(scores[k]) for k in best],
        "loss": finite(loss),
    }


def record_fields(record: Record) -> dict[str, Any]:
    """The fields of a record from which its frames can be read again."""
    return {
        key: value
        for key, value in vars(record).items()
        if value not in (None, "") and key not in ("label", "labels")
    }


def finite(value: Any) -> float | None:
    """Six significant digits; None if the value is not finite, because JSON has no NaN."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def write_best_validation(
    folder: Path, epoch: int, result: Any, class_names: list[str] | None, records: Sequence[Record]
) -> None:
    """Write `<folder>/valid_best.json`, completely or not at all.

    Args:
        epoch: number of epochs done.
        result: the `Evaluation`.
        records: training records. They are counted per class if they are a list; the labels of
            shards are not read.
    """
    by_class: Mapping[str, Any] = result.by_class()
    numbers = {
        key: finite(value) if isinstance(value, float) else value
        for key, value in result.numbers.items()
    }
    failures = [
        {"path": failure.path, "reason": failure.reason}
        for failure in result.failures[:NUM_HARDEST]
    ]
    content = {
        "version": VERSION,
        "epoch": epoch,
        "headline": result.headline,
        "numbers": numbers,
        "class_names": class_names,
        "train_samples": count_labels(records, len(by_class["samples"])),
        **by_class,
        "worst": result.worst,
        "failures": failures,
        "working_folder": os.getcwd(),
    }
    with atomic_write(folder / FILE) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def count_labels(records: Sequence[Record], num_classes: int) -> list[int] | None:
    """Records per class, None if no class is known or the records are not a list (shards)."""
    known: list[int] = []
    for record in records if isinstance(records, list) else ():
        if record.labels:
            known += [label for label in record.labels if label >= 0]
        elif record.label is not None and record.label >= 0:
            known.append(record.label)
    return np.bincount(known, minlength=num_classes).tolist() if known else None
