"""The data types of the data path, from a line of a list to a batch.

A `Record` names a video. Decoding and transforms turn it into a `Sample`. Samples of equal shape
form a `Batch`. Samples and batches are plain dicts, so a step needs to know only the keys it uses:

| key            | in a sample                                          | in a batch             |
| ---            | ---                                                  | ---                    |
| frames         | uint8 [T, H, W, 3] RGB; [V, T, H, W, 3] with views;  | one more axis N first  |
|                | after Image2Array [..., T, 3, H, W], then float32;   |                        |
|                | views may be a `data.views.Views`, not yet cropped   |                        |
| slow, fast     | float32 [..., 3, T, H, W] each, after PackOutput     | one more axis N first  |
| audio          | float32 [1, time steps, mel bins], a log-mel;        | one more axis N first  |
|                | [V, 1, time steps, mel bins] with views;             |                        |
|                | [clips, 1, time steps, mel bins] without frames      |                        |
| audio_negative | as audio, from another time of the same video        | as audio               |
| missing_audio  | bool scalar: silence replaces audio that is missing  | bool [N]               |
| label          | int64 scalar, -1 if unknown;                         | int64 [N]              |
|                | multi-label: uint8 [K], 1 for each class of the video | uint8 [N, K]          |
| index          | int64 scalar, index of the record in its list        | int64 [N]              |

Other keys that are not a model input stay in the loader process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from paddlevideo.plain_text import readable
from paddlevideo.tar_paths import location
from paddlevideo.urls import shown

Sample = dict[str, Any]
Batch = dict[str, Any]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Record:
    """A video, or a part of a video.

    Args:
        path: a video file, or a folder of frames; or one of them in a tar shard, see tar_paths.py.
        label: class id; None if unknown or multi-label.
        id: name of the record in its list. It does not depend on the machine, so score files are
            matched by it.
        num_frames: number of frames in a folder of frames; None for a video file, whose frames the
            decoder counts.
        start_sec, end_sec: the part to use (seconds after the first frame); None for the beginning
            and the end of the video.
        frame_pattern: file name of frame `number` (from 1) in a folder, as `"img_{:05}.jpg"`.
        offset: location of the record in a file of many records: its first byte, or its number in a
            pickle.
        labels: class ids of a multi-label video, possibly none; None for a video with `label`.
        source: the recording that the clip was cut from, where its table names it.
        problem: why the record cannot be read, where that is known before; it fails with this
            reason when it is opened.
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
    source: str | None = None
    problem: str = ""

    @property
    def location(self) -> str:
        """How messages name the record, and failures are counted: `path`, `path@offset`, or
        `shard.tar@key` for a sample in a tar shard."""
        return location(self.path) if self.offset is None else f"{self.path}@{self.offset}"


@dataclass(frozen=True)
class ClipShape:
    """Clip shape of a training schedule; it overrides the values of the pipeline.

    Args:
        num_frames: frames of the clip.
        crop_size: side of the square crop (pixels).
        stride: smallest and largest distance between frames, inclusive; one is drawn per clip.
        jitter: smallest and largest short side before the crop (pixels).
    """

    num_frames: int
    crop_size: int
    stride: tuple[int, int]
    jitter: tuple[int, int]


class Draw(NamedTuple):
    """A record drawn for a batch.

    Args:
        index: index of the record in its list.
        clip: shape of its clip; None for the shape of the pipeline.
        repeat: how often this epoch has drawn the record before; each repeat is another clip.
    """

    index: int
    clip: ClipShape | None = None
    repeat: int = 0


class BatchShape(NamedTuple):
    """The batch of a training step.

    Args:
        size: clips per rank.
        clip: shape of the clips; None for the shape of the pipeline.
    """

    size: int
    clip: ClipShape | None = None


def num_full_batches(sizes: Sequence[int], num_records: int) -> int:
    """The number of full batches that `num_records` records fill, each record used once.

    Args:
        sizes: sizes of the batches, a cycle that repeats.
    """
    cycles, remaining = divmod(num_records, sum(sizes))
    return cycles * len(sizes) + sum(end <= remaining for end in accumulate(sizes))


@dataclass(frozen=True)
class Failure:
    """A record without a sample: its path, the stage (decode, sample, a transform), the reason."""

    path: str
    stage: str
    reason: str

    def __str__(self):
        return readable(f"{shown(self.path)}: {self.stage}: {self.reason}")


@dataclass(frozen=True)
class InputSpec:
    """An input of a model.

    Args:
        shape: length of each axis; None for any.
        dtype: name of the dtype, as "float32".
        axes: name of each axis, as "N S C H W".
    """

    shape: tuple[int | None, ...]
    dtype: str
    axes: str


class DecodeError(ValueError):
    """A file that cannot be decoded; the message gives the reason without the path."""
