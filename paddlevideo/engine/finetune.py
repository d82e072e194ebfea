"""A model that has learnt already goes on with other classes: what is loaded, what stays as it is, what counts more."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from paddlevideo import paddle_internals
from paddlevideo.config.registry import nearest
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.class_names import normalized_name
from paddlevideo.data.datasets import DatasetError, RecordList
from paddlevideo.models.base import Head, Recognizer
from paddlevideo.sample import Arrays
from paddlevideo.weights import Account, WeightsError, load_into

SHOWN = 5  # class names in a message


# --- weights of other classes ----------------------------------------------------------------------------------------


def load_weights(
    model: Recognizer,
    arrays: Arrays,
    path: str | Path,
    theirs: Sequence[str] | None,
    ours: Sequence[str] | None,
) -> list[str]:
    """Start a training from weights of a model: all tensors must fit, but for a classifier of other classes, which starts anew.

    With `keep_rows: by_name` in the head, the rows of classes that have the same name are kept.

    Args:
        arrays: of the file at `path`.
        theirs, ours: class names of the file and of the data, None where they are not known.

    Returns:
        what became of the tensors, in words.

    Raises:
        WeightsError: anything else does not fit; nothing was loaded.
    """
    told, anew, tensors = [], {}, model.state_dict()
    for place, head in classifiers(model).items():
        weight, bias = f"{place}.weight", f"{place}.bias"
        if (
            weight not in arrays
            or bias not in arrays
            or arrays[weight].shape[:1] != (tensors[weight].shape[0],)
        ):
            continue
        number = arrays[bias].size
        if theirs is not None and len(theirs) != number:
            raise WeightsError(
                f"{path}: {place} has {number} classes, and {len(theirs)} names are given for them"
            )
        if number == head.num_classes and (
            theirs is None or ours is None or list(theirs) == list(ours)
        ):
            continue
        kept = same_names(theirs, ours) if head.keep_rows == "by_name" else {}
        anew |= {weight: kept, bias: kept}
        told.append(about_classes(place, head, number, theirs, ours, kept))
    try:
        account = load_whole(model, arrays, str(path), anew)
    except WeightsError as error:
        if not any(name.startswith("backbone.") for name in arrays):
            raise WeightsError(
                f"{error}. Of a backbone alone: -o MODEL.backbone.pretrained={path} in place of -w"
            ) from None
        raise
    for name, rows in anew.items():
        tensor = tensors[name]
        values = tensor.numpy()
        for to, at in rows.items():
            values[..., to] = arrays[name][..., at]
        tensor.set_value(values)
    return [str(account), *told]


def classifiers(model: Recognizer) -> dict[str, Head]:
    """{name of each linear layer with a row of weights per class: the head that it belongs to}."""
    layers = model.named_sublayers(include_self=True)
    return {
        f"{name}.{layer.class_layer}": layer for name, layer in layers if isinstance(layer, Head)
    }


def same_names(theirs: Sequence[str] | None, ours: Sequence[str] | None) -> dict[int, int]:
    """Our class id -> theirs, of the classes that both have; capitals, spaces, hyphens and underscores may differ."""
    if theirs is None or ours is None:
        return {}
    ids = {normalized_name(name): place for place, name in enumerate(theirs)} | {
        name: place for place, name in enumerate(theirs)
    }
    found = {
        place: ids.get(name, ids.get(normalized_name(name))) for place, name in enumerate(ours)
    }
    return {place: at for place, at in found.items() if at is not None}


def about_classes(
    place: str, head: Head, number: int, theirs, ours, kept: Mapping[int, int]
) -> str:
    """Why a classifier starts anew, and what is kept of it."""
    text = f"{place} starts anew: {number} -> {head.num_classes} classes"
    if number == head.num_classes:
        text = f"{place} starts anew: {number} other classes ({some(theirs)} -> {some(ours)})"
    if head.keep_rows is None:
        return text
    if kept:
        return f"{text}; the rows of {len(kept)} of them are kept by name: {some([ours[place] for place in kept])}"
    hints = {
        "the file": "FINETUNE.class_names gives them",
        "the data": "DATASET.class_names gives them",
    }
    unknown = [which for which, names in zip(hints, (theirs, ours), strict=True) if names is None]
    why = (
        "; ".join(f"{which} has no class names ({hints[which]})" for which in unknown)
        or "no name is in both"
    )
    return f"{text}; no row is kept: {why}"


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def load_whole(model: Recognizer, arrays: Arrays, source: str, anew: Mapping) -> Account:
    """Load all tensors but those of `anew`, which are accounted for as of another shape, or of other classes."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    equal = [name for name in anew if arrays[name].shape == shapes[name]]
    left = {name: array for name, array in arrays.items() if name not in equal}
    account = load_into(
        model, left, source, excuse_missing="|".join(f"^{re.escape(name)}$" for name in anew)
    )
    return replace(
        account,
        reshaped=(*account.reshaped, *(f"{name} is of other classes" for name in equal)),
        missing=(),
    )


# --- what stays, what learns slower -------------------------------------------------------------------------------------


def apply_finetune(cfg: Config, model: Recognizer) -> str:
    """Freeze what FINETUNE.freeze names and slow down what FINETUNE.lr_mult names; what was done, in words.

    Parameters that are frozen get no gradient, and batch norms whose parameters are frozen normalise by their running
    statistics, in training too, and leave them as they are.

    Raises:
        ConfigError: a name fits no parameter, nothing is left to train, or a factor is not above 0.
    """
    spec, problems = cfg.FINETUNE, []
    stages, parameters = model.stages, dict(model.named_parameters())
    trained = {name: p for name, p in parameters.items() if not p.stop_gradient}

    def starts(key: str, word: str) -> tuple[str, ...]:
        found = stages.get(word, (word,))
        if not word or not any(name.startswith(found) for name in trained):
            there = [*stages, *sorted({name.rsplit(".", 1)[0] for name in trained})]
            problems.append(
                f"{cfg.origin.path}: FINETUNE.{key}: no parameter begins with {word!r}{nearest(word, there)[:300]}"
            )
        return found

    frozen = tuple(start for word in spec.freeze for start in starts("freeze", word))
    factors = {
        start: factor for word, factor in spec.lr_mult.items() for start in starts("lr_mult", word)
    }
    wrong = {word: factor for word, factor in spec.lr_mult.items() if not is_factor(factor)}
    problems += [
        f"{cfg.origin.path}: FINETUNE.lr_mult.{word} is {factor!r}, expected a number above 0; freeze stops a part altogether"
        for word, factor in wrong.items()
    ]
    still = [name for name in trained if name.startswith(frozen)] if frozen else []
    if frozen and len(still) == len(trained) and not problems:
        problems.append(f"{cfg.origin.path}: FINETUNE.freeze leaves no parameter to train")
    if frozen and cfg.sync_bn:
        problems.append(
            f"{cfg.origin.path}: sync_bn moves the statistics of frozen batch norms too; leave one of them out"
        )
    if problems:
        raise ConfigError(problems)
    for name in still:
        parameters[name].stop_gradient = True
    if frozen:
        model.frozen_prefixes = (*model.frozen_prefixes, *frozen)
        for layer in model.sublayers():
            if (
                paddle_internals.is_batch_norm(layer)
                and layer.weight is not None
                and layer.weight.stop_gradient
            ):
                paddle_internals.freeze_statistics(layer)
    for name, parameter in trained.items():
        fitting = [start for start in factors if name.startswith(start)]
        if fitting and name not in still:
            parameter.optimize_attr["learning_rate"] *= float(factors[max(fitting, key=len)])
    parts = (
        [f"frozen: {', '.join(spec.freeze)} ({len(still)} of {len(trained)} tensors that learn)"]
        if frozen
        else []
    )
    parts += [f"learning rate x {factor:g}: {word}" for word, factor in spec.lr_mult.items()]
    return "; ".join(parts)


def is_factor(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    )


# --- classes of different sizes -----------------------------------------------------------------------------------------


def training_records(cfg: Config, records: RecordList) -> RecordList:
    """The training records, in the order that DATASET.sampling asks for.

    Raises:
        ConfigError: classes cannot be balanced, because a record has not one class.
    """
    if cfg.DATASET.sampling == "shuffled":
        return records
    if any(record.label is None for record in records.records):
        raise ConfigError([
            f"{cfg.origin.path}: DATASET.sampling: class_balanced needs one class for each record; "
            "use LOSS.class_weights where there may be several"
        ])  # fmt: skip
    return replace(records, balanced=True)


def class_weights(
    cfg: Config, records: Sequence, num_classes: int, names: Sequence[str] | None, multi_label: bool
) -> np.ndarray | None:
    """Factors on the loss of each class, float32 [num_classes], from LOSS.class_weights; None where it says nothing.

    `balanced` is N / (K n) of a class with n of N records and K classes that have any, so that a record's mean factor is 1.
    Where a video may have several classes, it is (N - n) / n: the videos that have a class weigh as much as the others.

    Raises:
        ConfigError: as many numbers as classes were not given, a name is unknown, a number is not above 0.
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
        ids = {name: number for number, name in enumerate(names or map(str, range(num_classes)))}
        by_name = {str(name): factor for name, factor in given.items()}
        unknown = [
            f"{place}: there is no class {name!r}{nearest(name, list(ids)[:1000])}"
            for name in by_name
            if name not in ids
        ]
        if unknown:
            raise ConfigError(unknown)
        by_id = {ids[name]: factor for name, factor in by_name.items()}
    wrong = [
        f"{place}: {factor!r} of class {number}, expected a number above 0"
        for number, factor in by_id.items()
        if not is_factor(factor)
    ]
    if wrong:
        raise ConfigError(wrong)
    return np.array([by_id.get(number, 1.0) for number in range(num_classes)], np.float32)


def balanced_weights(records: Sequence, num_classes: int, multi_label: bool) -> np.ndarray:
    """See `class_weights`; 1 for a class without records, or that all of many labels have.

    Raises:
        DatasetError: labels that are not known before the data is read, as in shards.
    """
    labels = [record.labels if multi_label else (record.label,) for record in records]
    if any(each is None or None in each for each in labels):
        raise DatasetError(
            "LOSS.class_weights: balanced: the labels are inside the data's files; give the numbers"
        )
    counts = np.bincount(
        [label for each in labels for label in each], minlength=num_classes
    ).astype(np.float64)
    if multi_label:
        weights = (len(records) - counts) / np.maximum(counts, 1)
    else:
        weights = len(records) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where((counts > 0) & (weights > 0), weights, 1.0).astype(np.float32)
