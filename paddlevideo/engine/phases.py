"""A config's phases: the plan made from its MULTIGRID section, and what each phase means for data, model and learning rate."""

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
    cfg: Config, rule: Any, model: Recognizer, multigrid: bool
) -> tuple[list[Phase], Any]:
    """The phases of a run, one for plain training, and the learning-rate rule over all of them.

    Args:
        rule: the learning-rate rule of the config.
        multigrid: follow the MULTIGRID section; False trains plainly whatever the config says.

    Raises:
        ConfigError: there is no such section, or it does not work out with the sections beside it or with the model.
    """
    if not multigrid:
        return plan(None, BaselineRun(cfg.epochs, cfg.DATASET.batch_size)), rule
    place, spec = cfg.origin.path, cfg.MULTIGRID
    if spec is None:
        raise ConfigError([
            f"{place}: --multigrid needs a MULTIGRID section, which says how clips change; "
            "configs/recognition/slowfast/slowfast_multigrid.yaml has one"
        ])  # fmt: skip
    if cfg.GRADIENT_ACCUMULATION is not None or cfg.sync_bn:
        other = "sync_bn" if cfg.sync_bn else "GRADIENT_ACCUMULATION"
        raise ConfigError(
            [f"{place}: --multigrid chooses batches and their normalisation itself; remove {other}"]
        )
    try:
        phases = plan(spec, plain_of(cfg, build_pipeline(cfg, "train")), rule, model.alpha)
    except ValueError as error:
        raise ConfigError([f"{place}: {error}"]) from error
    splits = max(phase.bn_splits for phase in phases)
    if splits > 1 and not set_norm_splits(model, 1):
        raise ConfigError([
            f"{place}: MULTIGRID normalises batches in {splits} parts, which {cfg.MODEL.name} cannot; "
            "set MULTIGRID.bn_base_size to the largest batch, or take a network with sub-batch norm (ResNetSlowFast)"
        ])  # fmt: skip
    return phases, learning_rate(spec, rule, phases)


def plain_of(cfg: Config, pipeline: Pipeline) -> BaselineRun:
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
    """The batches that the steps of a phase repeat; a plain run leaves the clips to the pipeline."""
    return tuple(BatchShape(step.batch_size, _clip(phase, step)) for step in phase.cycle)


def _clip(phase: Phase, step: StepShape) -> ClipShape | None:
    if not (phase.num_frames and phase.stride and step.crop_size and step.jitter):
        return None
    return ClipShape(phase.num_frames, step.crop_size, phase.stride, step.jitter)


def clip_shapes(phases: Sequence[Phase]) -> list[ClipShape]:
    """Every shape of clip that the phases train on, once; none for a plain run."""
    return list(
        dict.fromkeys(shape.clip for phase in phases for shape in batch_shapes(phase) if shape.clip)
    )


def order_of(
    cfg: Config, phase: Phase, records: RecordList, short_cycle: bool = True
) -> TrainOrder:
    """The batches of this rank in an epoch of the phase.

    Args:
        records: a list of records may have an order of its own, as shards have.
        short_cycle: False takes batches of the phase's own crop alone.

    Raises:
        ValueError: the records do not fill one batch.
    """
    cycle = batch_shapes(phase) if short_cycle else batch_shapes(phase)[-1:]
    return records.order(cycle, cfg.seed, dist.rank(), dist.world_size(), cfg.max_iters)
