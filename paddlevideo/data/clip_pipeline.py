"""The pipeline of frame models: decode, sample and transform, with or without audio.

The last transforms, where they are elementwise or only move axes, run on complete batches in
`finish`. Until then frames are uint8, which makes batches small to send.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paddlevideo.data.pipeline import (
    NOMINAL_FPS,
    SYNTHETIC_SIZE,
    ClipSettings,
    Pipeline,
    Stage,
    StreamNeeds,
)
from paddlevideo.data.views import Views
from paddlevideo.media.clip import ReadWaveform
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.sample import ClipShape, InputSpec, Record, Sample


class ClipPipeline(Pipeline):
    """Turns a record into clips of frames.

    Args:
        decode: has `open(record)`, a context manager that gives a `media.clip.Clip`.
        sample: a `FrameSampler`, see sampling.py.
        transforms: a sequence of `Transform`. Those at the end with `on_batch` run in `finish`, the
            others in the worker process.
        audio: `ClipAudio` adds the audio of the sampled clips; None for frames alone.
        cache: a `FrameCache` that opens records in place of `decode`.

    Raises:
        ValueError: a cache has no times, which audio needs.
    """

    suffixes = VIDEO_SUFFIXES

    def __init__(
        self,
        decode: Any,
        sample: Any,
        transforms: Sequence[Any],
        audio: Any = None,
        cache: Any = None,
    ):
        if audio and cache:
            raise ValueError("cache keeps frames without times, and audio needs them; remove it")
        self.decode, self.sample, self.audio, self.cache = decode, sample, audio, cache
        last = max((i for i, t in enumerate(transforms) if not t.on_batch), default=-1)
        self.worker_transforms = tuple(transforms[: last + 1])
        self.batch_transforms = tuple(transforms[last + 1 :])
        # A first transform that works frame by frame runs while frames are decoded.
        first = self.worker_transforms[0] if self.worker_transforms else None
        has_frame_transform = first is not None and first.frame_transform is not None
        self._decode_transform = first if has_frame_transform else None
        self._clip_transforms = self.worker_transforms[1 if has_frame_transform else 0 :]

    @property
    def transforms(self) -> tuple[Any, ...]:
        """All transforms, in order."""
        return (*self.worker_transforms, *self.batch_transforms)

    @property
    def batch_specs(self) -> dict[str, InputSpec]:
        """Arrays that are sent to `finish`: frames, and audio where the pipeline adds it.

        `finish` may replace `frames` by other names, those of the model's inputs.
        """
        frames = {"frames": InputSpec((None, None, None, None, 3), "uint8", "N T H W C")}
        return frames | (self.audio.outputs if self.audio else {})

    def clip_settings(self) -> ClipSettings:
        """The clips of training, from which a multigrid plan starts."""
        crop_size = next((t.crop_size for t in self.transforms if t.crop_size), None)
        jitter = next((t.jitter for t in self.transforms if t.jitter), None)
        sampler = self.sample
        return ClipSettings(sampler.num_frames, sampler.sampling_rate, crop_size, jitter)

    def shaped(self, shape: ClipShape) -> "ClipPipeline":
        """The same pipeline for clips of another shape; each part adapts itself."""
        transforms = tuple(t.at(shape) for t in self.transforms)
        fits = transforms[:1] == self.transforms[:1]  # the cache keeps frames after the first one
        cache = self.cache if fits else None
        return self.with_parts(sample=self.sample.at(shape), transforms=transforms, cache=cache)

    def with_parts(self, **parts: Any) -> "ClipPipeline":
        """The same pipeline with other parts: decode, sample, transforms, audio, cache."""
        own = {
            "decode": self.decode,
            "sample": self.sample,
            "audio": self.audio,
            "cache": self.cache,
        }
        return ClipPipeline(**{**own, "transforms": self.transforms, **parts})

    def synthetic(self, size: tuple[int, int] = SYNTHETIC_SIZE) -> Sample:
        """The sample of a synthetic clip, to try a model without data.

        Args:
            size: height and width of its frames (pixels).

        Raises:
            StageError: a transform failed.
        """
        rng = np.random.default_rng(0)
        num_frames = self.sample.num_frames * self.sample.num_views
        frames = rng.integers(0, 256, (num_frames, *size, 3), np.uint8)
        return self.apply(frames, np.random.default_rng(0))

    @property
    def random(self) -> bool:
        """Whether two calls with different generators may differ."""
        parts = (self.sample, *self.worker_transforms, *filter(None, [self.audio]))
        return any(part.random for part in parts)

    @property
    def num_clips(self) -> int:
        """Clips that are sampled from one video."""
        return self.sample.num_views

    @property
    def num_views(self) -> int:
        """Clips that come out of one video: those sampled, times the crops of each."""
        views = self.num_clips
        for transform in self.worker_transforms:
            views *= transform.views
        return views

    def stream_needs(self) -> StreamNeeds:
        """Frames, and audio where the pipeline adds it."""
        audio_sec = (self.sample.seconds or 0.0) if self.audio else 0.0
        audio_stream = self.audio.stream if self.audio else None
        return StreamNeeds(True, bool(self.audio), audio_sec, self.decode.stream, audio_stream)

    def held_frame(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """The first transform, where it works frame by frame and draws nothing."""
        if self._decode_transform is None or self._decode_transform.random:
            return None
        return self._frame_function(np.random.default_rng(0))

    def __call__(self, record: Record, rng: np.random.Generator, source: Any = None) -> Sample:
        """The sample of a record; this method runs in a worker process.

        All clips of a video are decoded and resized together, each frame once. They may come as
        `Views` of shared frames.

        Args:
            record: which video.
            rng: the sample's own generator.
            source: an open clip to use in place of the record; it stays open. Audio is read from
                the record, unless the clip has its own (`read_waveform`).

        Returns:
            frames: uint8 [T, H, W, 3], or [V, T, H, W, 3] with views.
            label: int64, -1 if unknown.
            audio, audio_negative, missing_audio: with `audio`, see `ClipAudio`.

        Raises:
            StageError: at the first stage that fails.
        """
        with Stage("decode"):
            if source is not None:
                frames, times, numbers, fps = self._read(source, rng)
            else:
                with (self.cache or self.decode).open(record) as clip:
                    frames, times, numbers, fps = self._read(clip, rng)
        sample = {
            **self._transform(frames, rng),
            "label": np.int64(-1 if record.label is None else record.label),
        }
        # Audio draws from rng last, so that crops are the same with and without audio.
        if self.audio:
            read = None if source is None else source.read_waveform
            with Stage("audio"):
                sample |= self._read_audio(record, read, times, numbers, fps, rng)
        return sample

    def _read_audio(
        self,
        record: Record,
        read: ReadWaveform | None,
        times: np.ndarray | None,
        numbers: np.ndarray,
        fps: float,
        rng,
    ) -> Sample:
        """The audio of each view; silence where frames have no times, as for frames in memory."""
        if times is None:
            return self.audio.silent(self.num_views)
        seconds, crops = self.sample.seconds, self.num_views // self.num_clips
        return self.audio(record, times, numbers, fps or NOMINAL_FPS, rng, seconds, crops, read)

    def _read(self, clip, rng) -> tuple[np.ndarray | Views, np.ndarray | None, np.ndarray, float]:
        """Read the sampled frames of an open clip.

        Runs inside the stage `decode`; the sampler and the frame transform have their own stages.

        Returns:
            the frames; the times of all frames of the video, None without audio or where they are
            unknown; the frame numbers of each clip, int64 [clips, T]; and the frame rate.
        """
        with Stage("sample"):
            indices = self.sample(clip.num_frames, clip.fps, rng)
        clip_numbers, positions = indices.reshape(self.num_clips, -1), None
        times = clip.times() if self.audio else None
        if self.num_clips > 1:
            indices, positions = np.unique(indices, return_inverse=True)
        change_frame = self._frame_function(rng)
        options = () if change_frame is None else (change_frame,)
        frames = clip.read(indices, *options)
        if len(frames) != len(indices):
            raise ValueError(f"the decoder returned {len(frames)} of {len(indices)} frames")
        _check_frames(frames)
        if positions is not None:
            frames = Views.of(frames, positions.reshape(self.num_clips, -1))
        return frames, times, clip_numbers, clip.fps

    def _frame_function(self, rng) -> Callable[[np.ndarray], np.ndarray] | None:
        """The function that changes each decoded frame, or None; this draws its random values."""
        if self._decode_transform is None:
            return None
        stage = Stage(type(self._decode_transform).__name__)
        with stage:
            function = self._decode_transform.frame_transform(rng)

        def change_frame(frame: np.ndarray) -> np.ndarray:
            with stage:
                return function(frame)

        return change_frame

    def apply(self, frames: np.ndarray, rng: np.random.Generator) -> Sample:
        """The worker's part of the pipeline, for frames that are already decoded and sampled.

        Args:
            frames: uint8 [T, H, W, 3] RGB; several clips follow one another.

        Returns:
            frames, as `__call__` returns them, and silence as audio. There is no label.

        Raises:
            StageError: a transform failed, or the frames have another dtype or shape.
        """
        with Stage("decode"):
            _check_frames(frames)
        change_frame = self._frame_function(rng)
        changed: np.ndarray | Views = frames if change_frame is None else change_frame(frames)
        if self.num_clips > 1:
            with Stage("sample"):
                numbers = np.arange(len(changed)).reshape(self.num_clips, -1)
            changed = Views.of(np.asarray(changed), numbers)
        silence = self.audio.silent(self.num_views) if self.audio else {}
        return self._transform(changed, rng) | silence

    def _transform(self, frames: np.ndarray | Views, rng) -> Sample:
        """Run the worker transforms, except the one that ran while frames were decoded."""
        sample: Sample = {"frames": frames}
        for transform in self._clip_transforms:
            with Stage(type(transform).__name__):
                if not transform.supports_views:
                    sample = {**sample, "frames": np.asarray(sample["frames"])}
                sample = transform(sample, rng)
        # A crop is a window into larger frames; the copy leaves out the rest of them.
        crop = sample["frames"]
        copy = crop.compact() if isinstance(crop, Views) else np.ascontiguousarray(crop)
        return {**sample, "frames": copy}

    def finish(self, sample: Sample) -> Sample:
        """Turn a sample or a batch into the model's inputs, float32; other entries stay unchanged.

        Raises:
            StageError: a transform failed.
        """
        inputs = {"frames": np.asarray(sample["frames"])}
        for transform in self.batch_transforms:
            with Stage(type(transform).__name__):
                inputs = transform(inputs, None)
        others = {name: value for name, value in sample.items() if name != "frames"}
        return others | {
            name: np.ascontiguousarray(array, np.float32) for name, array in inputs.items()
        }

    def finish_on_device(self, sample: Sample) -> Sample:
        """`finish` for Paddle tensors, on their device."""
        inputs = {"frames": sample["frames"]}
        for transform in self.batch_transforms:
            with Stage(type(transform).__name__):
                inputs = transform.on_device(inputs)
        others = {name: tensor for name, tensor in sample.items() if name != "frames"}
        return others | {name: tensor.astype("float32") for name, tensor in inputs.items()}


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]"
        )
