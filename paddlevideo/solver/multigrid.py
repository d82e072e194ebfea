"""Multigrid training: turns the MULTIGRID section of a config into the phases of a run.

Source: Wu, Girshick, He, Feichtenhofer, Kraehenbuehl, "A Multigrid Method for Efficiently Training
Video Models", CVPR 2020 (arXiv 1912.00998). A long cycle changes the clip shape and the batch size
between phases. A short cycle changes the crop and the batch size between the steps of a phase.
Every step costs about the same.

`plan` is a pure function of the config: it draws no random numbers, has no state and needs no
model. Every rank and every restart computes the same phases. docs/multigrid.md lists where the
paper, PySlowFast and PaddleVideo differ.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from paddlevideo.config.schema import Multigrid
from paddlevideo.solver.lr import CustomWarmupPiecewiseDecay, LearningRateRule
from paddlevideo.solver.multigrid_shapes import RELEASE_SIZES, draft_phase
from paddlevideo.solver.phases import BaselineRun, Phase


def plan(
    spec: Multigrid | None,
    baseline: BaselineRun,
    rule: LearningRateRule | None = None,
    frames_multiple: int = 1,
) -> list[Phase]:
    """Compute the phases of a run, in order and without gaps.

    Args:
        spec: the MULTIGRID section, or None for a run without multigrid.
        baseline: the run that the other sections of the config describe.
        rule: the learning-rate rule; a long cycle reads its `steps` and `gamma`.
        frames_multiple: number that must divide the frames of a clip: a SlowFast network's `alpha`.

    Returns:
        one phase without multigrid or with a short cycle alone. A long cycle has one phase per
        learning rate; the last one has the baseline's clip shape.

    Raises:
        ValueError: a size, factor, batch or schedule does not fit; the message proposes a fix.
    """
    if spec is None or not (spec.LONG_CYCLE or spec.SHORT_CYCLE):
        rate = baseline.sampling_rate
        phase = Phase(
            first=0,
            end=baseline.epochs,
            batch_size=baseline.batch_size,
            num_frames=baseline.num_frames,
            crop_size=baseline.crop_size,
            stride=None if rate is None else (rate, rate),
            jitter=baseline.jitter,
            baseline=baseline,
        )
        return [phase]
    baseline = _completed(spec, baseline)
    _check_sizes(spec, baseline, frames_multiple)
    _check_schedule(spec, baseline, rule)
    if spec.LONG_CYCLE:
        return _long_cycle(spec, baseline, rule, frames_multiple)
    phase = draft_phase(spec, baseline, (1.0, 1.0), "", 1)
    return [replace(phase, end=int(baseline.epochs * spec.epoch_factor))]


def learning_rate(
    spec: Multigrid | None, rule: LearningRateRule, phases: Sequence[Phase]
) -> LearningRateRule:
    """The learning-rate rule over all phases.

    A long cycle multiplies the base rate by the `lr_scale` of each phase; the warm-up keeps its
    epochs and rises to the rate of the first phase. A short cycle alone keeps the rates of the
    rule and stretches its epochs. Without multigrid the rule is unchanged.

    Args:
        spec, rule: as passed to `plan`.
        phases: what `plan` returned.
    """
    if spec is None or not (spec.LONG_CYCLE or spec.SHORT_CYCLE):
        return rule
    if spec.follow_release:
        # PaddleVideo's release uses the rate as written on any number of ranks.
        rule = replace(rule, reference_batch_size=None)
    if not spec.LONG_CYCLE:
        return rule.stretched(spec.epoch_factor)
    assert isinstance(rule, CustomWarmupPiecewiseDecay)  # `plan` accepts no other
    steps, factors = [float(p.first) for p in phases], [p.lr_scale for p in phases]
    return replace(rule, steps=steps, lrs=factors, max_epoch=phases[-1].end)


# --- checks -----------------------------------------------------------------------------------


def _completed(spec: Multigrid, baseline: BaselineRun) -> BaselineRun:
    """Fill gaps of `baseline` from the section's `default_*` keys; 0 takes the other section's."""
    values = {}
    for key, default_key, section in (
        ("batch_size", "default_batch_size", "DATASET.batch_size"),
        ("num_frames", "default_temporal_size", "PIPELINE.train.decode_sampler.num_frames"),
        ("crop_size", "default_crop_size", "the crop of PIPELINE.train"),
    ):
        configured, default = getattr(baseline, key), getattr(spec, default_key)
        if not configured and not default:
            raise ValueError(
                f"MULTIGRID needs {section}, which is missing in this config; add it, or set "
                f"MULTIGRID.{default_key}"
            )
        if configured and default and configured != default:
            raise ValueError(
                f"MULTIGRID.{default_key} is {default}, but {section} is {configured}; set "
                f"MULTIGRID.{default_key} to 0, which uses {configured}"
            )
        values[key] = configured or default
    return replace(baseline, **values)


def _check_sizes(spec: Multigrid, baseline: BaselineRun, frames_multiple: int) -> None:
    num_frames, crop_size, jitter = baseline.num_frames, baseline.crop_size, baseline.jitter
    assert num_frames and crop_size  # `_completed` has filled them
    if baseline.sampling_rate is None or jitter is None:
        missing = "a decode_sampler with a sampling_rate"
        if baseline.sampling_rate is not None:
            missing = "a JitterScale"
        raise ValueError(
            f"MULTIGRID changes the frames and sizes of clips; PIPELINE.train needs {missing}"
        )
    if num_frames % frames_multiple:
        raise ValueError(
            f"a clip has {num_frames} frames, expected a multiple of {frames_multiple}, "
            "the model's alpha"
        )
    if crop_size % 2:
        raise ValueError(
            f"MULTIGRID needs an even crop size, but the crop is {crop_size}; "
            f"use {crop_size - 1} or {crop_size + 1}"
        )
    if spec.follow_release and spec.SHORT_CYCLE and (crop_size, jitter[0]) != RELEASE_SIZES:
        raise ValueError(
            f"MULTIGRID.follow_release needs crop {RELEASE_SIZES[0]} and short side "
            f"{RELEASE_SIZES[1]}, for which the release's short cycle is written; this config "
            f"has {crop_size} and {jitter[0]}: set follow_release to false"
        )


def _check_schedule(spec: Multigrid, baseline: BaselineRun, rule: LearningRateRule | None) -> None:
    if rule is not None and rule.num_epochs not in (None, baseline.epochs):
        raise ValueError(
            f"epochs is {baseline.epochs}, but the learning rate has max_epoch "
            f"{rule.num_epochs}; a multigrid plan covers the complete schedule: set epochs and "
            "OPTIMIZER.learning_rate.max_epoch to the same number, and adapt steps"
        )
    last = rule.changes.get("steps", 0) if rule is not None else 0
    if last > baseline.epochs:
        raise ValueError(
            f"epochs is {baseline.epochs}, but the last step of the learning rate begins at epoch "
            f"{last:g}; a multigrid plan covers the complete schedule: adapt "
            "OPTIMIZER.learning_rate.steps"
        )
    for key, value, usual in (
        ("epoch_factor", spec.epoch_factor, 1.5),
        ("bn_base_size", spec.bn_base_size, 8),
    ):
        if not value > 0:
            raise ValueError(
                f"MULTIGRID.{key} is {value}, expected more than 0 (the paper uses {usual})"
            )


# --- the long cycle ---------------------------------------------------------------------------


class _Part(NamedTuple):
    """A clip shape within a stage, before the epochs are scaled.

    Args:
        stage: index of the learning-rate step.
        draft: a phase whose epochs are still open.
        length: epochs.
    """

    stage: int
    draft: Phase
    length: float


def _long_cycle(
    spec: Multigrid, baseline: BaselineRun, rule: LearningRateRule | None, frames_multiple: int
) -> list[Phase]:
    """The phases of a long cycle.

    Each stage, a step of the learning rate, goes through all clip shapes with equally many
    iterations. Epochs at the baseline's clip shape follow, in proportion to those that the
    baseline run has after its last step.
    """
    if not isinstance(rule, CustomWarmupPiecewiseDecay) or len(rule.steps) < 2:
        raise ValueError(
            "MULTIGRID.LONG_CYCLE goes through the clip shapes once per step of the learning "
            f"rate, but {type(rule).__name__} does not have two steps: use "
            "CustomWarmupPiecewiseDecay with steps, or set LONG_CYCLE: False"
        )
    drafts = [
        draft_phase(spec, baseline, pair, f"MULTIGRID.long_cycle_factors.{i}", frames_multiple)
        for i, pair in enumerate(_long_factors(spec))
    ]
    parts = _parts(drafts, baseline, rule.steps)
    last_stage = len(rule.steps) - 1
    phases: list[Phase] = []
    first = 0
    for part, end in zip(parts, _ends(parts, baseline.epochs * spec.epoch_factor), strict=True):
        period = (end - first) // spec.EVAL_FREQ + 1
        evaluate = tuple(range(end, first, -period))[::-1]
        # The first half of the last stage keeps the rate of the stage before, because its clip
        # shape is new.
        middle = (first + end) // 2 if part.stage == last_stage else first
        for start, stop, power in (
            (first, middle, part.stage - 1),
            (middle, end, part.stage),
        ):
            if start < stop:
                phase = replace(
                    part.draft,
                    first=start,
                    end=stop,
                    lr_scale=rule.gamma**power * (part.draft.batch_size // baseline.batch_size),
                    evaluate=tuple(epoch for epoch in evaluate if start < epoch <= stop),
                )
                phases.append(phase)
        first = end
    return phases


def _parts(drafts: Sequence[Phase], baseline: BaselineRun, steps: Sequence[float]) -> list[_Part]:
    """Split the epochs of the baseline run into stages and clip shapes.

    Within a stage, epochs are proportional to the mean batch size, so that every clip shape gets
    equally many iterations.
    """
    relative_batches = [
        sum(shape.batch_size for shape in draft.cycle) / len(draft.cycle) / baseline.batch_size
        for draft in drafts
    ]
    total = sum(relative_batches)
    parts = [
        _Part(stage, draft, (end - start) * relative / total)
        for stage, (start, end) in enumerate(pairwise(steps))
        for draft, relative in zip(drafts, relative_batches, strict=True)
    ]
    left = baseline.epochs - steps[-1]  # at least 0: the rule and the baseline end together
    if left:
        length = left * relative_batches[-1] * len(drafts) / total
        parts.append(_Part(len(steps) - 1, drafts[-1], length))
    return parts


def _ends(parts: Sequence[_Part], num_epochs: float) -> list[int]:
    """The epoch at which each part ends, if all of them together have `num_epochs` epochs.

    The sums are rounded, not the lengths, so that rounding errors do not add up.
    """
    scale = num_epochs / sum(part.length for part in parts)
    sums = accumulate(part.length for part in parts)
    ends = [math.floor(end * scale + 0.5) for end in sums]
    ends[-1] = int(num_epochs)
    for number, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
        if end <= first:
            shortest = scale * min(part.length for part in parts)
            draft = parts[number - 1].draft
            raise ValueError(
                f"phase {number} of {len(parts)} ({draft.num_frames} frames x {draft.crop_size}) "
                f"gets no epoch of the {ends[-1]}; raise epochs x epoch_factor to about "
                f"{math.ceil(num_epochs / shortest)} (and steps in proportion), or give fewer "
                "MULTIGRID.long_cycle_factors or steps"
            )
    return ends


def _long_factors(spec: Multigrid) -> list[tuple[float, float]]:
    """(temporal, spatial) factors, written in a config as `[t, s]` or `{value: [t, s]}`."""
    pairs = []
    for i, item in enumerate(spec.long_cycle_factors):
        pair: Any = item.get("value") if isinstance(item, Mapping) else item
        is_pair = isinstance(pair, Sequence) and len(pair) == 2
        if not is_pair or not all(0 < factor <= 1 for factor in pair):
            raise ValueError(
                f"MULTIGRID.long_cycle_factors.{i} is {item}, expected [t, s]: factors on the "
                "frames and the crop, above 0 and at most 1"
            )
        pairs.append((float(pair[0]), float(pair[1])))
    if not pairs or pairs[-1] != (1.0, 1.0):
        raise ValueError(
            "MULTIGRID.long_cycle_factors must end with [1, 1], the clip shape of the test"
        )
    return pairs
