"""What a source of a timeline gives: frames, audio, and the stretches that are missing.

A source is any iterable of `Frame`, `Audio` and `Gap` in the order of time. Times are seconds on
one clock, that of the first frame of a file or stream; without frames, of the first audio sample.
Audio and frames of one time come within a second of each other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """A frame.

    Args:
        time: when it is shown (s).
        image: uint8 [H, W, 3] RGB, upright.
    """

    time: float
    image: np.ndarray


@dataclass(frozen=True)
class Audio:
    """A stretch of audio, for models that use it.

    Args:
        time: of the first sample (s).
        samples: float32 [n], the mean of the channels, with full scale -1 .. 1.
        rate: samples per second (Hz).
    """

    time: float
    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class Gap:
    """A stretch that could not be decoded, or was lost. Windows end before it and begin after it.

    Args:
        start, end: of the stretch (s).
        reason: what happened, for people.
    """

    start: float
    end: float
    reason: str


Item = Frame | Audio | Gap
Source = Iterable[Item]
