"""The nouns of the data path, from a line in a list to a batch.

A `Record` names a video; decoding and transforms repeat it into a `Sample`; samples of equal shape make a `Batch`.
Both are plain dicts, so that a step only knows the keys it needs:

| key         | in a sample                                         | in a batch                         |
| ---         | ---                                                 | ---                                |
| frames      | uint8 [T, H, W, 3] RGB, or [V, T, H, W, 3] of views | one more axis N in front           |
|             | after Image2Array [..., T, 3, H, W], then float32   |                                    |
|             | views may come as `data.views.Views`, not yet cut   |                                    |
| slow, fast  | after PackOutput float32 [..., 3, T, H, W] each     | one more axis N in front           |
| audio       | float32 [1, rows, mels] of the clip's log-mel       | one more axis N in front           |
|             | [V, 1, rows, mels] with views; without frames       |                                    |
|             | [clips, 1, rows, mels]                              |                                    |
| audio_negative | as audio: a sound of the video at another time   | as audio                           |
| missing_audio  | bool scalar: silence stands for a missing sound  | bool [N]                           |
| label       | int64 scalar, -1 where unknown                      | int64 [N]                          |
|             | of many: uint8 [K], 1 for the classes that it has   | uint8 [N, K]                       |
| index       | int64 scalar, the record's place in its list        | int64 [N]                          |

Keys that are no model input and not listed stay in the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

Sample = dict[str, Any]
Batch = dict[str, Any]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Record:
    """One video, or one part of a video.

    Args:
        path: a video file, or a folder of frames.
        label: class id, None where unknown or where there may be several.
        id: what the list calls it; stable across machines, used to align score files.
        num_frames: given for folders of frames, None for videos (the decoder counts).
        start_sec, end_sec: the part to use (seconds after the first frame), None for the beginning and the end.
        frame_pattern: names the pictures of a folder of frames by `.format(number)`, numbers from 1: "img_{:05}.jpg".
        offset: where in a file of many records this one is: the byte it begins at, in a pickle its number.
        labels: class ids of a video that may have several, or none; None where it has `label`.
    """

    path: str
    label: int | None = None
    id: str = ""
    num_frames: int | None = None
    start_sec: float | None = None
    end_sec: float | None = None
    frame_pattern: str | None = None
    offset: int | None = None
    labels: tuple[int, ...] | None = None

    @property
    def location(self) -> str:
        """The path, and where in it, as messages tell and failures are counted."""
        return self.path if self.offset is None else f"{self.path}@{self.offset}"


@dataclass(frozen=True)
class ClipShape:
    """What a training plan makes of a clip, in place of what the pipeline's own parts say.

    Args:
        num_frames: of the clip.
        crop_size: side of the square that is cut (pixels).
        stride: smallest and largest distance of its frames, both included; one is drawn per clip.
        jitter: smallest and largest short side before the cut (pixels).
    """

    num_frames: int
    crop_size: int
    stride: tuple[int, int]
    jitter: tuple[int, int]


class Draw(NamedTuple):
    """One record of a batch: its place in the list, and the shape of its clip; None leaves that to the pipeline.

    Args:
        repeat: how often the epoch has drawn this record before, so that each time another clip is cut from it.
    """

    index: int
    clip: ClipShape | None = None
    repeat: int = 0


class BatchShape(NamedTuple):
    """What one training step takes: clips per rank, and their shape; None leaves that to the pipeline."""

    size: int
    clip: ClipShape | None = None


def whole_batches(sizes: Sequence[int], num_records: int) -> int:
    """How many batches, whose sizes repeat `sizes` in repeat, can be filled from `num_records` records, each used once."""
    rounds, left = divmod(num_records, sum(sizes))
    return rounds * len(sizes) + sum(end <= left for end in accumulate(sizes))


@dataclass(frozen=True)
class Failure:
    """A record that gave no sample: which file, at what stage (decode, sample, a transform), and why."""

    path: str
    stage: str
    reason: str

    def __str__(self):
        return f"{self.path}: {self.stage}: {self.reason}"


@dataclass(frozen=True)
class InputSpec:
    """What a model takes under one name: shape (None = free), dtype, and the axes' names, as "N S C H W"."""

    shape: tuple[int | None, ...]
    dtype: str
    axes: str


class DecodeError(ValueError):
    """A file that cannot be decoded; the message says what was wrong with it, without the path."""
