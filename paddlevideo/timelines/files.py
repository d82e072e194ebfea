"""A video or audio file as a source: decoded once from its beginning, with constant memory.

    source = video_frames("long.mp4")
    source.fps                     # mean frames per second, 0.0 where unknown
    for item in source: ...        # `Frame`, `Audio` or `Gap`, in the order of time

Second 0 is when the first frame is shown. Frames have the time stamps of the file. Where these
start again (a stretch of packets.py), time goes on one frame after the frame before.

media/damage.py says what happens to damage: whatever FFmpeg decodes is used. Lost frames are
skipped, so that the frame before is shown on; where more than MIN_GAP is lost, it is a `Gap`.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import av.error
from av.video.reformatter import VideoReformatter

from paddlevideo.data.audio_pipeline import video_length
from paddlevideo.log import logger
from paddlevideo.media.audio_reader import AudioReader, NoAudioError, open_audio
from paddlevideo.media.clip import FALLBACK_FPS
from paddlevideo.media.containers import discard_others, first_video, open_container, video_streams
from paddlevideo.media.packets import WRAPPED, StretchStarts, demux, num_listed
from paddlevideo.media.upright import upright_rgb
from paddlevideo.sample import DecodeError
from paddlevideo.tar_paths import location
from paddlevideo.timelines.frames import Audio, Frame, Gap, Item
from paddlevideo.urls import shown

MIN_GAP = 0.25  # s without frames, next to packets that do not decode; less is shown as a still
MIN_HOLE = 0.5  # s without frames in a file of constant rate, without any sign of damage
MIN_GAP_FRAMES = 3  # the same in frames, for low frame rates
NEAR = 1.0  # s; threads of a decoder report damage a few packets late
RATE_TOLERANCE = 2e-5  # between the mean frame rate and the one of the closest frames
MAX_LATE = 16  # frames in a row that a decoder gives too late; after more, the clock was set back
LATE_STEP = 0.01  # of a frame: from a frame to one that comes too late
RETRIES = 100  # times that reading goes on after an error of the container, without any packet


@dataclass(frozen=True)
class FileSource:
    """A file as a source; each iteration decodes it from the beginning. See `video_frames`.

    Args:
        path: the file.
        fps: mean frames per second of its video, 0.0 where unknown or where there is none.
        seconds: length as the file states it, 0.0 where unknown.
        constant_rate: whether all frames have the same distance, as the file states it.
    """

    path: str
    fps: float
    seconds: float
    constant_rate: bool
    frames: bool
    audio: bool
    video_stream: int | None
    audio_stream: int | None

    def __iter__(self) -> Iterator[Item]:
        """
        Raises:
            DecodeError: nothing in the file can be decoded.
        """
        with ExitStack() as stack:
            sounds = _AudioParts(self, stack) if self.audio else None
            if not self.frames:
                assert sounds is not None
                yield from sounds.until(float("inf"))
                if sounds.error:
                    yield from _gap(sounds.end, self.seconds, sounds.error)
                return
            for item in _frames(self.path, self.video_stream):
                if sounds and isinstance(item, Frame):
                    yield from sounds.until(item.time)
                yield item
            if sounds:
                yield from sounds.until(float("inf"))


def video_frames(
    path: str | os.PathLike[str],
    frames: bool = True,
    audio: bool = False,
    video_stream: int | None = None,
    audio_stream: int | None = None,
) -> FileSource:
    """Open a file as a source of a timeline.

    Args:
        frames: give frames; False for the audio alone, also of an audio file.
        audio: give audio. A file with frames may lack it.
        video_stream, audio_stream: which streams, counted from 0; None is the first.

    Raises:
        DecodeError: not a video, or no such stream in it.
        NoAudioError: without `frames`, the file has no audio.
        ValueError: neither frames nor audio are wanted.
    """
    path = os.fspath(path)
    if not (frames or audio):
        raise ValueError("neither frames nor audio are wanted; set one of them")
    with open_container(path) as container:
        seconds = (container.duration or 0) / av.time_base
        stream = _choose(path, container, video_stream) if frames else None
        fps = _fps(stream) if stream else 0.0
        constant_rate = _is_constant(stream) if stream else False
    if not frames:
        with open_audio(path, audio_stream):
            fps = video_length(path)[0]
    return FileSource(path, fps, seconds, constant_rate, frames, audio, video_stream, audio_stream)


def _choose(path: str, container: Any, number: int | None) -> Any:
    """The video stream of an open container; see `VideoDecoder`."""
    streams = video_streams(container)
    if number is None:
        return first_video(path, streams)
    if number >= len(streams):
        raise DecodeError(
            f"there is no video stream {number}; the file has {len(streams)}, counted from 0"
        )
    return streams[number]


def _fps(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0)


def _is_constant(stream: Any) -> bool:
    """Whether the mean frame rate is the one of the closest frames."""
    mean, closest = _fps(stream), float(stream.base_rate or 0)
    return mean > 0 and closest > 0 and abs(mean / closest - 1) < RATE_TOLERANCE


# --- frames ---------------------------------------------------------------------------------------


def _frames(path: str, number: int | None) -> Iterator[Frame | Gap]:
    """The frames and gaps of a video stream."""
    with open_container(path) as container:
        stream = _choose(path, container, number)
        discard_others(container, stream)
        losses = _Losses(stream, container.format.name)
        clock = _Clock(stream, container.format.name == "avi", losses)
        converter = VideoReformatter()
        time = None
        for frame in _decoded(container, stream, losses):
            before, time = time, clock.time_of(frame)
            if before is not None:
                yield from losses.between(before, time, clock)
            yield Frame(time, upright_rgb(frame, converter))
        if time is None:
            raise DecodeError(losses.reason or "no frames in it")
        listed = num_listed(container, stream)
        if losses.num_packets < listed:
            reason = f"the file is cut short: it lists {listed} frames and holds "
            reason += str(losses.num_packets)
            end = float((stream.duration or 0) * stream.time_base)
            yield from _gap(time + clock.step, end, reason)
        else:
            last = max(losses.seconds(clock), default=-1.0)
            yield from losses.between(time, last + clock.step, clock)


def _gap(start: float, end: float, reason: str) -> Iterator[Gap]:
    if end > start:
        yield Gap(start, end, reason)


class _Losses:
    """The packets of a stream that could not be decoded, and those that begin a stretch.

    Args:
        container: FFmpeg's name of the format.

    Attributes:
        num_packets: packets of the stream so far.
        stretch: number of the stretch of the last packet.
        reason: why the last one could not be decoded, "" if all could.
    """

    def __init__(self, stream: Any, container: str):
        self._constant_rate = _is_constant(stream)
        self._starts = StretchStarts(container)
        self._lost: list[tuple[int, int]] = []  # (stretch, time stamp)
        self._last_stamp = 0
        self.num_packets, self.stretch, self.reason = 0, 0, ""

    def passed(self, packet: Any) -> None:
        """Note a packet that was read."""
        self.num_packets += 1
        self._last_stamp = packet.pts if packet.pts is not None else self._last_stamp
        self.stretch += self._starts.begins(packet.pts, packet.dts, packet.is_keyframe)

    def add(self, reason: str) -> None:
        """Note that the last packet does not decode, that the container marks it as damaged, or
        that what follows it cannot be read."""
        self.reason, lost = reason, (self.stretch, self._last_stamp)
        if not self._lost or self._lost[-1] != lost:
            self._lost.append(lost)

    def seconds(self, clock: "_Clock") -> list[float]:
        """When the lost packets of the clock's stretch are shown (s)."""
        return [clock.second(stamp) for stretch, stamp in self._lost if stretch == clock.stretch]

    def between(self, before: float, after: float, clock: "_Clock") -> Iterator[Gap]:
        """The gap between two frames (s), where packets were lost there."""
        missing, least = after - before - clock.step, MIN_GAP_FRAMES * clock.step
        is_near = any(before - NEAR <= lost <= after + NEAR for lost in self.seconds(clock))
        if is_near and missing >= max(MIN_GAP, least):
            yield Gap(before + clock.step, after, self.reason)
        elif self._constant_rate and missing >= max(MIN_HOLE, least):
            yield Gap(before + clock.step, after, "damaged: the file has no frames here")
        # Threads of the decoder are at most NEAR ahead.
        self._lost = [
            (stretch, stamp)
            for stretch, stamp in self._lost
            if stretch > clock.stretch
            or (stretch == clock.stretch and clock.second(stamp) > after - NEAR)
        ]


class _Clock:
    """Gives frames their time: that of the file, from 0 on, rising.

    Around damage, decoders give frames that should have been shown before the last one. They follow
    it closely, and the clock is not changed. It is where a stretch begins, where several frames
    have one time stamp, and where it goes back for more than MAX_LATE frames.

    Args:
        stream: of the frames.
        counts: number the frames instead, because the container stores no time stamps.
        packets: read so far, which say where a stretch begins.

    Attributes:
        step: from a frame to the next one (s).
        stretch: number of the stretch of the last frame.
    """

    def __init__(self, stream: Any, counts: bool, packets: _Losses):
        self._time_base, self._packets = stream.time_base, packets
        self.step, self.stretch = 1 / (_fps(stream) or FALLBACK_FPS), 0
        self._zero: int | None = None  # time stamp of second 0
        self._counts, self._number, self._last = counts, -1, -1.0
        self._last_pts: int | None = None
        self._num_late = 0

    def time_of(self, frame: Any) -> float:
        """When the next frame is shown (s)."""
        self._number += 1
        if self._counts or frame.pts is None:
            time = self._number * self.step if self._counts else self._last + self.step
            self._last = max(0.0, time)
            return self._last
        if self._zero is None:
            self._zero = frame.pts
        time, begins = self.second(frame.pts), self._packets.stretch > self.stretch
        if time > self._last and not (begins and self._is_wrapped(time)):
            self._num_late = 0
        elif begins or frame.pts == self._last_pts or self._num_late == MAX_LATE:
            self._zero = frame.pts - round((self._last + self.step) / self._time_base)
            self.stretch, self._num_late = self._packets.stretch, 0
            time = self._last + self.step
        else:
            self._num_late += 1
            time = self._last + LATE_STEP * self.step
        self._last, self._last_pts = time, frame.pts
        return time

    def _is_wrapped(self, time: float) -> bool:
        """Whether the clock ran over its 33 bits since the last frame."""
        return time - self._last > WRAPPED * self._time_base

    def second(self, pts: int) -> float:
        """When a packet with this time stamp is shown (s)."""
        return float((pts - (self._zero or 0)) * self._time_base)


def _decoded(container: Any, stream: Any, losses: _Losses) -> Iterator[Any]:
    """Every frame that can be decoded."""
    for packet in _packets(container, stream, losses):
        losses.passed(packet)
        if packet.is_corrupt:
            losses.add("damaged: packets are lost or broken")
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            losses.add(f"damaged: it cannot be decoded ({error.strerror})")
            continue
        yield from frames
    try:
        yield from stream.codec_context.decode(None)
    except av.error.FFmpegError:
        return


def _packets(container: Any, stream: Any, losses: _Losses) -> Iterator[Any]:
    """Every packet with data. After an error of the container, reading goes on behind it."""
    failures = 0
    while failures < RETRIES:
        try:
            for packet in demux(container, stream):
                failures = 0
                yield packet
            return
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            failures += 1
            losses.add(f"damaged: it cannot be read ({error.strerror})")


# --- audio ----------------------------------------------------------------------------------------


class _AudioParts:
    """The audio of a file, read up to a time whenever it is asked for.

    Attributes:
        end: when the audio that was read ends (s).
        error: why it ends early, "" if it does not.
    """

    def __init__(self, source: FileSource, stack: ExitStack):
        self._path, self._rate, self._count, self.error = source.path, 1, 0, ""
        self._chunks: Iterator[Any] = iter(())
        self._has_gaps = not source.frames
        self._reader: AudioReader | None = None
        try:
            audio = stack.enter_context(open_audio(source.path, source.audio_stream))
        except NoAudioError:
            if not source.frames:
                raise
            return
        except DecodeError as error:
            if not source.frames:
                raise
            self._fail(error)
            return
        self._reader, self._rate = audio, audio.sample_rate
        self._chunks = audio.chunks(max_gap=float("inf"))

    @property
    def end(self) -> float:
        return self._count / self._rate

    def until(self, second: float) -> Iterator[Audio | Gap]:
        """The audio from where the last call ended to a time (s), or somewhat later.

        Where it cannot be decoded, it is silence next to frames, and else a gap.
        """
        while self.end <= second:
            try:
                samples = next(self._chunks, None)
            except DecodeError as error:
                self._fail(error)
                return
            if samples is None:
                return
            seconds = samples.shape[1] / self._rate
            if self._reader and self._reader.is_lost and self._has_gaps and seconds >= MIN_GAP:
                yield Gap(self.end, self.end + seconds, "damaged: the audio cannot be decoded")
            else:
                yield Audio(self.end, samples.mean(axis=0), self._rate)
            self._count += samples.shape[1]

    def _fail(self, error: DecodeError) -> None:
        self.error, self._chunks = str(error), iter(())
        name = shown(location(self._path))
        logger.warning(f"{name}: its audio ends at {self.end:.3f} s: {error}")
