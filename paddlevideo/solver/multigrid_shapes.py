"""The clip shapes and batches of one multigrid phase, computed from the baseline's clip.

See `solver/multigrid.py` for the method and its source.
"""

import math

from paddlevideo.config.schema import Multigrid
from paddlevideo.solver.phases import BaselineRun, Phase, ShortStep

# Crop and smallest short side (pixels) that PaddleVideo's short cycle is written for.
RELEASE_SIZES = (224, 256)


def draft_phase(
    spec: Multigrid,
    baseline: BaselineRun,
    factors: tuple[float, float],
    name: str,
    frames_multiple: int,
) -> Phase:
    """Compute a phase from its factors on the baseline's clip shape; its epochs are still open.

    Args:
        baseline: all of its values are known.
        factors: (temporal, spatial) factors on the frames and the crop.
        name: key of the factors, for messages.
        frames_multiple: number that must divide the frames of a clip.

    Raises:
        ValueError: a size or a batch does not fit; the message proposes a fix.
    """
    assert baseline.num_frames and baseline.crop_size
    assert baseline.sampling_rate and baseline.jitter
    jitter_min, jitter_max = baseline.jitter
    num_frames = _round(baseline.num_frames * factors[0])
    if num_frames < 1 or num_frames % frames_multiple:
        better = _closest_multiple(num_frames, frames_multiple) / baseline.num_frames
        raise ValueError(
            f"{name}: {factors[0]:g} of {baseline.num_frames} frames is {num_frames}, expected a "
            f"multiple of {frames_multiple} (the model's alpha); use {better:g}, or another alpha"
        )
    crop_size = _even_size(factors[1], baseline.crop_size, name)
    pixels, baseline_pixels = crop_size**2, baseline.crop_size**2
    batch_size = baseline.batch_size * _round(
        baseline.num_frames * baseline_pixels / (num_frames * pixels)
    )
    if not spec.follow_release:
        jitter_min = _round(jitter_min * crop_size / baseline.crop_size)
    phase = Phase(
        first=0,
        end=1,
        batch_size=batch_size,
        num_frames=num_frames,
        crop_size=crop_size,
        stride=(baseline.sampling_rate, _largest_stride(spec, baseline, num_frames)),
        jitter=(jitter_min, jitter_max),
        baseline=baseline,
        bn_splits=max(1, batch_size // spec.bn_base_size),
        short_cycle=_short_cycle(spec, baseline, crop_size, jitter_min),
    )
    _check_groups(phase, spec.bn_base_size)
    return phase


def _largest_stride(spec: Multigrid, baseline: BaselineRun, num_frames: int) -> int:
    """The largest distance between the frames of a clip (frames).

    With it a clip of `num_frames` covers the same time as a clip of the baseline.
    """
    assert baseline.num_frames and baseline.sampling_rate
    rate, limit = baseline.sampling_rate, spec.long_cycle_sampling_rate
    if limit and limit < rate:
        raise ValueError(
            f"MULTIGRID.long_cycle_sampling_rate is {limit}, below the sampling_rate {rate}; "
            "set it to 0, which covers the time of a baseline clip"
        )
    if spec.follow_release:
        return rate
    stride = rate * (baseline.num_frames // num_frames)
    return min(stride, limit) if limit else stride


def _short_cycle(
    spec: Multigrid, baseline: BaselineRun, crop_size: int, jitter_min: int
) -> tuple[ShortStep, ...]:
    """The steps of a phase's short cycle: smaller crops first, then the phase's own crop."""
    if not spec.SHORT_CYCLE:
        return ()
    assert baseline.crop_size and baseline.jitter
    steps = []
    for i, factor in enumerate(spec.short_cycle_factors):
        name = f"MULTIGRID.short_cycle_factors.{i}"
        if not 0 < factor <= 1:
            raise ValueError(
                f"{name} is {factor}, expected a factor on the crop, above 0 and at most 1"
            )
        # No step is larger than its phase: its batch would be smaller than the phase's.
        size = min(crop_size, _even_size(factor, baseline.crop_size, name))
        shortest = _round(baseline.jitter[0] * size / baseline.crop_size)
        steps.append(ShortStep(size, _round((crop_size / size) ** 2), shortest))
    return (*steps, ShortStep(crop_size, 1, jitter_min))


def _check_groups(phase: Phase, bn_base_size: int) -> None:
    for step in phase.cycle:
        if step.batch_size % phase.bn_splits:
            batch_size = phase.baseline.batch_size
            raise ValueError(
                f"a batch of {step.batch_size} clips ({phase.num_frames} frames x "
                f"{step.crop_size}) cannot be normalized in {phase.bn_splits} equal groups of "
                f"about MULTIGRID.bn_base_size {bn_base_size}; set bn_base_size to {batch_size}, "
                f"the batch per rank, or make the batch a multiple of {bn_base_size}"
            )


def _even_size(factor: float, crop_size: int, name: str) -> int:
    """`factor` of the crop in pixels; it must be even for the network's first layer to halve it."""
    size = _round(crop_size * factor)
    if size % 2 or not size:
        even = _closest_multiple(crop_size * factor, 2)
        # The fewest digits of a factor that gives this size.
        texts = (f"{even / crop_size:.{digits}f}" for digits in range(1, 17))
        better = next(text for text in texts if _round(crop_size * float(text)) == even)
        raise ValueError(
            f"{name}: {factor:g} of a crop of {crop_size} pixels gives {size}, an odd or empty "
            f"size; {better} gives {even}"
        )
    return size


def _round(value: float) -> int:
    """The nearest integer; halves are rounded up."""
    return math.floor(value + 0.5)


def _closest_multiple(value: float, multiple: int) -> int:
    """The multiple closest to `value`, at least one time `multiple`."""
    return max(1, _round(value / multiple)) * multiple
