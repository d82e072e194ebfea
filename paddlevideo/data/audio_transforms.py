"""Audio recognition, step by step: choose frames of the video, then cut the audio of these frames.

The steps and their names are MMAction2's. Their results are MMAction2's too, except where its rules
lead to an input of zeros or to a crash; each docstring states that difference.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import FrameSampler, Transform
from paddlevideo.sample import Sample

# The reasons appear in the warning about a key without effect.
WITHOUT_EFFECT = {
    "temporal_jitter": "frames are evenly spaced",
    "twice_sample": "`spread` sets where clips begin",
    "out_of_bound_opt": "a video that is shorter than a clip is looped",
    "keep_tail_frames": "`spread` sets where clips begin",
}


@register("sample", ignores=WITHOUT_EFFECT)
@dataclass(frozen=True)
class SampleFrames(FrameSampler):
    """Samples `num_clips` clips of `clip_len` frames of a video, whose audio is then cut to them.

    With F frames and S = clip_len * frame_interval, clip i begins, rounded to a frame, at

    | mode               | first frame                                                          |
    | ---                | ---                                                                  |
    | training           | i * a + random in [0, a - 1], a = (F - S + 1) // num_clips           |
    | training, a = 0    | sorted random in [0, F - S], or i * (F - S + 1) / num_clips          |
    | test_mode, centers | i * a + a / 2, a = (F - S + 1) / num_clips                           |
    | test_mode, ends    | i * (F - S) / (num_clips - 1); (F - S) // 2 where there is one clip  |

    and at 0 where the video is shorter than a clip. The clip then loops over the video.

    Args:
        clip_len: frames of a clip.
        frame_interval: distance between its frames.
        num_clips: clips of a video.
        test_mode: sample the same clips each time.
        spread: where the clips of a test begin: centers, as in MMAction2 0.x, which the published
            numbers used; ends, as in 1.x.
        start_index: added to every number. MMAction2 0.x counts frames from 1 here, which shifts
            the audio by a frame.
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
                f"SampleFrames: start_index is {self.start_index}, expected 0, "
                "or 1 as in MMAction2 0.x"
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
        """Return the frame numbers of all clips, one clip after the other.

        Args:
            num_frames: frames of the video, at least 1.
            fps: not used.
            rng: used in training only.

        Returns:
            int64 [num_clips * clip_len], in [start_index, num_frames + start_index).

        Raises:
            ValueError: the video has no frame.
        """
        if num_frames < 1:
            raise ValueError(
                f"SampleFrames: the video has {num_frames} frames, expected at least 1"
            )
        num_starts = num_frames - self.clip_len * self.frame_interval + 1
        draw = self._test_starts if self.test_mode else self._train_starts
        starts = draw(num_starts, num_frames, rng)
        numbers = starts.astype(np.int64)[:, None] + np.arange(self.clip_len) * self.frame_interval
        return (numbers % num_frames + self.start_index).reshape(-1)

    def _train_starts(self, num_starts: int, num_frames: int, rng) -> np.ndarray:
        """Draw the first frame of each clip; `num_starts` is below 1 for a too short video."""
        clips = np.arange(self.num_clips)
        interval = num_starts // self.num_clips
        if interval > 0:
            return clips * interval + rng.integers(0, interval, size=self.num_clips)
        if num_starts > 0 and num_frames > self.num_clips:
            return np.sort(rng.integers(0, num_starts, size=self.num_clips))
        return np.round(clips * max(num_starts, 0) / self.num_clips)

    def _test_starts(self, num_starts: int, num_frames: int, rng) -> np.ndarray:
        """Return the first frame of each clip, the same each time."""
        clips = np.arange(self.num_clips)
        if num_starts < 1:
            return 0 * clips
        if self.spread == "centers":
            interval = num_starts / self.num_clips
            return clips * interval + interval / 2
        if self.num_clips == 1:
            return clips + (num_starts - 1) // 2
        return np.round(clips * ((num_starts - 1) / (self.num_clips - 1)))


@register("transform")
@dataclass(frozen=True)
class AudioFeatureSelector(Transform):
    """Cuts the log-mel feature of each clip: `fixed_length` time steps, padded with zeros.

    Of L time steps of a video with F frames, a clip from frame a to frame b gets the time steps
    round((a + 1) / F * L) .. round((b + 1) / F * L).

    A clip that is longer than its video loops over it, so that its last frame may be before its
    first: MMAction2 then takes few time steps or none, an input of zeros. Here such a clip gets
    everything from its first frame to the end of the audio, and begins earlier where that is less
    than `fixed_length`.

    Args:
        fixed_length: time steps of a clip.
    """

    fixed_length: int = 128

    def __post_init__(self):
        if self.fixed_length < 1:
            raise ValueError(
                f"AudioFeatureSelector: fixed_length is {self.fixed_length}, expected at least 1"
            )

    def __call__(self, sample: Sample, rng) -> Sample:
        """Return the sample with `audio` in place of the three keys that it is cut from.

        feature [L, mel bins], frame_inds [clips, clip_len], total_frames -> audio float32 [clips,
        fixed_length, mel bins].
        """
        feature, total_frames = sample["feature"], sample["total_frames"]
        frame_inds = sample["frame_inds"]
        audio = np.zeros((len(frame_inds), self.fixed_length, feature.shape[1]), np.float32)
        for clip, numbers in zip(audio, frame_inds, strict=True):
            start, end = self.span(numbers, total_frames, len(feature))
            clip[: end - start] = feature[start:end]
        used = ("feature", "frame_inds", "total_frames")
        rest = {key: value for key, value in sample.items() if key not in used}
        return {**rest, "audio": audio}

    def span(self, numbers: np.ndarray, total_frames: int, num_steps: int) -> tuple[int, int]:
        """Return the time steps [start, end) of the clip with these frame numbers, at least one.

        Args:
            numbers: frame numbers, int64 [clip_len].
            total_frames: frames of the video.
            num_steps: time steps of its audio.
        """
        start = round((int(numbers[0]) + 1) / total_frames * num_steps)
        end = min(num_steps, round((int(numbers[-1]) + 1) / total_frames * num_steps))
        is_looped = bool((np.diff(numbers) < 0).any())
        is_one_frame = len(numbers) > 1 and numbers[0] == numbers[-1]
        if is_looped or is_one_frame or start >= end:
            start, end = min(start, max(0, num_steps - self.fixed_length)), num_steps
        return start, min(end, start + self.fixed_length)


@register("transform")
@dataclass(frozen=True)
class FormatAudioShape(Transform):
    """Adds the channel axis of the network's input.

    audio [clips, time steps, mel bins] -> [clips, 1, time steps, mel bins].
    """

    input_format: Literal["NCTF"] = "NCTF"

    def __call__(self, sample: Sample, rng) -> Sample:
        if sample["audio"].ndim != 3:
            raise ValueError(
                f"audio is {list(sample['audio'].shape)}, expected [clips, time steps, mel bins]; "
                "name this step once"
            )
        return {**sample, "audio": sample["audio"][:, None]}
