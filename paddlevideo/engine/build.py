"""A checked config -> objects, and the preflight that tries them on made-up data before any real file is opened."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

import paddlevideo.data
import paddlevideo.losses
import paddlevideo.metrics
import paddlevideo.models
import paddlevideo.solver  # noqa: F401, these five register what a config can name
from paddlevideo import config
from paddlevideo.data.clean import class_names_under, split_under
from paddlevideo.data.datasets import DatasetError, RecordList, read_class_names, resolve_num_classes
from paddlevideo.data.pipeline import SYNTHETIC_SIZE, ClipPipeline, StageError
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.registry import lookup
from paddlevideo.sample import ClipShape
from paddlevideo.schema import Component, Config, ConfigError
from paddlevideo.weights import Account, WeightsError, load_into, read_arrays

SPLITS = ("train", "valid", "test")
# What a data set's section may say in place of its pipeline's parts.
VIEWS = ("num_ensemble_views", "num_spatial_crops")


def load_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read and check a config file; `overrides` are texts such as `"DATASET.batch_size=16"`.

    Raises:
        ConfigError: with every mistake, a line each: file:line, key path, what came, what was expected.
    """
    return config.load(path, overrides)


@dataclass(frozen=True)
class Classes:
    """How many classes there are, and what they are called (None where labels are plain ids)."""

    num: int
    names: list[str] | None = None

    def name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)


# --- data ------------------------------------------------------------------------------------------------------------


def build_pipeline(cfg: Config, split: str) -> ClipPipeline:
    """The pipeline of a split: the decoder says which kind, a clip of frames where it says nothing.

    Raises:
        ConfigError: the section is missing or incomplete, or a test pipeline draws random numbers.
    """
    section = getattr(cfg.PIPELINE, split)
    if section is None:
        raise ConfigError(
            [f"{cfg.origin.path}: PIPELINE.{split} is missing; it says how to sample and transform a {split} clip"]
        )
    data = getattr(cfg.DATASET, split)
    views = {key: data.args[key] for key in VIEWS if data and key in data.args}
    transforms = [_filled(component, views).make() for component in section.transform]
    sample = _filled(section.sample, views).make() if section.sample else None
    decode = _filled(section.decode, {"num_classes": configured_classes(cfg)}).make()
    kind = getattr(decode, "pipeline", ClipPipeline)
    try:
        if sample is None and getattr(kind, "samples", True):
            raise ValueError("'sample' is missing: it says which frames of a video are taken, as {name: Sampler, ...}")
        more = {"audio": section.audio.make()} if section.audio else {}
        pipeline = kind(decode, sample, transforms, **more)
    except ValueError as error:
        raise ConfigError([f"{cfg.origin.path}: PIPELINE.{split}: {error}"]) from error
    if split == "test" and pipeline.random:
        raise ConfigError([f"{cfg.origin.path}: PIPELINE.test draws random numbers; a test must be repeatable"])
    return pipeline


def _filled(component: Component, values: Mapping) -> Component:
    """The component with those of `values` that it takes and that the config does not give it."""
    takes = lookup(component.kind, component.name).parameters()
    return component.with_args(**{k: v for k, v in values.items() if k in takes and k not in component.args})


def load_records(cfg: Config, splits: tuple[str, ...], names: list[str] | None = None) -> tuple[dict[str, RecordList], Classes]:
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
            raise ConfigError([f"{cfg.origin.path}: DATASET.{split} is missing; give it a format and a file_path"])
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
        raise ConfigError([f"{component.where}: DATASET.multi_label: {component.name} has no lists of several labels"])
    if component.args.get("multi_label", several) != several:
        raise ConfigError(
            [f"{component.where}: DATASET.{split}.multi_label is {not several}; set DATASET.multi_label for all splits"]
        )
    where = {}
    if "file_path" not in component.args:
        if not cfg.DATASET.root:
            raise ConfigError([f"{component.where}: DATASET.{split} lacks file_path; or name a folder with DATASET.root"])
        where = split_under(cfg.DATASET.root, split)
    return _filled(component, {"split": split, "multi_label": several, **where}).make()


def class_names_file(cfg: Config) -> str | None:
    """The file of class names that the config names, or the one in its folder of data."""
    return cfg.DATASET.class_names or (class_names_under(cfg.DATASET.root) if cfg.DATASET.root else None)


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
    given = {head.args["num_classes"]: head.where for head in _components(cfg.MODEL, "head") if head.args.get("num_classes")}
    if len(given) > 1:
        told = ", ".join(f"{number} ({where})" for number, where in given.items())
        raise ConfigError([f"{cfg.origin.path}: num_classes of the heads is {told}; one model has one number of classes"])
    return next(iter(given), None)


# --- model -----------------------------------------------------------------------------------------------------------


def build_model(cfg: Config, num_classes: int | None = None) -> nn.Layer:
    """The model with freshly initialised weights; `.inputs` names what it takes.

    Args:
        num_classes: None takes what config or data say.
    """
    if num_classes is None:
        num_classes = known_classes(cfg, None).num
    model = _with_classes(cfg.MODEL, num_classes).make()
    if cfg.DATASET.multi_label and not getattr(model, "multilabel", False):
        if not hasattr(model, "allow_several_labels"):
            raise ConfigError([f"{cfg.MODEL.where}: DATASET.multi_label: {cfg.MODEL.name} gives one class a video"])
        model.allow_several_labels()
    return model


def load_pretrained(cfg: Config, model: nn.Layer, names: list[str] | None = None) -> list[Account]:
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
            arrays, own = _read(role, "weights", read_model, "train that model first, or name another file")
            if own and names and own != names:
                number = next((i for i, pair in enumerate(zip(own, names, strict=False)) if pair[0] != pair[1]), len(names))
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
        way_out = "" if Path(path).exists() else f"; {otherwise}"
        raise WeightsError(f"{component.where}: {component.path}.{argument}: {error}{way_out}") from error


def _load_backbones(recognizer: Component, model: nn.Layer) -> list[Account]:
    accounts = []
    for component in [*_components(recognizer, "backbone"), *_components(recognizer, "audio_backbone")]:
        path = component.args.get("pretrained")
        if path:
            random = f"-o {component.path}.pretrained=null"
            way_out = f"fetch it (README.md says where) or train what makes it, or start without: {random}"
            arrays = _read(component, "pretrained", read_arrays, way_out)
            if any(name.startswith("backbone.") for name in arrays):  # a whole recognizer: take its backbone
                arrays = {k.removeprefix("backbone."): v for k, v in arrays.items() if k.startswith("backbone.")}
            arrays = {model.backbone.pretrained_name(name): array for name, array in arrays.items()}
            unused = "|".join(f"^{re.escape(start)}" for start in model.backbone.unused_pretrained)
            accounts.append(load_into(model.backbone, arrays, path, excuse_unused=unused))
    return accounts


def build_metric(cfg: Config, num_classes: int, multilabel: bool = False):
    """The metric of a config, or the usual one of a model.

    Raises:
        ConfigError: it counts one label a video where the model gives several, or the other way round.
    """
    usual = Component("metric", "MultiLabelMetric" if multilabel else "CenterCropMetric")
    if cfg.DATASET.multi_label:
        usual = usual.with_args(top_k=None, best_by="map")
    component = cfg.METRIC or usual
    metric = component.make(num_classes=num_classes)
    if metric.multilabel != multilabel:
        several = "several labels a video: METRIC: {name: MultiLabelMetric}"
        wanted = several if multilabel else "one label a video: METRIC: {name: CenterCropMetric}"
        raise ConfigError(
            [f"{component.where or cfg.origin.path}: METRIC {component.name} does not fit; {cfg.MODEL.name} gives {wanted}"]
        )
    return metric


def _nested(component: Component) -> list[Component]:
    values = [v for value in component.args.values() for v in (value if isinstance(value, list) else [value])]
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
    return " + ".join(f"{c.name} ({parts_of(c)})" if _nested(c) else c.name for c in _nested(component))


# --- preflight -------------------------------------------------------------------------------------------------------


def preflight(
    cfg: Config, model: nn.Layer, splits: tuple[str, ...], clips: Sequence[ClipShape] = ()
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Try each split's pipeline on a made-up clip and compare the result with what the model takes.

    Args:
        clips: shapes that a plan gives to training clips, tried besides the pipeline's own.

    Returns:
        per split, the shape of each model input for one sample, views in front where the pipeline makes several.

    Raises:
        ConfigError: a pipeline fails or gives something else than the model takes, with what to change.
    """
    problems, shapes = [], {}
    for split in splits:
        place = f"{cfg.origin.path}: PIPELINE.{split}"
        try:
            pipeline = build_pipeline(cfg, split)
            views = pipeline.num_views
            # Of many views one tells as much; all of them would be gigabytes of float32.
            sample = pipeline.finish({k: a[:1] if views > 1 else a for k, a in pipeline.synthetic().items()})
        except ConfigError as error:
            problems += error.problems
            continue
        except StageError as error:
            problems.append(f"{place} fails on a made-up clip of {SYNTHETIC_SIZE[1]}x{SYNTHETIC_SIZE[0]}: {error}")
            continue
        found = {name: np.shape(sample[name]) for name in model.inputs if name in sample}
        shapes[split] = {name: (views, *shape[1:]) if views > 1 else shape for name, shape in found.items()}
        problems += [f"{place}: {text}" for text in _misfits(model, sample)]
        if split == "train" and "audio_negative" in getattr(model, "train_inputs", ()) and "audio_negative" not in sample:
            problems.append(
                f"{place}: the model learns which sound belongs to a clip, for which it takes 'audio_negative'; set "
                "misaligned: True in PIPELINE.train.audio, or MODEL.sync_weight: 0 to learn from labels alone"
            )
        if split == "train" and hasattr(model, "clips_of"):  # of a distillation: each of its models takes its own
            try:
                model.clips_of({k: paddle.to_tensor(sample[k]).unsqueeze(0) for k in model.train_inputs if k in sample})
            except ValueError as error:
                problems.append(f"{place}: {error}")
        for clip in clips if split == "train" and not problems else ():
            size = f"{clip.num_frames} frames x {clip.crop_size}"
            try:
                shaped = pipeline.shaped(clip)
                sample = shaped.finish(shaped.synthetic())
            except StageError as error:
                problems.append(f"{place} fails at {size}, which MULTIGRID asks for: {error}")
                continue
            problems += [f"{place} at {size}, which MULTIGRID asks for: {text}" for text in _misfits(model, sample)]
            side = {np.shape(sample[name])[-2:] for name in model.inputs if name in sample}
            if side and side != {(clip.crop_size, clip.crop_size)}:
                problems.append(
                    f"{place} gives frames of {side} pixels at {size}, which MULTIGRID asks for; cut with MultiCrop"
                )
    if problems:
        raise ConfigError(problems)
    return shapes


def _misfits(model: nn.Layer, sample: Mapping) -> list[str]:
    inputs: Mapping = model.inputs
    problems = []
    for name, spec in inputs.items():
        if name not in sample:
            hint = "; '- PackOutput: {alpha: 8}' as its last step makes slow and fast of frames" if "frames" in sample else ""
            problems.append(f"the model takes {', '.join(inputs)}; the pipeline gives no {name!r}{hint}")
            continue
        array, wanted = np.asarray(sample[name]), spec.shape[1:]
        shape = array.shape[1:] if array.ndim == len(wanted) + 1 else array.shape
        fits = len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))
        if not fits or str(array.dtype) != spec.dtype:
            said = " x ".join("any" if w is None else str(w) for w in wanted)
            hint = "end it with Image2Array and Normalization"
            if spec.dtype == "uint8":  # features of frames, not frames
                hint = "'features' of its decode and the sizes in MODEL.backbone must agree"
            problems.append(
                f"the model takes {name} as {spec.axes.split(' ', 1)[-1]} = {said} {spec.dtype}; the pipeline gives "
                f"{list(array.shape)} {array.dtype}; {hint}"
            )
    rows_per_frame = getattr(model, "audio_alpha", None)
    if rows_per_frame and not problems:
        slow, rows = np.shape(sample["slow"])[-3], np.shape(sample["audio"])[-2]
        if rows != rows_per_frame * slow:
            problems.append(
                f"the model's audio_alpha is {rows_per_frame}, the pipeline gives {rows} rows of sound and {slow} slow frames; "
                f"set num_rows: {rows_per_frame * slow} in its audio"
            )
    alpha = getattr(model, "alpha", None)
    if alpha and not problems and {"slow", "fast"} <= set(inputs):
        slow, fast = (np.shape(sample[name])[-3] for name in ("slow", "fast"))
        if fast != alpha * slow:
            problems.append(
                f"the model's alpha is {alpha}, the pipeline gives {fast} fast and {slow} slow frames; PackOutput needs it too"
            )
    return problems
