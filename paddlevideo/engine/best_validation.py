"""What the best validation of a run found, class by class and of its worst clips, for a report: `valid_best.json`.

Its size does not grow with the data: counts of classes, and the NUM_HARDEST clips with their TOP classes. The scores of every video
are what `main.py --test --out` writes.
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

FILE = "valid_best.json"
VERSION = 1
NUM_HARDEST = 200  # clips
TOP = 5  # classes of each


class HardestClips:
    """The clips of the largest loss among those that were offered; of equal ones the earlier in the list.

    Args:
        size: how many are kept, 0 keeps none.
    """

    def __init__(self, size: int):
        self.size = size
        self.heap: list[tuple[float, int, dict[str, Any]]] = []

    def offer(
        self,
        record: Record,
        name: str,
        place: int,
        target: np.ndarray,
        logits: np.ndarray,
        loss: float,
    ) -> None:
        """A clip of the list's `place` with the logits [K]; `target` is its class, or [K] of 0 and 1 where it may have several.

        `name`: the id that came with its data, "" where only the record has one.
        """
        key = (math.inf if math.isnan(loss) else loss, -place)
        if self.size and (len(self.heap) < self.size or key > self.heap[0][:2]):
            push = heapq.heappush if len(self.heap) < self.size else heapq.heapreplace
            push(self.heap, (*key, clip_row(record, name, target, logits, loss)))

    def rows(self, others: list[list[tuple[float, int, dict[str, Any]]]]) -> list[dict[str, Any]]:
        """Those of all ranks, worst first."""
        return [
            row
            for *_, row in heapq.nlargest(
                self.size, (item for heap in others for item in heap), key=lambda i: i[:2]
            )
        ]


def cross_entropy_of(logits: np.ndarray, target: np.ndarray) -> float:
    """Of one clip; logits [K], `target` its class, or [K] of 0 and 1: then summed over the classes."""
    if np.ndim(target):
        return float(np.logaddexp(0, logits).sum() - logits[target > 0].sum())
    return float(np.logaddexp.reduce(logits) - logits[target])


def clip_row(
    record: Record, name: str, target: np.ndarray, logits: np.ndarray, loss: float
) -> dict[str, Any]:
    """What is kept of a clip: where it is, its labels, its best classes with their probabilities, its loss."""
    several = np.ndim(target) > 0
    logits = logits.astype(np.float64)
    with np.errstate(all="ignore"):  # what is not finite is told as such
        chances = expit(logits) if several else np.exp(logits - np.logaddexp.reduce(logits))
    best = np.argsort(-logits, kind="stable")[:TOP]
    labels = np.flatnonzero(target > 0) if several else np.array([int(target)])
    return {
        **where(record),
        "id": name or record.id,
        "labels": labels.tolist(),
        "label_scores": [finite(chances[k]) for k in labels],
        "classes": best.tolist(),
        "scores": [finite(chances[k]) for k in best],
        "loss": finite(loss),
    }


def where(record: Record) -> dict[str, Any]:
    """The parts of a record by which its pictures are found again."""
    return {
        key: value
        for key, value in vars(record).items()
        if value not in (None, "") and key not in ("label", "labels")
    }


def finite(value: Any) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def write_best_validation(
    folder: Path, epoch: int, result: Any, class_names: list[str] | None, records: Sequence[Record]
) -> None:
    """Write `<folder>/valid_best.json`, whole or not at all.

    Args:
        epoch: epochs done, from 1.
        result: the `Evaluation`.
        records: of the training, counted where they know their classes; shards do not, and have too many to be asked.
    """
    by_class: Mapping[str, Any] = result.by_class()
    listed = records if isinstance(records, list) else []
    known = [
        k
        for record in listed
        for k in (record.labels or (-1 if record.label is None else record.label,))
        if k >= 0
    ]
    content = {
        "version": VERSION,
        "epoch": epoch,
        "headline": result.headline,
        "numbers": {
            key: finite(value) if isinstance(value, float) else value
            for key, value in result.numbers.items()
        },
        "class_names": class_names,
        "train_samples": np.bincount(known, minlength=len(by_class["samples"])).tolist()
        if known
        else None,
        **by_class,
        "worst": result.worst,
        "failures": [
            {"path": failure.path, "reason": failure.reason}
            for failure in result.failures[:NUM_HARDEST]
        ],
        "working_folder": os.getcwd(),
    }
    with atomic_write(folder / FILE) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
