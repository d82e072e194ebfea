"""The nouns of the data path, from a line in a list to a batch.

A `Record` names a video; decoding and transforms turn it into a `Sample`; samples of equal shape make a `Batch`.
Both are plain dicts, so that a step only knows the keys it needs:

| key         | in a sample                                         | in a batch                         |
| ---         | ---                                                 | ---                                |
| frames      | uint8 [T, H, W, 3] RGB, or [V, T, H, W, 3] of views | one more axis N in front           |
|             | after Image2Array [..., T, 3, H, W], then float32   |                                    |
|             | views may come as `data.views.Views`, not yet cut   |                                    |
| slow, fast  | after PackOutput float32 [..., 3, T, H, W] each     | one more axis N in front           |
| label       | int64 scalar, -1 where unknown                      | int64 [N]                          |
| index       | int64 scalar, the record's place in its list        | int64 [N]                          |

Keys that are no model input and not listed stay in the worker.
"""

from dataclasses import dataclass
from typing import Any

Sample = dict[str, Any]
Batch = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One video, or one part of a video.

    Args:
        path: a video file, or a folder of frames.
        label: class id, None where unknown.
        id: what the list calls it; stable across machines, used to align score files.
        num_frames: given for folders of frames, None for videos (the decoder counts).
        start_sec, end_sec: the part to use (seconds after the first frame), None for the beginning and the end.
        frame_pattern: names the pictures of a folder of frames by `.format(number)`, numbers from 1: "img_{:05}.jpg".
    """

    path: str
    label: int | None = None
    id: str = ""
    num_frames: int | None = None
    start_sec: float | None = None
    end_sec: float | None = None
    frame_pattern: str | None = None


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
