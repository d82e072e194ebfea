"""Weights that a config names: pretrained backbones, and the models of a distillation."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paddlevideo.config.schema import Component, Config
from paddlevideo.engine.architecture import architecture_note
from paddlevideo.engine.checkpoint import read_checkpoint
from paddlevideo.engine.component_tree import children, descendants
from paddlevideo.engine.named_models import load_backbone, weight_file
from paddlevideo.engine.weight_sources import (
    IMAGENET,
    OR_RANDOM,
    asks_by_name,
    find_imagenet,
    locate,
    missing_text,
)
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.models.convert.files import read_weights
from paddlevideo.weights import Account, WeightsError, load_into, own_names
from paddlevideo.zoo.table import NamedModel, find_model, name_hint


def load_pretrained(
    cfg: Config, model: Recognizer, names: Sequence[str] | None = None, replaced: str = ""
) -> list[Account]:
    """Load the files that `pretrained` of a backbone and `weights` of a distilled model name.

    Args:
        names: class names of the data; those of a complete model must be the same.
        replaced: what replaces the weights of the whole model afterwards; weights that are asked
            for by a name, as `imagenet`, are not looked for then.

    Returns:
        the account of every tensor, one per file.

    Raises:
        WeightsError: a file is missing, lacks a tensor, or has other classes; or there are no
            weights of the name.
    """
    roles = [child for child in children(cfg.MODEL) if child.kind == "distilled"]
    if not roles:
        return _load_backbones(cfg.MODEL, model, replaced)
    accounts = []
    for role in roles:
        part, path = model.part(role.name), role.args.get("weights")
        accounts += _load_backbones(role, part, replaced or path or "")
        if path:
            fix = "train that model first, or name another file"
            arrays, own_names, _, architecture = _read(role, "weights", read_checkpoint, fix)
            if note := architecture_note(part, path, architecture, training=False):
                logger.warning(note)
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


def _read(component: Component, argument: str, read: Callable[[str | Path], Any], fix: str) -> Any:
    """Read the file that an argument of a component names.

    Args:
        fix: what to do where there is no such file.

    Raises:
        WeightsError: of `read`, with the location in the config.
    """
    path = component.args[argument]
    try:
        return read(weight_file(path))
    except WeightsError as error:
        hint = "" if Path(path).exists() or find_model(path) else f"; {fix}{name_hint(path)}"
        raise WeightsError(
            f"{component.where}: {component.path}.{argument}: {error}{hint}"
        ) from error


def _load_backbones(recognizer: Component, model: Recognizer, replaced: str) -> list[Account]:
    accounts = []
    kinds = ("backbone", "audio_backbone")
    for component in [part for kind in kinds for part in descendants(recognizer, kind)]:
        path = component.args.get("pretrained")
        if asks_by_name(path):
            path = None if replaced else _imagenet_file(component, model.backbone.pretrained_model)
        elif named := find_model(path):
            path = None if replaced else _fetched(component, named)
        if not path:
            continue
        backbone = model.backbone
        fix = (
            "fetch it (README.md says where) or train the model it comes from, or start without: "
            f"-o {component.path}.pretrained=null"
        )
        component = component.with_args(pretrained=path)
        arrays = own_names(_read(component, "pretrained", read_weights, fix))
        accounts.append(load_backbone(backbone, arrays, path))
    return accounts


def _fetched(component: Component, named: NamedModel) -> str:
    """The file of a name in the table.

    Raises:
        WeightsError: it cannot be downloaded; with the location in the config.
    """
    place = f"{component.where}: {component.path}.pretrained"
    try:
        found = locate(named)
    except WeightsError as error:
        start = f"or start without: -o {component.path}.pretrained=null"
        raise WeightsError(f"{place}: {error}; {start}") from error
    logger.info(f"{place}: {named.name} is {found.path} ({found.source})")
    return str(found.path)


def _imagenet_file(component: Component, model_name: str) -> str | None:
    """The file of the ImageNet weights that a backbone asks for; log where it was found.

    Returns:
        None where there is none and the config allows random weights.

    Raises:
        WeightsError: there is none.
    """
    place, name = f"{component.where}: {component.path}.pretrained", component.args["pretrained"]
    if not model_name:
        raise WeightsError(
            f"{place} is {name}, but no ImageNet weights are known for {component.name} with these "
            f"arguments; give a file, or start without: -o {component.path}.pretrained=null"
        )
    try:
        found = find_imagenet(model_name, downloads=name == IMAGENET)
    except WeightsError as error:
        raise WeightsError(f"{place}: {error}") from error
    if found:
        logger.info(f"starting from ImageNet weights of {model_name}: {found.source}, {found.path}")
        return str(found.path)
    missing = missing_text(model_name)
    if name == OR_RANDOM:
        logger.warning(f"starting {component.path} from random weights: {missing}")
        return None
    raise WeightsError(
        f"{place} is {name}: {missing}, or start from random weights: "
        f"-o {component.path}.pretrained={OR_RANDOM}"
    )
