"""Late fusion: align score files, sum their scores with coefficients, find good coefficients.

Accuracy is computed as in MMAction2's report_accuracy.py, also where `recognition.py` differs:
- Among equal scores the highest class id ranks first for top-k; the lowest is the prediction for
  the mean class accuracy.
- The mean class accuracy includes, with 0, a class that is predicted but is never a label.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddlevideo.metrics.scores import label_ranks

MAX_SHOWN = 5  # ids in a message
BLOCK = 1 << 20  # scores that are compared at once
SUFFIX = re.compile(r"\.(?:[A-Za-z][A-Za-z0-9]{1,4}|3gp|3GP)$")
MIN_WIDTH = 1e-9  # narrower ranges of a coefficient are rounding errors

VideoList = tuple[str, list[str], np.ndarray]  # (name, ids, labels int64 [N])


class FusionError(ValueError):
    """Score files that do not fit together."""


@dataclass(frozen=True)
class Scores:
    """The scores of one model for some videos.

    Args:
        name: for messages, usually the path of the file.
        values: float [N, K]; a row of NaN is a video without scores.
        ids: of the videos, None if only their order is known.
        labels: int64 [N], -1 where unknown; None if all are unknown.
        class_names: K of them, None if unknown.
    """

    name: str
    values: np.ndarray
    ids: list[str] | None = None
    labels: np.ndarray | None = None
    class_names: list[str] | None = None


@dataclass(frozen=True)
class Aligned:
    """The scores of several modalities for the same videos, in the same order.

    Args:
        ids: of the videos.
        labels: int64 [N], -1 where unknown.
        values: float [N, K] of each modality.
    """

    ids: list[str]
    labels: np.ndarray
    values: list[np.ndarray]


# --- alignment --------------------------------------------------------------------------------


def align(
    files: Sequence[Scores], listed: VideoList | None = None, need_labels: bool = True
) -> Aligned:
    """Bring the rows of all files into one order: that of the list, or else of the first file.

    Rows are matched by id. Where the ids of files differ only in the suffix (a.mp4, a.npy, a),
    they are matched without it.

    Args:
        listed: name, ids and labels of a list of the videos. A file without ids has its order.
        need_labels: whether at least one video must have a label.

    Raises:
        FusionError: classes, videos or labels differ, ids are missing or not unique, or a label is
            needed and no video has one; the message names files and ids.
    """
    first = files[0]
    for file in files[1:]:
        _check_same_classes(first, file)
    if listed is None:
        for file in files:
            if file.ids is None:
                raise FusionError(
                    f"{file.name} has rows of scores without ids; give the list of its videos "
                    "with --datalist"
                )
        ids = first.ids or []
        listed = (first.name, ids, np.full(len(ids), -1))
    source, ids, labels = listed
    _check_unique(source, ids)
    for file in files:
        _check_unique(file.name, file.ids or [])

    values = []
    for file in files:
        order = _order(file, source, ids)
        values.append(file.values[order])
        if file.labels is not None:
            labels = _joined_labels(labels, file.labels[order], ids, file.name)
    num_classes = first.values.shape[1]
    invalid = np.flatnonzero((labels < -1) | (labels >= num_classes))
    if len(invalid):
        raise FusionError(
            f"the label of {ids[invalid[0]]!r} is {labels[invalid[0]]}, but the scores are for "
            f"classes 0 to {num_classes - 1}"
        )
    if need_labels and not (labels >= 0).any():
        raise FusionError(
            f"no video of {source} has a label, so there is no accuracy; give a list with labels "
            "as --datalist, or only --out and --coefficients to write the fused scores"
        )
    return Aligned(list(ids), labels, values)


def without_suffix(video: str) -> str:
    """An id without the suffix of a file: "archery/7.mp4" -> "archery/7"."""
    return SUFFIX.sub("", video)


def _check_same_classes(first: Scores, file: Scores) -> None:
    num_classes, other = first.values.shape[1], file.values.shape[1]
    if num_classes != other:
        raise FusionError(
            f"{first.name} has scores of {num_classes} classes, but {file.name} of {other}; "
            "only models with the same classes can be fused"
        )
    if first.class_names and file.class_names:
        names = zip(first.class_names, file.class_names, strict=True)
        for class_id, (name, other_name) in enumerate(names):
            if name != other_name:
                raise FusionError(
                    f"class {class_id} is {name!r} in {first.name}, but {other_name!r} in "
                    f"{file.name}"
                )


def _check_unique(name: str, ids: Sequence[str]) -> None:
    repeated = [video for video, count in Counter(ids).items() if count > 1]
    if repeated:
        raise FusionError(
            f"{name} has {_some(repeated)} more than once; ids must be unique to align scores"
        )


def _joined_labels(
    labels: np.ndarray, file_labels: np.ndarray, ids: Sequence[str], name: str
) -> np.ndarray:
    """`labels`, with those of a file where they are unknown."""
    differ = np.flatnonzero((file_labels >= 0) & (labels >= 0) & (file_labels != labels))
    if len(differ):
        i = differ[0]
        raise FusionError(
            f"the label of {ids[i]!r} is {file_labels[i]} in {name}, but {labels[i]} in the list "
            "or an earlier file"
        )
    return np.where(labels >= 0, labels, file_labels)


def _order(file: Scores, source: str, ids: list[str]) -> np.ndarray:
    """The rows of `file` in the order of `ids`, which come from `source`."""
    if file.ids is None:
        if len(file.values) != len(ids):
            raise FusionError(
                f"{file.name} has {len(file.values)} rows, but {source} has {len(ids)} videos; "
                "both must have the same videos"
            )
        return np.arange(len(ids))
    row_of = {video: row for row, video in enumerate(file.ids)}
    if row_of.keys() != set(ids):
        # One model reads a.mp4, another its features in a.npy, and a list may contain `a`.
        stems = {without_suffix(video): row for video, row in row_of.items()}
        wanted = [without_suffix(video) for video in ids]
        all_unique = len(stems) == len(row_of) and len(set(wanted)) == len(ids)
        if all_unique and stems.keys() == set(wanted):
            return np.array([stems[stem] for stem in wanted])
    missing = [video for video in ids if video not in row_of]
    known = set(ids)
    extra = [video for video in file.ids if video not in known]
    if missing or extra:
        parts = [f"{_some(missing)} of {source} not in {file.name}"] if missing else []
        parts += [f"{_some(extra)} of {file.name} not in {source}"] if extra else []
        raise FusionError(
            f"the videos differ: {'; '.join(parts)}. Score the same videos with every model"
        )
    return np.array([row_of[video] for video in ids])


def _some(ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - MAX_SHOWN} more" if len(ids) > MAX_SHOWN else ""
    return ", ".join(repr(video) for video in ids[:MAX_SHOWN]) + rest


# --- fusion and accuracy ----------------------------------------------------------------------


def fuse(values: Sequence[np.ndarray], coefficients: Sequence[float] | np.ndarray) -> np.ndarray:
    """The weighted sum of scores [N, K], float64; NaN where a modality has NaN.

    Raises:
        FusionError: the number of coefficients is wrong, one is not finite, or all are 0.
    """
    if len(coefficients) != len(values):
        raise FusionError(
            f"{len(coefficients)} coefficients for {len(values)} score files; give one for each"
        )
    if not np.isfinite(coefficients).all() or not np.any(coefficients):
        raise FusionError(
            f"coefficients {list(coefficients)}: expected finite numbers, not all of them 0"
        )
    fused = np.zeros(values[0].shape)
    for coefficient, scores in zip(coefficients, values, strict=True):
        fused += float(coefficient) * scores.astype(np.float64, copy=False)
    return fused


def accuracies(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`mean_class_accuracy`, `top1` and `top5` in [0, 1]; the module says how ties count.

    Args:
        values: [N, K]; a row with NaN is wrong.
        labels: int [N]; rows with -1 are not counted.
    """
    values, labels = values[labels >= 0], labels[labels >= 0]
    ranks = label_ranks(values, labels, first_of_ties="highest")
    scored = ~np.isnan(values).any(axis=1)
    num_classes = values.shape[1]
    predictions = values[scored].argmax(axis=1)
    samples = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(predictions[predictions == labels[scored]], minlength=num_classes)
    occurs = (samples > 0) | (np.bincount(predictions, minlength=num_classes) > 0)
    class_accuracies = hits[occurs] / np.maximum(samples[occurs], 1)
    return {
        "mean_class_accuracy": float(class_accuracies.mean()),
        "top1": float((ranks < 1).mean()),
        "top5": float((ranks < 5).mean()),
    }


def curve(
    values: Sequence[np.ndarray],
    labels: np.ndarray,
    coefficients: Sequence[float],
    modality: int,
    points: int = 101,
) -> dict[str, np.ndarray]:
    """Accuracy over the share of one modality, while the others keep their proportions.

    Returns:
        `share` [points] from 0 (without the modality) to 1 (the modality alone), and
        `mean_class_accuracy`, `top1`, `top5` [points].

    Raises:
        FusionError: the coefficients of the others add up to 0.
    """
    rest = [0.0 if m == modality else float(c) for m, c in enumerate(coefficients)]
    if sum(rest) == 0:
        raise FusionError("a curve needs another modality with a coefficient other than 0")
    others = fuse(values, np.divide(rest, sum(rest)))
    share = np.linspace(0, 1, points)
    rows = [accuracies((1 - w) * others + w * values[modality], labels) for w in share]
    return {"share": share} | {name: np.array([row[name] for row in rows]) for name in rows[0]}


# --- search for coefficients ------------------------------------------------------------------


def best_coefficients(values: Sequence[np.ndarray], labels: np.ndarray) -> list[float]:
    """Find coefficients of at least 0, with a sum of about 1, for the highest top-1 accuracy.

    For two modalities the search is exact. Along (1 - w) a + w b each label ranks first on one
    interval of w. The result is where most intervals overlap; among equal overlaps, the middle of
    the widest one.

    For more modalities, coordinate ascent repeats the exact search for each coefficient in turn,
    while the others keep their proportions, until none improves. It starts at equal coefficients
    and at each modality alone; the best end counts, which may not be the global optimum.

    The result is rounded to as few digits as keep the accuracy. The search draws no random numbers.

    Raises:
        FusionError: there are fewer than two modalities, or no labeled video has all scores.
    """
    if len(values) < 2:
        raise FusionError("a search for coefficients needs at least two score files")
    has_nan = np.any([np.isnan(scores).any(axis=1) for scores in values], axis=0)
    usable = (labels >= 0) & ~has_nan
    if not usable.any():
        raise FusionError(
            "a search for coefficients needs labeled videos with scores in every file; there are "
            "none"
        )
    values, labels = [scores[usable].astype(np.float64) for scores in values], labels[usable]
    num_modalities = len(values)

    def num_correct(coefficients: np.ndarray) -> int:
        ranks = label_ranks(fuse(values, coefficients), labels, first_of_ties="highest")
        return int((ranks == 0).sum())

    candidates = [np.full(num_modalities, 1 / num_modalities), *np.eye(num_modalities)]
    if num_modalities == 2:
        w = _best_share(values[0], values[1], labels)[0]
        candidates.insert(0, np.array([1 - w, w]))
    else:
        candidates = [_ascend(values, labels, start, num_correct(start)) for start in candidates]
    best = max(candidates, key=num_correct)  # among equal ones the first
    for digits in range(2, 12):
        rounded = best.round(digits)
        if rounded.any() and num_correct(rounded) == num_correct(best):
            return rounded.tolist()
    return best.tolist()


def _ascend(
    values: list[np.ndarray], labels: np.ndarray, start: np.ndarray, num_correct: int
) -> np.ndarray:
    """Coordinate ascent: coefficients that no change of a single one improves.

    Args:
        num_correct: labels that `start` gets right.
    """
    best, improved = start, True
    while improved:
        improved = False
        for m in range(len(values)):
            alone = np.eye(len(values))[m]
            rest = best * (1 - alone)
            if not rest.any():
                continue
            rest = rest / rest.sum()
            w, hits = _best_share(fuse(values, rest), values[m], labels)
            if hits > num_correct:
                best, num_correct, improved = (1 - w) * rest + w * alone, hits, True
    return best


def _best_share(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """The w in (0, 1) at which (1 - w) a + w b gets the most labels right, and their number."""
    step = max(1, BLOCK // a.shape[1])
    blocks = [
        _intervals(a[i : i + step], b[i : i + step], labels[i : i + step])
        for i in range(0, len(labels), step)
    ]
    low, high = (np.sort(np.concatenate(ends)) for ends in zip(*blocks, strict=True))
    edges = np.unique(np.concatenate([[0.0, 1.0], low, high]))
    # Intervals that contain each range between two edges: those begun minus those ended.
    begun = np.searchsorted(low, edges[:-1], side="right")
    ended = np.searchsorted(high, edges[:-1], side="right")
    widths = np.diff(edges)
    overlaps = np.where(widths > MIN_WIDTH, begun - ended, -1)
    best = int(np.where(overlaps == overlaps.max(), widths, -1).argmax())
    return float(edges[best] + edges[best + 1]) / 2, int(overlaps[best])


def _intervals(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of w between which each label ranks first; labels that never do are omitted."""
    own = labels[:, None]
    lead_a, lead_b = (np.take_along_axis(v, own, axis=1) - v for v in (a, b))
    # The highest of equal classes ranks first, so a tie with a lower class is no obstacle.
    tied = (lead_a == 0) & (lead_b == 0) & (np.arange(a.shape[1]) <= own)
    never = ((lead_a <= 0) & (lead_b <= 0) & ~tied).any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = lead_a / (lead_a - lead_b)
    low = np.where((lead_a < 0) & (lead_b > 0), crossing, 0).max(axis=1)
    high = np.where((lead_a > 0) & (lead_b < 0), crossing, 1).min(axis=1)
    exists = ~never & (low < high)
    return low[exists], high[exists]
