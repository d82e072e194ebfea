"""Weights by a name of the table in place of a file: download, check, and find their config."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import paddle

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Config
from paddlevideo.data.class_names import read_class_names
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.models.base import Backbone
from paddlevideo.models.convert.files import read_weights
from paddlevideo.remote import RemoteError, is_url, local_copy
from paddlevideo.sample import Arrays
from paddlevideo.weights import Account, WeightsError, load_into, own_names
from paddlevideo.zoo.cache import fetch
from paddlevideo.zoo.table import NamedModel


def config_of_model(model: NamedModel, overrides: Sequence[str] = ()) -> Config:
    """The config of a whole model."""
    return load_config(model.config, (*model.overrides, *overrides))


def class_names(model: NamedModel) -> list[str] | None:
    """The class names of a whole model, None where they are not shipped."""
    return read_class_names(model.labels) if model.labels else None


def fetched(model: NamedModel) -> Path:
    """The file of a model, downloaded if it is not in the cache; see `zoo.cache.fetch`."""
    return fetch(model, functools.partial(compare, model))


def weight_file(path: str | Path) -> str | Path:
    """The local file of weights that a URL names; any other path as it is.

    Raises:
        WeightsError: there is no such file, or its server does not give it.
        AccessError: see `remote.local_copy`.
    """
    if not is_url(path):
        return path
    try:
        return local_copy(path)
    except RemoteError as error:
        raise WeightsError(str(error)) from error


def compare(model: NamedModel, path: Path) -> str:
    """Compare the names and shapes of the tensors in a file with those of the model.

    Returns:
        the account of them, as text.

    Raises:
        WeightsError: they differ, are not finite, or the file is damaged.
    """
    state = paddle.get_rng_state()  # a run draws the same numbers with and without a download
    try:
        if model.config:
            built = build_model(config_of_model(model), model.classes)
            facts = "@@$"  # what our own files record next to the tensors
            arrays = own_names(read_weights(path))
            return str(load_into(built, arrays, model.file, excuse_unused=facts))
        backbone = lookup("backbone", model.backbone["name"]).make(
            **{key: value for key, value in model.backbone.items() if key != "name"}
        )
        return str(load_backbone(backbone, read_weights(path), model.file))
    finally:
        paddle.set_rng_state(state)


def load_backbone(backbone: Backbone, arrays: Arrays, source: str) -> Account:
    """Copy the weights of a backbone, alone in a file or as a part of a whole model.

    Raises:
        WeightsError: they do not fit.
    """
    part = {k.removeprefix("backbone."): v for k, v in arrays.items() if k.startswith("backbone.")}
    named = {backbone.pretrained_name(k): v for k, v in (part or arrays).items()}
    named.pop("", None)
    own, unused = (
        "|".join(f"^{re.escape(prefix)}" for prefix in prefixes)
        for prefixes in (backbone.own_tensors, backbone.unused_pretrained)
    )
    return load_into(backbone, named, source, own, unused)
