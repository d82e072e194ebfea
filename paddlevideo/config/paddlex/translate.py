"""Translate a training config of PaddleX into one of this package; each key is accounted for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddlevideo.config import yamltree
from paddlevideo.config.checker import Checker
from paddlevideo.config.paddlex.rules import NO_EFFECT, REMARKS, SAME, SPECIAL, Row, Translation
from paddlevideo.config.paddlex.sections import MODELS, PaddleXConfig
from paddlevideo.config.registry import nearest
from paddlevideo.config.schema import ConfigError
from paddlevideo.config.shipped import configs
from paddlevideo.config.yamltree import Tree


def translate(path: str | Path, overrides: Sequence[str] = ()) -> Translation:
    """Translate a training config of PaddleX.

    Args:
        overrides: PaddleX's `-o` texts, as "Train.epochs_iters=10".

    Raises:
        ConfigError: the file has an unknown key, a wrong value or another kind of model; one line
            with file:line for each.
    """
    tree = yamltree.read(Path(path), ())
    for text in overrides:
        yamltree.override(tree, text)
    if "MODEL" in tree.data and not tree.problems:
        raise ConfigError([
            f"{tree.where(('MODEL',))}: this is a config of PaddleVideo, which needs no "
            f"translation: paddlevideo train -c {path}"
        ])  # fmt: skip
    checker = Checker(tree)
    config = checker.section(PaddleXConfig, tree.data, ())
    problems = [*tree.problems, *checker.problems, *_model_problem(tree)]
    if problems:
        raise ConfigError(problems)
    base = base_of(config.Global.model, tree.where(("Global", "model")))
    result = Translation({"_base_": f"configs/{base}.yaml"}, mode=config.Global.mode or "train")
    from_base(result, base)
    for keys, value in _leaves(tree.data):
        _account(result, config, ".".join(keys), value, tree.where(keys))
    return result


def _model_problem(tree: Tree) -> list[str]:
    section = tree.data.get("Global")
    name = section.get("model") if isinstance(section, dict) else None
    if not isinstance(name, str) or name in MODELS:
        return []
    where = tree.where(("Global", "model"))
    return [f"{where}: Global.model {name!r} is no model for videos{nearest(name, list(MODELS))}"]


def base_of(model: str, where: str) -> str:
    """The full name of the shipped config that trains a model of PaddleX.

    Raises:
        ConfigError: this version has none.
    """
    for full in configs():
        if full.rpartition("/")[2] == MODELS[model]:
            return full
    raise ConfigError([f"{where}: this version has no config {MODELS[model]} that trains {model}"])


def from_base(result: Translation, base: str) -> None:
    """Replace what PaddleX sets in other ways than the shipped config.

    PaddleX reads video files, starts from a complete model instead of a backbone, and lets the data
    have any number of classes.
    """
    model = yamltree.read(configs()[base], ()).data["MODEL"]
    result.set("MODEL.backbone.pretrained", None)
    classes = "backbone.class_num" if "class_num" in model["backbone"] else "head.num_classes"
    result.set(f"MODEL.{classes}", None)
    for split in ("train", "valid", "test"):
        result.set(f"PIPELINE.{split}.decode", {"name": "VideoDecoder"})
    result.set("DATASET.num_workers", 4)


def _leaves(data: Any, keys: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """(keys, value) of all values, in the order of the file; a map without keys is a value."""
    if not isinstance(data, dict) or not data or keys[-1:] in (("hpi_config",), ("engine_config",)):
        return [(keys, data)] if keys else []
    return [leaf for key, value in data.items() for leaf in _leaves(value, (*keys, key))]


def _account(result: Translation, config: PaddleXConfig, key: str, value: Any, where: str) -> None:
    """Translate one key, and add its row."""
    outcome, text = "translated", ""
    if key in SPECIAL:
        outcome, text = SPECIAL[key](result, config, value)
    elif value is None or value == {}:
        outcome, text = "no effect", "not set"
    elif key in SAME:
        result.set(SAME[key], value)
        remark = REMARKS.get(key)
        text = f"{SAME[key]}: {value}" + (f" ({remark})" if remark else "")
    else:
        outcome, text = "no effect", NO_EFFECT[key]
    result.rows.append(Row(where, key, value, outcome, text))
