"""A checked config -> objects, and the preflight that tries them on made-up data before any real file is opened."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddlevideo.engine.components  # noqa: F401, registers what a config can name
from paddlevideo.config.check import read_config
from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Component, Config, ConfigError
from paddlevideo.data.class_names import class_names_under, read_class_names, resolve_num_classes
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.datasets import DatasetError, RecordList
from paddlevideo.data.paths import split_under
from paddlevideo.data.pipeline import Pipeline
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.models.base import Recognizer
from paddlevideo.weights import Account, WeightsError, load_into, read_arrays

# What a data set's section may say in place of its pipeline's parts.
VIEWS = ("num_ensemble_views", "num_spatial_crops")


def load_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read and check a config file; `overrides` are texts such as `"DATASET.batch_size=16"`.

    Raises:
        ConfigError: with every mistake, a line each: file:line, key path, what came, what was expected.
    """
    return read_config(path, overrides)


@dataclass(frozen=True)
class Classes:
    """How many classes there are, and what they are called (None where labels are plain ids)."""

    num: int
    names: list[str] | None = None

    def name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)


# --- data ------------------------------------------------------------------------------------------------------------


def build_pipeline(cfg: Config, split: str) -> Pipeline:
    """The pipeline of a split: the decoder says which kind, a clip of frames where it says nothing.

    Raises:
        ConfigError: the section is missing or incomplete, or a test pipeline draws random numbers.
    """
    section = getattr(cfg.PIPELINE, split)
    if section is None:
        raise ConfigError(
            [
                f"{cfg.origin.path}: PIPELINE.{split} is missing; it says how to sample and transform a {split} clip"
            ]
        )
    data = getattr(cfg.DATASET, split)
    views = {key: data.args[key] for key in VIEWS if data and key in data.args}
    transforms = [_filled(component, views).make() for component in section.transform]
    sample = _filled(section.sample, views).make() if section.sample else None
    decode = _filled(section.decode, {"num_classes": configured_classes(cfg)}).make()
    family = decode.pipeline or ClipPipeline
    try:
        if sample is None and family.needs_sampler:
            raise ValueError(
                "'sample' is missing: it says which frames of a video are taken, as {name: Sampler, ...}"
            )
        more = {"audio": section.audio.make()} if section.audio else {}
        pipeline = family(decode, sample, transforms, **more)
    except ValueError as error:
        raise ConfigError([f"{cfg.origin.path}: PIPELINE.{split}: {error}"]) from error
    if split == "test" and pipeline.random:
        raise ConfigError(
            [f"{cfg.origin.path}: PIPELINE.test draws random numbers; a test must be repeatable"]
        )
    return pipeline


def _filled(component: Component, values: Mapping) -> Component:
    """The component with those of `values` that it takes and that the config does not give it."""
    takes = lookup(component.kind, component.name).parameters()
    return component.with_args(
        **{k: v for k, v in values.items() if k in takes and k not in component.args}
    )


def load_records(
    cfg: Config, splits: tuple[str, ...], names: list[str] | None = None
) -> tuple[dict[str, RecordList], Classes]:
    """The records of the given splits and the classes they agree on.

    Args:
        names: class names that are known already (from a checkpoint); DATASET.class_names wins over them, and both over
            names that the training data gives.

    Raises:
        ConfigError, DatasetError: a section or a list is missing or wrong, or data and config disagree on the classes.
    """
    told = class_names_file(cfg)
    if told:
        names = read_class_names(told)
    lists: dict[str, RecordList] = {}
    for split in splits:
        component = getattr(cfg.DATASET, split)
        if component is None:
            raise ConfigError(
                [f"{cfg.origin.path}: DATASET.{split} is missing; give it a format and a file_path"]
            )
        lists[split] = split_dataset(cfg, component, split).load(names)
        found = lists[split].class_names
        if names is None and found is not None and len(lists) > 1:
            raise DatasetError(
                f"DATASET.{split} has class names ({', '.join(found[:3])}, ...), DATASET.{splits[0]} has class ids: nothing "
                "says which is which; name the classes in the order of their ids with DATASET.class_names=FILE"
            )
        names = names or found
    top = max((part.max_label for part in lists.values()), default=-1)
    return lists, Classes(resolve_num_classes(names, top, configured_classes(cfg)), names)


def split_dataset(cfg: Config, component: Component, split: str) -> Any:
    """The data set of a split, with what DATASET says for all of them.

    Raises:
        ConfigError: it cannot have several labels, says otherwise than DATASET whether it has, or nothing says where it is.
        DatasetError: DATASET.root has no such split.
    """
    takes, several = lookup("dataset", component.name).parameters(), cfg.DATASET.multi_label
    if several and "multi_label" not in takes:
        raise ConfigError(
            [
                f"{component.where}: DATASET.multi_label: {component.name} has no lists of several labels"
            ]
        )
    if component.args.get("multi_label", several) != several:
        raise ConfigError(
            [
                f"{component.where}: DATASET.{split}.multi_label is {not several}; set DATASET.multi_label for all splits"
            ]
        )
    where = {}
    if "file_path" not in component.args:
        if not cfg.DATASET.root:
            raise ConfigError(
                [
                    f"{component.where}: DATASET.{split} lacks file_path; or name a folder with DATASET.root"
                ]
            )
        where = split_under(cfg.DATASET.root, split)
    return _filled(component, {"split": split, "multi_label": several, **where}).make()


def class_names_file(cfg: Config) -> str | None:
    """The file of class names that the config names, or the one in its folder of data."""
    return cfg.DATASET.class_names or (
        class_names_under(cfg.DATASET.root) if cfg.DATASET.root else None
    )


def known_classes(cfg: Config, names: list[str] | None) -> Classes:
    """The classes of a model that runs without its data: from the checkpoint, the config, or the training list."""
    told = class_names_file(cfg)
    if told and Path(told).exists():
        names = read_class_names(told)
    if names is not None or configured_classes(cfg) is not None:
        return Classes(resolve_num_classes(names, -1, configured_classes(cfg)), names)
    return load_records(cfg, ("train",))[1]


def configured_classes(cfg: Config) -> int | None:
    """`num_classes` of the head, None where the config leaves it to the data.

    Raises:
        ConfigError: several heads have several numbers.
    """
    given = {
        head.args["num_classes"]: head.where
        for head in _components(cfg.MODEL, "head")
        if head.args.get("num_classes")
    }
    if len(given) > 1:
        told = ", ".join(f"{number} ({where})" for number, where in given.items())
        raise ConfigError(
            [
                f"{cfg.origin.path}: num_classes of the heads is {told}; one model has one number of classes"
            ]
        )
    return next(iter(given), None)


# --- model -----------------------------------------------------------------------------------------------------------


def build_model(cfg: Config, num_classes: int | None = None) -> Recognizer:
    """The model with freshly initialised weights; `.inputs` names what it takes.

    Args:
        num_classes: None takes what config or data say.
    """
    if num_classes is None:
        num_classes = known_classes(cfg, None).num
    model = _with_classes(cfg.MODEL, num_classes).make()
    if cfg.DATASET.multi_label:
        try:
            model.allow_multi_label()
        except ValueError as error:
            raise ConfigError([f"{cfg.MODEL.where}: DATASET.multi_label: {error}"]) from None
    return model


def load_pretrained(
    cfg: Config, model: Recognizer, names: list[str] | None = None
) -> list[Account]:
    """Fill backbones from the files that `pretrained` names, as ImageNet weights, and the models of a distillation from their
    `weights`; every name is accounted for.

    Args:
        names: of the classes, which those of whole models must agree with.

    Raises:
        WeightsError: a file is missing, lacks a tensor, or is of other classes.
    """
    roles = [c for c in _nested(cfg.MODEL) if c.kind == "distilled"]
    if not roles:
        return _load_backbones(cfg.MODEL, model)
    accounts = []
    for role in roles:
        part, path = model.part(role.name), role.args.get("weights")
        accounts += _load_backbones(role, part)
        if path:
            arrays, own = _read(
                role, "weights", read_model, "train that model first, or name another file"
            )
            if own and names and own != names:
                number = next(
                    (
                        i
                        for i, pair in enumerate(zip(own, names, strict=False))
                        if pair[0] != pair[1]
                    ),
                    len(names),
                )
                told = [each[number] if number < len(each) else "missing" for each in (own, names)]
                raise WeightsError(
                    f"{role.where}: {role.name}: class {number} of {path} is {told[0]}, of the data it is {told[1]}; "
                    "distillation needs the same classes in the same order"
                )
            accounts.append(load_into(part, arrays, path))
    return accounts


def _read(component: Component, argument: str, read: Callable[[str], Any], otherwise: str) -> Any:
    """What `read` makes of the file that an argument of a component names.

    Raises:
        WeightsError: of `read`, with the place in the config, and where there is no such file what to do `otherwise`.
    """
    path = component.args[argument]
    try:
        return read(path)
    except WeightsError as error:
        fix = "" if Path(path).exists() else f"; {otherwise}"
        raise WeightsError(
            f"{component.where}: {component.path}.{argument}: {error}{fix}"
        ) from error


def _load_backbones(recognizer: Component, model: Recognizer) -> list[Account]:
    accounts = []
    for component in [
        *_components(recognizer, "backbone"),
        *_components(recognizer, "audio_backbone"),
    ]:
        path = component.args.get("pretrained")
        if path:
            random = f"-o {component.path}.pretrained=null"
            fix = f"fetch it (README.md says where) or train what makes it, or start without: {random}"
            arrays = _read(component, "pretrained", read_arrays, fix)
            if any(
                name.startswith("backbone.") for name in arrays
            ):  # a whole recognizer: take its backbone
                arrays = {
                    k.removeprefix("backbone."): v
                    for k, v in arrays.items()
                    if k.startswith("backbone.")
                }
            arrays = {model.backbone.pretrained_name(name): array for name, array in arrays.items()}
            unused = "|".join(f"^{re.escape(start)}" for start in model.backbone.unused_pretrained)
            accounts.append(load_into(model.backbone, arrays, path, excuse_unused=unused))
    return accounts


def build_metric(cfg: Config, num_classes: int, multi_label: bool = False):
    """The metric of a config, or the usual one of a model.

    Raises:
        ConfigError: it counts one label a video where the model gives several, or the other way round.
    """
    usual = Component("metric", "MultiLabelMetric" if multi_label else "CenterCropMetric")
    if cfg.DATASET.multi_label:
        usual = usual.with_args(top_k=None, best_by="map")
    component = cfg.METRIC or usual
    metric = component.make(num_classes=num_classes)
    if metric.multi_label != multi_label:
        several = "several labels a video: METRIC: {name: MultiLabelMetric}"
        wanted = several if multi_label else "one label a video: METRIC: {name: CenterCropMetric}"
        raise ConfigError(
            [
                f"{component.where or cfg.origin.path}: METRIC {component.name} does not fit; {cfg.MODEL.name} gives {wanted}"
            ]
        )
    return metric


def _nested(component: Component) -> list[Component]:
    values = [
        v
        for value in component.args.values()
        for v in (value if isinstance(value, list) else [value])
    ]
    return [v for v in values if isinstance(v, Component)]


def _components(component: Component, kind: str) -> list[Component]:
    nested = _nested(component)
    return [c for c in nested if c.kind == kind] + [c for n in nested for c in _components(n, kind)]


def _with_classes(component: Component, num_classes: int) -> Component:
    if component.kind == "head":
        return component.with_args(num_classes=num_classes)

    def filled(value):
        if isinstance(value, list):
            return [filled(item) for item in value]
        return _with_classes(value, num_classes) if isinstance(value, Component) else value

    return component.with_args(**{key: filled(value) for key, value in component.args.items()})


def parts_of(component: Component) -> str:
    """What a model is made of, in words: "ResNetTweaksTSN + ppTSNHead"."""
    return " + ".join(
        f"{c.name} ({parts_of(c)})" if _nested(c) else c.name for c in _nested(component)
    )


# --- preflight -------------------------------------------------------------------------------------------------------
