"""Random changes of log-mel features, so that few recordings train a network."""

from dataclasses import dataclass

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import Transform
from paddlevideo.sample import Sample


@register("transform")
@dataclass(frozen=True)
class RandomTempoPitch(Transform):
    """Plays audio faster or slower, and moves its mel bins up or down; before the clip is cut.

    The time steps are interpolated linearly. A shift by n bins leaves silence in n bins.

    Args:
        tempo: largest factor of the speed; the factor is drawn between 1 / tempo and tempo, its
            logarithm uniformly. 1 keeps the speed.
        mel_bins: largest shift, an integer drawn uniformly; 0 keeps the bins.

    Raises:
        ValueError: tempo is below 1 or above 4, or mel_bins is negative.
    """

    tempo: float = 1.15
    mel_bins: int = 2

    random = True

    def __post_init__(self):
        if not (1 <= self.tempo <= 4 and self.mel_bins >= 0):
            raise ValueError(
                f"RandomTempoPitch: tempo is {self.tempo:g} and mel_bins is {self.mel_bins}, "
                "expected 1 to 4, and at least 0"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with another `feature`: [L, mel bins] -> [about L / factor, mel bins].

        Raises:
            ValueError: the clip was cut before.
        """
        if "feature" not in sample:
            raise ValueError("the clip is already cut; name this step before AudioFeatureSelector")
        feature = sample["feature"]
        limit = np.log(self.tempo)
        factor = float(np.exp(rng.uniform(-limit, limit)))
        num_steps = max(1, round(len(feature) / factor))
        at = np.linspace(0, len(feature) - 1, num_steps)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, len(feature) - 1)
        weight = (at - low).astype(np.float32)[:, None]
        feature = feature[low] * (1 - weight) + feature[high] * weight
        largest = min(self.mel_bins, feature.shape[1] - 1)
        return {**sample, "feature": shifted(feature, int(rng.integers(-largest, largest + 1)), 1)}


@register("transform")
@dataclass(frozen=True)
class RandomAudioMasks(Transform):
    """Silences time steps and mel bins, and moves short audio within its clip; after the cut.

    Each mask is one block of time steps, or of mel bins, as in SpecAugment (Park et al. 2019), but
    a block of time steps lies within the audio file and not in the silence that fills the clip.

    Args:
        time_share: longest block as a share of the time steps with audio.
        mel_share: widest block as a share of the mel bins.
        num_masks: blocks of each kind.

    Raises:
        ValueError: a share is not in [0, 1), or num_masks is negative.
    """

    time_share: float = 0.15
    mel_share: float = 0.15
    num_masks: int = 1

    random = True

    def __post_init__(self):
        if not (0 <= self.time_share < 1 and 0 <= self.mel_share < 1 and self.num_masks >= 0):
            raise ValueError(
                f"RandomAudioMasks: time_share is {self.time_share:g}, mel_share is "
                f"{self.mel_share:g}, num_masks is {self.num_masks}; "
                "expected shares in [0, 1) and at least 0 masks"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with another `audio`, float32 [clips, time steps, mel bins].

        Raises:
            ValueError: the clip is not cut yet, or has a channel axis already.
        """
        if "audio" not in sample or sample["audio"].ndim != 3:
            raise ValueError(
                "expected audio [clips, time steps, mel bins]; "
                "name this step between AudioFeatureSelector and FormatAudioShape"
            )
        audio = np.stack([self._masked(clip, rng) for clip in sample["audio"]])
        return {**sample, "audio": audio}

    def _masked(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One clip, [time steps, mel bins]."""
        steps_with_sound = np.flatnonzero(clip.any(axis=1))
        first, end = (steps_with_sound[0], steps_with_sound[-1] + 1) if clip.any() else (0, 0)
        clip = clip.copy()
        for _ in range(self.num_masks):
            start, stop = random_block(end - first, self.time_share, rng)
            clip[first + start : first + stop] = 0
            start, stop = random_block(clip.shape[1], self.mel_share, rng)
            clip[:, start:stop] = 0
        room = len(clip) - (end - first)
        offset = int(rng.integers(0, room + 1))
        return shifted(clip, offset - int(first), 0)


def random_block(size: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a block [start, stop) of `size` positions: its length, up to `share` of them, and its
    place."""
    length = int(rng.integers(0, int(share * size) + 1))
    start = int(rng.integers(0, size - length + 1))
    return start, start + length


def shifted(array: np.ndarray, steps: int, axis: int) -> np.ndarray:
    """Move an array along an axis; zeros take the place of what leaves it."""
    result = np.zeros_like(array)
    size = array.shape[axis]
    if abs(steps) >= size:
        return result
    source = [slice(None)] * array.ndim
    target = [slice(None)] * array.ndim
    source[axis] = slice(max(0, -steps), size - max(0, steps))
    target[axis] = slice(max(0, steps), size - max(0, -steps))
    result[tuple(target)] = array[tuple(source)]
    return result
