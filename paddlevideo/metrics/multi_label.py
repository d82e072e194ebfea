"""Metrics of multi-label videos: Hit@1, PERR, GAP and mAP as YouTube-8M defines them, and the loss.

Source of the definitions: google/youtube-8m, eval_util.py. It leaves two things open:
- Equal scores within a video: the lower class id ranks first (`metrics/scores.py`).
- Equal scores of different videos have no order, and a random one would depend on how batches and
  ranks divide the videos. Average precision is therefore its mean over all orders of equal scores.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.metrics.recognition import IGNORED_KEYS
from paddlevideo.metrics.scores import best_classes

State = dict[str, np.ndarray]

# Scores that are processed at once: they and the arrays made from them fit a core's cache.
BLOCK = 1 << 18
# A pair is one integer: class, inverted score, hit. Sorted integers group the classes, and within
# a class the best scores come first.
CLASS_BIT, HIT = np.uint64(33), np.uint64(1)
HIT_BITS = (HIT << CLASS_BIT) - HIT  # all bits below the class


@register("metric")
@register("metric", "HitOneMetric", ignores=IGNORED_KEYS | {"num_class": "the model decides it"})
class MultiLabelMetric:
    """Hit@1, precision at equal recall rate, global and mean average precision, and the loss.

    A video without labels counts in the averages as entirely wrong. The metric keeps `top_k` pairs
    of 8 bytes, the loss and the precision of each video: 172 MB for a million videos at 20.

    Args:
        num_classes: K.
        top_k: number of a video's best classes that enter `gap` and `map`; 20 in YouTube-8M. None
            uses all K, which makes `map` the mean average precision usual elsewhere, and needs
            8 K bytes per video.
        best_by: the number that decides which model of a training is the best.

    Attributes:
        headline: that number, and its name for people.
    """

    multi_label = True

    def __init__(
        self, num_classes: int, top_k: int | None = 20, best_by: Literal["gap", "map"] = "gap"
    ):
        self.headline = (best_by, {"gap": "GAP", "map": "mAP"}[best_by])
        if num_classes < 1 or (top_k is not None and top_k < 1):
            raise ValueError(
                f"METRIC: num_classes is {num_classes} and top_k is {top_k}; "
                "both must be at least 1"
            )
        self.num_classes = num_classes
        self.top_k = min(top_k or num_classes, num_classes)
        self.reset()

    def reset(self) -> None:
        self._counts = {
            name: np.zeros(()) for name in ("samples", "failed", "unlabelled", "hits_at_one")
        }
        self._positives = np.zeros(self.num_classes)
        self._rows: dict[str, list[np.ndarray]] = {
            "pairs": [np.zeros(0, np.uint64)],
            "precisions": [np.zeros(0)],
            "losses": [np.zeros(0, np.float32)],
        }

    def update(self, scores: np.ndarray | None, batch: Mapping[str, np.ndarray]) -> None:
        """Count a batch.

        Args:
            scores: float [N, K], logits; compared as float32. A row with a NaN, or None for all
                rows, is a sample without scores: it counts as entirely wrong.
            batch: `label` [N, K] of 0 and 1 in any type; a row of -1, or no `label`, is only
                counted as unlabeled. `weight` [N] if the batch is padded: 0 for a row that does
                not count, else 1.

        Raises:
            ValueError: shapes do not fit `num_classes`, or a label is neither 0 nor 1.
        """
        if "label" not in batch and scores is not None:
            labels = np.full((len(scores), self.num_classes), -1, np.int8)
        else:
            labels = np.asarray(batch.get("label"))
        if labels.ndim != 2 or labels.shape[1] != self.num_classes:
            raise ValueError(
                f"metric: labels are {list(labels.shape)}, expected "
                f"[N, {self.num_classes} classes] of 0 and 1"
            )
        if scores is not None:
            scores = np.asarray(scores, np.float32)
            if scores.shape != labels.shape:
                raise ValueError(
                    f"metric: scores are {list(scores.shape)}, but labels are {list(labels.shape)}"
                )
        counted = np.asarray(batch.get("weight", np.ones(len(labels)))).reshape(-1) > 0
        labeled = counted & (labels[:, 0] >= 0)
        self._counts["unlabelled"] += np.count_nonzero(counted & ~labeled)
        rows = np.flatnonzero(labeled)
        step = max(1, BLOCK // self.num_classes)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            if len(part) == part[-1] - part[0] + 1:
                part = slice(part[0], part[-1] + 1)  # a slice needs no copy
            self._count(None if scores is None else scores[part], labels[part])

    def _count(self, scores: np.ndarray | None, labels: np.ndarray) -> None:
        """Count labeled rows: check and count the labels, then separate rows without scores."""
        label_indices = np.flatnonzero(labels != 0)  # in the flattened [N, K]
        invalid = label_indices[labels.reshape(-1)[label_indices] != 1]
        if len(invalid):
            row, class_id = divmod(int(invalid[0]), self.num_classes)
            raise ValueError(
                f"metric: the label of class {class_id} is {labels[row, class_id]}; expected 0 or "
                "1, or -1 in the complete row if the labels are unknown"
            )
        self._counts["samples"] += len(labels)
        classes = label_indices % self.num_classes
        self._positives += np.bincount(classes, minlength=self.num_classes)
        if scores is None:
            scores = np.full(labels.shape, np.nan, np.float32)
        # `partition` treats NaN as the largest value, so a NaN is always among the best.
        best = np.partition(scores, -self.top_k, axis=1)[:, -self.top_k :]
        failed = np.isnan(best).any(axis=1)
        if failed.any():
            num_failed = np.count_nonzero(failed)
            self._counts["failed"] += num_failed
            self._rows["precisions"].append(np.zeros(num_failed))
            scores, labels, best = scores[~failed], labels[~failed], best[~failed]
            label_indices = np.flatnonzero(labels != 0)
        if len(scores):
            self._score(scores, labels, label_indices, best[:, :1])

    def _score(
        self,
        scores: np.ndarray,
        labels: np.ndarray,
        label_indices: np.ndarray,
        threshold: np.ndarray,
    ) -> None:
        """Score rows without NaN.

        Args:
            label_indices: indices of the labels in the flattened [N, K].
            threshold: [N, 1], the `top_k`-th best score of each row.
        """
        top = _top_classes(scores, self.top_k, threshold)
        best = np.take_along_axis(scores, top, axis=1)
        hits = np.take_along_axis(labels, top, axis=1) != 0
        self._counts["hits_at_one"] += np.count_nonzero(hits[:, 0])
        self._rows["pairs"].append(_pack(top, best, hits).reshape(-1))
        self._rows["losses"].append(_losses(scores, label_indices))

        # PERR: precision among as many best classes as the video has labels. A label with
        # probability 0 is not found.
        num_labels = np.bincount(label_indices // self.num_classes, minlength=len(scores))
        last = np.clip(num_labels, 1, self.top_k) - 1
        found = (hits & (best > -np.inf)).cumsum(axis=1)[np.arange(len(hits)), last]
        for row in np.flatnonzero(num_labels > self.top_k):
            first = best_classes(scores[row], int(num_labels[row]))
            found[row] = np.count_nonzero(labels[row, first] * (scores[row, first] > -np.inf))
        precisions = np.where(num_labels > 0, found / np.maximum(num_labels, 1), 0.0)
        self._rows["precisions"].append(precisions)

    def state(self) -> State:
        """The counts as arrays; `merge` joins those of several ranks.

        `samples`, `failed`, `unlabelled`, `hits_at_one`: float64 scalars; `positives` float64 [K]:
        labels of each class; `pairs` uint64 [samples x top_k]: class, score and hit, packed;
        `precisions` float64 [samples]; `losses` float32 [samples with scores].
        """
        state: State = {name: count.copy() for name, count in self._counts.items()}
        state["positives"] = self._positives.copy()
        for name, parts in self._rows.items():
            self._rows[name] = [np.concatenate(parts)]
            state[name] = self._rows[name][0]
        return state

    @staticmethod
    def merge(states: Sequence[Mapping[str, np.ndarray]]) -> State:
        """Join the states of all ranks: add counts, concatenate rows."""
        merged = {}
        for name in states[0]:
            arrays = [state[name] for state in states]
            is_rows = name in ("pairs", "precisions", "losses")
            merged[name] = np.concatenate(arrays) if is_rows else np.sum(arrays, axis=0)
        return merged

    def by_class(self, state: Mapping[str, np.ndarray]) -> dict[str, list]:
        """Numbers of each class as plain lists.

        Returns:
            `samples` [K]: videos that have the class; `average_precision` [K].
        """
        precisions = average_precisions(np.sort(state["pairs"]), state["positives"])
        return {
            "samples": state["positives"].astype(int).tolist(),
            "average_precision": precisions.round(6).tolist(),
        }

    def result(self, state: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The numbers of a state, merged over ranks or not.

        They have the same bits for any division of the videos into batches and ranks.

        Returns:
            `avg_hit_at_one`, `avg_perr`, `gap`; `avg_loss`: sigmoid cross-entropy, summed over the
            classes, mean over the videos with scores; `map`: mean over the classes that have a
            label, missing if none has. `num_samples`: labeled videos; `num_failed`: those without
            scores; `num_unlabelled`.
        """
        total = float(state["samples"])
        numbers: dict[str, float] = {}
        if total:
            numbers["avg_hit_at_one"] = float(state["hits_at_one"] / total)
            # Sorted, so that the order of the videos does not change the rounding of the sum.
            numbers["avg_perr"] = float(np.sort(state["precisions"]).sum() / total)
            if len(state["losses"]):
                numbers["avg_loss"] = float(np.sort(state["losses"]).mean(dtype=np.float64))
            positives, pairs = state["positives"], np.sort(state["pairs"])
            class_precisions = average_precisions(pairs, positives)
            pairs &= HIT_BITS  # without their class, all pairs are one list
            pairs.sort()
            numbers["gap"] = float(average_precisions(pairs, positives.sum(keepdims=True))[0])
            if positives.any():
                numbers["map"] = float(class_precisions[positives > 0].mean())
        numbers["num_samples"] = int(total)
        numbers["num_failed"] = int(state["failed"])
        numbers["num_unlabelled"] = int(state["unlabelled"])
        return numbers


def average_precisions(pairs: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Average precision of each class: the sum of the precision at each hit, over its labels.

    Equal scores of a class count with the mean over all their orders. Of n pairs with p hits, each
    position holds a hit with probability p / n; then each position before it holds one of the other
    hits with probability (p - 1) / (n - 1).

    Args:
        pairs: packed and sorted.
        positives: labels of each class [K]; labels beyond a video's best classes are not found.

    Returns:
        float64 [K], 0 for a class without labels.
    """
    hit_indices = np.flatnonzero((pairs & HIT).astype(bool))
    # A group is the pairs of one class with one score, if a hit is among them.
    groups, hits = np.unique(pairs[hit_indices] >> HIT, return_counts=True)
    start = np.searchsorted(pairs, groups << HIT)
    size = np.searchsorted(pairs, groups << HIT | HIT, side="right") - start
    classes = groups >> (CLASS_BIT - HIT)
    class_start = np.searchsorted(pairs, classes << CLASS_BIT)
    hits_before = np.searchsorted(hit_indices, start) - np.searchsorted(hit_indices, class_start)

    # One entry per pair of a group.
    group = np.repeat(np.arange(len(groups)), size)
    position = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)  # from 0 per group
    hits_within = position * ((hits - 1) / np.maximum(size - 1, 1))[group]
    num_hits = hits_before[group] + 1 + hits_within
    precision = num_hits / ((start - class_start)[group] + 1 + position)
    sums = np.bincount(
        classes.astype(np.int64)[group], (hits / size)[group] * precision, minlength=len(positives)
    )
    return sums / np.maximum(positives, 1)


def _top_classes(scores: np.ndarray, k: int, threshold: np.ndarray) -> np.ndarray:
    """`best_classes` of each row without sorting complete rows, for k much smaller than K.

    Args:
        threshold: [N, 1], the k-th best score of each row.
    """
    chosen = scores >= threshold
    has_ties = np.count_nonzero(chosen, axis=1) > k  # more than k classes reach the threshold
    if has_ties.any():
        above = scores[has_ties] > threshold[has_ties]
        tied = scores[has_ties] == threshold[has_ties]
        left = k - np.count_nonzero(above, axis=1, keepdims=True)
        chosen[has_ties] = above | (tied & (tied.cumsum(axis=1) <= left))
    classes = (np.flatnonzero(chosen) % scores.shape[1]).reshape(-1, k)
    order = best_classes(np.take_along_axis(scores, classes, axis=1), k)
    return np.take_along_axis(classes, order, axis=1)


def _pack(classes: np.ndarray, scores: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Pairs as integers; see `CLASS_BIT`."""
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 turns -0 into 0
    # As unsigned integers, the largest score is the smallest number.
    inverted = np.where(bits >> 31, bits, ~bits & 0x7FFFFFFF)
    return classes.astype(np.uint64) << CLASS_BIT | inverted.astype(np.uint64) << HIT | hits


def _losses(logits: np.ndarray, label_indices: np.ndarray) -> np.ndarray:
    """Sigmoid cross-entropy of each row, summed over the classes.

    A class x without a label adds log(1 + exp(x)), a label log(1 + exp(-x)).
    """
    losses = np.abs(logits)
    np.log1p(np.exp(np.negative(losses, out=losses), out=losses), out=losses)
    losses += np.maximum(logits, 0)
    own = logits.reshape(-1)[label_indices]
    losses.reshape(-1)[label_indices] = np.log1p(np.exp(-np.abs(own))) + np.maximum(-own, 0)
    return losses.sum(axis=1)
