"""The phases of a run: the multigrid plan of a config, and what a phase means for the data."""

from collections.abc import Sequence
from typing import Any

from paddlevideo import dist
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.datasets import RecordList
from paddlevideo.data.orders import TrainOrder
from paddlevideo.data.pipeline import Pipeline
from paddlevideo.engine.build import build_pipeline
from paddlevideo.models.base import Recognizer
from paddlevideo.models.layers import set_norm_splits
from paddlevideo.sample import BatchShape, ClipShape
from paddlevideo.solver.multigrid import learning_rate, plan
from paddlevideo.solver.phases import BaselineRun, Phase, StepShape


def phases_of(
    cfg: Config, schedule: Any, model: Recognizer, multigrid: bool
) -> tuple[list[Phase], Any]:
    """(the phases of a run, the learning-rate schedule over all of them).

    Args:
        schedule: of the config.
        multigrid: follow the MULTIGRID section; False gives one phase.

    Raises:
        ConfigError: there is no such section, or it does not fit other sections or the model.
    """
    if not multigrid:
        return plan(None, BaselineRun(cfg.epochs, cfg.DATASET.batch_size)), schedule
    place, spec = cfg.origin.path, cfg.MULTIGRID
    if spec is None:
        raise ConfigError([
            f"{place}: --multigrid needs a MULTIGRID section, which says how clips change; "
            "configs/recognition/slowfast/slowfast_multigrid.yaml has one"
        ])  # fmt: skip
    if schedule is None:
        raise ConfigError([f"{place}: OPTIMIZER is missing; --multigrid changes its learning rate"])
    if cfg.GRADIENT_ACCUMULATION is not None or cfg.sync_bn:
        other = "sync_bn" if cfg.sync_bn else "GRADIENT_ACCUMULATION"
        raise ConfigError([
            f"{place}: --multigrid chooses batches and their normalization itself; remove {other}"
        ])  # fmt: skip
    try:
        baseline = baseline_of(cfg, build_pipeline(cfg, "train"))
        phases = plan(spec, baseline, schedule, model.alpha)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError([f"{place}: {error}"]) from error
    splits = max(phase.bn_splits for phase in phases)
    if splits > 1 and not set_norm_splits(model, 1):
        raise ConfigError([
            f"{place}: MULTIGRID normalizes batches in {splits} parts, which {cfg.MODEL.name} "
            "cannot; set MULTIGRID.bn_base_size to the largest batch, or use a network with "
            "sub-batch norm (ResNetSlowFast)"
        ])  # fmt: skip
    return phases, learning_rate(spec, schedule, phases)


def baseline_of(cfg: Config, pipeline: Pipeline) -> BaselineRun:
    """The run without multigrid, as its training pipeline describes it.

    Raises:
        ValueError: the pipeline has no clips of frames.
    """
    clip = pipeline.clip_settings()
    return BaselineRun(
        cfg.epochs,
        cfg.DATASET.batch_size,
        clip.num_frames,
        clip.crop_size,
        clip.sampling_rate,
        clip.jitter,
    )


def batch_shapes(phase: Phase) -> tuple[BatchShape, ...]:
    """The batches that the steps of a phase repeat; plain training leaves clips to the pipeline."""
    return tuple(BatchShape(step.batch_size, _clip(phase, step)) for step in phase.cycle)


def _clip(phase: Phase, step: StepShape) -> ClipShape | None:
    if not (phase.num_frames and phase.stride and step.crop_size and step.jitter):
        return None
    return ClipShape(phase.num_frames, step.crop_size, phase.stride, step.jitter)


def clip_shapes(phases: Sequence[Phase]) -> list[ClipShape]:
    """The different clip shapes of all phases; none for plain training."""
    shapes = [shape.clip for phase in phases for shape in batch_shapes(phase) if shape.clip]
    return list(dict.fromkeys(shapes))


def order_of(
    cfg: Config, phase: Phase, records: RecordList, short_cycle: bool = True
) -> TrainOrder:
    """The batches of this rank in an epoch of the phase.

    Args:
        records: decide on the kind of order, as shards have their own.
        short_cycle: False uses the last step of the cycle alone, the phase's own crop.

    Raises:
        ValueError: the records do not fill one batch.
    """
    cycle = batch_shapes(phase)
    if not short_cycle:
        cycle = cycle[-1:]
    return records.order(cycle, cfg.seed, dist.rank(), dist.world_size(), cfg.max_iters)
