"""Start a training from the weights of a model, even one for other classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Config
from paddlevideo.data.class_names import same_names
from paddlevideo.engine.weight_sources import IMAGENET, PUBLISHED
from paddlevideo.models.base import Head, Recognizer
from paddlevideo.plain_text import readable
from paddlevideo.sample import Arrays
from paddlevideo.weights import Account, WeightsError, check_values, load_into

MAX_NAMES = 5  # class names in a message

Names = Sequence[str] | None
Rows = Mapping[int, int]  # class id in the model -> class id in the file


def load_weights(
    model: Recognizer, arrays: Arrays, path: str | Path, file_names: Names, data_names: Names
) -> list[str]:
    """Load the weights that training starts from.

    All tensors must fit, except a classifier for other classes, which is re-initialized. With
    `keep_rows: by_name` in the head, the rows of classes with the same name are kept.

    Args:
        arrays: the tensors in the file at `path`.
        file_names: class names of the file, None where unknown.
        data_names: class names of the data, None where unknown.

    Returns:
        lines of text: what became of the tensors, then each classifier that was re-initialized.

    Raises:
        WeightsError: any other tensor does not fit; nothing was loaded.
    """
    lines, new_tensors, tensors = [], {}, model.state_dict()
    for layer, head in classifiers(model).items():
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        if weight not in arrays or bias not in arrays:
            continue
        if arrays[weight].shape[:1] != (tensors[weight].shape[0],):
            continue
        number = arrays[bias].size
        if file_names is not None and len(file_names) != number:
            raise WeightsError(
                f"{path}: {layer} has {number} classes, "
                f"and {len(file_names)} names are given for them"
            )
        if number == head.num_classes and not differ(file_names, data_names):
            continue
        by_name = head.keep_rows == "by_name"
        rows = same_names(file_names or (), data_names or ()) if by_name else {}
        new_tensors |= {weight: rows, bias: rows}
        lines.append(class_account(layer, head, number, file_names, data_names, rows))
    account = _load(model, arrays, path, new_tensors)
    check_values({name: arrays[name] for name, rows in new_tensors.items() if rows}, str(path))
    for name, rows in new_tensors.items():
        values = tensors[name].numpy()
        for to, source in rows.items():
            values[..., to] = arrays[name][..., source]
        tensors[name].set_value(values)
    return [str(account), *lines]


def differ(file_names: Names, data_names: Names) -> bool:
    """Whether both lists of names are known, and differ in a name or in the order."""
    if file_names is None or data_names is None:
        return False
    return list(file_names) != list(data_names)


def classifiers(model: Recognizer) -> dict[str, Head]:
    """{name of each linear layer with a row of weights per class: its head}."""
    heads = {name: layer for name, layer in model.named_sublayers() if isinstance(layer, Head)}
    return {name.removesuffix("head") + head.class_layer: head for name, head in heads.items()}


def class_account(
    layer: str, head: Head, number: int, file_names: Names, data_names: Names, rows: Rows
) -> str:
    """Why a classifier is re-initialized, and which rows of it are kept."""
    change = f"{number} -> {head.num_classes} classes"
    if number == head.num_classes:
        change = f"{number} other classes ({first(file_names)} -> {first(data_names)})"
    text = f"{layer} is re-initialized: {change}"
    if head.keep_rows is None:
        return text
    if rows:
        names = [(data_names or ())[index] for index in rows]
        return f"{text}; rows kept by name: {len(rows)} ({first(names)})"
    reasons = []
    if file_names is None:
        reasons.append("the file has no class names (FINETUNE.class_names gives them)")
    if data_names is None:
        reasons.append("the data has no class names (DATASET.class_names gives them)")
    return f"{text}; no row is kept: {'; '.join(reasons) or 'no name is in both'}"


def first(names: Names) -> str:
    """The first names, as text."""
    names = names or ()
    return ", ".join(map(readable, names[:MAX_NAMES])) + (", ..." if len(names) > MAX_NAMES else "")


def _load(
    model: Recognizer, arrays: Arrays, path: str | Path, new_tensors: Mapping[str, Rows]
) -> Account:
    """Load all tensors but the new ones, which the account lists as re-initialized."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    same_shape = [name for name in new_tensors if arrays[name].shape == shapes[name]]
    others = {name: array for name, array in arrays.items() if name not in same_shape}
    excused = "|".join(f"^{re.escape(name)}$" for name in new_tensors)
    try:
        account = load_into(model, others, str(path), excuse_missing=excused)
    except WeightsError as error:
        if any(name.startswith("backbone.") for name in arrays):
            raise
        raise WeightsError(
            f"{error}. For a backbone alone use -o MODEL.backbone.pretrained={path} instead of -w"
        ) from None
    reshaped = (*account.reshaped, *(f"{name} belongs to other classes" for name in same_shape))
    return replace(account, reshaped=reshaped, missing=())


def random_start_text(cfg: Config, model: Recognizer) -> str:
    """The message that a run starts from random weights, and how to start from others."""
    part = cfg.MODEL.args.get("backbone")
    backbone = ""
    if part is not None and "pretrained" in lookup(part.kind, part.name).parameters():
        backbone = ", or -o MODEL.backbone.pretrained=FILE to start from a backbone"
        if model.backbone.pretrained_model in PUBLISHED:
            backbone += f" (pretrained={IMAGENET} finds installed ImageNet weights)"
    return "starting from random weights; use -w FILE to start from a trained model" + backbone
