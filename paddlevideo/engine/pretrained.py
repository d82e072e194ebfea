"""Weights that a config names: pretrained backbones, and the models of a distillation."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paddlevideo.config.schema import Component, Config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.component_tree import children, descendants
from paddlevideo.models.base import Recognizer
from paddlevideo.weights import Account, WeightsError, check_values, load_into, read_arrays


def load_pretrained(
    cfg: Config, model: Recognizer, names: Sequence[str] | None = None
) -> list[Account]:
    """Load the files that `pretrained` of a backbone and `weights` of a distilled model name.

    Args:
        names: class names of the data; those of a complete model must be the same.

    Returns:
        the account of every tensor, one per file.

    Raises:
        WeightsError: a file is missing, lacks a tensor, or has other classes.
    """
    roles = [child for child in children(cfg.MODEL) if child.kind == "distilled"]
    if not roles:
        return _load_backbones(cfg.MODEL, model)
    accounts = []
    for role in roles:
        part, path = model.part(role.name), role.args.get("weights")
        accounts += _load_backbones(role, part)
        if path:
            fix = "train that model first, or name another file"
            arrays, own_names = _read(role, "weights", read_model, fix)
            if own_names and names and list(own_names) != list(names):
                raise WeightsError(_other_classes(role, path, own_names, names))
            accounts.append(load_into(part, arrays, path))
    return accounts


def _other_classes(
    role: Component, path: str, own_names: Sequence[str], names: Sequence[str]
) -> str:
    """The message about the first class that differs between a file and the data."""
    pairs = zip(own_names, names, strict=False)
    number = next((i for i, (own, name) in enumerate(pairs) if own != name), len(names))
    own, name = (each[number] if number < len(each) else "missing" for each in (own_names, names))
    return (
        f"{role.where}: {role.name}: class {number} of {path} is {own}, of the data it is {name}; "
        "distillation needs the same classes in the same order"
    )


def _read(component: Component, argument: str, read: Callable[[str], Any], fix: str) -> Any:
    """Read the file that an argument of a component names.

    Args:
        fix: what to do where there is no such file.

    Raises:
        WeightsError: of `read`, with the location in the config.
    """
    path = component.args[argument]
    try:
        return read(path)
    except WeightsError as error:
        hint = "" if Path(path).exists() else f"; {fix}"
        raise WeightsError(
            f"{component.where}: {component.path}.{argument}: {error}{hint}"
        ) from error


def _load_backbones(recognizer: Component, model: Recognizer) -> list[Account]:
    accounts = []
    kinds = ("backbone", "audio_backbone")
    for component in [part for kind in kinds for part in descendants(recognizer, kind)]:
        path = component.args.get("pretrained")
        if not path:
            continue
        fix = (
            "fetch it (README.md says where) or train the model it comes from, or start without: "
            f"-o {component.path}.pretrained=null"
        )
        arrays = _read(component, "pretrained", read_arrays, fix)
        backbone = model.backbone
        own = {
            k.removeprefix("backbone."): v for k, v in arrays.items() if k.startswith("backbone.")
        }
        named = {backbone.pretrained_name(k): v for k, v in (own or arrays).items()}
        unused = "|".join(f"^{re.escape(prefix)}" for prefix in backbone.unused_pretrained)
        check_values(named, path)
        accounts.append(load_into(backbone, named, path, excuse_unused=unused))
    return accounts
