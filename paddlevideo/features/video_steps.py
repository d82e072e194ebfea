"""Of a video one picture, or one short clip, and one vector of sound for every second: what features of frames are made from.

A step is 1 / frame_rate seconds. Its picture is the frame that is shown in its middle; for a network of clips, the clip as long
as that network's own around the middle, cut at the ends of the video. Its sound is that from its beginning to its end.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlevideo import log
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.pipeline import NOMINAL_FPS, FrameSampler, StageError
from paddlevideo.media.log_mel import LogMel
from paddlevideo.media.waveform import NoAudioError, read_waveform
from paddlevideo.sample import DecodeError, Record

LOUDNESS = LogMel(num_mels=64)
AUDIO_SIZE = 2 * LOUDNESS.num_mels


@dataclass(frozen=True)
class Picked(FrameSampler):
    """Stands for a sampler where the frames are known: int64 [clips, T]."""

    numbers: np.ndarray

    @property
    def num_views(self) -> int:
        return len(self.numbers)

    @property
    def num_frames(self) -> int:
        return self.numbers.shape[1]

    def __call__(self, num_frames: int, fps: float, rng: Any) -> np.ndarray:
        return self.numbers.reshape(-1)


@dataclass
class Steps:
    """Some steps of one video.

    Args:
        frames: as the pipeline leaves them for a batch: of pictures uint8 [T, h, w, 3], or [crops, T, h, w, 3]; of clips
            [T * crops, frames, h, w, 3], which may be `Views`.
        num_steps: how many there are, T.
        sound: of all steps of the video, float32 [all steps, AUDIO_SIZE], with the first steps only.
        silent: whether the video has no sound.
    """

    frames: Any
    num_steps: int
    sound: np.ndarray | None = None
    silent: bool = False


@dataclass(frozen=True)
class ReadSteps:
    """(record, number of the part) -> `Steps`, None behind the end of the video, or text: why it cannot be read.

    It can be sent to another process.

    Args:
        pipeline: decodes and transforms; of its sampler only the length of a clip is used, and how it picks.
        of_clips: a clip for each step, for networks of clips; else a picture.
        frame_rate: steps a second.
        max_steps: of a video; what is behind them is not looked at.
        part: steps that are read at once.
        with_sound: whether to make the sound's vectors.
    """

    pipeline: ClipPipeline
    of_clips: bool = False
    frame_rate: float = 1.0
    max_steps: int = 300
    part: int = 300
    with_sound: bool = True

    def __call__(self, job: tuple[Record, int]) -> Steps | str | None:
        record, number = job
        try:
            return self.read(record, number)
        except (DecodeError, StageError, OSError) as error:
            return log.error_text(error) or type(error).__name__
        except (
            Exception
        ) as error:  # one odd file must not end the work on all others; it is told and counted
            return f"{type(error).__name__}: {error}"

    def read(self, record: Record, number: int = 0) -> Steps | None:
        """The steps from `number * part` on; None where the video has ended before.

        Raises:
            DecodeError, StageError: it cannot be decoded, or has no times.
            OSError: it is not there.
        """
        with self.pipeline.decode.open(record) as clip:
            times, fps = clip.times(), clip.fps or NOMINAL_FPS
            total = count_steps(times, fps, self.frame_rate, self.max_steps)
            first, last = number * self.part, min(total, (number + 1) * self.part)
            if first >= last:
                return None
            middles = times[0] + (np.arange(first, last) + 0.5) / self.frame_rate
            numbers = (
                self._clips(times, middles, clip.fps)
                if self.of_clips
                else shown_at(times, middles)[None]
            )
            own = ClipPipeline(
                self.pipeline.decode,
                Picked(numbers),
                (*self.pipeline.worker_transforms, *self.pipeline.batch_transforms),
            )
            sample = own(record, np.random.default_rng(0), clip)
        steps = Steps(sample["frames"], last - first)
        if self.with_sound and first == 0:
            steps.sound, steps.silent = audio_vectors(
                record.path, float(times[0]), total, self.frame_rate
            )
        return steps

    def _clips(self, times: np.ndarray, middles: np.ndarray, fps: float) -> np.ndarray:
        """Frames of a clip around each of these times: int64 [T, frames]."""
        half = clip_seconds(self.pipeline, self.frame_rate) / 2
        starts = shown_at(times, np.maximum(middles - half, times[0]))
        ends = np.searchsorted(times, middles + half - 1e-6)
        rng = np.random.default_rng(0)
        picks = [
            self.pipeline.sample(max(1, end - start), fps, rng)
            for start, end in zip(starts, ends, strict=True)
        ]
        return np.stack(picks) + starts[:, None]


def clip_seconds(pipeline: ClipPipeline, frame_rate: float) -> float:
    """How long a clip is that a network of clips looks at: its sampler's own length, or a step where that has none."""
    return pipeline.sample.seconds or 1 / frame_rate


def count_steps(times: np.ndarray, fps: float, frame_rate: float, most: int) -> int:
    """Steps that begin before the video ends, at least one; `times` are of its frames (s)."""
    seconds = float(times[-1] - times[0]) + 1 / fps
    return max(1, min(most, math.ceil(seconds * frame_rate - 1e-6)))


def shown_at(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The frame that is on the screen at each of these moments, int64; the first and the last one beyond the ends."""
    return (np.searchsorted(times, moments + 1e-6, "right") - 1).clip(0, len(times) - 1)


def audio_vectors(
    path: str, start_sec: float, num_steps: int, frame_rate: float
) -> tuple[np.ndarray, bool]:
    """(float32 [num_steps, AUDIO_SIZE], whether there is no sound at all): mean and deviation of each band's logarithm.

    Rows of the spectrogram belong to the step in which they begin. A step without sound is one of silence.

    Args:
        start_sec: where the first step begins (s after the video's first frame).

    Raises:
        DecodeError: the sound is damaged.
    """
    silence = LOUDNESS(np.zeros(LOUDNESS.n_fft, np.float32))[0]
    vectors = np.tile(np.concatenate([silence, np.zeros_like(silence)]), (num_steps, 1)).astype(
        np.float32
    )
    try:
        wave = read_waveform(
            path, LOUDNESS.sample_rate, start_sec, start_sec + num_steps / frame_rate
        )
    except NoAudioError:
        return vectors, True
    rows = LOUDNESS(wave)
    begins = np.arange(len(rows)) / LOUDNESS.steps_per_sec
    ends = np.searchsorted(begins, np.arange(num_steps + 1) / frame_rate - 1e-9)
    for step, (start, end) in enumerate(itertools.pairwise(ends)):
        if start < end:
            vectors[step] = np.concatenate(
                [rows[start:end].mean(axis=0), rows[start:end].std(axis=0)]
            )
    return vectors, False


def steady(pipeline: ClipPipeline, of_clips: bool) -> ClipPipeline:
    """The pipeline as features need it: without sound, one clip at a time, the same each time.

    Raises:
        ValueError: it draws random numbers, or samples several clips of a video.
    """
    sample = pipeline.sample
    sample = sample.single_view()
    draws = [
        type(part).__name__
        for part in (
            *([sample] if of_clips else []),
            *pipeline.worker_transforms,
            *pipeline.batch_transforms,
        )
        if part.random
    ]
    if draws:
        raise ValueError(
            f"{', '.join(draws)} draws random numbers; features must be the same each time"
        )
    if of_clips and sample.num_views > 1:
        raise ValueError(
            f"{type(sample).__name__} samples {sample.num_views} clips of a video, expected one"
        )
    return ClipPipeline(
        pipeline.decode, sample, (*pipeline.worker_transforms, *pipeline.batch_transforms)
    )
