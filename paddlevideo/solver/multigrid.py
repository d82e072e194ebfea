"""Multigrid training as data: `plan()` gives the phases of a run, and the one training loop follows them.

Source: Wu, Girshick, He, Feichtenhofer, Kraehenbuehl, "A Multigrid Method for Efficiently Training Video Models", CVPR 2020
(arXiv 1912.00998). A long cycle changes the clip's shape and the batch between phases, a short cycle between the steps of a
phase, so that a step always costs about the same. A run without multigrid is a plan of one phase.

Nothing here draws, keeps state or needs a model: the same arguments give the same plan on every rank and after a restart.
What the method, PySlowFast and PaddleVideo do differently is told in docs/multigrid.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from paddlevideo.sample import whole_batches

RELEASE_SIZES = (
    224,
    256,
)  # crop and short side (pixels) that PaddleVideo's short cycle is written for


@dataclass(frozen=True)
class Plain:
    """The run without multigrid, as the other sections of a config describe it. What only a cycle needs may be None.

    Args:
        epochs: of the plain run.
        batch_size: clips per rank.
        num_frames: of a clip.
        crop_size: side of the square cut (pixels).
        sampling_rate: distance of a clip's frames (frames).
        jitter: smallest and largest short side before the cut (pixels).
    """

    epochs: int
    batch_size: int
    num_frames: int | None = None
    crop_size: int | None = None
    sampling_rate: int | None = None
    jitter: tuple[int, int] | None = None


class ShortStep(NamedTuple):
    """A step of a short cycle: `multiplier` times the phase's batch at this crop, short side from `jitter_min` on (pixels)."""

    crop_size: int
    multiplier: int
    jitter_min: int


class StepShape(NamedTuple):
    """What one step trains on: crop (pixels), clips per rank, smallest and largest short side (pixels)."""

    crop_size: int | None
    batch_size: int
    jitter: tuple[int, int] | None


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to `end - 1`, counted from 0, of one clip shape and one factor of the learning rate.

    Args:
        batch_size: clips per rank at `crop_size`; the smallest of a short cycle.
        num_frames, crop_size, jitter: as in `Plain`; None leaves them to the pipeline.
        stride: smallest and largest distance of a clip's frames, both included; one is drawn per clip.
        plain: the run that this is a phase instead of.
        bn_splits: groups of a batch that are normalised apart; 1 is batch normalisation.
        lr_scale: of the rule's base rate; 1 where the rule alone decides (see `learning_rate`).
        short_cycle: steps that follow one another, from the start of every epoch on; empty for none.
        evaluate: epochs done (counted from 1) after which a long cycle evaluates.
    """

    first: int
    end: int
    batch_size: int
    num_frames: int | None
    crop_size: int | None
    stride: tuple[int, int] | None
    jitter: tuple[int, int] | None
    plain: Plain = field(repr=False)
    bn_splits: int = 1
    lr_scale: float = 1.0
    short_cycle: tuple[ShortStep, ...] = ()
    evaluate: tuple[int, ...] = ()

    @property
    def num_epochs(self) -> int:
        return self.end - self.first

    @property
    def cycle(self) -> tuple[StepShape, ...]:
        """The shapes that the steps of an epoch repeat; a single one without a short cycle."""
        if not self.short_cycle:
            return (StepShape(self.crop_size, self.batch_size, self.jitter),)
        top = self.jitter[1] if self.jitter else 0
        return tuple(
            StepShape(s.crop_size, s.multiplier * self.batch_size, (s.jitter_min, top))
            for s in self.short_cycle
        )


# --- the plan --------------------------------------------------------------------------------------------------------


def plan(spec: Any, plain: Plain, rule: Any = None, frames_multiple: int = 1) -> list[Phase]:
    """The phases of a run, in order, without a gap.

    Args:
        spec: the MULTIGRID section (any object with its keys as attributes), or None for a plain run.
        plain: the run that the sections beside it describe.
        rule: the learning-rate rule; a long cycle reads its `steps`, `gamma` and `max_epoch`.
        frames_multiple: what a clip's frames must divide by, as the `alpha` of a SlowFast network.

    Returns:
        one phase for a plain run or a short cycle alone; for a long cycle one per learning rate, the last at the plain shape.

    Raises:
        ValueError: a size, factor, batch or schedule that does not work out, with the number and what to do.
    """
    if spec is None or not (spec.LONG_CYCLE or spec.SHORT_CYCLE):
        whole = Phase(
            0, plain.epochs, plain.batch_size, plain.num_frames, plain.crop_size, jitter=plain.jitter, plain=plain,
            stride=None if plain.sampling_rate is None else (plain.sampling_rate, plain.sampling_rate),
        )  # fmt: skip
        return [whole]
    plain = _resolved(spec, plain, frames_multiple)
    if getattr(rule, "max_epoch", plain.epochs) != plain.epochs:
        raise ValueError(
            f"epochs is {plain.epochs}, the learning rate is written for max_epoch {rule.max_epoch}; a multigrid plan covers "
            "the whole schedule: set epochs and OPTIMIZER.learning_rate.max_epoch to the same number, and steps to fit"
        )
    for key, usual in (("epoch_factor", 1.5), ("bn_base_size", 8)):
        if not getattr(spec, key) > 0:
            raise ValueError(
                f"MULTIGRID.{key} is {getattr(spec, key)}, expected more than 0 (the method takes {usual})"
            )
    if not spec.LONG_CYCLE:
        return [
            replace(
                _phase(spec, plain, (1.0, 1.0), "", 1), end=int(plain.epochs * spec.epoch_factor)
            )
        ]
    return _long_cycle(spec, plain, rule, frames_multiple)


def _resolved(spec: Any, plain: Plain, frames_multiple: int) -> Plain:
    """`plain` with the gaps filled from the section's `default_*`, of which 0 means: as the other sections say."""
    filled = {}
    for key, own, where in (
        ("batch_size", "default_batch_size", "DATASET.batch_size"),
        ("num_frames", "default_temporal_size", "PIPELINE.train.decode_sampler.num_frames"),
        ("crop_size", "default_crop_size", "the crop of PIPELINE.train"),
    ):
        said, given = getattr(plain, key), getattr(spec, own)
        if not said and not given:
            raise ValueError(
                f"MULTIGRID needs {where}, which this config does not say; add it, or set MULTIGRID.{own}"
            )
        if said and given and said != given:
            raise ValueError(
                f"MULTIGRID.{own} is {given}, {where} is {said}; set the first to 0, which takes the other"
            )
        filled[key] = said or given
    if plain.sampling_rate is None or plain.jitter is None:
        what = "a JitterScale" if plain.sampling_rate else "a decode_sampler with a sampling_rate"
        raise ValueError(
            f"MULTIGRID changes frames and sizes of clips; PIPELINE.train needs {what}"
        )
    if filled["num_frames"] % frames_multiple:
        raise ValueError(
            f"a clip has {filled['num_frames']} frames, expected a multiple of {frames_multiple}, the model's alpha"
        )
    if filled["crop_size"] % 2:
        raise ValueError(
            f"MULTIGRID takes shares of an even crop, this one is {filled['crop_size']}; add or take a pixel"
        )
    if (
        getattr(spec, "follow_release", False)
        and spec.SHORT_CYCLE
        and (filled["crop_size"], plain.jitter[0]) != RELEASE_SIZES
    ):
        raise ValueError(
            f"MULTIGRID.follow_release repeats a short cycle that is fixed to crop {RELEASE_SIZES[0]} and short side "
            f"{RELEASE_SIZES[1]}; this config has {filled['crop_size']} and {plain.jitter[0]}: set it to false"
        )
    return replace(plain, **filled)


def _long_cycle(spec: Any, plain: Plain, rule: Any, frames_multiple: int) -> list[Phase]:
    """One pass over the shapes per stage of the learning rate, all shapes of a stage with equally many iterations; then
    epochs at the plain shape, in proportion to those that the plain run has after its last step."""
    steps, gamma = getattr(rule, "steps", None), getattr(rule, "gamma", None)
    if steps is None or gamma is None or len(steps) < 2:
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE makes a pass over the clip shapes per step of the learning rate; {type(rule).__name__} has "
            "no two steps: use CustomWarmupPiecewiseDecay with steps, or set LONG_CYCLE: False"
        )
    factors = _long_factors(spec)
    names = [f"MULTIGRID.long_cycle_factors.{place}" for place in range(len(factors))]
    drafts = [
        _phase(spec, plain, pair, name, frames_multiple)
        for pair, name in zip(factors, names, strict=True)
    ]
    mean = [sum(s.batch_size for s in d.cycle) / len(d.cycle) / plain.batch_size for d in drafts]
    total = sum(mean)

    # (stage, draft, epochs before they are scaled): epochs go with the mean batch, so that iterations are shared evenly.
    lengths = [
        (k, i, (b - a) * m / total)
        for k, (a, b) in enumerate(pairwise(steps))
        for i, m in enumerate(mean)
    ]
    left = plain.epochs - steps[-1]
    if left < 0:
        raise ValueError(
            f"OPTIMIZER.learning_rate.steps ends at {steps[-1]}, beyond the {plain.epochs} epochs; lower it"
        )
    if left:
        lengths.append((len(steps) - 1, len(drafts) - 1, left * mean[-1] * len(mean) / total))

    # Ends are rounded sums, so that rounding errors do not add up; the last is whole epochs of the stretched run.
    wanted = plain.epochs * spec.epoch_factor
    scale = wanted / sum(length for _, _, length in lengths)
    ends = [math.floor(end * scale + 0.5) for end in accumulate(length for _, _, length in lengths)]
    ends[-1] = int(wanted)
    phases: list[Phase] = []
    for number, ((stage, i, _), first, end) in enumerate(
        zip(lengths, [0, *ends[:-1]], ends, strict=True)
    ):
        if end <= first:
            smallest = scale * min(length for _, _, length in lengths)
            raise ValueError(
                f"phase {number + 1} of {len(lengths)} ({drafts[i].num_frames} frames x {drafts[i].crop_size}) gets no epoch "
                f"of the {ends[-1]}; raise epochs x epoch_factor to about {math.ceil(wanted / smallest)} (steps in proportion) "
                "or give fewer MULTIGRID.long_cycle_factors or steps"
            )
        period = (end - first) // getattr(spec, "EVAL_FREQ", 3) + 1
        due = tuple(range(end, first, -period))[::-1]
        half = (first + end) // 2 if stage == len(steps) - 1 else first
        # The last stage keeps the rate for its first half: what is new there is the shape.
        for a, b, power in ((first, half, stage - 1), (half, end, stage)):
            if a < b:
                lr_scale = gamma**power * (drafts[i].batch_size // plain.batch_size)
                part = tuple(e for e in due if a < e <= b)
                phases.append(replace(drafts[i], first=a, end=b, lr_scale=lr_scale, evaluate=part))
    return phases


def _phase(
    spec: Any, plain: Plain, factors: tuple[float, float], name: str, frames_multiple: int
) -> Phase:
    """A phase, its epochs still open, whose clips have these (temporal, spatial) shares of the plain shape."""
    assert plain.num_frames and plain.crop_size and plain.sampling_rate and plain.jitter
    release, crop_of_plain, (low, top) = (
        getattr(spec, "follow_release", False),
        plain.crop_size,
        plain.jitter,
    )
    frames = _nearest(plain.num_frames * factors[0])
    if frames < 1 or frames % frames_multiple:
        raise ValueError(
            f"{name}: {factors[0]:g} of {plain.num_frames} frames is {frames}, expected a multiple of {frames_multiple} "
            f"(the model's alpha); use {_closest(frames, frames_multiple) / plain.num_frames:g}, or another alpha"
        )
    crop = _even(factors[1], plain.crop_size, name)
    relative = _nearest(plain.num_frames * plain.crop_size**2 / (frames * crop**2))
    batch = relative * plain.batch_size
    fastest = plain.sampling_rate * (plain.num_frames // frames)
    if spec.long_cycle_sampling_rate:
        if spec.long_cycle_sampling_rate < plain.sampling_rate:
            raise ValueError(
                f"MULTIGRID.long_cycle_sampling_rate is {spec.long_cycle_sampling_rate}, below the sampling_rate "
                f"{plain.sampling_rate}; set it to 0, which spans the time of a whole clip"
            )
        fastest = min(fastest, spec.long_cycle_sampling_rate)

    def jitter_min(size: int) -> int:
        return _nearest(low * size / crop_of_plain)

    lowest = low if release else jitter_min(crop)
    short: tuple[ShortStep, ...] = ()
    if spec.SHORT_CYCLE:
        # No step is larger than its phase: the batch of one that were would shrink below the phase's.
        sizes = [min(crop, size) for size in _short_sizes(spec, plain.crop_size)]
        short = tuple(
            ShortStep(size, _nearest((crop / size) ** 2), jitter_min(size)) for size in sizes
        )
        short += (ShortStep(crop, 1, lowest),)
    strides = (plain.sampling_rate, plain.sampling_rate if release else fastest)
    splits = max(1, batch // spec.bn_base_size)
    phase = Phase(
        0, 1, batch, frames, crop, strides, (lowest, top), plain, splits, short_cycle=short
    )
    for step in phase.cycle:
        if step.batch_size % phase.bn_splits:
            raise ValueError(
                f"a batch of {step.batch_size} clips ({frames} frames x {step.crop_size}) cannot be normalised in "
                f"{phase.bn_splits} equal groups of about MULTIGRID.bn_base_size {spec.bn_base_size}; set bn_base_size to "
                f"{plain.batch_size}, the plain batch per rank, or make that a multiple of {spec.bn_base_size}"
            )
    return phase


def _long_factors(spec: Any) -> list[tuple[float, float]]:
    """(temporal, spatial) shares, written as `[t, s]` or `{value: [t, s]}`."""
    pairs = []
    for place, item in enumerate(spec.long_cycle_factors):
        pair = item.get("value") if isinstance(item, Mapping) else getattr(item, "value", item)
        if (
            not isinstance(pair, Sequence)
            or len(pair) != 2
            or not all(0 < share <= 1 for share in pair)
        ):
            raise ValueError(
                f"MULTIGRID.long_cycle_factors.{place} is {item}, expected [t, s]: shares of frames and crop, above 0, up to 1"
            )
        pairs.append((float(pair[0]), float(pair[1])))
    if not pairs or pairs[-1] != (1.0, 1.0):
        raise ValueError(
            "MULTIGRID.long_cycle_factors must end with [1, 1]: a run ends at the shape that it is tested at"
        )
    return pairs


def _short_sizes(spec: Any, crop: int) -> list[int]:
    names = {
        f"MULTIGRID.short_cycle_factors.{place}": share
        for place, share in enumerate(spec.short_cycle_factors)
    }
    for name, share in names.items():
        if not 0 < share <= 1:
            raise ValueError(f"{name} is {share}, expected a share of the crop, above 0, up to 1")
    return [_even(share, crop, name) for name, share in names.items()]


def _even(share: float, crop: int, name: str) -> int:
    """The whole number of pixels nearest to a share of the crop; an odd one would not halve in the network's first layer."""
    size = _nearest(crop * share)
    if size % 2 or not size:
        fitting = _closest(crop * share, 2)
        # As few digits as bring the share to that size.
        texts = (f"{fitting / crop:.{digits}f}" for digits in range(1, 17))
        better = next(text for text in texts if _nearest(crop * float(text)) == fitting)
        raise ValueError(
            f"{name}: {share:g} of a crop of {crop} pixels gives {size}, an odd or empty size; {better} gives {fitting}"
        )
    return size


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def _closest(value: float, multiple: int) -> int:
    return max(1, _nearest(value / multiple)) * multiple


# --- the learning rate -------------------------------------------------------------------------------------------------


def learning_rate(spec: Any, rule: Any, phases: Sequence[Phase]) -> Any:
    """The rule for the whole plan: fractional epoch (an epoch plus the share of its own steps) -> learning rate.

    A long cycle multiplies the base rate with `lr_scale` of each phase; the warm-up keeps its epochs and rises to the first
    phase's rate. A short cycle alone keeps the rule's values and stretches its epochs. A plain run keeps the rule. `spec` and
    `rule` are those that `plan` took.
    """
    if spec is None or not (spec.LONG_CYCLE or spec.SHORT_CYCLE):
        return rule
    # The release trains on any number of ranks with the rate as written.
    changes: dict[str, Any] = (
        {"reference_batch_size": None} if getattr(spec, "follow_release", False) else {}
    )
    if spec.LONG_CYCLE:
        steps, lrs = [p.first for p in phases], [p.lr_scale for p in phases]
        return replace(rule, steps=steps, lrs=lrs, max_epoch=phases[-1].end, **changes)
    for key in (f.name for f in fields(rule)):
        if key in ("max_epoch", "T_max"):
            changes[key] = int(getattr(rule, key) * spec.epoch_factor)
        elif key in ("steps", "boundaries"):
            changes[key] = [int(epoch * spec.epoch_factor) for epoch in getattr(rule, key)]
    return replace(rule, **changes)


# --- questions to a plan -----------------------------------------------------------------------------------------------


def phase_at(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase that holds `epoch`, counted from 0.

    Raises:
        ValueError: the plan does not reach it.
    """
    for phase in phases:
        if phase.first <= epoch < phase.end:
            return phase
    raise ValueError(f"the plan has epochs 0 to {phases[-1].end - 1}, asked for {epoch}")


def short_cycle(step: int, phase: Phase) -> StepShape:
    """(crop, clips per rank, jitter) of a step, counted from 0 in its epoch: nothing else counts, so all ranks agree."""
    return phase.cycle[step % len(phase.cycle)]


def steps_per_epoch(phase: Phase, num_records: int, world_size: int = 1) -> int:
    """Steps until the next one would want more records than are left; no record is used twice in an epoch."""
    return whole_batches([shape.batch_size * world_size for shape in phase.cycle], num_records)


def evaluates(phases: Sequence[Phase], done: int, val_interval: int = 1) -> bool:
    """Whether to evaluate after `done` epochs: as the long cycle says, else every `val_interval`; always after the last."""
    due = phase_at(phases, done - 1).evaluate
    scheduled = any(p.evaluate for p in phases)
    return done == phases[-1].end or (done in due if scheduled else done % val_interval == 0)


def saves(phases: Sequence[Phase], done: int, save_interval: int = 1) -> bool:
    """Whether to keep a checkpoint after `done` epochs: epochs 1, 1 + save_interval, ..., the last, and those that a long
    cycle evaluates, which include the end of every shape."""
    return (
        (done - 1) % save_interval == 0
        or done == phases[-1].end
        or done in phase_at(phases, done - 1).evaluate
    )


def relative_cost(phase: Phase) -> float:
    """Multiplications per clip, as frames x pixels averaged over the short cycle, over those of the plain shape."""
    plain = phase.plain
    if not (plain.num_frames and plain.crop_size and phase.num_frames):
        return 1.0  # a plain run whose pipeline names no sizes
    pixels = sum(shape.batch_size * shape.crop_size**2 for shape in phase.cycle if shape.crop_size)
    clips = sum(shape.batch_size for shape in phase.cycle)
    return phase.num_frames * pixels / clips / (plain.num_frames * plain.crop_size**2)


def saving(phases: Sequence[Phase]) -> float:
    """How many times less a plan multiplies than the plain run on as many records an epoch."""
    return phases[0].plain.epochs / sum(p.num_epochs * relative_cost(p) for p in phases)


def describe(
    phases: Sequence[Phase],
    rate: Callable[[float], float],
    num_records: int | None = None,
    world_size: int = 1,
) -> str:
    """The plan as a table, a phase a line, and its total against the plain run.

    Args:
        rate: learning rate of an epoch, all scales included.
        num_records: adds the steps of an epoch.
        world_size: ranks; batches are shown per rank.
    """
    rows = [
        [
            "phase",
            "epochs",
            "frames x crop",
            "stride",
            "clips per rank at crop",
            "BN splits",
            "learning rate",
            "cost",
        ]
    ]
    rows[0] += ["steps"] * (num_records is not None)
    for number, p in enumerate(phases, 1):
        shapes = ", ".join(
            f"{s.batch_size}" + (f" at {s.crop_size}" if s.crop_size else "") for s in p.cycle
        )
        rates = dict.fromkeys(f"{rate(float(epoch)):.3g}" for epoch in (p.first, p.end - 1))
        size = f"{p.num_frames} x {p.crop_size}" if p.num_frames and p.crop_size else "-"
        stride = "-" if p.stride is None else " to ".join(dict.fromkeys(map(str, p.stride)))
        row = [
            str(number),
            f"{p.first + 1}-{p.end}",
            size,
            stride,
            shapes,
            str(p.bn_splits),
            " to ".join(rates),
        ]
        steps = [] if num_records is None else [str(steps_per_epoch(p, num_records, world_size))]
        rows.append([*row, f"{relative_cost(p):.3f}", *steps])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    before, work = phases[0].plain.epochs, sum(p.num_epochs * relative_cost(p) for p in phases)
    lines.append(
        f"total: {phases[-1].end} epochs that cost as much as {work:.1f} plain ones; plain training has {before}: "
        f"{saving(phases):.2f} times less work"
    )
    if num_records is not None:
        total = sum(p.num_epochs * steps_per_epoch(p, num_records, world_size) for p in phases)
        lines.append(f"       {total} steps on {world_size} rank(s), {num_records} records")
    return "\n".join(lines)
