"""The pipeline of an audio model: from a record to its input."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import NOMINAL_FPS, SYNTHETIC_SIZE, Pipeline, Stage
from paddlevideo.media.containers import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    list_video_streams,
    open_container,
)
from paddlevideo.media.log_mel import DecibelMel
from paddlevideo.media.waveform import Backend, NoAudioError, read_waveform
from paddlevideo.sample import DecodeError, InputSpec, Record, Sample

MISSING_ROWS = 640  # of what stands in for a missing feature


class AudioPipeline(Pipeline):
    """Turns a record into audio features float32 [clips, 1, time steps, mel bins].

    Args:
        decode: has `open(record)`, a context manager that gives an `AudioClip`; LoadAudioFeature.
        sample: SampleFrames.
        transforms: in order; AudioFeatureSelector, FormatAudioShape.

    The clips of a video are one input, so a sample has one view.
    """

    suffixes = (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)

    def __init__(self, decode: Any, sample: Any, transforms: Sequence[Any]):
        self.decode, self.sample, self.transforms = decode, sample, tuple(transforms)

    @property
    def batch_specs(self) -> dict[str, InputSpec]:
        return {"audio": InputSpec((None, None, 1, None, None), "float32", "N S C T F")}

    @property
    def random(self) -> bool:
        """Whether two calls with different generators may differ."""
        return any(part.random for part in (self.sample, *self.transforms))

    @property
    def num_clips(self) -> int:
        """Clips that are sampled of one video."""
        return self.sample.num_views

    def __call__(
        self, record: Record, rng: np.random.Generator, source: "AudioClip | None" = None
    ) -> Sample:
        """{"audio": float32 [clips, 1, T, mels], "label": int64, -1 where unknown, "missing_audio": bool}.

        Args:
            source: a clip that is open already; None opens the record.

        Raises:
            StageError: at the first stage that fails.
        """
        with Stage("decode"):
            if source is not None:
                sample = self._cut(source, rng)
            else:
                with self.decode.open(record) as clip:
                    sample = self._cut(clip, rng)
        return {**sample, "label": np.int64(-1 if record.label is None else record.label)}

    def _cut(self, clip: "AudioClip", rng) -> Sample:
        with Stage("sample"):
            numbers = self.sample(clip.num_frames, clip.fps, rng).reshape(self.num_clips, -1)
        sample: Sample = {
            "feature": clip.rows,
            "frame_inds": numbers,
            "total_frames": clip.num_frames,
        }
        for transform in self.transforms:
            with Stage(type(transform).__name__):
                sample = transform(sample, rng)
        audio = sample.get("audio")
        if audio is None or audio.ndim != 4:
            given = (
                f"audio {list(audio.shape)}"
                if audio is not None
                else f"no audio but {', '.join(sample)}"
            )
            steps = "'- AudioFeatureSelector: {fixed_length: 128}' and '- FormatAudioShape: {input_format: NCTF}'"
            raise ValueError(
                f"the pipeline gives {given}, expected audio [clips, 1, rows, mels]; end it with {steps}"
            )
        if not np.isfinite(audio).all():
            raise ValueError("the feature holds numbers that are not finite")
        return {
            "audio": np.ascontiguousarray(audio, np.float32),
            "missing_audio": np.bool_(clip.missing),
        }

    def synthetic(self, size: tuple[int, int] = SYNTHETIC_SIZE) -> Sample:
        """What the pipeline makes of ten seconds of noise, for a try without data.

        Raises:
            StageError: a part of it failed.
        """
        rng = np.random.default_rng(0)
        rows = rng.random((626, self.decode.num_mels), np.float32)
        return self(Record("a made-up sound"), rng, AudioClip(rows, 300, NOMINAL_FPS))

    def finish(self, sample: Sample) -> Sample:
        """For a sample or a batch: nothing is left to do."""
        return {
            **sample,
            **{name: np.ascontiguousarray(sample[name], np.float32) for name in self.batch_specs},
        }

    def finish_on_device(self, sample: Sample) -> Sample:
        """`finish` for paddle tensors."""
        return {name: tensor.astype("float32") for name, tensor in sample.items()}


# --- features ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AudioClip:
    """The feature of one record.

    Args:
        rows: float32 [L, num_mels], the whole sound.
        num_frames: of the video that it belongs to.
        fps: of that video, 0.0 where unknown.
        missing: whether there is no sound, and `rows` are the zeros of silence.
    """

    rows: np.ndarray
    num_frames: int
    fps: float = 0.0
    missing: bool = False


@register(
    "decode",
    ignores={
        "pad_method": "a feature that is not there is an error, or silence and counted: missing_audio"
    },
)
@dataclass(frozen=True)
class LoadAudioFeature:
    """A `.npy` feature, or one made on the fly of a video or an audio file; see `audio.DecibelMel`.

    Args:
        sample_rate: of the waveform (Hz).
        n_fft, hop_length: window and step (samples).
        num_mels: columns of the feature.
        fmin, fmax: lower and upper edge of the filters (Hz).
        stream: which audio stream of a container, counted from 0; None is the first.
        backend: pyav or soundfile, see `waveform.read_waveform`.
        missing_audio: what a file without sound, or a `.npy` that is not there, is: an error, or zeros, which are counted and
            logged. A damaged file is an error either way.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    num_mels: int = 80
    fmin: float = 125.0
    fmax: float = 7600.0
    stream: int | None = None
    backend: Backend = "pyav"
    missing_audio: Literal["error", "zeros"] = "error"

    pipeline: ClassVar[type] = AudioPipeline  # what its clips go through

    def __post_init__(self):
        self.feature  # noqa: B018, its sizes are checked there

    @property
    def feature(self) -> DecibelMel:
        return DecibelMel(
            self.sample_rate, self.n_fft, self.hop_length, self.num_mels, self.fmin, self.fmax
        )

    @contextmanager
    def open(self, record: Record) -> Iterator[AudioClip]:
        """The record's feature. Without `num_frames` in the list, it is counted as the video's frame rate has it.

        Raises:
            NoAudioError: no sound in it, and `missing_audio` is error.
            DecodeError: damaged, or a feature of another shape.
        """
        try:
            rows, fps, num_frames = self._load(record)
            clip = AudioClip(rows, record.num_frames or num_frames, fps)
        except NoAudioError as error:
            if self.missing_audio == "error":
                raise NoAudioError(
                    f"{error}; missing_audio: zeros uses silence instead"
                ) from error
            rows = np.zeros((MISSING_ROWS, self.num_mels), np.float32)
            num_frames = round(MISSING_ROWS / self.feature.steps_per_sec * NOMINAL_FPS)
            clip = AudioClip(rows, record.num_frames or num_frames, missing=True)
        yield clip

    def _load(self, record: Record) -> tuple[np.ndarray, float, int]:
        """(rows, fps, number of frames) of a record."""
        if record.path.lower().endswith(".npy"):
            if record.start_sec is not None or record.end_sec is not None:
                raise DecodeError(
                    "start_sec and end_sec are for videos and audio files; a feature is taken whole"
                )
            rows = read_feature(record.path, self.num_mels)
            return rows, 0.0, max(1, round(len(rows) / self.feature.steps_per_sec * NOMINAL_FPS))
        part = record.start_sec is not None or record.end_sec is not None
        wave = read_waveform(
            record.path,
            self.sample_rate,
            record.start_sec,
            record.end_sec,
            self.stream,
            self.backend,
        )
        fps, num_frames = (NOMINAL_FPS, 0) if record.num_frames else video_length(record.path)
        if part or not num_frames:
            num_frames = max(1, round(len(wave) / self.sample_rate * fps))
        return self.feature(wave), fps, num_frames


def read_feature(path: str, num_mels: int) -> np.ndarray:
    """A feature file, float [L, num_mels]; rows are read when they are used.

    Raises:
        NoAudioError: no such file, or no rows in it.
        DecodeError: no NumPy array, cut short, or of another shape.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise NoAudioError("no such feature file") from error
    except (OSError, ValueError, EOFError) as error:
        raise DecodeError(
            f"no NumPy feature, or cut short ({str(error).splitlines()[0]})"
        ) from error
    if (
        not isinstance(rows, np.ndarray)
        or rows.ndim != 2
        or rows.dtype.kind != "f"
        or rows.shape[1] != num_mels
    ):
        given = (
            f"{rows.dtype} {list(rows.shape)}"
            if isinstance(rows, np.ndarray)
            else "an archive of arrays"
        )
        raise DecodeError(
            f"the feature is {given}, expected float [rows, {num_mels}] (num_mels: {num_mels})"
        )
    if not len(rows):
        raise NoAudioError("the feature has no rows")
    return rows


def video_length(path: str) -> tuple[float, int]:
    """(frames per second, frames as the file announces them) of a file's first video; 30, 0 where it has none."""
    with open_container(path) as container:
        for stream in list_video_streams(container):
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            if fps:
                return fps, stream.frames or round(
                    float((stream.duration or 0) * (stream.time_base or 0)) * fps
                )
    return NOMINAL_FPS, 0
