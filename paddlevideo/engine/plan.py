"""The plan of a run: phases, steps, learning rate, gradient accumulation."""

from dataclasses import dataclass
from typing import Any

from paddlevideo import dist
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.datasets import RecordList
from paddlevideo.engine.phases import order_of
from paddlevideo.log import logger
from paddlevideo.solver.phases import Phase, plan_table


@dataclass(frozen=True)
class Plan:
    """What happens when: phases of training, their steps, the learning rate.

    Args:
        phases: one for plain training.
        steps: for each phase, its steps per epoch.
        schedule: fractional epoch -> learning rate.
        lr_scale: factor on the schedule, for the global batch size.
        accumulate: batches per optimizer step.
        table: the multigrid plan as text, "" for plain training.
    """

    phases: list[Phase]
    steps: list[int]
    schedule: Any
    lr_scale: float
    accumulate: int
    table: str = ""

    @property
    def num_epochs(self) -> int:
        return self.phases[-1].end

    def steps_before(self, epoch: int) -> int:
        """Steps of all epochs before this one, counted from 0."""
        total = 0
        for phase, steps in zip(self.phases, self.steps, strict=True):
            total += steps * min(max(epoch - phase.first, 0), phase.num_epochs)
        return total

    def lr(self, epoch: int, step: int, num_steps: int) -> float:
        """The learning rate of step `step` of an epoch with `num_steps` steps."""
        at = epoch + step / num_steps if self.schedule.iter_step else epoch
        return self.lr_scale * self.schedule(at)


def make_plan(
    cfg: Config, phases: list[Phase], schedule: Any, records: RecordList, multigrid: bool
) -> Plan:
    """Make the plan of a run from its phases, schedule, batch size and ranks."""
    steps = [len(order_of(cfg, phase, records)) for phase in phases]
    accumulate = accumulation(cfg, steps[0])
    global_batch = cfg.DATASET.batch_size * dist.world_size()
    schedule = schedule.with_epoch_size(steps[0] * global_batch)
    # The scale belongs to the plain batch size, even where a multigrid phase uses another.
    lr_scale = linear_scale(schedule.reference_batch_size, global_batch * accumulate)
    table = ""
    if multigrid:
        table = plan_table(
            phases,
            lambda epoch: lr_scale * schedule(epoch),
            len(records.records),
            dist.world_size(),
        )
    return Plan(phases, steps, schedule, lr_scale, accumulate, table)


def accumulation(cfg: Config, num_steps: int) -> int:
    """Batches per optimizer step, from GRADIENT_ACCUMULATION.global_batch_size.

    Raises:
        ConfigError: it is not a multiple of ranks x batch size, or an epoch is too short for one
            step.
    """
    if cfg.GRADIENT_ACCUMULATION is None:
        return 1
    wanted = cfg.GRADIENT_ACCUMULATION.global_batch_size
    batch = cfg.DATASET.batch_size * dist.world_size()
    if wanted % batch or wanted < batch:
        raise ConfigError([
            f"{cfg.origin.path}: GRADIENT_ACCUMULATION.global_batch_size is {wanted}, expected a "
            f"multiple of {batch} (batch_size {cfg.DATASET.batch_size} x {dist.world_size()} ranks)"
        ])  # fmt: skip
    if wanted // batch > num_steps:
        raise ConfigError([
            f"{cfg.origin.path}: GRADIENT_ACCUMULATION.global_batch_size {wanted} needs "
            f"{wanted // batch} batches, an epoch has {num_steps}; make it smaller"
        ])  # fmt: skip
    return wanted // batch


def linear_scale(reference: int | None, global_batch: int) -> float:
    """Factor on the learning rate: real global batch / `reference_batch_size`; 1 without one."""
    if reference is None:
        logger.info(
            f"learning rate as written, for a global batch of {global_batch} "
            "(reference_batch_size would scale it)"
        )
        return 1.0
    scale = global_batch / reference
    logger.info(f"learning rate x {scale:g}: global batch {global_batch}, written for {reference}")
    return scale
