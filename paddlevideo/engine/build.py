"""A checked config becomes objects: pipelines, model, metric."""

from pathlib import Path
from typing import Any

import paddlevideo.engine.components  # noqa: F401, registers what a config can name
from paddlevideo.config.check import read_config
from paddlevideo.config.schema import Cache, Component, Config, ConfigError
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.frame_cache import FrameCache
from paddlevideo.data.pipeline import Pipeline
from paddlevideo.engine.classes import configured_classes, known_classes, with_defaults
from paddlevideo.engine.component_tree import with_classes
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.models.base import Recognizer

# Arguments of a dataset's section that stand for those of its pipeline's parts.
VIEWS = ("num_ensemble_views", "num_spatial_crops")


def load_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read and check a config file.

    Args:
        overrides: such as `"DATASET.batch_size=16"`.

    Raises:
        ConfigError: with every mistake, one per line: file:line, key, what came, what was expected.
    """
    return read_config(path, overrides)


def build_pipeline(cfg: Config, split: str) -> Pipeline:
    """The pipeline of a split; its decoder selects the family.

    Raises:
        ConfigError: the section is missing or incomplete, or a test pipeline draws random numbers.
    """
    section, place = getattr(cfg.PIPELINE, split), f"{cfg.origin.path}: PIPELINE.{split}"
    if section is None:
        raise ConfigError([
            f"{place} is missing; it says how to sample and transform a {split} clip"
        ])  # fmt: skip
    data = getattr(cfg.DATASET, split)
    views = {key: data.args[key] for key in VIEWS if data and key in data.args}
    transforms = [with_defaults(part, views).make() for part in section.transform]
    sample = with_defaults(section.sample, views).make() if section.sample else None
    decode = with_defaults(section.decode, {"num_classes": configured_classes(cfg)}).make()
    family = decode.pipeline or ClipPipeline
    try:
        if sample is None and family.needs_sampler:
            raise ValueError(
                "'sample' is missing: it selects the frames of a video, as {name: Sampler, ...}"
            )
        options: dict[str, Any] = {"audio": section.audio.make()} if section.audio else {}
        if section.cache:
            options["cache"] = _frame_cache(section.cache, split, family, decode, transforms)
        pipeline = family(decode, sample, transforms, **options)
    except ValueError as error:
        raise ConfigError([f"{place}: {error}"]) from error
    if split == "test" and pipeline.random:
        raise ConfigError([f"{place} draws random numbers; a test must be repeatable"])
    return pipeline


def _frame_cache(
    spec: Cache, split: str, family: type, decode: Any, transforms: list[Any]
) -> FrameCache:
    """The cache of a pipeline.

    Raises:
        ValueError: the split is a test, no video files are decoded, or frames are not resized.
    """
    if split == "test":
        raise ValueError("cache is for train and valid; a test reads each video once")
    if family is not ClipPipeline or not isinstance(decode, VideoDecoder):
        raise ValueError(f"cache keeps frames of VideoDecoder, not of {type(decode).__name__}")
    return FrameCache(decode, transforms[0] if transforms else None, spec.folder, spec.gigabytes)


def build_model(cfg: Config, num_classes: int | None = None) -> Recognizer:
    """The model of a config with freshly initialized weights.

    Args:
        num_classes: None takes the number of the config or of the training data.

    Raises:
        ConfigError: the parts do not fit each other, or the model cannot be multi-label.
    """
    if num_classes is None:
        num_classes = known_classes(cfg, None).num
    model = with_classes(cfg.MODEL, num_classes).make()
    if cfg.DATASET.multi_label:
        try:
            model.allow_multi_label()
        except ValueError as error:
            raise ConfigError([f"{cfg.MODEL.where}: DATASET.multi_label: {error}"]) from None
    return model


def build_metric(cfg: Config, num_classes: int, multi_label: bool = False) -> Any:
    """The metric of a config, or the default one for a model.

    Raises:
        ConfigError: a single-label metric for a multi-label model, or the reverse.
    """
    default = Component("metric", "MultiLabelMetric" if multi_label else "CenterCropMetric")
    if cfg.DATASET.multi_label:
        default = default.with_args(top_k=None, best_by="map")
    component = cfg.METRIC or default
    metric = component.make(num_classes=num_classes)
    if metric.multi_label != multi_label:
        kind, name = ("single-label", "CenterCropMetric")
        if multi_label:
            kind, name = ("multi-label", "MultiLabelMetric")
        raise ConfigError([
            f"{component.where or cfg.origin.path}: METRIC {component.name} does not fit; "
            f"{cfg.MODEL.name} is {kind}: METRIC: {{name: {name}}}"
        ])  # fmt: skip
    return metric
