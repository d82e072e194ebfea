"""Read one frame or clip, and one audio vector, for every step of a video.

A step lasts 1 / frame_rate seconds. Its frame is the one that is shown in its middle. A network
that takes clips gets a clip of its own length around the middle instead, cut at the ends of the
video. The audio of a step is the audio between its start and its end.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paddlevideo import log
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.pipeline import NOMINAL_FPS, FrameSampler, StageError
from paddlevideo.media.audio_reader import NoAudioError
from paddlevideo.media.log_mel import LogMel
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError, Record

FeatureInput = Literal["frame", "clip"]  # what a network takes per step
LOG_MEL = LogMel(num_mels=64)
AUDIO_SIZE = 2 * LOG_MEL.num_mels  # mean and std of each mel bin
TOLERANCE = 1e-6  # seconds, for rounded time stamps


@dataclass(frozen=True)
class FixedSampler(FrameSampler):
    """Take the place of a sampler if the frames are already chosen: int64 [clips, T]."""

    indices: np.ndarray

    @property
    def num_views(self) -> int:
        return len(self.indices)

    @property
    def num_frames(self) -> int:
        return self.indices.shape[1]

    def __call__(self, num_frames: int, fps: float, rng: Any) -> np.ndarray:
        return self.indices.reshape(-1)


@dataclass
class Steps:
    """Consecutive steps of one video.

    Args:
        frames: uint8, as the pipeline prepares them for a batch. Frames: [T, H, W, 3], or
            [crops, T, H, W, 3]. Clips: [T * crops, num_frames, H, W, 3], possibly as `Views`.
        num_steps: T.
        audio: audio vectors of all steps of the video, float32 [all steps, AUDIO_SIZE]; only with
            the first steps of a video, else None.
        no_audio: the video has no audio; `audio` holds the vectors of silence.
    """

    frames: Any
    num_steps: int
    audio: np.ndarray | None = None
    no_audio: bool = False


@dataclass(frozen=True)
class StepReader:
    """(record, index of the part) -> `Steps`, None after the end of the video, or an error text.

    A reader can be pickled, for other processes.

    Args:
        pipeline: decodes and transforms. Only clips use its sampler.
        feature_input: read a frame or a clip per step.
        frame_rate: steps per second.
        max_steps: steps per video; the rest of the video is ignored.
        part_size: steps that are read at once.
        with_audio: compute audio vectors.
    """

    pipeline: ClipPipeline
    feature_input: FeatureInput = "frame"
    frame_rate: float = 1.0
    max_steps: int = 300
    part_size: int = 300
    with_audio: bool = True

    def __call__(self, job: tuple[Record, int]) -> Steps | str | None:
        record, part = job
        try:
            return self.read(record, part)
        except (DecodeError, StageError, OSError) as error:
            return log.error_text(error) or type(error).__name__
        except Exception as error:  # one bad file must not stop the others; it is reported
            return f"{type(error).__name__}: {error}"

    def read(self, record: Record, part: int = 0) -> Steps | None:
        """Read the steps from `part * part_size` on; None if the video ends before.

        Raises:
            DecodeError, StageError: the video cannot be decoded, or has no time stamps.
            OSError: there is no such file.
        """
        with self.pipeline.decode.open(record) as clip:
            times, fps = clip.times(), clip.fps or NOMINAL_FPS
            total = count_steps(times, fps, self.frame_rate, self.max_steps)
            first, last = part * self.part_size, min(total, (part + 1) * self.part_size)
            if first >= last:
                return None
            middles = times[0] + (np.arange(first, last) + 0.5) / self.frame_rate
            if self.feature_input == "clip":
                indices = self._clips(times, middles, clip.fps)
            else:
                indices = frames_at(times, middles)[None]
            transforms = all_transforms(self.pipeline)
            pipeline = ClipPipeline(self.pipeline.decode, FixedSampler(indices), transforms)
            sample = pipeline(record, np.random.default_rng(0), clip)
        steps = Steps(sample["frames"], last - first)
        if self.with_audio and first == 0:
            start_sec = float(times[0])
            steps.audio, steps.no_audio = audio_vectors(
                record.path, start_sec, total, self.frame_rate
            )
        return steps

    def _clips(self, times: np.ndarray, middles: np.ndarray, fps: float) -> np.ndarray:
        """Frame indices of a clip around each of these times (s): int64 [T, num_frames]."""
        half = clip_seconds(self.pipeline, self.frame_rate) / 2
        starts = frames_at(times, np.maximum(middles - half, times[0]))
        ends = np.searchsorted(times, middles + half - TOLERANCE)
        rng = np.random.default_rng(0)
        clips = [
            start + self.pipeline.sample(max(1, end - start), fps, rng)
            for start, end in zip(starts, ends, strict=True)
        ]
        return np.stack(clips)


def all_transforms(pipeline: ClipPipeline) -> tuple[Any, ...]:
    return (*pipeline.worker_transforms, *pipeline.batch_transforms)


def clip_seconds(pipeline: ClipPipeline, frame_rate: float) -> float:
    """Duration of a clip: that of the sampler, or one step if the sampler has none."""
    return pipeline.sample.seconds or 1 / frame_rate


def count_steps(times: np.ndarray, fps: float, frame_rate: float, max_steps: int) -> int:
    """Number of steps that begin before the end of the video, at least one.

    Args:
        times: of the frames (s).
    """
    seconds = float(times[-1] - times[0]) + 1 / fps
    return max(1, min(max_steps, math.ceil(seconds * frame_rate - TOLERANCE)))


def frames_at(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Index of the frame that is shown at each moment (s), int64; clipped to the video."""
    return (np.searchsorted(times, moments + TOLERANCE, "right") - 1).clip(0, len(times) - 1)


def audio_vectors(
    path: str, start_sec: float, num_steps: int, frame_rate: float
) -> tuple[np.ndarray, bool]:
    """Return (mean and std of each mel bin per step, whether the video has no audio).

    A time step of the spectrogram belongs to the step in which it begins. A step without audio
    gets the vector of silence.

    Args:
        start_sec: start of the first step (s after the first frame of the video).

    Returns:
        float32 [num_steps, AUDIO_SIZE] and a bool.

    Raises:
        DecodeError: the audio is damaged.
    """
    silence = LOG_MEL(np.zeros(LOG_MEL.n_fft, np.float32))[0]
    silent_step = np.concatenate([silence, np.zeros_like(silence)]).astype(np.float32)
    vectors = np.tile(silent_step, (num_steps, 1))
    end_sec = start_sec + num_steps / frame_rate
    try:
        wave = read_waveform(path, LOG_MEL.sample_rate, start_sec, end_sec)
    except NoAudioError:
        return vectors, True
    spectrogram = LOG_MEL(wave)
    times = np.arange(len(spectrogram)) / LOG_MEL.steps_per_sec
    edges = np.searchsorted(times, np.arange(num_steps + 1) / frame_rate - 1e-9)
    for step, (start, end) in enumerate(itertools.pairwise(edges)):
        if start < end:
            part = spectrogram[start:end]
            vectors[step] = np.concatenate([part.mean(axis=0), part.std(axis=0)])
    return vectors, False


def feature_pipeline(pipeline: ClipPipeline, feature_input: FeatureInput) -> ClipPipeline:
    """Return the pipeline without audio, with one clip per video, for deterministic features.

    Raises:
        ValueError: it draws random numbers, or samples several clips per video.
    """
    sampler, transforms = pipeline.sample.single_view(), all_transforms(pipeline)
    used_sampler = (sampler,) if feature_input == "clip" else ()
    random = [type(part).__name__ for part in (*used_sampler, *transforms) if part.random]
    if random:
        names = ", ".join(random)
        raise ValueError(f"{names} draws random numbers; features must be the same each time")
    if used_sampler and sampler.num_views > 1:
        name = type(sampler).__name__
        raise ValueError(f"{name} samples {sampler.num_views} clips per video, expected one")
    return ClipPipeline(pipeline.decode, sampler, transforms)
