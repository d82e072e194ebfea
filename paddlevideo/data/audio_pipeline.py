"""The pipeline of an audio model: from a record to its input."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Literal, cast

import numpy as np

from paddlevideo.array_files import ArrayFileError, open_npy, read_npy, wrong_value
from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import NOMINAL_FPS, SYNTHETIC_SIZE, Pipeline, Stage, StreamNeeds
from paddlevideo.media.clip import ReadWaveform
from paddlevideo.media.containers import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    first_video,
    list_video_streams,
    open_container,
)
from paddlevideo.media.log_mel import DecibelMel
from paddlevideo.media.tar_files import check_usable, open_in_tar, read_start
from paddlevideo.media.waveform import Backend, NoAudioError, read_waveform
from paddlevideo.remote import is_url, read_bytes
from paddlevideo.sample import DecodeError, InputSpec, Record, Sample
from paddlevideo.tar_paths import file_suffix, tar_path

MAX_FEATURE = 1e9  # log-mels have values of tens
ZIP_START = b"PK\x03\x04"  # an archive, such as .npz
MISSING_STEPS = 640  # time steps of the silence that replaces a missing feature


class AudioPipeline(Pipeline):
    """Turns a record into audio features float32 [clips, 1, time steps, mel bins].

    Args:
        decode: has `open(record)`, a context manager that gives an `AudioClip`; LoadAudioFeature.
        sample: SampleFrames.
        transforms: a sequence of transforms; AudioFeatureSelector, FormatAudioShape.

    The clips of a video form one input, so a sample has one view.
    """

    suffixes = (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)

    def __init__(self, decode: Any, sample: Any, transforms: Sequence[Any]):
        self.decode, self.sample, self.transforms = decode, sample, tuple(transforms)

    @property
    def batch_specs(self) -> dict[str, InputSpec]:
        """The audio of all clips; a sample has no further axis of views."""
        return {"audio": InputSpec((None, None, 1, None, None), "float32", "N S C T F")}

    @property
    def random(self) -> bool:
        """Whether two calls with different generators may differ."""
        return any(part.random for part in (self.sample, *self.transforms))

    @property
    def num_clips(self) -> int:
        """Clips that are sampled from one video."""
        return self.sample.num_views

    def __call__(
        self, record: Record, rng: np.random.Generator, source: "AudioClip | None" = None
    ) -> Sample:
        """The sample of a record; this part runs in a worker process.

        Args:
            record: which video or audio file.
            rng: the sample's own generator.
            source: an open clip to use in place of the record.

        Returns:
            audio: float32 [clips, 1, time steps, mel bins].
            label: int64, -1 if unknown.
            missing_audio: bool, whether silence replaces the audio.

        Raises:
            StageError: at the first stage that fails.
        """
        with Stage("decode"):
            if source is not None:
                sample = self._transform(source, rng)
            else:
                with self.decode.open(record) as clip:
                    sample = self._transform(clip, rng)
        return {**sample, "label": np.int64(-1 if record.label is None else record.label)}

    def stream_needs(self) -> StreamNeeds:
        """Audio alone."""
        return StreamNeeds(False, True, audio_stream=self.decode.stream)

    def of_window(self, window: Any) -> "AudioClip":
        """The feature of a window; see `Pipeline.of_window`."""
        return self.decode.clip_of(
            window.read_waveform, window.start_sec, window.end_sec, window.fps
        )

    def _transform(self, clip: "AudioClip", rng) -> Sample:
        """Sample frames, and cut the feature to them."""
        with Stage("sample"):
            numbers = self.sample(clip.num_frames, clip.fps, rng).reshape(self.num_clips, -1)
        sample: Sample = {
            "feature": clip.feature,
            "frame_inds": numbers,
            "total_frames": clip.num_frames,
        }
        for transform in self.transforms:
            with Stage(type(transform).__name__):
                sample = transform(sample, rng)
        audio = sample.get("audio")
        if audio is None or audio.ndim != 4:
            if audio is None:
                given = f"no audio but {', '.join(sample)}"
            else:
                given = f"audio {list(audio.shape)}"
            raise ValueError(
                f"the pipeline gives {given}, expected audio [clips, 1, time steps, mel bins]; "
                "end it with '- AudioFeatureSelector: {fixed_length: 128}' and "
                "'- FormatAudioShape: {input_format: NCTF}'"
            )
        if not np.isfinite(audio).all():
            raise ValueError("the feature has values that are not finite")
        return {
            "audio": np.ascontiguousarray(audio, np.float32),
            "missing_audio": np.bool_(clip.missing),
        }

    def synthetic(self, size: tuple[int, int] = SYNTHETIC_SIZE) -> Sample:
        """The sample of ten seconds of noise, to try a model without data.

        Args:
            size: not used; there are no frames.

        Raises:
            StageError: a part of the pipeline failed.
        """
        rng = np.random.default_rng(0)
        feature = rng.random((626, self.decode.num_mels), np.float32)
        return self(Record("synthetic audio"), rng, AudioClip(feature, 300, NOMINAL_FPS))

    def finish(self, sample: Sample) -> Sample:
        """The same sample or batch; all transforms have run already."""
        inputs = {name: np.ascontiguousarray(sample[name], np.float32) for name in self.batch_specs}
        return {**sample, **inputs}

    def finish_on_device(self, sample: Sample) -> Sample:
        """`finish` for Paddle tensors, on their device."""
        return {name: tensor.astype("float32") for name, tensor in sample.items()}


# --- features ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AudioClip:
    """The feature of one record.

    Args:
        feature: float32 [time steps, mel bins] of the complete audio.
        num_frames: frames of the video that it belongs to.
        fps: frame rate of that video, 0.0 if unknown.
        missing: whether there is no audio, and `feature` is silence, all zeros.
    """

    feature: np.ndarray
    num_frames: int
    fps: float = 0.0
    missing: bool = False


@register(
    "decode",
    ignores={
        "pad_method": "missing_audio decides whether a missing feature is an error or silence"
    },
)
@dataclass(frozen=True)
class LoadAudioFeature:
    """Loads a `.npy` feature, or computes one from a video or audio file; see `log_mel.DecibelMel`.

    Args:
        sample_rate: of the waveform (Hz).
        n_fft, hop_length: window and step (samples).
        num_mels: mel bins of the feature.
        fmin, fmax: lowest and highest frequency of the mel filters (Hz).
        stream: which audio stream of a container, counted from 0; None is the first.
        backend: pyav or soundfile, see `waveform.read_waveform`.
        missing_audio: what a file without audio, or a missing `.npy` file, is: an error, or zeros
            (silence), which are counted and logged. A damaged file is an error in both cases.
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

    pipeline: ClassVar[type[Pipeline]] = AudioPipeline

    def __post_init__(self):
        self.feature  # noqa: B018, checks the sizes

    @property
    def feature(self) -> DecibelMel:
        """Computes the feature of a waveform."""
        return DecibelMel(
            self.sample_rate, self.n_fft, self.hop_length, self.num_mels, self.fmin, self.fmax
        )

    @contextmanager
    def open(self, record: Record) -> Iterator[AudioClip]:
        """Give the clip of a record.

        If the list has no `num_frames`, they follow from the file, or from its duration.

        Raises:
            NoAudioError: there is no audio, and `missing_audio` is error.
            DecodeError: the file is damaged, or the feature has another shape.
        """
        check_usable(record)
        try:
            feature, fps, num_frames = self._load(record)
            clip = AudioClip(feature, record.num_frames or num_frames, fps)
        except NoAudioError as error:
            clip = self._silence(error, record.num_frames)
        yield clip

    def clip_of(
        self, read: ReadWaveform, start_sec: float, end_sec: float, fps: float
    ) -> AudioClip:
        """The clip of a part of a stream, as `open` gives that of a part of a file.

        Args:
            read: reads the audio of the part.
            start_sec, end_sec: the part (s).
            fps: frame rate of the video that the audio belongs to, 0.0 if unknown.

        Raises:
            NoAudioError, DecodeError: as `open`.
        """
        try:
            wave = read(self.sample_rate, start_sec, end_sec, self.backend)
        except NoAudioError as error:
            return self._silence(error, None)
        fps = fps or NOMINAL_FPS
        num_frames = max(1, round(len(wave) / self.sample_rate * fps))
        return AudioClip(self.feature(wave), num_frames, fps)

    def _silence(self, error: NoAudioError, num_frames: int | None) -> AudioClip:
        """The clip of a record without audio.

        Raises:
            NoAudioError: `missing_audio` is error.
        """
        if self.missing_audio == "error":
            raise NoAudioError(f"{error}; missing_audio: zeros uses silence instead") from error
        silence = np.zeros((MISSING_STEPS, self.num_mels), np.float32)
        return AudioClip(silence, num_frames or self._num_frames(MISSING_STEPS), missing=True)

    def _num_frames(self, num_steps: int) -> int:
        """Frames of a video with nominal frame rate that lasts this many time steps."""
        return max(1, round(num_steps / self.feature.steps_per_sec * NOMINAL_FPS))

    def _load(self, record: Record) -> tuple[np.ndarray, float, int]:
        """Return (feature, fps, number of frames) of a record."""
        is_part = record.start_sec is not None or record.end_sec is not None
        if file_suffix(record.path) == ".npy":
            if is_part:
                raise DecodeError(
                    "start_sec and end_sec are for videos and audio files; "
                    "a feature file is used completely"
                )
            feature = read_feature(record.path, self.num_mels)
            return feature, 0.0, self._num_frames(len(feature))
        wave = read_waveform(
            record.path,
            self.sample_rate,
            record.start_sec,
            record.end_sec,
            self.stream,
            self.backend,
        )
        fps, num_frames = (NOMINAL_FPS, 0) if record.num_frames else video_length(record.path)
        if is_part or not num_frames:
            num_frames = max(1, round(len(wave) / self.sample_rate * fps))
        return self.feature(wave), fps, num_frames


def read_feature(path: str, num_mels: int) -> np.ndarray:
    """Return the feature in a file, float [time steps, num_mels].

    Raises:
        NoAudioError: there is no such file, or it has no time steps.
        DecodeError: the file is not a NumPy array, is truncated, has another shape, or values that
            are not finite or too large.
    """
    try:
        feature = _array_of(path)
    except FileNotFoundError as error:
        raise NoAudioError("no such feature file") from error
    except ArrayFileError as error:
        expected = f"expected float [time steps, {num_mels}]"
        if read_start(path, 4) == ZIP_START:
            raise DecodeError(f"the feature is an archive of arrays, {expected}") from error
        raise DecodeError(f"not a NumPy feature, or truncated ({error})") from error
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror or error}") from error
    if feature.ndim != 2 or feature.dtype.kind != "f" or feature.shape[1] != num_mels:
        given = f"{feature.dtype} {list(feature.shape)}"
    else:
        given = ""
    if given:
        raise DecodeError(
            f"the feature is {given}, expected float [time steps, {num_mels}] "
            f"(num_mels: {num_mels})"
        )
    if not len(feature):
        raise NoAudioError("the feature has no time steps")
    wrong = wrong_value(feature, MAX_FEATURE)
    if wrong:
        reason = f"values that are not finite or above {MAX_FEATURE:g}: {wrong}"
        raise DecodeError(f"the feature has {reason} [time step, mel bin]")
    return feature


def _array_of(path: str) -> np.ndarray:
    """The array in a `.npy` file, which may be at a URL or in a shard; errors as of `open_npy`."""
    inside = tar_path(path)
    if inside is not None:
        with open_in_tar(path) as file:
            return read_npy(cast(BinaryIO, file), inside.size)
    if not is_url(path):
        return open_npy(path)
    content = read_bytes(path)
    return read_npy(io.BytesIO(content), len(content))


def video_length(path: str) -> tuple[float, int]:
    """Return (fps, number of frames) of the first video stream, as the file states them.

    (NOMINAL_FPS, 0) if there is none.
    """
    with open_container(path) as container:
        stream = first_video(path, list_video_streams(container))
        if stream is not None:
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            if fps:
                seconds = float((stream.duration or 0) * (stream.time_base or 0))
                return fps, stream.frames or round(seconds * fps)
    return NOMINAL_FPS, 0
