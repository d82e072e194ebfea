"""The phases of a training run: what each trains on, when it evaluates, and what it costs.

`solver/multigrid.py` makes the phases from a config before anything is built. A run without
multigrid is one phase, and one training loop follows either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from paddlevideo.sample import num_full_batches


@dataclass(frozen=True)
class BaselineRun:
    """The run without multigrid, as the other sections of a config describe it.

    Only multigrid needs the values that may be None.

    Args:
        epochs: number of epochs.
        batch_size: clips per rank.
        num_frames: frames of a clip.
        crop_size: side of the square crop (pixels).
        sampling_rate: distance between neighboring frames of a clip (frames).
        jitter: smallest and largest short side before the crop (pixels).
    """

    epochs: int
    batch_size: int
    num_frames: int | None = None
    crop_size: int | None = None
    sampling_rate: int | None = None
    jitter: tuple[int, int] | None = None


class ShortStep(NamedTuple):
    """One step of a short cycle.

    Args:
        crop_size: side of the crop (pixels).
        multiplier: factor on the phase's batch size.
        jitter_min: smallest short side before the crop (pixels).
    """

    crop_size: int
    multiplier: int
    jitter_min: int


class StepShape(NamedTuple):
    """What one step trains on.

    Args:
        crop_size: side of the crop (pixels).
        batch_size: clips per rank.
        jitter: smallest and largest short side before the crop (pixels).
    """

    crop_size: int | None
    batch_size: int
    jitter: tuple[int, int] | None


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to `end - 1`, from 0, with one clip shape and one learning-rate factor.

    Args:
        batch_size: clips per rank at `crop_size`; the smallest batch of a short cycle.
        num_frames, crop_size, jitter: as in `BaselineRun`; None leaves them to the pipeline.
        stride: smallest and largest distance between neighboring frames of a clip (frames), both
            included; the sampler draws one per clip.
        baseline: the run without multigrid.
        bn_splits: groups of a batch that are normalized separately; 1 is batch normalization.
        lr_scale: factor on the base rate of the learning-rate rule; 1 if the rule alone decides
            (see `multigrid.learning_rate`).
        short_cycle: steps that an epoch repeats from its start on; empty for none.
        evaluate: numbers of epochs done after which a long cycle evaluates.
    """

    first: int
    end: int
    batch_size: int
    num_frames: int | None
    crop_size: int | None
    stride: tuple[int, int] | None
    jitter: tuple[int, int] | None
    baseline: BaselineRun = field(repr=False)
    bn_splits: int = 1
    lr_scale: float = 1.0
    short_cycle: tuple[ShortStep, ...] = ()
    evaluate: tuple[int, ...] = ()

    @property
    def num_epochs(self) -> int:
        return self.end - self.first

    @property
    def cycle(self) -> tuple[StepShape, ...]:
        """The shapes that the steps of an epoch repeat; one without a short cycle.

        They depend on the step within the epoch alone, so all ranks agree.
        """
        if not self.short_cycle:
            return (StepShape(self.crop_size, self.batch_size, self.jitter),)
        jitter_max = self.jitter[1] if self.jitter else 0
        return tuple(
            StepShape(s.crop_size, s.multiplier * self.batch_size, (s.jitter_min, jitter_max))
            for s in self.short_cycle
        )


def phase_at(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase that contains `epoch`, counted from 0.

    Raises:
        ValueError: no phase contains it.
    """
    for phase in phases:
        if phase.first <= epoch < phase.end:
            return phase
    raise ValueError(f"the plan has epochs 0 to {phases[-1].end - 1}, but not epoch {epoch}")


def steps_per_epoch(phase: Phase, num_records: int, world_size: int = 1) -> int:
    """Complete steps of an epoch, over all ranks; an epoch uses no record twice."""
    return num_full_batches([shape.batch_size * world_size for shape in phase.cycle], num_records)


def evaluates(phases: Sequence[Phase], epochs_done: int, val_interval: int = 1) -> bool:
    """Whether to evaluate after `epochs_done` epochs.

    A long cycle has its own schedule, `Phase.evaluate`; other runs evaluate every `val_interval`
    epochs. The last epoch is always evaluated.
    """
    if epochs_done == phases[-1].end:
        return True
    if any(phase.evaluate for phase in phases):
        return epochs_done in phase_at(phases, epochs_done - 1).evaluate
    return epochs_done % val_interval == 0


def saves(phases: Sequence[Phase], epochs_done: int, save_interval: int = 1) -> bool:
    """Whether to keep a checkpoint after `epochs_done` epochs.

    Kept are epochs 1, 1 + save_interval, ..., the last one, and those that a long cycle evaluates,
    which include the last epoch of every clip shape.
    """
    return (
        (epochs_done - 1) % save_interval == 0
        or epochs_done == phases[-1].end
        or epochs_done in phase_at(phases, epochs_done - 1).evaluate
    )


# --- cost -------------------------------------------------------------------------------------


def relative_cost(phase: Phase) -> float:
    """Multiplications per clip relative to a clip of the baseline.

    Multiplications are proportional to frames x pixels; they are averaged over the short cycle.
    """
    baseline = phase.baseline
    if not (baseline.num_frames and baseline.crop_size and phase.num_frames):
        return 1.0  # a baseline run whose pipeline reports no sizes
    pixels = sum(shape.batch_size * shape.crop_size**2 for shape in phase.cycle if shape.crop_size)
    clips = sum(shape.batch_size for shape in phase.cycle)
    return phase.num_frames * pixels / clips / (baseline.num_frames * baseline.crop_size**2)


def total_cost(phases: Sequence[Phase]) -> float:
    """Multiplications of all phases, in epochs of the baseline."""
    return sum(phase.num_epochs * relative_cost(phase) for phase in phases)


def cost_reduction(phases: Sequence[Phase]) -> float:
    """Multiplications of the baseline over those of the phases, for equal records per epoch."""
    return phases[0].baseline.epochs / total_cost(phases)


# --- text -------------------------------------------------------------------------------------

_COLUMNS = (
    "phase", "epochs", "frames x crop", "stride", "clips per rank at crop", "BN splits",
    "learning rate", "cost",
)  # fmt: skip


def plan_table(
    phases: Sequence[Phase],
    rate: Callable[[float], float],
    num_records: int | None = None,
    world_size: int = 1,
) -> str:
    """The phases as a text table with one row each, and their total cost.

    A checkpoint stores a checksum of this text and refuses to resume with another plan
    (`engine/run.py`). Therefore the text must not change.

    Args:
        rate: learning rate of an epoch, with all scales applied.
        num_records: number of training records, which adds the steps of an epoch.
        world_size: number of ranks; batches are shown per rank.
    """
    rows: list[list[str]] = [[*_COLUMNS]]
    if num_records is not None:
        rows[0].append("steps")
    for number, phase in enumerate(phases, 1):
        row = _table_row(number, phase, rate)
        if num_records is not None:
            row.append(str(steps_per_epoch(phase, num_records, world_size)))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.append(
        f"total: {phases[-1].end} epochs that cost as much as {total_cost(phases):.1f} plain "
        f"ones; plain training has {phases[0].baseline.epochs}: "
        f"{cost_reduction(phases):.2f} times less work"
    )
    if num_records is not None:
        total = sum(p.num_epochs * steps_per_epoch(p, num_records, world_size) for p in phases)
        lines.append(f"       {total} steps on {world_size} rank(s), {num_records} records")
    return "\n".join(lines)


def _table_row(number: int, phase: Phase, rate: Callable[[float], float]) -> list[str]:
    shapes = [
        f"{shape.batch_size} at {shape.crop_size}" if shape.crop_size else f"{shape.batch_size}"
        for shape in phase.cycle
    ]
    rates = dict.fromkeys(f"{rate(float(epoch)):.3g}" for epoch in (phase.first, phase.end - 1))
    has_sizes = phase.num_frames and phase.crop_size
    strides = ["-"] if phase.stride is None else dict.fromkeys(map(str, phase.stride))
    return [
        str(number),
        f"{phase.first + 1}-{phase.end}",
        f"{phase.num_frames} x {phase.crop_size}" if has_sizes else "-",
        " to ".join(strides),
        ", ".join(shapes),
        str(phase.bn_splits),
        " to ".join(rates),
        f"{relative_cost(phase):.3f}",
    ]
