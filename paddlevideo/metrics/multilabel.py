"""Metrics of videos that have any number of labels: Hit@1, PERR, GAP and MAP as YouTube-8M defines them, and the loss.

Source of the definitions: google/youtube-8m, eval_util.py. Two things are settled here that it leaves open:
- Of equal scores within a video the lower class id stands first.
- Equal scores of different videos have no order; one made up would depend on how videos are dealt out to batches and ranks.
  Average precision is therefore its mean over all orders of what is equal.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from paddlevideo.config.registry import register

State = dict[str, np.ndarray]
_INSIDE = "the data set and the test loop decide it"
_IGNORED = {
    "data_size": _INSIDE,
    "batch_size": _INSIDE,
    "log_interval": "progress is the test loop's",
}

BLOCK = (
    1 << 18
)  # scores that are worked on at once: they and what is made of them stay in a core's cache
# A pair is one integer, class, falling score, hit: sorted as they are, classes lie together, best scores first.
CLASS_BIT, SCORE_BITS, HIT = np.uint64(33), np.uint64(0xFFFFFFFF), np.uint64(1)


@register("metric")
@register("metric", "HitOneMetric", ignores=_IGNORED | {"num_class": "the model decides it"})
class MultiLabelMetric:
    """Hit@1, precision at equal recall rate, global average precision, mean average precision and the average loss.

    A video without labels counts in the averages, with nothing right. What is kept of a video is `top_k` pairs of 8 bytes, its
    loss and its precision: 172 MB for a million videos at 20.

    Args:
        num_classes: K.
        top_k: how many of a video's best classes take part in `gap` and `map`; 20 in YouTube-8M. None takes all K, which
            makes `map` the mean average precision usual elsewhere, and takes 8 K bytes a video.
        best_by: the number that says which model is the best of a training.

    Attributes:
        headline: that number, and what it is called.
    """

    multi_label = True

    def __init__(
        self, num_classes: int, top_k: int | None = 20, best_by: Literal["gap", "map"] = "gap"
    ):
        self.headline = (best_by, {"gap": "GAP", "map": "mAP"}[best_by])
        if num_classes < 1 or (top_k is not None and top_k < 1):
            raise ValueError(
                f"METRIC: num_classes is {num_classes} and top_k {top_k}; they must be at least 1"
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
            "pairs": [np.zeros(0, np.uint64)], "precisions": [np.zeros(0)], "losses": [np.zeros(0, np.float32)],
        }  # fmt: skip

    def update(self, scores: np.ndarray | None, batch: Mapping[str, np.ndarray]) -> None:
        """Count a batch.

        Args:
            scores: float [N, K], logits; they are compared as float32. A row with a NaN, or None for all rows, is a sample that
                gave no scores: it is counted, with nothing right, and its labels are not found.
            batch: `label` [N, K] of 0 and 1 in any type, a row of -1 where unknown, absent where all are: only counted as
                unlabelled; and, where there is padding, `weight` [N]: 0 for a row that must not count, else 1.

        Raises:
            ValueError: shapes do not fit `num_classes`, or labels are neither 0 nor 1.
        """
        labels = batch.get(
            "label",
            None if scores is None else np.full((len(scores), self.num_classes), -1, np.int8),
        )
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.shape[1] != self.num_classes:
            raise ValueError(
                f"metric: labels are {list(labels.shape)}, expected [N, {self.num_classes} classes] of 0 and 1"
            )
        if scores is not None:
            scores = np.asarray(scores, np.float32)
            if scores.shape != labels.shape:
                raise ValueError(
                    f"metric: scores are {list(scores.shape)}, but labels {list(labels.shape)}"
                )
        counted = np.asarray(batch.get("weight", np.ones(len(labels)))).reshape(-1) > 0
        known = counted & (labels[:, 0] >= 0)
        self._counts["unlabelled"] += np.count_nonzero(counted & ~known)
        rows = np.flatnonzero(known)
        step = max(1, BLOCK // self.num_classes)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            if len(part) == part[-1] - part[0] + 1:
                part = slice(part[0], part[-1] + 1)  # spares a copy
            self._count(None if scores is None else scores[part], labels[part])

    def _count(self, scores: np.ndarray | None, labels: np.ndarray) -> None:
        """Count some labelled rows; first what holds without scores."""
        places = np.flatnonzero(labels != 0)
        wrong = places[labels.reshape(-1)[places] != 1]
        if len(wrong):
            row, number = divmod(int(wrong[0]), self.num_classes)
            raise ValueError(
                f"metric: the label of class {number} is {labels[row, number]}; expected 0 or 1, or -1 in a whole row "
                "where the labels are unknown"
            )
        self._counts["samples"] += len(labels)
        self._positives += np.bincount(places % self.num_classes, minlength=self.num_classes)
        if scores is None:
            scores = np.full(labels.shape, np.nan, np.float32)
        threshold = np.partition(scores, -self.top_k, axis=1)[
            :, -self.top_k :
        ]  # NaN comes last, as if it were largest
        failed = np.isnan(threshold).any(axis=1)
        if failed.any():
            self._counts["failed"] += np.count_nonzero(failed)
            self._rows["precisions"].append(np.zeros(np.count_nonzero(failed)))
            scores, labels, threshold = scores[~failed], labels[~failed], threshold[~failed]
            places = np.flatnonzero(labels != 0)
        if len(scores):
            self._score(scores, labels, places, threshold[:, :1])

    def _score(
        self, scores: np.ndarray, labels: np.ndarray, places: np.ndarray, threshold: np.ndarray
    ) -> None:
        """Score rows that hold no NaN; `places` are those of the labels in them, `threshold` [N, 1] the score at `top_k`."""
        rows = places // self.num_classes
        top = _top_classes(scores, self.top_k, threshold)
        best = np.take_along_axis(scores, top, axis=1)
        hits = np.take_along_axis(labels, top, axis=1) != 0
        self._counts["hits_at_one"] += np.count_nonzero(hits[:, 0])
        self._rows["pairs"].append(_pack(top, best, hits).reshape(-1))
        self._rows["losses"].append(_losses(scores, places))

        # PERR: as many classes as there are labels; a label of probability 0 is not found.
        number = np.bincount(rows, minlength=len(scores))
        found = (hits & (best > -np.inf)).cumsum(axis=1)[
            np.arange(len(hits)), np.clip(number, 1, self.top_k) - 1
        ]
        for row in np.flatnonzero(number > self.top_k):
            first = np.argsort(-scores[row], kind="stable")[: number[row]]
            found[row] = np.count_nonzero(labels[row, first] * (scores[row, first] > -np.inf))
        self._rows["precisions"].append(np.where(number > 0, found / np.maximum(number, 1), 0.0))

    def state(self) -> State:
        """What was counted, as arrays; `merge` joins those of several ranks.

        `samples`, `failed`, `unlabelled`, `hits_at_one`: float64 scalars; `positives` float64 [K]: labels of each class;
        `pairs` uint64 [samples x top_k]: class, score and hit, packed; `precisions` float64 [samples]; `losses` float32
        [samples that gave scores].
        """
        for name, parts in self._rows.items():
            self._rows[name] = [np.concatenate(parts)]
        rows = {name: parts[0] for name, parts in self._rows.items()}
        return (
            {name: count.copy() for name, count in self._counts.items()}
            | {"positives": self._positives.copy()}
            | rows
        )

    @staticmethod
    def merge(states: Sequence[State]) -> State:
        """One state of those of all ranks: counts are added, rows are put behind each other."""
        return {
            name: np.concatenate([s[name] for s in states])
            if name in ("pairs", "precisions", "losses")
            else np.sum([s[name] for s in states], axis=0)
            for name in states[0]
        }

    def by_class(self, state: Mapping[str, np.ndarray]) -> dict[str, list]:
        """Of each class, as plain lists [K]: `samples`, videos that have it, and `average_precision`."""
        each = average_precisions(np.sort(state["pairs"]), state["positives"])
        return {
            "samples": state["positives"].astype(int).tolist(),
            "average_precision": each.round(6).tolist(),
        }

    def result(self, state: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The numbers of a state, merged over ranks or not; the same bits, however the videos were dealt out.

        Returns:
            `avg_hit_at_one`, `avg_perr`, `avg_loss` (sum over classes of the sigmoid cross-entropy, mean over the videos that
            gave scores), `gap`, and `map` over the classes that have a label, where there are such; `num_samples` labelled,
            `num_failed` of them without scores, `num_unlabelled`.
        """
        total, numbers = float(state["samples"]), {}
        if total:
            numbers["avg_hit_at_one"] = float(state["hits_at_one"] / total)
            numbers["avg_perr"] = float(np.sort(state["precisions"]).sum() / total)
            if len(state["losses"]):
                numbers["avg_loss"] = float(np.sort(state["losses"]).mean(dtype=np.float64))
            positives, pairs = state["positives"], np.sort(state["pairs"])
            each = average_precisions(pairs, positives)
            pairs &= (HIT << CLASS_BIT) - HIT  # without their class all are one list
            pairs.sort()
            numbers["gap"] = float(average_precisions(pairs, positives.sum(keepdims=True))[0])
            if positives.any():
                numbers["map"] = float(each[positives > 0].mean())
        counts = {
            "num_samples": total,
            "num_failed": state["failed"],
            "num_unlabelled": state["unlabelled"],
        }
        return numbers | {name: int(count) for name, count in counts.items()}


def average_precisions(pairs: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Average precision of each class: the precision at the rank of each hit, summed, by the number of its labels.

    Equal scores of a class count with the mean over all their orders: of n pairs with p hits, each place holds a hit with
    probability p / n, and then (p - 1) / (n - 1) of a hit on average at each place of them before it.

    Args:
        pairs: packed, sorted.
        positives: labels of each class [K]; those beyond a video's best classes count as not found.

    Returns:
        float64 [K], 0 for a class without labels.
    """
    places = np.flatnonzero((pairs & HIT).astype(bool))
    groups, hits = np.unique(
        pairs[places] >> HIT, return_counts=True
    )  # equal scores of one class with a hit among them
    start = np.searchsorted(pairs, groups << HIT)
    size = np.searchsorted(pairs, groups << HIT | HIT, side="right") - start
    classes = groups >> (CLASS_BIT - HIT)
    begin = np.searchsorted(pairs, classes << CLASS_BIT)
    hits_before = np.searchsorted(places, start) - np.searchsorted(places, begin)

    group = np.repeat(np.arange(len(groups)), size)
    place = np.arange(len(group)) - np.repeat(
        np.cumsum(size) - size, size
    )  # 0, 1, ... within a group
    among = place * ((hits - 1) / np.maximum(size - 1, 1))[group]
    precision = (hits_before[group] + 1 + among) / ((start - begin)[group] + 1 + place)
    sums = np.bincount(
        classes.astype(np.int64)[group], (hits / size)[group] * precision, minlength=len(positives)
    )
    return sums / np.maximum(positives, 1)


def _top_classes(scores: np.ndarray, k: int, threshold: np.ndarray) -> np.ndarray:
    """The k best classes of each row, best first, of equal scores the lower class; `threshold` [N, 1] is the k-th score."""
    chosen = scores >= threshold
    several = np.count_nonzero(chosen, axis=1) > k
    if several.any():  # more classes than places have the last score
        above, tied = scores[several] > threshold[several], scores[several] == threshold[several]
        left = k - np.count_nonzero(above, axis=1, keepdims=True)
        chosen[several] = above | (tied & (tied.cumsum(axis=1) <= left))
    classes = (np.flatnonzero(chosen) % scores.shape[1]).reshape(-1, k)
    order = np.argsort(-np.take_along_axis(scores, classes, axis=1), axis=1, kind="stable")
    return np.take_along_axis(classes, order, axis=1)


def _pack(classes: np.ndarray, scores: np.ndarray, hits: np.ndarray) -> np.ndarray:
    bits = (scores + np.float32(0)).view(np.uint32)  # the sum makes 0 of -0
    falling = np.where(
        bits >> 31, bits, ~bits & 0x7FFFFFFF
    )  # as unsigned numbers, the largest score first
    return classes.astype(np.uint64) << CLASS_BIT | falling.astype(np.uint64) << HIT | hits


def _losses(logits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sigmoid cross-entropy of each row, summed over classes: log(1 + exp(x)), of a label log(1 + exp(-x))."""
    losses = np.abs(logits)
    np.log1p(np.exp(np.negative(losses, out=losses), out=losses), out=losses)
    losses += np.maximum(logits, 0)
    own = logits.reshape(-1)[places]
    losses.reshape(-1)[places] = np.log1p(np.exp(-np.abs(own))) + np.maximum(-own, 0)
    return losses.sum(axis=1)
