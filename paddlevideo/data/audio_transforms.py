"""Audio recognition, step by step: choose frames of the video, cut the rows of sound that belong to them.

The steps and their names are MMAction2's. Where its numbers lead to an input of zeros, or to a crash, this does the sane
thing and says so below; everywhere else the rows are its rows.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import FrameSampler, Transform
from paddlevideo.sample import Sample

WITHOUT_EFFECT = {
    "temporal_jitter": "frames are evenly apart",
    "twice_sample": "clips are spread as `spread` says",
    "out_of_bound_opt": "a video that is shorter than a clip begins anew",
    "keep_tail_frames": "clips are spread as `spread` says",
}


@register("sample", ignores=WITHOUT_EFFECT)
@dataclass(frozen=True)
class SampleFrames(FrameSampler):
    """`num_clips` clips of `clip_len` frames of a video, whose sound is then cut to them.

    With F frames and S = clip_len * frame_interval, clip i begins, in whole frames, at

    | mode                    | first frame                                                             |
    | ---                     | ---                                                                     |
    | training                | i * a + random in [0, a - 1], a = (F - S + 1) // num_clips              |
    |                         | where a is 0: sorted random in [0, F - S], or i * (F - S + 1) / num_clips |
    | test_mode, centers      | i * a + a / 2, a = (F - S + 1) / num_clips                              |
    | test_mode, ends         | i * (F - S) / (num_clips - 1); (F - S) // 2 where there is one clip     |

    and at 0 where the video is shorter; it begins anew at its end.

    Args:
        clip_len: frames of a clip.
        frame_interval: distance of its frames.
        num_clips: clips of a video.
        test_mode: the same clips each time.
        spread: of a test: centers, as MMAction2 0.x, with which the published numbers were made; ends, as 1.x.
        start_index: added to every number; MMAction2 0.x counts frames from 1 here, which shifts the sound by a frame.
    """

    clip_len: int
    frame_interval: int = 1
    num_clips: int = 1
    test_mode: bool = False
    spread: Literal["centers", "ends"] = "centers"
    start_index: int = 0

    def __post_init__(self):
        for key in ("clip_len", "frame_interval", "num_clips"):
            if getattr(self, key) < 1:
                raise ValueError(
                    f"SampleFrames: {key} is {getattr(self, key)}, expected at least 1"
                )
        if self.start_index not in (0, 1):
            raise ValueError(
                f"SampleFrames: start_index is {self.start_index}, expected 0, or 1 as in MMAction2 0.x"
            )

    @property
    def random(self) -> bool:
        """Whether it draws from the generator."""
        return not self.test_mode

    @property
    def num_frames(self) -> int:
        """Frames of one clip."""
        return self.clip_len

    @property
    def num_views(self) -> int:
        """Clips of a video."""
        return self.num_clips

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Frame numbers int64 [num_clips * clip_len], clip by clip, in [start_index, num_frames + start_index).

        Args:
            num_frames: frames of the video, at least 1.
            fps: not used.
            rng: drawn from in training only.

        Raises:
            ValueError: the video has no frame.
        """
        if num_frames < 1:
            raise ValueError(
                f"SampleFrames: the video has {num_frames} frames, at least 1 is needed"
            )
        room = num_frames - self.clip_len * self.frame_interval + 1  # places where a clip fits
        starts = (self._test_starts if self.test_mode else self._train_starts)(
            room, num_frames, rng
        )
        numbers = starts.astype(np.int64)[:, None] + np.arange(self.clip_len) * self.frame_interval
        return (numbers % num_frames + self.start_index).reshape(-1)

    def _train_starts(self, room: int, num_frames: int, rng) -> np.ndarray:
        clips = np.arange(self.num_clips)
        each = room // self.num_clips
        if each > 0:
            return clips * each + rng.integers(0, each, size=self.num_clips)
        if room > 0 and num_frames > self.num_clips:
            return np.sort(rng.integers(0, room, size=self.num_clips))
        return np.round(clips * max(room, 0) / self.num_clips)

    def _test_starts(self, room: int, num_frames: int, rng) -> np.ndarray:
        clips = np.arange(self.num_clips)
        if room < 1:
            return 0 * clips
        if self.spread == "centers":
            return clips * (room / self.num_clips) + room / self.num_clips / 2
        if self.num_clips == 1:
            return clips + (room - 1) // 2
        return np.round(clips * ((room - 1) / (self.num_clips - 1)))


@register("transform")
@dataclass(frozen=True)
class AudioFeatureSelector(Transform):
    """The rows that belong to each clip of frames, cut to a fixed number, or filled up with zeros behind.

    Of L rows beside F frames, a clip from frame a to frame b hears the rows round((a + 1) / F * L) .. round((b + 1) / F * L).
    A clip of a video that is shorter than it begins anew there, and its last frame may stand before its first: MMAction2 then
    gives few rows or none, an input of zeros. Here such a clip hears all from its first frame to the end of the sound, and
    begins so much earlier as it takes to have `fixed_length` rows.

    Args:
        fixed_length: rows of a clip.
    """

    fixed_length: int = 128

    def __post_init__(self):
        if self.fixed_length < 1:
            raise ValueError(
                f"AudioFeatureSelector: fixed_length is {self.fixed_length}, expected at least 1"
            )

    def __call__(self, sample: Sample, rng) -> Sample:
        """feature [L, mels], frame_inds [clips, clip_len], total_frames -> audio float32 [clips, fixed_length, mels]."""
        rows, total = sample["feature"], sample["total_frames"]
        audio = np.zeros((len(sample["frame_inds"]), self.fixed_length, rows.shape[1]), np.float32)
        for clip, numbers in zip(audio, sample["frame_inds"], strict=True):
            start, end = self.span(numbers, total, len(rows))
            clip[: end - start] = rows[start:end]
        rest = {
            key: value
            for key, value in sample.items()
            if key not in ("feature", "frame_inds", "total_frames")
        }
        return {**rest, "audio": audio}

    def span(self, numbers: np.ndarray, total_frames: int, num_rows: int) -> tuple[int, int]:
        """First row, and the row behind the last, of the clip with these frame numbers; at least one row."""
        start = round((int(numbers[0]) + 1) / total_frames * num_rows)
        end = min(num_rows, round((int(numbers[-1]) + 1) / total_frames * num_rows))
        begins_anew = bool((np.diff(numbers) < 0).any()) or (
            len(numbers) > 1 and numbers[0] == numbers[-1]
        )
        if begins_anew or start >= end:
            start, end = min(start, max(0, num_rows - self.fixed_length)), num_rows
        return start, min(end, start + self.fixed_length)


@register("transform")
@dataclass(frozen=True)
class FormatAudioShape(Transform):
    """audio [clips, rows, num_mels] -> [clips, 1, rows, num_mels], the layout of the network."""

    input_format: Literal["NCTF"] = "NCTF"

    def __call__(self, sample: Sample, rng) -> Sample:
        if sample["audio"].ndim != 3:
            raise ValueError(
                f"audio is {list(sample['audio'].shape)}, expected [clips, rows, mels]; name this step once"
            )
        return {**sample, "audio": sample["audio"][:, None]}
