"""Accuracy of single-label recognition.

The metric counts; `merge` adds the counts of all ranks and `result` divides once, so the numbers
do not depend on batches and ranks.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.metrics.scores import label_ranks

# Keys of PaddleVideo's METRIC sections that have no effect here, and why.
IGNORED_KEYS = {
    "data_size": "the data set and the test loop decide it",
    "batch_size": "the data set and the test loop decide it",
    "log_interval": "progress is the test loop's",
}
_VIEWS = (
    "the views of a video are averaged before they are counted; "
    "PIPELINE.test or DATASET.test says how many there are"
)
_MULTI_CROP_KEYS = {
    **IGNORED_KEYS,
    "num_ensemble_views": _VIEWS,
    "num_spatial_crops": _VIEWS,
    "num_cls": "the model decides it",
}


@register("metric", "CenterCropMetric", "TenCropMetric", ignores=IGNORED_KEYS)
@register("metric", "MultiCropMetric", ignores=_MULTI_CROP_KEYS)
class RecognitionMetric:
    """Top-k accuracy, and the mean over classes of each class's top-1 accuracy.

    The test loop averages the views of a video first, so one crop and ten crops count alike. Of the
    confusion only the pairs that occur are kept, so memory is linear in classes and samples.

    Args:
        num_classes: K.
        topk: values of k to report; k above K counts as K.

    Attributes:
        headline: the number that decides which model is the best, and its name for people.
    """

    headline = ("top1", "top1 acc")
    multi_label = False

    # The hint is what a config may give; a tuple is a default that nobody can change.
    def __init__(self, num_classes: int, topk: list[int] = (1, 5)):  # type: ignore[assignment]
        if num_classes < 1 or not topk or min(topk) < 1:
            raise ValueError(
                f"METRIC: num_classes is {num_classes} and topk is {list(topk)}; "
                "all of them must be at least 1"
            )
        self.num_classes = num_classes
        self.topk = sorted({min(k, num_classes) for k in topk})
        self.reset()

    def reset(self) -> None:
        self._hits = np.zeros(len(self.topk))
        self._samples = np.zeros(self.num_classes)
        self._confusion: Counter[int] = Counter()  # true * K + predicted -> samples
        self._failed = np.zeros(())
        self._unlabelled = np.zeros(())

    def update(self, scores: np.ndarray | None, batch: Mapping[str, np.ndarray]) -> None:
        """Count a batch.

        Args:
            scores: float [N, K], logits or probabilities. A row with a NaN, or None for all rows,
                is a sample without scores, such as a file that cannot be decoded; it counts as
                wrong.
            batch: `label` int [N], -1 for an unknown label, which is only counted as unlabeled.
                `weight` [N] if the batch is padded: 0 for a row that does not count, else 1.

        Raises:
            ValueError: shapes or labels do not fit `num_classes`.
        """
        labels = np.asarray(batch["label"]).reshape(-1).astype(np.int64)
        if scores is None:
            scores = np.full((len(labels), self.num_classes), np.nan)
        scores = np.asarray(scores)
        if scores.shape != (len(labels), self.num_classes):
            raise ValueError(
                f"metric: scores are {list(scores.shape)}, expected "
                f"[{len(labels)} labels, {self.num_classes} classes]"
            )
        counted = np.asarray(batch.get("weight", np.ones(len(labels)))).reshape(-1) > 0
        scores, labels = scores[counted], labels[counted]
        invalid = labels[(labels < -1) | (labels >= self.num_classes)]
        if len(invalid):
            raise ValueError(
                f"metric: label {invalid[0]} is not one of {self.num_classes} classes "
                f"(0 to {self.num_classes - 1})"
            )
        labeled = labels >= 0
        self._unlabelled += np.count_nonzero(~labeled)
        scores, labels = scores[labeled], labels[labeled]

        ranks = label_ranks(scores, labels)
        self._hits += [np.count_nonzero(ranks < k) for k in self.topk]
        self._samples += np.bincount(labels, minlength=self.num_classes)
        scored = ~np.isnan(scores).any(axis=1)
        self._failed += np.count_nonzero(~scored)
        pairs = labels[scored] * self.num_classes + scores[scored].argmax(axis=1)
        self._confusion.update(pairs.tolist())

    def state(self) -> dict[str, np.ndarray]:
        """The counts as float64 arrays; `merge` joins those of several ranks.

        `hits` [len(topk)]; `samples` [K] per true class; `confusion` [P, 3], the (true class,
        predicted class, count) of every pair that occurs, sorted, without failed samples; `failed`
        and `unlabelled`, scalars.
        """
        pairs = sorted(self._confusion.items())
        rows = [(*divmod(pair, self.num_classes), count) for pair, count in pairs]
        return {
            "hits": self._hits.copy(),
            "samples": self._samples.copy(),
            "confusion": np.array(rows, np.float64).reshape(-1, 3),
            "failed": self._failed.copy(),
            "unlabelled": self._unlabelled.copy(),
        }

    @staticmethod
    def merge(states: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Add the states of all ranks."""
        merged = {
            name: np.sum([state[name] for state in states], axis=0)
            for name in states[0]
            if name != "confusion"
        }
        rows = np.concatenate([state["confusion"] for state in states])
        pairs, where = np.unique(rows[:, :2], axis=0, return_inverse=True)
        counts = np.zeros(len(pairs))
        np.add.at(counts, where.reshape(-1), rows[:, 2])
        return merged | {"confusion": np.column_stack([pairs, counts])}

    def by_class(self, state: Mapping[str, np.ndarray]) -> dict[str, list]:
        """Numbers of each class as plain lists.

        Returns:
            `samples` [K]: samples of each true class, including those without scores.
            `confusion`: (true class, predicted class, count) of every pair that occurs.
        """
        return {
            "samples": state["samples"].astype(int).tolist(),
            "confusion": state["confusion"].astype(int).tolist(),
        }

    def result(self, state: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The numbers of a state, merged over ranks or not.

        Returns:
            `top<k>` for each k, and `mean_class_accuracy` over the classes that occur, all in
            [0, 1]; missing if no labeled sample was counted. `num_samples`: labeled samples;
            `num_failed`: those without scores; `num_unlabelled`.
        """
        samples, total = state["samples"], float(state["samples"].sum())
        numbers: dict[str, float] = {}
        if total:
            for k, hits in zip(self.topk, state["hits"], strict=True):
                numbers[f"top{k}"] = float(hits / total)
            occurs = samples > 0
            pairs = state["confusion"]
            right = pairs[pairs[:, 0] == pairs[:, 1]]
            correct = np.zeros(len(samples))
            correct[right[:, 0].astype(int)] = right[:, 2]
            accuracies = correct[occurs] / samples[occurs]
            numbers["mean_class_accuracy"] = float(accuracies.mean())
        numbers["num_samples"] = int(total)
        numbers["num_failed"] = int(state["failed"])
        numbers["num_unlabelled"] = int(state["unlabelled"])
        return numbers
