"""Late fusion: the scores of several modalities as one weighted sum, its accuracy, and the coefficients that suit it best.

Accuracy is counted as in MMAction2's report_accuracy.py, also where that differs from `recognition.py`: of equal scores the
last class counts as best for top-k and the first for the mean over classes, and that mean takes in a class that was never a
label but was given as an answer, with 0.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_SHOWN = 5  # ids in a message
BLOCK = 1 << 20  # scores that are compared at once
SUFFIX = re.compile(r"\.(?:[A-Za-z][A-Za-z0-9]{1,4}|3gp|3GP)$")
NOWHERE = np.iinfo(np.int64).max
NARROW = 1e-9  # a stretch of coefficients below this is rounding


class FusionError(ValueError):
    """Score files that do not belong together."""


@dataclass(frozen=True)
class Scores:
    """What one model gave for some videos.

    Args:
        name: how messages call it, usually the file's path.
        values: float [N, K]; a row of NaN is a video that gave no scores.
        ids: of the videos, None where only their order is known.
        labels: int64 [N], -1 where unknown; None where none is known.
        class_names: K of them, where known.
    """

    name: str
    values: np.ndarray
    ids: list[str] | None = None
    labels: np.ndarray | None = None
    class_names: list[str] | None = None


@dataclass(frozen=True)
class Aligned:
    """The same videos in the same order: `ids`, `labels` int64 [N], -1 if unknown, `values` float [N, K] of each modality."""

    ids: list[str]
    labels: np.ndarray
    values: list[np.ndarray]


def align(
    files: Sequence[Scores], listed: tuple[str, list[str], np.ndarray] | None = None
) -> Aligned:
    """Bring the rows of all files into one order: that of the list, or of the first file.

    Rows are found by id; where ids differ by no more than a file's suffix (a.mp4, a.npy, a), without it.

    Args:
        listed: name, ids and labels of a list of the videos. A file without ids has its order.

    Raises:
        FusionError: classes, videos or labels differ, or there is no way to tell which row is which; ids are named.
    """
    first = files[0]
    for file in files[1:]:
        if file.values.shape[1] != first.values.shape[1]:
            raise FusionError(
                f"{first.name} has scores of {first.values.shape[1]} classes, {file.name} of {file.values.shape[1]}; "
                "only models of the same classes can be fused"
            )
        if first.class_names and file.class_names and first.class_names != file.class_names:
            places = range(len(first.class_names))
            k = next(
                k for k in places if file.class_names[k : k + 1] != first.class_names[k : k + 1]
            )
            raise FusionError(
                f"class {k} is {first.class_names[k]!r} in {first.name}, but another in {file.name}"
            )
    bare = next((file for file in files if file.ids is None), None)
    if bare and not listed:
        raise FusionError(
            f"{bare.name} holds rows of scores without ids; give the list of its videos with --datalist"
        )
    where, ids = (listed[0], listed[1]) if listed else (first.name, first.ids or [])
    labels = listed[2].copy() if listed else np.full(len(ids), -1)
    for name, own in [
        (where, ids),
        *((file.name, file.ids) for file in files if file.ids is not None),
    ]:
        twice = [video for video, count in Counter(own).items() if count > 1]
        if twice:
            raise FusionError(
                f"{name} holds {_some(twice)} more than once; ids must be unique to align scores by them"
            )
    values = []
    for file in files:
        order = _order(file, where, ids)
        values.append(file.values[order])
        if file.labels is not None:
            own = file.labels[order]
            differ = np.flatnonzero((own >= 0) & (labels >= 0) & (own != labels))
            if len(differ):
                i = differ[0]
                raise FusionError(
                    f"the label of {ids[i]!r} is {own[i]} in {file.name}, but {labels[i]} in what came before it"
                )
            labels = np.where(labels >= 0, labels, own)
    wrong = np.flatnonzero((labels < -1) | (labels >= first.values.shape[1]))
    if len(wrong):
        last = first.values.shape[1] - 1
        raise FusionError(
            f"the label of {ids[wrong[0]]!r} is {labels[wrong[0]]}, but the scores are of classes 0 to {last}"
        )
    if not (labels >= 0).any():
        raise FusionError(
            f"no video of {where} has a label, so that there is no accuracy; give a list with labels as --datalist"
        )
    return Aligned(list(ids), labels, values)


def _order(file: Scores, where: str, ids: list[str]) -> np.ndarray:
    """The rows of `file` in the order of `ids`."""
    if file.ids is None:
        if len(file.values) != len(ids):
            raise FusionError(
                f"{file.name} has {len(file.values)} rows, but {where} {len(ids)} videos; both must be of one list"
            )
        return np.arange(len(ids))
    row_of = {video: row for row, video in enumerate(file.ids)}
    if row_of.keys() != set(ids):
        # A video is a.mp4 to one model, its feature a.npy to the other, and `a` in a list of either.
        stems = {without_suffix(video): row for video, row in row_of.items()}
        wanted = [without_suffix(video) for video in ids]
        if (
            len(stems) == len(row_of)
            and len(set(wanted)) == len(ids)
            and stems.keys() == set(wanted)
        ):
            return np.array([stems[stem] for stem in wanted])
    missing = [video for video in ids if video not in row_of]
    listed = set(ids)
    extra = [video for video in file.ids if video not in listed]
    if missing or extra:
        parts = [f"{_some(missing)} of {where} not in {file.name}"] if missing else []
        parts += [f"{_some(extra)} of {file.name} not in {where}"] if extra else []
        raise FusionError(
            f"the videos differ: {'; '.join(parts)}. Score the same videos with every model"
        )
    return np.array([row_of[video] for video in ids])


def without_suffix(video: str) -> str:
    """An id without the suffix of a file: "archery/7.mp4" -> "archery/7"."""
    return SUFFIX.sub("", video)


def softmax(values: np.ndarray) -> np.ndarray:
    """Softmax of each row, in the precision of `values`."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fuse(values: Sequence[np.ndarray], coefficients: Sequence[float]) -> np.ndarray:
    """The weighted sum of scores [N, K], float64; NaN where one has none.

    Raises:
        FusionError: not one finite coefficient for each, or all of them 0.
    """
    if len(coefficients) != len(values):
        raise FusionError(
            f"{len(coefficients)} coefficients for {len(values)} score files; give one for each"
        )
    if not np.isfinite(coefficients).all() or not np.any(coefficients):
        raise FusionError(
            f"coefficients {list(coefficients)}: expected finite numbers, not all of them 0"
        )
    return sum(
        float(c) * v.astype(np.float64, copy=False)
        for c, v in zip(coefficients, values, strict=True)
    )


def label_ranks(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the label, int64 [N]; of equal scores the last class stands first.

    A row with a NaN has no order: its label is `NOWHERE`.
    """
    own = np.take_along_axis(values, labels[:, None], axis=1)
    ahead = (values > own) | ((values == own) & (np.arange(values.shape[1]) > labels[:, None]))
    return np.where(np.isnan(values).any(axis=1), NOWHERE, ahead.sum(axis=1))


def accuracies(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`mean_class_accuracy`, `top1` and `top5` as shares of 1; see the module for what equal scores count as.

    Args:
        values: [N, K]; a row with NaN is wrong.
        labels: int [N]; rows with -1 do not count.
    """
    values, labels = values[labels >= 0], labels[labels >= 0]
    places = label_ranks(values, labels)
    answered = ~np.isnan(values).any(axis=1)
    num_classes = values.shape[1]
    answers = values[answered].argmax(axis=1)
    samples = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(answers[answers == labels[answered]], minlength=num_classes)
    occurs = (samples > 0) | (np.bincount(answers, minlength=num_classes) > 0)
    shares = hits[occurs] / np.maximum(samples[occurs], 1)
    return {
        "mean_class_accuracy": float(shares.mean()),
        "top1": float((places < 1).mean()),
        "top5": float((places < 5).mean()),
    }


def best_coefficients(values: Sequence[np.ndarray], labels: np.ndarray) -> list[float]:
    """Coefficients of at least 0, together about 1, that get the most labels right (top 1).

    Of two modalities the search is exact. Along (1 - w) a + w b each label is right on one stretch of w, from one crossing of
    lines to another; where most stretches overlap is best, and of such ranges the middle of the widest is taken. Of more than
    two, each coefficient in turn is found in this way while the others keep their proportions, until none gains, from equal
    coefficients and from each modality alone; the best of these counts, which may be short of the very best. The result is
    rounded as far as it stays as good. Nothing is drawn by chance.

    Raises:
        FusionError: fewer than two modalities.
    """
    if len(values) < 2:
        raise FusionError("a search for coefficients needs at least two score files")
    usable = (labels >= 0) & ~np.any([np.isnan(v).any(axis=1) for v in values], axis=0)
    if not usable.any():
        raise FusionError(
            "a search for coefficients needs labelled videos that every score file has scores of; there is none"
        )
    values, labels = [v[usable].astype(np.float64) for v in values], labels[usable]
    count = len(values)

    def right(coefficients) -> int:
        return int((label_ranks(fuse(values, coefficients), labels) == 0).sum())

    found = [np.full(count, 1 / count), *np.eye(count)]
    if count == 2:
        w = _best_share(values[0], values[1], labels)[0]
        found.insert(0, np.array([1 - w, w]))
    else:
        found = [_climb(values, labels, start, right(start)) for start in found]
    best = max(found, key=right)  # of equal ones the first
    for digits in range(2, 12):
        rounded = best.round(digits)
        if rounded.any() and right(rounded) == right(best):
            return rounded.tolist()
    return best.tolist()


def _climb(
    values: list[np.ndarray], labels: np.ndarray, start: np.ndarray, reached: int
) -> np.ndarray:
    """Coefficients no single one of which can be changed for the better, from `start`, which gets `reached` labels right."""
    best, gained = start, True
    while gained:
        gained = False
        for m in range(len(values)):
            rest = np.where(np.arange(len(values)) == m, 0, best)
            if not rest.any():
                continue
            rest = rest / rest.sum()
            w, hits = _best_share(fuse(values, rest), values[m], labels)
            if hits > reached:
                best, reached, gained = (1 - w) * rest + w * np.eye(len(values))[m], hits, True
    return best


def _best_share(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """The w strictly between 0 and 1 for which (1 - w) a + w b gets the most labels right, and how many."""
    step = max(1, BLOCK // a.shape[1])
    parts = [
        _stretches(a[i : i + step], b[i : i + step], labels[i : i + step])
        for i in range(0, len(labels), step)
    ]
    low, high = (np.sort(np.concatenate(side)) for side in zip(*parts, strict=True))
    edges = np.unique(np.concatenate([[0.0, 1.0], low, high]))
    over = np.searchsorted(low, edges[:-1], side="right") - np.searchsorted(
        high, edges[:-1], side="right"
    )
    widths = np.diff(edges)
    over = np.where(widths > NARROW, over, -1)
    best = int(np.where(over == over.max(), widths, -1).argmax())
    return float(edges[best] + edges[best + 1]) / 2, int(over[best])


def _stretches(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each label is ahead of all other classes: from and to which w; rows where that is nowhere are left out."""
    own = labels[:, None]
    lead_a, lead_b = (np.take_along_axis(v, own, axis=1) - v for v in (a, b))
    equal = (
        (lead_a == 0) & (lead_b == 0) & (np.arange(a.shape[1]) <= own)
    )  # the last of equal ones is ahead, and itself
    never = ((lead_a <= 0) & (lead_b <= 0) & ~equal).any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = lead_a / (lead_a - lead_b)
    low = np.where((lead_a < 0) & (lead_b > 0), crossing, 0).max(axis=1)
    high = np.where((lead_a > 0) & (lead_b < 0), crossing, 1).min(axis=1)
    exists = ~never & (low < high)
    return low[exists], high[exists]


def curve(
    values: Sequence[np.ndarray],
    labels: np.ndarray,
    coefficients: Sequence[float],
    modality: int,
    points: int = 101,
) -> dict[str, np.ndarray]:
    """Accuracy over the share of one modality, from without it to it alone, while the others keep their proportions.

    Returns:
        `share` [points] from 0 to 1, and `mean_class_accuracy`, `top1`, `top5` [points].

    Raises:
        FusionError: the others have coefficients of sum 0.
    """
    rest = [0.0 if m == modality else float(c) for m, c in enumerate(coefficients)]
    if sum(rest) == 0:
        raise FusionError("a curve needs another modality whose coefficient is not 0")
    others, own = fuse(values, np.divide(rest, sum(rest))), values[modality]
    share = np.linspace(0, 1, points)
    rows = [accuracies((1 - w) * others + w * own, labels) for w in share]
    return {"share": share} | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _some(ids: list[str]) -> str:
    rest = f" and {len(ids) - MAX_SHOWN} more" if len(ids) > MAX_SHOWN else ""
    return ", ".join(repr(video) for video in ids[:MAX_SHOWN]) + rest
