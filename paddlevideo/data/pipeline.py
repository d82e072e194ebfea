"""From a record to what a model takes: decode, sample, transform; the cheap last steps wait until a batch is together."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from paddlevideo.data.views import Views
from paddlevideo.sample import ClipShape, InputSpec, Record, Sample


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
            `read(indices, each=None) -> uint8 [len(indices), H, W, 3]` RGB, see `decode.Clip`.
        sample: `(num_frames, fps, rng) -> indices`, see sampling.py.
        transforms: in order, see transforms.py. Those at the end that are `late` run in `finish`, the others in the worker.

    Attributes:
        travels: what goes from the worker to `finish`, by name; views of a video are one axis more. A late transform may put
            other names in their place, those that the model takes.
    """

    travels: ClassVar[dict[str, InputSpec]] = {"frames": InputSpec((None, None, None, None, 3), "uint8", "N T H W C")}

    def __init__(self, decode: Any, sample: Any, transforms: Sequence[Any]):
        self.decode, self.sample = decode, sample
        last = max((i for i, t in enumerate(transforms) if not getattr(t, "late", False)), default=-1)
        self.early, self.late = tuple(transforms[: last + 1]), tuple(transforms[last + 1 :])
        # Frames shrink as they are decoded, where that comes first.
        self._shrink = next((t for t in self.early[:1] if hasattr(t, "each_frame")), None)
        self._cuts = self.early[1:] if self._shrink else self.early

    def shaped(self, shape: ClipShape) -> "ClipPipeline":
        """The same pipeline for clips of another shape: the parts that depend on it are put at it."""
        sample, *transforms = (p.at(shape) if hasattr(p, "at") else p for p in (self.sample, *self.early, *self.late))
        return ClipPipeline(self.decode, sample, transforms)

    @property
    def random(self) -> bool:
        """Whether two calls with different generators may differ."""
        return any(part.random for part in (self.sample, *self.early))

    @property
    def num_clips(self) -> int:
        """Clips that are sampled of one video."""
        return getattr(self.sample, "num_views", 1)

    @property
    def num_views(self) -> int:
        """Clips that come out of one video: those sampled, times the crops of each."""
        views = self.num_clips
        for transform in self.early:
            views *= getattr(transform, "views", 1)
        return views

    @property
    def view_axis(self) -> bool:
        """Whether samples have views as their first axis."""
        return self.num_views > 1

    def __call__(self, record: Record, rng: np.random.Generator, source: Any = None) -> Sample:
        """The worker's part: {"frames": uint8 [T, H, W, 3] or [V, T, H, W, 3], "label": int64, -1 where unknown}.

        Several clips of a video are decoded and resized together, each frame once, and may come as `Views` of them.

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
        return {**self._cut(frames, rng), "label": np.int64(label)}

    def _read(self, clip, rng) -> np.ndarray | Views:
        """The sampled frames; what fails here belongs to decoding, but for the sampler and the shrinking themselves."""
        with _Stage("sample"):
            indices = self.sample(clip.num_frames, clip.fps, rng)
        numbers = None
        if self.num_clips > 1:
            indices, numbers = np.unique(indices, return_inverse=True)
        each = self._each(rng)
        frames = clip.read(indices) if each is None else clip.read(indices, each)
        if len(frames) != len(indices):
            raise ValueError(f"{len(indices)} frames were asked for, {len(frames)} came")
        _check(frames)
        return frames if numbers is None else Views.of(frames, numbers.reshape(self.num_clips, -1))

    def _each(self, rng) -> Callable[[np.ndarray], np.ndarray] | None:
        """What shrinks a frame, None where nothing does; it draws its numbers now."""
        if self._shrink is None:
            return None
        stage = _Stage(type(self._shrink).__name__)
        with stage:
            shrink = self._shrink.each_frame(rng)

        def each(frame: np.ndarray) -> np.ndarray:
            with stage:
                return shrink(frame)

        return each

    def apply(self, frames: np.ndarray, rng: np.random.Generator) -> Sample:
        """The worker's part for frames that are decoded and picked already: uint8 [T, H, W, 3] RGB -> {"frames": ...}.

        Raises:
            StageError: a transform failed, or the frames are of another type or shape.
        """
        with _Stage("decode"):
            _check(frames)
        each = self._each(rng)
        frames = frames if each is None else each(frames)
        if self.num_clips == 1:
            return self._cut(frames, rng)
        with _Stage("sample"):
            numbers = np.arange(len(frames)).reshape(self.num_clips, -1)
        return self._cut(Views.of(frames, numbers), rng)

    def _cut(self, frames: np.ndarray | Views, rng) -> Sample:
        """The early transforms but the one that has shrunk the frames."""
        sample: Sample = {"frames": frames}
        for transform in self._cuts:
            with _Stage(type(transform).__name__):
                if not getattr(transform, "shares", False):
                    sample = {**sample, "frames": np.asarray(sample["frames"])}
                sample = transform(sample, rng)
        # A cut is a window into larger frames, which would travel along.
        left = sample["frames"]
        return {**sample, "frames": left.compact() if isinstance(left, Views) else np.ascontiguousarray(left)}

    def finish(self, sample: Sample) -> Sample:
        """The late transforms, for a sample or a batch of any leading axes: uint8 -> float32, contiguous.

        What does not travel to the model (label, index) stays as it is.

        Raises:
            StageError: a transform failed.
        """
        inputs = {name: np.asarray(sample[name]) for name in self.travels}
        for transform in self.late:
            with _Stage(type(transform).__name__):
                inputs = transform(inputs, None)
        others = {name: value for name, value in sample.items() if name not in self.travels}
        return others | {name: np.ascontiguousarray(array, np.float32) for name, array in inputs.items()}

    def finish_on_device(self, sample: Sample) -> Sample:
        """`finish` for paddle tensors, on the device that holds them: those that travel -> the model's inputs."""
        for transform in self.late:
            with _Stage(type(transform).__name__):
                sample = transform.on_device(sample)
        return {name: tensor.astype("float32") for name, tensor in sample.items()}


def _check(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
