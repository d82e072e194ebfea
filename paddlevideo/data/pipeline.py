"""From a record to what a model takes: decode, sample, transform; the cheap last steps wait until a batch is together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from paddlevideo.sample import Record, Sample


class StageError(Exception):
    """A record gave no sample. `stage`: decode, sample, or a transform's name; `reason`: what was wrong. Chains its cause."""

    def __init__(self, stage: str, reason: str):
        super().__init__(stage, reason)  # both, so that it survives the way out of a worker process
        self.stage, self.reason = stage, reason

    def __str__(self):
        return f"{self.stage}: {self.reason}"


class _Stage:
    """`with _Stage(name):` turns what goes wrong inside into a StageError; the innermost stage is the one that is named."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, Exception) and not isinstance(error, StageError):
            # A ValueError's text is written for people; anything else needs its type to be understood.
            told = isinstance(error, ValueError) and str(error)
            raise StageError(self.name, str(error) if told else f"{kind.__name__}: {error}") from error


class ClipPipeline:
    """Turns a record into a sample, and a sample or a batch into a model's input.

    Args:
        decode: has `open(record)`, a context manager that gives a clip with `num_frames`, `fps` and
            `read(indices) -> uint8 [len(indices), H, W, 3]` RGB.
        sample: `(num_frames, fps, rng) -> indices`, see sampling.py.
        transforms: in order, see transforms.py. Those at the end that are `late` run in `finish`, the others in the worker.
    """

    def __init__(self, decode: Any, sample: Any, transforms: Sequence[Any]):
        self.decode, self.sample = decode, sample
        last = max((i for i, t in enumerate(transforms) if not getattr(t, "late", False)), default=-1)
        self.early, self.late = tuple(transforms[: last + 1]), tuple(transforms[last + 1 :])

    @property
    def random(self) -> bool:
        """Whether two calls with different generators may differ."""
        return any(part.random for part in (self.sample, *self.early))

    @property
    def num_views(self) -> int:
        """Clips that come out of one video."""
        views = getattr(self.sample, "num_views", 1)
        for transform in self.early:
            views *= getattr(transform, "views", 1)
        return views

    @property
    def view_axis(self) -> bool:
        """Whether samples have views as their first axis."""
        return self.num_views > 1

    def __call__(self, record: Record, rng: np.random.Generator, source: Any = None) -> Sample:
        """The worker's part: {"frames": uint8 [T, H, W, 3] or [V, T, H, W, 3], "label": int64, -1 where unknown}.

        Args:
            record: which video.
            rng: the sample's own generator.
            source: a clip that is open already (it stays open); None opens the record.

        Raises:
            StageError: at the first stage that fails.
        """
        with _Stage("decode"):
            if source is not None:
                frames = self._read(source, rng)
            else:
                with self.decode.open(record) as clip:
                    frames = self._read(clip, rng)
        label = -1 if record.label is None else record.label
        return {**self.apply(frames, rng), "label": np.int64(label)}

    def _read(self, clip, rng) -> np.ndarray:
        """The sampled frames; what fails here belongs to decoding, but for the sampler itself."""
        with _Stage("sample"):
            indices = self.sample(clip.num_frames, clip.fps, rng)
        frames = clip.read(indices)
        if len(frames) != len(indices):
            raise ValueError(f"{len(indices)} frames were asked for, {len(frames)} came")
        return frames

    def apply(self, frames: np.ndarray, rng: np.random.Generator) -> Sample:
        """The worker's part for frames that are decoded and picked already: uint8 [T, H, W, 3] RGB -> {"frames": ...}.

        Raises:
            StageError: a transform failed, or the frames are of another type or shape.
        """
        with _Stage("decode"):
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
                raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
        views = getattr(self.sample, "num_views", 1)
        if views > 1:
            with _Stage("sample"):
                frames = frames.reshape(views, -1, *frames.shape[1:])
        sample: Sample = {"frames": frames}
        for transform in self.early:
            with _Stage(type(transform).__name__):
                sample = transform(sample, rng)
        # A cut is a window into larger frames, which would travel along.
        sample["frames"] = np.ascontiguousarray(sample["frames"])
        return sample

    def finish(self, sample: Sample) -> Sample:
        """The late transforms, for a sample or a batch of any leading axes: uint8 -> float32, contiguous."""
        for transform in self.late:
            with _Stage(type(transform).__name__):
                sample = transform(sample, None)
        return {**sample, "frames": np.ascontiguousarray(sample["frames"], np.float32)}

    def finish_on_device(self, frames):
        """`finish` for the frames alone, as a paddle tensor, on the device that holds it."""
        for transform in self.late:
            frames = transform.on_device(frames)
        return frames.astype("float32")
