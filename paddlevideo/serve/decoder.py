"""What a decoding process does with an upload: check its size, decode, transform.

The pipeline is that of the `Predictor`, which does the rest in the main process. This module loads
neither Paddle nor the web server, so that a replaced process is ready soon.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import av
import av.error
import cv2
import numpy as np

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.pipeline import Pipeline, StageError
from paddlevideo.media.clip import Clip
from paddlevideo.media.containers import list_video_streams
from paddlevideo.media.sources import METADATA_IN_ANY_ENCODING, unreadable
from paddlevideo.sample import DecodeError, Record, Sample
from paddlevideo.serve.settings import Limits
from paddlevideo.timelines.files import video_frames
from paddlevideo.timelines.frames import Frame, Gap, Item

MAX_FRAMES = 32  # that a response shows
FRAME_SIDE = 320  # longest side of such a frame (pixels)
JPEG_QUALITY = 80
# Formats that name other files: FFmpeg would read files of the server for the client.
PLAYLISTS = ("hls", "applehttp", "concat", "dash", "imf", "sdp", "rtsp", "webm_dash_manifest")
NOT_CONTAINERS = (".npy", ".pkl", ".tfrecord")  # read by other code than FFmpeg


class LimitError(DecodeError):
    """A file that is longer or larger than the service allows."""


@dataclass(frozen=True)
class Job:
    """A file to decode for a model.

    Args:
        model: name of the model whose pipeline makes the sample.
        path: the file.
        frames: also return small copies of the frames that the sampler chose.
    """

    model: str
    path: str
    frames: bool = False


@dataclass(frozen=True)
class TimelineJob:
    """A file to decode from its beginning to its end for a model; see `Job`."""

    model: str
    path: str


@dataclass(frozen=True)
class Decoded:
    """A file, ready for the network.

    Args:
        sample: what the pipeline made of it.
        duration: of the video (s); None where it has no frames.
        decode, preprocess: what they took (s).
        frames: (time (s), JPEG) of the frames that the sampler chose, at most MAX_FRAMES.
    """

    sample: Sample
    duration: float | None
    decode: float
    preprocess: float
    frames: list[tuple[float, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Opened:
    """A file whose frames and audio follow.

    Args:
        fps: mean frames per second, 0.0 where unknown.
        constant_rate: whether all frames have the same distance.
    """

    fps: float
    constant_rate: bool


@dataclass(frozen=True)
class Decoder:
    """Decodes files for the models of a service.

    Args:
        pipelines: of each model, by name.
        limits: of one file.
    """

    pipelines: Mapping[str, Pipeline]
    limits: Limits

    def __call__(self, job: Job | TimelineJob) -> Iterator[Decoded | Opened | Item]:
        """Yield the sample of a file; or what a timeline needs of it, in the order of time.

        Raises:
            LimitError: the file is longer or larger than the limits.
            DecodeError, StageError: it cannot be decoded or transformed.
        """
        if isinstance(job, Job):
            yield self._sample(job)
        else:
            yield from self._timeline(job)

    def _sample(self, job: Job) -> Decoded:
        start = time.perf_counter()
        pipeline, watched = self.pipelines[job.model], None
        seconds = None
        if isinstance(pipeline, ClipPipeline) or not job.path.endswith(NOT_CONTAINERS):
            seconds = check_file(job.path, self.limits)
        if isinstance(pipeline, ClipPipeline):  # one with frames to watch
            watched = WatchedDecoder(pipeline.decode, self.limits, job.frames)
            pipeline = pipeline.with_parts(decode=watched)
        sample = pipeline(record_of(job.path, pipeline), np.random.default_rng(0))
        total = time.perf_counter() - start
        if watched is None:
            return Decoded(sample, seconds, total, 0.0)
        others = max(0.0, total - watched.decoding - watched.copying)
        return Decoded(sample, watched.duration, watched.decoding, others, watched.frames)

    def _timeline(self, job: TimelineJob) -> Iterator[Opened | Item]:
        check_file(job.path, self.limits)
        needs = self.pipelines[job.model].stream_needs()
        streams = (needs.video_stream, needs.audio_stream)
        source, count = video_frames(job.path, needs.frames, needs.audio, *streams), 0
        yield Opened(source.fps, source.constant_rate)
        for item in source:
            if isinstance(item, Frame):
                count += 1
                check_frames(count, self.limits)
                check_pixels(item.image.shape[1], item.image.shape[0], self.limits)
            check_seconds(item.start if isinstance(item, Gap) else item.time, self.limits)
            yield item


def record_of(path: str, pipeline: Pipeline) -> Record:
    """The record of an upload.

    Raises:
        DecodeError: the file has several records, or none.
    """
    if pipeline.find_records is None:
        return Record(path)
    find_records: Any = pipeline.find_records
    try:
        records: Sequence[Record] = find_records(path)
    except (ValueError, OSError) as error:
        reason = str(error).replace(path, "the file")  # clients need not know where it is
        raise DecodeError(f"this model takes shards of frame features: {reason}") from error
    if len(records) != 1:
        raise DecodeError(f"the shard has {len(records)} records; send one with a single record")
    return records[0]


def check_file(path: str, limits: Limits) -> float | None:
    """Check a file by its header, before anything is decoded; returns its duration if it has one.

    Nothing but the file itself is read, whatever it names.

    Raises:
        DecodeError: FFmpeg does not open it, or it is a playlist.
        LimitError: its header states more than the limits.
    """
    if os.path.getsize(path) == 0:
        raise DecodeError("the file is empty (0 bytes)")
    try:
        with (
            open(path, "rb") as file,
            av.open(
                file, options={"protocol_whitelist": "none"}, **METADATA_IN_ANY_ENCODING
            ) as container,
        ):
            name = container.format.name
            if any(part in PLAYLISTS for part in name.split(",")):
                raise DecodeError(f"a playlist ({name}), which names other files; send the video")
            for stream in list_video_streams(container):
                if stream.codec_context is not None:
                    check_pixels(stream.codec_context.width, stream.codec_context.height, limits)
            seconds = container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError) as error:
        # The decoder could open it, perhaps with other files that it names.
        with open(path, "rb") as file:
            raise unreadable(error, file.read(12)) from error
    if seconds is not None:
        check_seconds(seconds, limits)
    return seconds


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raise a LimitError for frames that are too large."""
    if width * height > limits.pixels:
        megapixels = limits.pixels / 1e6
        raise LimitError(
            f"its frames have {width}x{height} pixels; this service takes up to {megapixels:.1f} "
            "million: send a smaller copy"
        )


def check_seconds(seconds: float, limits: Limits) -> None:
    """Raise a LimitError for a file that is too long."""
    if seconds > limits.seconds:
        raise LimitError(
            f"it is {seconds:.1f} s long; this service takes up to {limits.seconds:g} s: "
            "cut it into parts"
        )


def check_frames(count: int, limits: Limits) -> None:
    """Raise a LimitError for a file of too many frames."""
    if count > limits.frames:
        raise LimitError(
            f"it has {count} frames or more; this service takes up to {limits.frames}: "
            "cut it into parts"
        )


@dataclass
class WatchedDecoder:
    """Opens records with another decoder, and keeps what a response shows about them.

    Args:
        decoder: has `open(record)`.
        limits: of the open video.
        keep_frames: whether to keep copies of the frames that are read.

    Attributes:
        duration: of the video (s), None where it has no times.
        decoding: seconds in the decoder.
        copying: seconds for the copies.
        frames: (time (s), JPEG), at most MAX_FRAMES.
    """

    decoder: Any
    limits: Limits
    keep_frames: bool
    duration: float | None = None
    decoding: float = 0.0
    copying: float = 0.0
    frames: list[tuple[float, bytes]] = field(default_factory=list)

    @contextmanager
    def open(self, record: Record) -> Iterator["WatchedClip"]:
        """Open a record; see `media.decode.VideoDecoder.open`.

        Raises:
            LimitError: the video has more frames or seconds than the limits.
        """
        start = time.perf_counter()
        with self.decoder.open(record) as clip:
            times = clip.times()
            self.decoding += time.perf_counter() - start
            check_frames(clip.num_frames, self.limits)
            if times is not None:
                step = 1 / clip.fps if clip.fps else 0.0
                self.duration = float(times[-1]) + step
                check_seconds(float(times[-1]), self.limits)
            yield WatchedClip(self, clip, times)


@dataclass(frozen=True)
class WatchedClip:
    """A `Clip` that notes what is read."""

    watcher: WatchedDecoder
    clip: Clip
    _times: np.ndarray | None

    read_waveform: ClassVar[None] = None

    @property
    def num_frames(self) -> int:
        return self.clip.num_frames

    @property
    def fps(self) -> float:
        return self.clip.fps

    def times(self) -> np.ndarray | None:
        return self._times

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return frames; see `Clip.read`. The time that `each` takes is not time of the decoder."""
        watcher, transforming = self.watcher, 0.0

        def timed(frame: np.ndarray) -> np.ndarray:
            nonlocal transforming
            begin = time.perf_counter()
            try:
                return frame if each is None else each(frame)
            finally:
                transforming += time.perf_counter() - begin

        start = time.perf_counter()
        frames = self.clip.read(indices, timed)
        watcher.decoding += time.perf_counter() - start - transforming
        if watcher.keep_frames:
            start = time.perf_counter()
            watcher.frames += self._copies(np.unique(indices))
            watcher.copying += time.perf_counter() - start
        return frames

    def _copies(self, numbers: np.ndarray) -> list[tuple[float, bytes]]:
        if len(numbers) > MAX_FRAMES:
            numbers = numbers[np.linspace(0, len(numbers) - 1, MAX_FRAMES).round().astype(int)]
        times = (
            self._times
            if self._times is not None
            else np.arange(self.num_frames) / (self.fps or 1.0)
        )
        images = self.clip.read(numbers, small)
        return [
            (float(times[number]), jpeg(image))
            for number, image in zip(numbers, images, strict=True)
        ]


def small(frame: np.ndarray) -> np.ndarray:
    """A frame uint8 [H, W, 3] with at most FRAME_SIDE pixels on its longer side."""
    scale = FRAME_SIDE / max(frame.shape[:2])
    if scale >= 1:
        return frame
    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def jpeg(frame: np.ndarray) -> bytes:
    """An RGB frame uint8 [H, W, 3] as JPEG."""
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def refusal(error: Exception) -> str | None:
    """The reason for the client if the error is a fault of the file, else None."""
    if isinstance(error, StageError):
        return str(error.__cause__) if isinstance(error.__cause__, LimitError) else str(error)
    if isinstance(error, LimitError):
        return str(error)
    if isinstance(error, MemoryError):
        return "decode: it needs more memory than this service allows for a file"
    if isinstance(error, DecodeError):
        return f"decode: {error}"
    return f"decode: {error.strerror}" if isinstance(error, av.error.FFmpegError) else None
