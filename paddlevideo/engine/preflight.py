"""Try pipelines on synthetic data against the model, before any real file is opened."""

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from paddle import nn

from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.pipeline import SYNTHETIC_SIZE, ClipPipeline, StageError
from paddlevideo.engine.build import build_pipeline
from paddlevideo.media.clip import ArrayClip
from paddlevideo.sample import Arrays, ClipShape, Record, Sample


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
            sample = pipeline.finish(
                {k: a[:1] if views > 1 else a for k, a in pipeline.synthetic().items()}
            )
        except ConfigError as error:
            problems += error.problems
            continue
        except StageError as error:
            problems.append(
                f"{place} fails on a made-up clip of {SYNTHETIC_SIZE[1]}x{SYNTHETIC_SIZE[0]}: {error}"
            )
            continue
        found = {name: np.shape(sample[name]) for name in model.inputs if name in sample}
        shapes[split] = {
            name: (views, *shape[1:]) if views > 1 else shape for name, shape in found.items()
        }
        problems += [f"{place}: {text}" for text in _misfits(model, sample)]
        if (
            split == "train"
            and "audio_negative" in getattr(model, "train_inputs", ())
            and "audio_negative" not in sample
        ):
            problems.append(
                f"{place}: the model learns which sound belongs to a clip, for which it takes 'audio_negative'; set "
                "misaligned: True in PIPELINE.train.audio, or MODEL.sync_weight: 0 to learn from labels alone"
            )
        if split == "train" and hasattr(
            model, "clips_of"
        ):  # of a distillation: each of its models takes its own
            try:
                model.clips_of(
                    {
                        k: paddle.to_tensor(sample[k]).unsqueeze(0)
                        for k in model.train_inputs
                        if k in sample
                    }
                )
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
            problems += [
                f"{place} at {size}, which MULTIGRID asks for: {text}"
                for text in _misfits(model, sample)
            ]
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
            hint = (
                "; '- PackOutput: {alpha: 8}' as its last step makes slow and fast of frames"
                if "frames" in sample
                else ""
            )
            problems.append(
                f"the model takes {', '.join(inputs)}; the pipeline gives no {name!r}{hint}"
            )
            continue
        array, wanted = np.asarray(sample[name]), spec.shape[1:]
        shape = array.shape[1:] if array.ndim == len(wanted) + 1 else array.shape
        fits = len(shape) == len(wanted) and all(
            w in (None, s) for s, w in zip(shape, wanted, strict=True)
        )
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


def synthetic_sample(pipeline: ClipPipeline, height: int, width: int) -> Sample:
    """What a pipeline makes of a made-up video of this size (pixels), by the names that travel; sound has no size."""
    if "frames" not in pipeline.batch_specs:
        sample = pipeline.synthetic()
    else:
        frames = np.broadcast_to(np.uint8(128), (300, height, width, 3))
        sample = pipeline(Record("a made-up clip"), np.random.default_rng(0), ArrayClip(frames))
    return {name: sample[name] for name in pipeline.batch_specs}


def first_view(pipeline: ClipPipeline, sample: Sample) -> Arrays:
    """The first view of a sample as a model takes it, [1, ...]; all views of a video would be gigabytes of float32."""
    view = pipeline.finish(
        {name: array[:1] if pipeline.view_axis else array[None] for name, array in sample.items()}
    )
    return {name: np.asarray(array) for name, array in view.items()}
