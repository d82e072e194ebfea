"""From a record to what a model takes: decode, sample, transform; the cheap last steps wait until a batch is together."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paddlevideo.data.views import Views
from paddlevideo.sample import ClipShape, InputSpec, Record, Sample

NOMINAL_FPS = 30.0  # of a video that does not say
SYNTHETIC_SIZE = (240, 320)  # height, width of a made-up clip


class StageError(Exception):
    """A record gave no sample. `stage`: decode, sample, or a transform's name; `reason`: what was wrong. Chains its cause."""

    def __init__(self, stage: str, reason: str):
        super().__init__(stage, reason)  # both, so that it survives the way out of a worker process
        self.stage, self.reason = stage, reason

    def __str__(self):
        return f"{self.stage}: {self.reason}"


class Stage:
    """`with Stage(name):` turns what goes wrong inside into a StageError; the innermost stage is the one that is named."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, Exception) and not isinstance(error, StageError):
            # A ValueError's text is written for people; anything else needs its type to be understood.
            told = isinstance(error, ValueError) and str(error)
            raise StageError(
                self.name, str(error) if told else f"{kind.__name__}: {error}"
            ) from error


class ClipPipeline:
    """Turns a record into a sample, and a sample or a batch into a model's input.

    Args:
        decode: has `open(record)`, a context manager that gives a clip with `num_frames`, `fps` and
            `read(indices, each=None) -> uint8 [len(indices), H, W, 3]` RGB, see `decode.Clip`.
        sample: `(num_frames, fps, rng) -> indices`, see sampling.py.
        transforms: in order, see transforms.py. Those at the end that are `late` run in `finish`, the others in the worker.
        audio: makes the sound of the clips that were sampled, see audio_clips.py; None for pictures alone.
    """

    def __init__(self, decode: Any, sample: Any, transforms: Sequence[Any], audio: Any = None):
        self.decode, self.sample, self.audio = decode, sample, audio
        last = max(
            (i for i, t in enumerate(transforms) if not getattr(t, "late", False)), default=-1
        )
        self.early, self.late = tuple(transforms[: last + 1]), tuple(transforms[last + 1 :])
        # Frames shrink as they are decoded, where that comes first.
        self._shrink = next((t for t in self.early[:1] if hasattr(t, "frame_transform")), None)
        self._cuts = self.early[1:] if self._shrink else self.early

    @property
    def batch_specs(self) -> dict[str, InputSpec]:
        """What goes from the worker to `finish`, by name; views of a video are one axis more. A late transform may put other
        names in the place of `frames`, those that the model takes."""
        frames = {"frames": InputSpec((None, None, None, None, 3), "uint8", "N T H W C")}
        return frames | (self.audio.outputs if self.audio else {})

    def shaped(self, shape: ClipShape) -> "ClipPipeline":
        """The same pipeline for clips of another shape: the parts that depend on it are put at it."""
        sample, *transforms = (
            p.at(shape) if hasattr(p, "at") else p for p in (self.sample, *self.early, *self.late)
        )
        return ClipPipeline(self.decode, sample, transforms, self.audio)

    def synthetic(self) -> Sample:
        """What the pipeline makes of a made-up clip, up to the step that runs on batches: arrays as they travel."""
        num_frames = self.sample.num_frames * self.sample.num_views
        frames = np.random.default_rng(0).integers(
            0, 256, (num_frames, *SYNTHETIC_SIZE, 3), np.uint8
        )
        return self.apply(frames, np.random.default_rng(0))

    @property
    def random(self) -> bool:
        """Whether two calls with different generators may differ."""
        return any(part.random for part in (self.sample, *self.early, *filter(None, [self.audio])))

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
        """The worker's part: {"frames": uint8 [T, H, W, 3] or [V, T, H, W, 3], "label": int64, -1 where unknown}, and sound.

        Several clips of a video are decoded and resized together, each frame once, and may come as `Views` of them.

        Args:
            record: which video.
            rng: the sample's own generator.
            source: a clip that is open already (it stays open); None opens the record.

        Raises:
            StageError: at the first stage that fails.
        """
        with Stage("decode"):
            if source is not None:
                frames, times, numbers, fps = self._read(source, rng)
            else:
                with self.decode.open(record) as clip:
                    frames, times, numbers, fps = self._read(clip, rng)
        sample = {
            **self._cut(frames, rng),
            "label": np.int64(-1 if record.label is None else record.label),
        }
        if self.audio:  # after all else is drawn: sound changes no crop
            with Stage("audio"):
                sample |= self._sound(record, times, numbers, fps, rng)
        return sample

    def _sound(
        self, record: Record, times: np.ndarray | None, numbers: np.ndarray, fps: float, rng
    ) -> Sample:
        """The sound of the clips, for each of their views; silence where frames have no times, as in memory."""
        if times is None:
            return self.audio.silent(self.num_views)
        seconds, crops = getattr(self.sample, "seconds", None), self.num_views // self.num_clips
        return self.audio(record, times, numbers, fps or NOMINAL_FPS, rng, seconds, crops)

    def _read(self, clip, rng) -> tuple[np.ndarray | Views, np.ndarray | None, np.ndarray, float]:
        """(frames, times of the video's frames where sound is wanted and they are known, numbers of each clip, fps); what fails
        here belongs to decoding, but for the sampler and the shrinking themselves."""
        with Stage("sample"):
            indices = self.sample(clip.num_frames, clip.fps, rng)
        picked, numbers = indices.reshape(self.num_clips, -1), None
        times = clip.times() if self.audio else None
        if self.num_clips > 1:
            indices, numbers = np.unique(indices, return_inverse=True)
        each = self._each(rng)
        frames = clip.read(indices) if each is None else clip.read(indices, each)
        if len(frames) != len(indices):
            raise ValueError(f"{len(indices)} frames were asked for, {len(frames)} came")
        _check(frames)
        if numbers is not None:
            frames = Views.of(frames, numbers.reshape(self.num_clips, -1))
        return frames, times, picked, clip.fps

    def _each(self, rng) -> Callable[[np.ndarray], np.ndarray] | None:
        """What shrinks a frame, None where nothing does; it draws its numbers now."""
        if self._shrink is None:
            return None
        stage = Stage(type(self._shrink).__name__)
        with stage:
            shrink = self._shrink.frame_transform(rng)

        def each(frame: np.ndarray) -> np.ndarray:
            with stage:
                return shrink(frame)

        return each

    def apply(self, frames: np.ndarray, rng: np.random.Generator) -> Sample:
        """The worker's part for frames that are decoded and picked already: uint8 [T, H, W, 3] RGB -> {"frames": ...}.

        Raises:
            StageError: a transform failed, or the frames are of another type or shape.
        """
        with Stage("decode"):
            _check(frames)
        each = self._each(rng)
        frames = frames if each is None else each(frames)
        if self.num_clips > 1:
            with Stage("sample"):
                numbers = np.arange(len(frames)).reshape(self.num_clips, -1)
            frames = Views.of(frames, numbers)
        return self._cut(frames, rng) | (self.audio.silent(self.num_views) if self.audio else {})

    def _cut(self, frames: np.ndarray | Views, rng) -> Sample:
        """The early transforms but the one that has shrunk the frames."""
        sample: Sample = {"frames": frames}
        for transform in self._cuts:
            with Stage(type(transform).__name__):
                if not getattr(transform, "shares", False):
                    sample = {**sample, "frames": np.asarray(sample["frames"])}
                sample = transform(sample, rng)
        # A cut is a window into larger frames, which would travel along.
        left = sample["frames"]
        return {
            **sample,
            "frames": left.compact() if isinstance(left, Views) else np.ascontiguousarray(left),
        }

    def finish(self, sample: Sample) -> Sample:
        """The late transforms, for a sample or a batch of any leading axes: uint8 -> float32, contiguous.

        What does not travel to the model (label, index) stays as it is.

        Raises:
            StageError: a transform failed.
        """
        inputs = {"frames": np.asarray(sample["frames"])}
        for transform in self.late:
            with Stage(type(transform).__name__):
                inputs = transform(inputs, None)
        others = {name: value for name, value in sample.items() if name != "frames"}
        return others | {
            name: np.ascontiguousarray(array, np.float32) for name, array in inputs.items()
        }

    def finish_on_device(self, sample: Sample) -> Sample:
        """`finish` for paddle tensors, on the device that holds them: those that travel -> the model's inputs."""
        inputs = {"frames": sample["frames"]}
        for transform in self.late:
            with Stage(type(transform).__name__):
                inputs = transform.on_device(inputs)
        others = {name: tensor for name, tensor in sample.items() if name != "frames"}
        return others | {name: tensor.astype("float32") for name, tensor in inputs.items()}


def _check(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]"
        )
