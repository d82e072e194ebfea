"""The contract of the data path: what loader, engine, export and predict ask of a pipeline.

    record --__call__--> sample --(batched)--> batch --finish--> inputs of the model

Three families implement `Pipeline`: `ClipPipeline` (frames, with or without audio), `AudioPipeline`
(log-mel features) and `FeaturePipeline` (frame features in shards). The decoder of a config selects
the family. Samplers and transforms are parts of a pipeline; each states its own properties, such as
`random`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from paddlevideo.sample import ClipShape, InputSpec, Record, Sample

NOMINAL_FPS = 30.0  # frame rate of a video whose file states none
SYNTHETIC_SIZE = (240, 320)  # height, width of a synthetic clip (pixels)


class StageError(Exception):
    """A record gave no sample.

    Args:
        stage: decode, sample, audio, or the name of a transform.
        reason: why it failed.
    """

    def __init__(self, stage: str, reason: str):
        super().__init__(stage, reason)  # both, so that it can be pickled by a worker process
        self.stage, self.reason = stage, reason

    def __str__(self):
        return f"{self.stage}: {self.reason}"


class Stage:
    """`with Stage(name):` turns exceptions into a StageError that names the innermost stage."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, Exception) and not isinstance(error, StageError):
            # The message of a ValueError is meant for people; others also need their type.
            readable = isinstance(error, ValueError) and str(error)
            raise StageError(
                self.name, str(error) if readable else f"{kind.__name__}: {error}"
            ) from error


@dataclass(frozen=True)
class ClipSettings:
    """The clips of a training pipeline; a field is None if no part of the pipeline sets it.

    Args:
        num_frames: frames of a clip.
        sampling_rate: distance between successive frames of a clip (frames).
        crop_size: side of the square crop (pixels).
        jitter: smallest and largest short side before the crop (pixels).
    """

    num_frames: int | None
    sampling_rate: int | None
    crop_size: int | None
    jitter: tuple[int, int] | None


class FrameSampler:
    """Selects frames of a video: `(num_frames, fps, rng) -> int64 [num_views * num_frames]`.

    Attributes:
        random: whether it draws from `rng`.
        num_views: clips per video.
        num_frames: frames per clip.
        sampling_rate: distance between successive frames of a clip (frames); None if it is drawn.
        seconds: duration of a clip; None if it is drawn or depends on the video.
    """

    random: Any = False
    num_views: Any = 1
    num_frames: Any
    sampling_rate: Any = None
    seconds: Any = None

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def at(self, shape: ClipShape) -> "FrameSampler":
        """The same sampler for clips of another shape."""
        return self

    def single_view(self) -> "FrameSampler":
        """The same sampler with one clip per video, if its number of clips is an option."""
        return self


class Transform:
    """Changes a sample: `__call__(sample, rng) -> sample`, without writing to its arrays.

    Attributes:
        random: whether it draws from `rng`.
        on_batch: whether it only works elementwise or moves axes, and so may run on a whole batch
            [N, ...]; frames are then sent between processes as uint8. Such a transform also has
            `on_device(sample)`.
        views: clips made from one clip, along a new leading axis.
        supports_views: whether it accepts `Views` (views.py) in place of an array of frames.
        crop_size: side of the crop (pixels), which a multigrid plan may change; None without.
        jitter: smallest and largest short side (pixels), which a plan may change; None without.
    """

    random: Any = False
    on_batch: ClassVar[bool] = False
    views: Any = 1
    supports_views: Any = False
    crop_size: Any = None
    jitter: Any = None

    # A transform that changes each frame by itself has the method `frame_transform(rng)`. It draws
    # when it is called, and returns a function of frames [..., H, W, 3]. If the transform is the
    # first, this function runs while frames are decoded, so that frames of the original size are
    # never stacked.
    frame_transform: ClassVar[Callable[..., Callable[[np.ndarray], np.ndarray]] | None] = None

    def __call__(self, sample: Sample, rng: Any) -> Sample:
        raise NotImplementedError

    def at(self, shape: ClipShape) -> "Transform":
        """The same transform for clips of another shape."""
        return self

    def on_device(self, sample: Sample) -> Sample:
        """`__call__` for Paddle tensors, on their device; for `on_batch` transforms."""
        raise NotImplementedError


@dataclass(frozen=True)
class StreamNeeds:
    """What the windows of a long video or a stream need of it.

    Args:
        frames: whether they need frames.
        audio: whether they need audio.
        audio_sec: seconds of audio from the start of a window that they may need, where that is
            longer than the window; 0.0 otherwise.
        video_stream, audio_stream: which streams of a file, counted from 0; None is the first.
    """

    frames: bool
    audio: bool
    audio_sec: float = 0.0
    video_stream: int | None = None
    audio_stream: int | None = None


class Pipeline:
    """Turns a record into a sample, and samples or batches into a model's inputs.

    Attributes:
        decode: opens a record.
        sample: the frame sampler, None for a family that uses all frames.
        suffixes: of the files that it reads.
        needs_sampler: whether the config must name a sampler.
        find_records: path -> records, if one file holds many; None if each record is a file.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    needs_sampler: ClassVar[bool] = True
    find_records: ClassVar[Callable[[str], Sequence[Record]] | None] = None

    decode: Any
    sample: Any

    @property
    def batch_specs(self) -> dict[str, InputSpec]:
        """Arrays of a sample that are sent to `finish`, by name, with a batch axis in front.

        Samples with more than one view have one more axis, after the batch axis.
        """
        raise NotImplementedError

    @property
    def random(self) -> bool:
        """Whether calls with different generators may differ."""
        return False

    @property
    def num_clips(self) -> int:
        """Clips that are sampled from one video."""
        return 1

    @property
    def num_views(self) -> int:
        """Clips that come out of one video: those sampled, times the crops of each."""
        return 1

    @property
    def view_axis(self) -> bool:
        """Whether samples have views as their first axis."""
        return self.num_views > 1

    def clip_settings(self) -> ClipSettings:
        """The clips of training, from which a multigrid plan starts.

        Raises:
            ValueError: this family has no clips of frames.
        """
        raise ValueError(
            f"multigrid changes clips of frames, and {type(self).__name__} has none; "
            "train without --multigrid"
        )

    def shaped(self, shape: ClipShape) -> "Pipeline":
        """The same pipeline for clips of another shape.

        Raises:
            ValueError: this family has no clips of frames.
        """
        raise ValueError(
            f"{type(self).__name__} has no clip shape that a plan could change; "
            "train without --multigrid"
        )

    def synthetic(self, size: tuple[int, int] = SYNTHETIC_SIZE) -> Sample:
        """The sample of a synthetic record, to try a model without data.

        Args:
            size: height and width of its frames (pixels), where it has frames.

        Raises:
            StageError: a part of the pipeline failed.
        """
        raise NotImplementedError

    def stream_needs(self) -> StreamNeeds:
        """What windows of a stream need.

        Raises:
            ValueError: this family takes no windows.
        """
        raise ValueError(
            "a timeline has windows of frames or audio, and this model takes frame features; "
            "use a model of frames or audio"
        )

    def held_frame(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """What a stream may keep of a frame uint8 [H, W, 3] in its place; None keeps the frame."""
        return None

    def of_window(self, window: Any) -> Any:
        """What `__call__` takes as `source` for a window, a `Clip` with frames and audio in memory.

        Raises:
            DecodeError: the window has no audio, and the pipeline needs it.
        """
        return window

    def __call__(self, record: Record, rng: np.random.Generator, source: Any = None) -> Sample:
        """The sample of a record; this method runs in a worker process.

        Args:
            record: which video.
            rng: the sample's own generator.
            source: an open clip to use in place of the record; it stays open.

        Raises:
            StageError: at the first stage that fails.
        """
        raise NotImplementedError

    def finish(self, sample: Sample) -> Sample:
        """Turn a sample or a batch into the model's inputs; other entries stay unchanged.

        Raises:
            StageError: a transform failed.
        """
        return sample

    def finish_on_device(self, sample: Sample) -> Sample:
        """`finish` for Paddle tensors, on their device."""
        return sample
