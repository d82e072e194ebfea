"""Try pipelines on synthetic data against the model, before any real file is opened."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.pipeline import SYNTHETIC_SIZE, Pipeline, StageError
from paddlevideo.engine.build import build_pipeline
from paddlevideo.models.base import Recognizer
from paddlevideo.sample import Arrays, ClipShape


class SampleSize(NamedTuple):
    """What a pipeline makes of one video.

    Args:
        shapes: of each model input, with an axis of views in front where there are several.
        num_views: of a video.
        num_bytes: that a loader process sends.
    """

    shapes: dict[str, tuple[int, ...]]
    num_views: int
    num_bytes: int


def preflight(
    cfg: Config, model: Recognizer, splits: Sequence[str], clips: Sequence[ClipShape] = ()
) -> dict[str, SampleSize]:
    """Try each split's pipeline on a synthetic clip and compare the result with the model's inputs.

    Args:
        clips: shapes that a multigrid plan gives to training clips, tried besides its own.

    Returns:
        per split, the size of a sample.

    Raises:
        ConfigError: a pipeline fails or gives what the model cannot take, with what to change.
    """
    problems: list[str] = []
    sizes: dict[str, SampleSize] = {}
    for split in splits:
        place = f"{cfg.origin.path}: PIPELINE.{split}"
        try:
            pipeline = build_pipeline(cfg, split)
            sample, sizes[split] = _try(model, pipeline)
        except ConfigError as error:
            problems += error.problems
            continue
        except StageError as error:
            height, width = SYNTHETIC_SIZE
            problems.append(f"{place} fails on a synthetic clip of {width}x{height}: {error}")
            continue
        training = split == "train"
        problems += [f"{place}: {text}" for text in model.problems_with(sample, training)]
        if training and not problems:
            problems += [
                text for clip in clips for text in _clip_problems(model, pipeline, clip, place)
            ]
    if problems:
        raise ConfigError(problems)
    return sizes


def first_view(pipeline: Pipeline, sample: Mapping[str, Any]) -> dict[str, Any]:
    """The first view of a sample as the model takes it; all views could be gigabytes of float32."""
    if not pipeline.view_axis:
        return pipeline.finish(dict(sample))
    names = pipeline.batch_specs
    return pipeline.finish({k: a[:1] if k in names else a for k, a in sample.items()})


def batch_of_one(pipeline: Pipeline, sample: Mapping[str, Any]) -> Arrays:
    """The first view of a sample as a batch of one, [1, ...], by the names that the model takes."""
    arrays = {name: sample[name] for name in pipeline.batch_specs}
    arrays = {k: a[:1] if pipeline.view_axis else np.asarray(a)[None] for k, a in arrays.items()}
    return {name: np.asarray(array) for name, array in pipeline.finish(arrays).items()}


def _try(model: Recognizer, pipeline: Pipeline) -> tuple[dict[str, Any], SampleSize]:
    """The first view of a synthetic sample as the model takes it, and the size of all views."""
    complete = pipeline.synthetic()
    num_bytes = sum(array.nbytes for array in complete.values())
    sample = first_view(pipeline, complete)
    shapes = {name: np.shape(sample[name]) for name in model.inputs if name in sample}
    if pipeline.view_axis:
        shapes = {name: (pipeline.num_views, *shape[1:]) for name, shape in shapes.items()}
    return sample, SampleSize(shapes, pipeline.num_views, num_bytes)


def _clip_problems(model: Recognizer, pipeline: Pipeline, clip: ClipShape, place: str) -> list[str]:
    """Why a training clip of another shape does not work; empty where it does."""
    size = f"{clip.num_frames} frames x {clip.crop_size}"
    try:
        shaped = pipeline.shaped(clip)
        sample = shaped.finish(shaped.synthetic())
    except StageError as error:
        return [f"{place} fails at {size}, which MULTIGRID asks for: {error}"]
    problems = [
        f"{place} at {size}, which MULTIGRID asks for: {text}"
        for text in model.problems_with(sample)
    ]
    sides = {np.shape(sample[name])[-2:] for name in model.inputs if name in sample}
    if sides and sides != {(clip.crop_size, clip.crop_size)}:
        problems.append(
            f"{place} gives frames of {sides} pixels at {size}, which MULTIGRID asks for; "
            "cut with MultiCrop"
        )
    return problems
