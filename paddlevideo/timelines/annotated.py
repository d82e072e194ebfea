"""Write a video with its timeline on the frames: H.264 in MP4, with audio, one frame after another.

    overlay = Overlay(names, seconds)
    with annotated_video("out.mp4", overlay) as video:
        for item in source:
            video.add(item)

An earlier file is replaced when the new one is complete. Browsers play it while it loads.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from paddlevideo.curate.h264 import add_h264, open_writer
from paddlevideo.curate.resize import AudioClock
from paddlevideo.files import atomic_write
from paddlevideo.log import logger
from paddlevideo.media.clock import read_stretches
from paddlevideo.media.containers import discard_others, open_container
from paddlevideo.media.packets import demux
from paddlevideo.predict.annotate import CRF
from paddlevideo.tar_paths import location
from paddlevideo.timelines.files import video_frames
from paddlevideo.timelines.frames import Audio, Frame, Item
from paddlevideo.timelines.overlay import Overlay
from paddlevideo.timelines.segments import Segment
from paddlevideo.urls import shown

SUFFIX = ".mp4"
TICKS = 90_000  # time stamps per second
GOP = 60  # frames; a player seeks to the first of them
FRAME_RATE = Fraction(25)  # where none is known; only hints for the encoder depend on it
COPIED = ("aac", "mp3", "opus", "flac")  # audio in MP4 that browsers play; other audio becomes AAC
AUDIO_RATE, AUDIO_CHUNK = 48_000, 48_000  # Hz, samples
NEAR = 0.05  # s; smaller differences of audio times are jitter of the time stamps


class NoFrameError(ValueError):
    """An annotated video without a frame."""


def check_target(target: str | Path) -> Path:
    """The path of an annotated video.

    Raises:
        ValueError: it has another suffix.
    """
    path = Path(target)
    if path.suffix.lower() != SUFFIX:
        raise ValueError(f"--annotate {path}: expected a file name that ends with {SUFFIX}")
    return path


def annotate_file(
    source: str | Path,
    target: str | Path,
    results: Iterable[Segment],
    font: str | None = None,
    streams: tuple[int | None, int | None] = (None, None),
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Write a copy of a video with the results of its windows on the frames.

    Frames have their times and size; an odd side loses a pixel, and frames of another size than the
    first are fitted into it. Audio is copied if MP4 takes it and browsers play it, else it becomes
    AAC. A stretch that cannot be decoded shows its last frame.

    Args:
        results: of all windows, in order; see `window_segment`.
        font: a TrueType or OpenType file; None to find one that has all letters.
        streams: which video and which audio stream, counted from 0; None is the first.
        should_stop: asked with each frame; where it is true, nothing is written.

    Returns:
        the target.

    Raises:
        DecodeError: the source has no such video.
        ValueError: another suffix, `font` is no font, or the target is the source.
        OSError: the target cannot be written.
        KeyboardInterrupt: `should_stop` is true.
    """
    path, target = str(source), check_target(target)
    if target.exists() and Path(path).exists() and target.samefile(path):
        raise ValueError(f"{target}: it would replace the video itself; choose another path")
    frames, results = video_frames(path, video_stream=streams[0]), list(results)
    names = {name for result in results for name in result.label_names}
    ends = max((result.end for result in results), default=0.0)
    overlay = Overlay(names, max(frames.seconds, ends), font)
    for result in results:
        overlay.add(result)
    rate = Fraction(frames.fps or FRAME_RATE).limit_denominator(65535)
    with ExitStack() as stack:
        audio = stack.enter_context(copied_audio(path, streams[1] or 0))
        video = stack.enter_context(annotated_video(target, overlay, rate, audio))
        for item in frames:
            if should_stop():
                raise KeyboardInterrupt
            video.add(item)
    return target


@contextmanager
def annotated_video(
    target: str | Path,
    overlay: Overlay,
    rate: Fraction = FRAME_RATE,
    audio: "CopiedAudio | None" = None,
    sound: bool = False,
) -> Iterator["AnnotatedVideo"]:
    """Yield a video that takes frames; the block's end completes the file.

    After an error in the block, an earlier file of this name is unchanged.

    Args:
        rate: frames per second, about.
        audio: of a file, to copy.
        sound: encode the audio of a source.

    Raises:
        ValueError: another suffix.
        NoFrameError: no frame came, so nothing was written.
        OSError: it cannot be written.
    """
    path = check_target(target)
    with atomic_write(path) as temporary:
        with open_writer(temporary, SUFFIX, {"movflags": "+faststart"}) as writer:
            video = AnnotatedVideo(writer, overlay, rate, audio, sound)
            yield video
            video.finish()
        if not video.num_frames:
            raise NoFrameError(f"{path}: not written, because no frame came")


class AnnotatedVideo:
    """Draws, encodes and writes the items of a source, in order.

    Attributes:
        num_frames: written so far.
    """

    def __init__(
        self,
        writer: Any,
        overlay: Overlay,
        rate: Fraction,
        audio: "CopiedAudio | None",
        sound: bool,
    ):
        self.overlay, self.num_frames = overlay, 0
        self._writer, self._rate, self._copied = writer, rate, audio
        self._wants_sound, self._sound = sound, None
        self._video: Any = None
        self._converter, self._last = VideoReformatter(), -1

    def add(self, item: Item) -> None:
        """Write a frame with its classes, or audio. Gaps show the frame before them.

        Raises:
            OSError: the disk is full.
        """
        if isinstance(item, Frame):
            self._add_frame(item)
        elif isinstance(item, Audio) and self._sound is not None:
            self._sound.add(item.time, item.samples[None], item.rate)

    def _add_frame(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        if self._video is None:
            self._video = self._start((max(2, height // 2 * 2), max(2, width // 2 * 2)))
        image = fitted(frame.image, self._video.height, self._video.width)
        self.overlay.draw(image, frame.time)
        stamp = round(frame.time * TICKS)
        if stamp <= self._last:  # two frames of one time: players show the second
            return
        self._last = stamp
        encoded: Any = self._converter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        encoded.pts, encoded.time_base = stamp, Fraction(1, TICKS)
        self._writer.mux(self._video.encode(encoded))
        self.num_frames += 1
        if self._copied is not None:
            self._copied.write(frame.time)

    def _start(self, size: tuple[int, int]) -> Any:
        """Add the streams, all before the first packet; returns that of the frames."""
        base = Fraction(1, TICKS)
        out = add_h264(self._writer, size, self._rate, base, CRF, gop=GOP)
        context = out.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if self._copied is not None:
            self._copied.start(self._writer)
        elif self._wants_sound:
            self._sound = EncodedAudio(self._writer, "mono")
        return out

    def finish(self) -> None:
        """Write what the encoders hold, and the rest of the audio."""
        if self._video is None:
            return
        if self._copied is not None:
            self._copied.write(float("inf"))
        if self._sound is not None:
            self._sound.finish()
        self._writer.mux(self._video.encode(None))


def fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A copy of a frame with another size, in its proportions, in the middle of a black one.

    Args:
        image: uint8 [H, W, 3]. A pixel more than `height` or `width` is cut off.
    """
    own_height, own_width = image.shape[:2]
    if 0 <= own_height - height <= 1 and 0 <= own_width - width <= 1:
        return np.array(image[:height, :width], order="C")
    scale = min(height / own_height, width / own_width)
    new_height, new_width = max(1, round(own_height * scale)), max(1, round(own_width * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (new_width, new_height), interpolation=method)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + new_height, left : left + new_width] = small
    return canvas


# --- audio ----------------------------------------------------------------------------------------


@contextmanager
def copied_audio(path: str, number: int = 0) -> Iterator["CopiedAudio | None"]:
    """Yield an audio stream of a file, to copy; None if it has none that can be read.

    Args:
        number: of the stream, counted from 0.
    """
    stretches = read_stretches(path)
    with open_container(path) as container:
        streams = container.streams.audio[number : number + 1]
        if not streams or streams[0].codec_context is None:
            if streams:
                name = shown(location(path))
                logger.warning(f"{name}: written without audio: no decoder for its codec")
            yield None
            return
        discard_others(container, streams[0])
        yield CopiedAudio(path, container, streams[0], stretches)


class CopiedAudio:
    """The audio of a file: its packets, or encoded again as AAC."""

    def __init__(self, path: str, container: Any, stream: Any, stretches: list[Any]):
        self._path, self._stream = path, stream
        self._packets = self._read(container)
        self._clock = AudioClock(stretches)
        self._zero = stretches[0].stamp if stretches else Fraction(0)
        self._next: Any = None
        self._writer: Any = None
        self._out: Any = None
        self._encoded: EncodedAudio | None = None

    def start(self, writer: Any) -> None:
        """Add the stream to a file."""
        self._writer = writer
        if self._stream.codec_context.name.removesuffix("float") in COPIED:
            try:
                self._out = writer.add_stream_from_template(self._stream)
                return
            except ValueError:  # a codec that this MP4 writer does not take
                pass
        self._encoded = EncodedAudio(writer, "stereo")

    def write(self, until: float) -> None:
        """Write the audio up to a time (s), or somewhat later."""
        while True:
            packet = self._next = self._next or next(self._packets, None)
            if packet is None:
                if until == float("inf") and self._encoded:
                    self._encoded.finish()
                return
            stamp = packet.pts if packet.pts is not None else packet.dts
            time = float(stamp * packet.time_base - self._zero)
            if time > until:
                return
            self._next = None
            if self._encoded:
                self._encode(packet, time)
            elif time >= 0:
                self._copy(packet)

    def _read(self, container: Any) -> Iterator[Any]:
        """The packets with their times on the clock of the frames."""
        try:
            for packet in demux(container, self._stream):
                if packet.dts is not None and self._clock.adjust(packet):
                    yield packet
        except av.error.FFmpegError as error:
            name = shown(location(self._path))
            logger.warning(f"{name}: the audio ends early: {error.strerror}")

    def _copy(self, packet: Any) -> None:
        shift = round(self._zero / packet.time_base)
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        packet.stream = self._out
        self._writer.mux(packet)

    def _encode(self, packet: Any, time: float) -> None:
        assert self._encoded is not None
        try:
            frames = packet.decode()
        except av.error.FFmpegError:  # the next ones come after silence
            return
        for frame in frames:
            self._encoded.add_frame(time, frame)
            time += frame.samples / frame.sample_rate


class EncodedAudio:
    """Audio at any times becomes one stream of AAC, with silence between them.

    Args:
        layout: mono or stereo.
    """

    def __init__(self, writer: Any, layout: str):
        self._writer, self._layout = writer, layout
        self._out = writer.add_stream("aac", rate=AUDIO_RATE, layout=layout)
        self._channels = 1 if layout == "mono" else 2
        self._written, self._form, self._resampler = 0, (), self._new_resampler()

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format="fltp", layout=self._layout, rate=AUDIO_RATE)

    def add(self, time: float, samples: np.ndarray, rate: int) -> None:
        """Write audio that begins at a time (s): float32 [channels, n]."""
        layout = "mono" if samples.shape[0] == 1 else "stereo"
        samples = np.ascontiguousarray(samples, np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate
        self.add_frame(time, frame)

    def add_frame(self, time: float, frame: Any) -> None:
        """Write decoded audio of FFmpeg that begins at a time (s)."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:  # a resampler takes one form
            self._resampler, self._form = self._new_resampler(), form
        frame.pts = None
        parts = [part.to_ndarray() for part in self._resampler.resample(frame)]
        if not parts:
            return
        samples = np.concatenate(parts, axis=1)
        late = round(time * AUDIO_RATE) - self._written
        if late > NEAR * AUDIO_RATE:
            self._write_silence(late)
        elif late < -NEAR * AUDIO_RATE:
            samples = samples[:, -late:]
        self._write(samples)

    def _write_silence(self, count: int) -> None:
        while count > 0:
            part = min(count, AUDIO_CHUNK)
            self._write(np.zeros((self._channels, part), np.float32))
            count -= part

    def _write(self, samples: np.ndarray) -> None:
        if not samples.shape[1]:
            return
        samples = np.ascontiguousarray(samples, np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = AUDIO_RATE, self._written
        frame.time_base = Fraction(1, AUDIO_RATE)
        self._written += samples.shape[1]
        self._writer.mux(self._out.encode(frame))

    def finish(self) -> None:
        """Write what the encoder holds."""
        if self._written:
            self._writer.mux(self._out.encode(None))
