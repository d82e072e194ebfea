"""Frozen first: fit the classifier to features of all training clips, before the first epoch.

With few clips, a logistic regression on the features of a pretrained network is hard to beat, and
takes seconds. Its accuracy comes from cross-validation: the clips of a source (a recording, see
tools/check_data.py) are predicted by a classifier that has not seen that source.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo import dist
from paddlevideo.config.schema import Config, ConfigError, Frozen
from paddlevideo.config.shipped import typed
from paddlevideo.data.folds import folds_of
from paddlevideo.engine.classes import Classes
from paddlevideo.engine.clip_features import features_of
from paddlevideo.engine.linear_fit import (
    Fitter,
    Linear,
    Validated,
    best_of,
    cross_validate,
    with_views,
)
from paddlevideo.files import atomic_write, json_text
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.sample import Record

FILE = "frozen.json"
VERSION = 1


@dataclass(frozen=True)
class Groups:
    """What stays together in cross-validation.

    Args:
        names: the group of each clip.
        by_source: whether these are sources; else each clip is its own group.
    """

    names: Sequence[str]
    by_source: bool

    @property
    def count(self) -> int:
        return len(set(self.names))


def check_frozen(cfg: Config, model: Recognizer) -> None:
    """Check that FROZEN fits the model.

    Raises:
        ConfigError: the model has no linear classifier on one vector, or predicts several classes
            per video; a strength is not above 0.
    """
    spec, place = cfg.FROZEN, f"{cfg.origin.path}: FROZEN"
    assert spec is not None
    problems = []
    if not model.linear_layer:
        problems.append(
            f"{place} needs a model whose classifier is one linear layer on the features of a clip "
            f"(Recognizer2D), not {cfg.MODEL.name}; remove the section"
        )
    if model.multi_label:
        problems.append(f"{place} fits one class per video; remove it, or DATASET.multi_label")
    if not spec.strengths or not all(0 < value < np.inf for value in spec.strengths):
        problems.append(f"{place}.strengths is {spec.strengths}, expected numbers above 0")
    if problems:
        raise ConfigError(problems)


def fit_head(cfg: Config, model: Recognizer, records: Sequence[Record], classes: Classes) -> None:
    """Fit the classifier of a model to features of its training clips; log and write the result.

    Raises:
        ConfigError: FROZEN does not fit the model, or clips of fewer than two classes are left.
        DecodeError: a file failed, and `on_error: fail` is set.
    """
    check_frozen(cfg, model)
    assert cfg.FROZEN is not None
    begin = time.perf_counter()
    chosen = [i for i, record in enumerate(records) if record.label is not None]
    features, kept = features_of(cfg, model, records, chosen)  # [V, n, D]
    labels = np.array([records[i].label for i in kept], np.int64)
    if len(set(labels.tolist())) < 2:
        raise ConfigError([
            f"{cfg.origin.path}: FROZEN needs clips of at least two classes; "
            f"{len(kept)} clips of {len(set(labels.tolist()))} are left"
        ])  # fmt: skip
    seconds = time.perf_counter() - begin
    groups = groups_of([records[i] for i in kept])
    linear, result = fitted(cfg.FROZEN, features, labels, groups, classes.num)
    load_linear(model, linear)
    total = time.perf_counter() - begin
    content = {
        "version": VERSION,
        "clips": len(labels),
        "groups": groups.count,
        "by_source": groups.by_source,
        "largest_class": max(Counter(labels.tolist()).values()) / len(labels),
        "strength": cfg.FROZEN.strengths[0] if result is None else result.strength,
        "feature_seconds": round(seconds, 3),
        "seconds": round(total, 3),
    }
    if result is not None:
        accuracy = {"accuracy": result.right / len(labels), "loss": result.loss}
        content |= accuracy | {"fold_accuracies": result.accuracies}
    for line in result_lines(content):
        logger.info(line)
    if dist.is_main():
        with atomic_write(Path(cfg.folder) / FILE) as temporary:
            temporary.write_text(json_text(content), encoding="utf-8")


def groups_of(records: Sequence[Record]) -> Groups:
    """The sources of clips, where the list of the training names them and there are several."""
    sources = [record.source for record in records]
    if all(sources) and len(set(sources)) > 1:
        return Groups([str(source) for source in sources], True)
    return Groups([f"{r.location} {r.start_sec} {r.end_sec}" for r in records], False)


def fitted(
    spec: Frozen, features: np.ndarray, labels: np.ndarray, groups: Groups, num_classes: int
) -> tuple[Linear, Validated | None]:
    """The classifier of all clips, and the cross-validation that chose its strength.

    Args:
        features: float32 [V, n, D].
        labels: int64 [n].

    Returns:
        None in place of a cross-validation of a single group; the first strength is used then.
    """
    folds = folds_of(groups.names, labels, spec.folds)
    best = None
    if folds.max() > 0:
        best = best_of(cross_validate(features, labels, folds, spec.strengths, num_classes))
    strength = spec.strengths[0] if best is None else best.strength
    return Fitter(*with_views(features, labels), num_classes).fit(strength), best


def load_linear(model: Recognizer, linear: Linear) -> None:
    """Copy a fitted classifier into the model."""
    tensors = model.state_dict()
    for name, array in (("weight", linear.weight), ("bias", linear.bias)):
        tensors[f"{model.linear_layer}.{name}"].set_value(array.astype(np.float32))


def result_lines(content: dict[str, Any]) -> list[str]:
    """What the fit reached, for the log."""
    clips, groups = content["clips"], content["groups"]
    times = f"{content['feature_seconds']:.1f} s for features, {content['seconds']:.1f} s in all"
    fit = f"L2 strength {content['strength']:g}; {times}"
    if "accuracy" not in content:
        return [f"frozen features: fitted to {clips} clips without cross-validation; {fit}"]
    percent = 100 * np.array(content["fold_accuracies"])
    over = f"{groups} sources" if content["by_source"] else f"{groups} clips"
    lines = [
        f"frozen features: {100 * content['accuracy']:.1f} % of {clips} clips right in "
        f"{len(percent)}-fold cross-validation over {over} (folds {percent.min():.0f} to "
        f"{percent.max():.0f} %, standard deviation {percent.std():.1f}; always the largest class: "
        f"{100 * content['largest_class']:.1f} %); {fit}"
    ]
    if not content["by_source"]:
        lines.append(
            "the training list names no sources, so clips of one recording may be on both sides "
            "of a fold and the accuracy may be too high; "
            f"{typed('tools/check_data.py', 'check-data')} writes sources"
        )
    return lines
