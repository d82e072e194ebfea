"""Accuracy of single-label recognition, exact on any number of ranks: counts are summed, division happens once."""

from collections.abc import Mapping, Sequence

import numpy as np

from paddlevideo.config.registry import register

_INSIDE = "the data set and the test loop decide it"
_IGNORED = {
    "data_size": _INSIDE,
    "batch_size": _INSIDE,
    "log_interval": "progress is the test loop's",
}
_VIEWS = "the views of a video are averaged before they are counted; PIPELINE.test or DATASET.test says how many there are"


def label_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the label; below k means a top-k hit.

    Of equal scores the lower class id stands first. A row that holds a NaN has no order: its rank is K, right for no k.

    Args:
        scores: float [N, K].
        labels: int [N], each in [0, K).

    Returns:
        int64 [N].
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    return np.where(np.isnan(scores).any(axis=1), scores.shape[1], ahead.sum(axis=1))


@register("metric", "CenterCropMetric", "TenCropMetric", ignores=_IGNORED)
@register(
    "metric",
    "MultiCropMetric",
    ignores=_IGNORED
    | dict.fromkeys(("num_ensemble_views", "num_spatial_crops"), _VIEWS)
    | {"num_cls": "the model decides it"},
)
class RecognitionMetric:
    """Top-k accuracy, and the mean over classes of each class's top-1 accuracy.

    The views of a video are averaged before they come here, so a centre crop and ten crops are the same to it.

    Args:
        num_classes: K.
        topk: which k to report; a k above K counts as K.
    """

    headline = (
        "top1",
        "top1 acc",
    )  # the number that says how good a model is, and what it is called
    multi_label = False

    def __init__(self, num_classes: int, topk: list[int] = (1, 5)):  # type: ignore[assignment]  # immutable default
        if num_classes < 1 or not topk or min(topk) < 1:
            raise ValueError(
                f"METRIC: num_classes is {num_classes} and topk {list(topk)}; they must be at least 1"
            )
        self.num_classes = num_classes
        self.topk = sorted({min(k, num_classes) for k in topk})
        self.reset()

    def reset(self) -> None:
        self._hits = np.zeros(len(self.topk))
        self._samples = np.zeros(self.num_classes)
        self._confusion = np.zeros((self.num_classes, self.num_classes))
        self._failed = np.zeros(())
        self._unlabelled = np.zeros(())

    def update(self, scores: np.ndarray | None, batch: Mapping[str, np.ndarray]) -> None:
        """Count a batch.

        Args:
            scores: float [N, K], logits or probabilities. A row with a NaN, or None for all rows, is a sample that gave no
                scores (a file that could not be decoded): it is counted, as wrong.
            batch: `label` int [N], -1 where unknown: only counted as unlabelled; and, where there is padding,
                `weight` [N]: 0 for a row that must not count, else 1.

        Raises:
            ValueError: shapes or labels do not fit `num_classes`.
        """
        labels = np.asarray(batch["label"]).reshape(-1).astype(np.int64)
        scores = (
            np.full((len(labels), self.num_classes), np.nan)
            if scores is None
            else np.asarray(scores)
        )
        if scores.shape != (len(labels), self.num_classes):
            raise ValueError(
                f"metric: scores are {list(scores.shape)}, expected [{len(labels)} labels, {self.num_classes} classes]"
            )
        counted = np.asarray(batch.get("weight", np.ones(len(labels)))).reshape(-1) > 0
        scores, labels = scores[counted], labels[counted]
        wrong = labels[(labels < -1) | (labels >= self.num_classes)]
        if len(wrong):
            raise ValueError(
                f"metric: label {wrong[0]} is not one of {self.num_classes} classes (0 to {self.num_classes - 1})"
            )
        known = labels >= 0
        self._unlabelled += np.count_nonzero(~known)
        scores, labels = scores[known], labels[known]

        ranks = label_ranks(scores, labels)
        self._hits += [np.count_nonzero(ranks < k) for k in self.topk]
        self._samples += np.bincount(labels, minlength=self.num_classes)
        answered = ~np.isnan(scores).any(axis=1)
        self._failed += np.count_nonzero(~answered)
        np.add.at(self._confusion, (labels[answered], scores[answered].argmax(axis=1)), 1)

    def state(self) -> dict[str, np.ndarray]:
        """Counts as float64 arrays; `merge` joins those of several ranks.

        `hits` [len(topk)]; `samples` [K] per true class; `confusion` [K, K] true x predicted, without failed samples;
        `failed` and `unlabelled`, scalars.
        """
        return {
            "hits": self._hits.copy(),
            "samples": self._samples.copy(),
            "confusion": self._confusion.copy(),
            "failed": self._failed.copy(),
            "unlabelled": self._unlabelled.copy(),
        }

    @staticmethod
    def merge(states: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """One state of those of all ranks: counts add up."""
        return {name: np.sum([state[name] for state in states], axis=0) for name in states[0]}

    def by_class(self, state: Mapping[str, np.ndarray]) -> dict[str, list]:
        """Of each class, as plain lists: `samples` [K] of each true class, those without scores among them; `confusion`, what
        is not 0: (true class, predicted class, how many)."""
        places = np.argwhere(state["confusion"])
        confusion = [
            [int(true), int(said), int(state["confusion"][true, said])] for true, said in places
        ]
        return {"samples": state["samples"].astype(int).tolist(), "confusion": confusion}

    def result(self, state: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The numbers of a state, merged over ranks or not.

        Returns:
            `top<k>` for each k and `mean_class_accuracy` over the classes that occur, as shares of 1 and only where a labelled
            sample was counted; `num_samples` labelled, `num_failed` of them without scores, `num_unlabelled`.
        """
        samples, total = state["samples"], float(state["samples"].sum())
        numbers = {}
        if total:
            numbers = {
                f"top{k}": float(hits / total)
                for k, hits in zip(self.topk, state["hits"], strict=True)
            }
            occurs = samples > 0
            numbers["mean_class_accuracy"] = float(
                (state["confusion"].diagonal()[occurs] / samples[occurs]).mean()
            )
        counts = {
            "num_samples": total,
            "num_failed": state["failed"],
            "num_unlabelled": state["unlabelled"],
        }
        return numbers | {name: int(count) for name, count in counts.items()}
