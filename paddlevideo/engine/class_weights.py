"""Unbalanced classes: weight their losses, or draw all classes equally often."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from paddlevideo.config.registry import nearest
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.datasets import DatasetError, RecordList
from paddlevideo.engine.finetune import is_factor
from paddlevideo.log import logger


def training_records(cfg: Config, records: RecordList) -> RecordList:
    """The training records with the order that DATASET asks for: `sampling`, `min_epoch_clips`.

    Raises:
        ConfigError: classes cannot be balanced, because a record has no single class; or shards
            shall be repeated.
    """
    smallest = cfg.DATASET.min_epoch_clips
    if smallest is not None and len(records.records) < smallest:
        if not isinstance(records.records, list):
            raise ConfigError([
                f"{cfg.origin.path}: DATASET.min_epoch_clips does not repeat shards; remove it"
            ])  # fmt: skip
        records = replace(records, repeats=math.ceil(smallest / len(records.records)))
        logger.info(
            f"an epoch draws each of {len(records.records)} training records {records.repeats} "
            f"times (DATASET.min_epoch_clips: {smallest})"
        )
    if cfg.DATASET.sampling == "shuffled":
        return records
    if any(record.label is None for record in records.records):
        raise ConfigError([
            f"{cfg.origin.path}: DATASET.sampling: class_balanced needs one class for each record; "
            "use LOSS.class_weights for multi-label data"
        ])  # fmt: skip
    return replace(records, balanced=True)


def class_weights(
    cfg: Config,
    records: Sequence,
    num_classes: int,
    names: Sequence[str] | None,
    multi_label: bool,
) -> np.ndarray | None:
    """Factors on the loss of each class from LOSS.class_weights, float32 [num_classes], or None.

    `balanced` is N / (K n) for a class with n of N records, K being the classes with records, so
    that the mean factor of a record is 1. For multi-label data it is (N - n) / n: the videos with
    a class weigh as much as those without it.

    Raises:
        ConfigError: the number of factors is not the number of classes, a name is unknown, or a
            factor is not above 0.
    """
    given, place = cfg.LOSS.class_weights, f"{cfg.origin.path}: LOSS.class_weights"
    if given is None:
        return None
    if given == "balanced":
        return balanced_weights(records, num_classes, multi_label)
    if isinstance(given, list):
        if len(given) != num_classes:
            raise ConfigError(
                [f"{place} has {len(given)} numbers, there are {num_classes} classes"]
            )
        by_id = dict(enumerate(given))
    else:
        by_id = _by_id(given, names or [str(number) for number in range(num_classes)], place)
    wrong = [
        f"{place}: {factor!r} of class {number}, expected a number above 0"
        for number, factor in by_id.items()
        if not is_factor(factor)
    ]
    if wrong:
        raise ConfigError(wrong)
    return np.array([by_id.get(number, 1.0) for number in range(num_classes)], np.float32)


def _by_id(given: Mapping, names: Sequence[str], place: str) -> dict[int, float]:
    """{class id: factor} from {class name: factor}."""
    ids = {name: number for number, name in enumerate(names)}
    by_name = {str(name): factor for name, factor in given.items()}
    unknown = [
        f"{place}: there is no class {name!r}{nearest(name, list(ids)[:1000])}"
        for name in by_name
        if name not in ids
    ]
    if unknown:
        raise ConfigError(unknown)
    return {ids[name]: factor for name, factor in by_name.items()}


def balanced_weights(records: Sequence, num_classes: int, multi_label: bool) -> np.ndarray:
    """The `balanced` factors of `class_weights`.

    They are 1 for a class without records, and for one that all multi-label videos have.

    Raises:
        DatasetError: labels are unknown before the data is read, as in shards.
    """
    labels = [record.labels if multi_label else (record.label,) for record in records]
    if any(each is None or None in each for each in labels):
        raise DatasetError(
            "LOSS.class_weights: balanced: the labels are inside the data's files; "
            "list one factor per class instead"
        )
    flat = [label for each in labels for label in each]
    counts = np.bincount(flat, minlength=num_classes).astype(np.float64)
    if multi_label:
        weights = (len(records) - counts) / np.maximum(counts, 1)
    else:
        weights = len(records) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where((counts > 0) & (weights > 0), weights, 1.0).astype(np.float32)
