"""Live sources: one thread reads and decodes, the timeline takes the newest frames.

    with LiveSource(live_input("rtsp://camera/stream")) as source:
        for window in model.windows(source, live=True):
            print(window, source.latency(window.start))

The thread never waits for the network longer than `LiveInput.patience`; frames for which there is
no room are dropped and counted. After a lost connection the thread connects again, with longer and
longer pauses, and the timeline has a `Gap` with the reason.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from paddlevideo.log import logger
from paddlevideo.media.containers import list_video_streams
from paddlevideo.media.packets import demux
from paddlevideo.media.upright import upright_rgb
from paddlevideo.timelines.frames import Audio, Frame, Gap, Item
from paddlevideo.timelines.live_clock import LiveClock
from paddlevideo.timelines.live_inputs import ByteReader, LiveError, LiveInput, Pipe
from paddlevideo.timelines.live_queue import DroppingQueue

STALL_SECONDS = 10.0
RETRY_SECONDS = 600.0
# Formats without time stamps, for which FFmpeg invents 25 frames per second.
UNTIMED = ("mpjpeg", "mjpeg", "jpeg_pipe", "image2pipe", "h264", "hevc", "m4v", "mpegvideo")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two connections
AGAIN_SECONDS = 0.01  # before a camera is asked for its next frame again
CHECK_SECONDS = 0.1  # how often a waiting timeline looks whether it shall stop
END_SECONDS = 2.0  # how long the end waits for the thread, which FFmpeg may hold until `stall`


class Decoded(NamedTuple):
    """A frame of FFmpeg or audio, and its time stamp (seconds), None where it has none."""

    stamp: float | None
    image: np.ndarray | None = None
    samples: Any = None
    rate: int = 0


class LiveSource:
    """Frames, audio and gaps of a live source, in order; a context manager, read once.

    Args:
        source: what to open, see `live_input`.
        frames: whether frames are decoded; False for the audio alone.
        sound: whether audio is decoded, too.
        stall: seconds without a frame after which the connection counts as lost.
        retry: how long to try to connect again (seconds); 0 ends with the first connection.
        queue_seconds: frames that wait for the network, at most.
        should_stop: the timeline ends when this is true; it is asked ten times per second.
        clock: seconds that only rise.
        video_stream, audio_stream: which streams, counted from 0 without cover images; None is the
            first.

    Attributes:
        dropped: number of frames that the network was too slow for.
        failure: why the source was given up, "" where it ended by itself or was stopped.
    """

    def __init__(
        self,
        source: LiveInput,
        frames: bool = True,
        sound: bool = False,
        stall: float = STALL_SECONDS,
        retry: float = RETRY_SECONDS,
        queue_seconds: float = 0.5,
        should_stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        first_pause: float = FIRST_PAUSE,
        video_stream: int | None = None,
        audio_stream: int | None = None,
    ):
        if not stall > 0 or not retry >= 0 or not queue_seconds > 0:
            raise ValueError(
                f"stall is {stall:g}, retry is {retry:g} and queue_seconds is {queue_seconds:g}; "
                "expected stall and queue_seconds above 0, and retry of at least 0 seconds"
            )
        self._source, self._stall, self._retry = source, stall, retry
        self._video = (video_stream or 0) if frames else None
        self._audio = (audio_stream or 0) if sound or not frames else None
        self._should_stop, self._now, self._first_pause = should_stop, clock, first_pause
        self._queue = DroppingQueue(queue_seconds, clock=clock)
        self._clock, self._stop = LiveClock(), threading.Event()
        self._thread = threading.Thread(target=self._read, name="live source", daemon=True)
        self._arrivals: deque[tuple[float, float]] = deque()  # (seconds of a frame, arrival)
        self._num_frames, self._lost_because = 0, ""
        self._lost_until = 0.0  # end of the last gap (seconds of the timeline)
        self._error: BaseException | None = None
        self.failure = ""

    def __enter__(self) -> "LiveSource":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the reader. It may go on for up to `stall` seconds where FFmpeg waits for data."""
        self._stop.set()
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(END_SECONDS)

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    def latency(self, start: float) -> float | None:
        """How long ago the first frame at or after `start` arrived (seconds); None if unknown.

        Args:
            start: of a window (seconds). The starts of later calls must not be smaller.
        """
        while self._arrivals and self._arrivals[0][0] < start:
            self._arrivals.popleft()
        return self._now() - self._arrivals[0][1] if self._arrivals else None

    def __iter__(self) -> Iterator[Item]:
        """
        Raises:
            LiveError: the source cannot be opened at all.
        """
        while not self._should_stop():
            arrived = self._queue.get(CHECK_SECONDS)
            if arrived is None:
                if self._queue.ended:
                    break
                continue
            if isinstance(arrived.item, Audio if self._video is None else Frame):
                self._arrivals.append((arrived.item.time, arrived.arrival))
            yield arrived.item
        self._stop.set()
        if self._error is not None:
            raise self._error

    # --- the reader's thread ----------------------------------------------------------------------

    def _read(self) -> None:
        try:
            self._connect_again_and_again()
        except BaseException as error:  # raised by the thread that reads the timeline
            self._error = error
        finally:
            self._queue.close()

    def _connect_again_and_again(self) -> None:
        name, pause = self._source.name, self._first_pause
        while not self._stop.is_set():
            before = self._num_frames
            reason = self._one_connection()
            if self._stop.is_set():
                return
            if not self._num_frames:
                raise LiveError(f"{name}: {reason or 'it ended without a frame'}")
            if reason is None:
                return
            if self._num_frames > before:
                pause, self._lost_because = self._first_pause, reason
            now = self._now()
            self._put_gap(now)
            lost_for = self._clock.at(now) - self._clock.seconds
            if not self._source.reconnects or lost_for >= self._retry:
                self.failure = reason
                logger.warning(f"{name}: {reason}; given up {lost_for:.1f} s after the last frame")
                return
            logger.warning(f"{name}: {reason}; connecting again in {pause:g} s")
            self._stop.wait(min(pause, self._retry - lost_for))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _put_gap(self, now: float) -> None:
        """Append the stretch since the last frame, or since the last gap."""
        start, end = max(self._lost_until, self._clock.seconds), self._clock.at(now)
        if end > start:
            self._queue.put(Gap(start, end, self._lost_because))
            self._lost_until = end

    def _one_connection(self) -> str | None:
        """Read until the source ends; returns why it was lost, or None if it is complete."""
        self._clock.connect()
        is_again = self._num_frames > 0
        try:
            with self._source.open(self._stall, self._stop) as (container, reader):
                streams = chosen_streams(container, self._video, self._audio)
                is_timed = reader is not None or container.format.name not in UNTIMED
                settings = (self._stall, self._now, reader, self._stop.wait)
                for part in decoded(container, *streams, *settings):
                    if self._stop.is_set():
                        return None
                    if is_again and (part.image is not None or self._video is None):
                        self._put_gap(self._now())
                        logger.warning(f"{self._source.name}: connected again")
                        is_again = False
                    self._put(part if is_timed else part._replace(stamp=None))
                return self._end_reason(container, reader)
        except LiveError as error:
            return str(error)

    def _end_reason(self, container: Any, reader: ByteReader | None) -> str | None:
        """Why an ended source is not complete; None where it is."""
        if isinstance(reader, Pipe) and reader.stalled:
            return f"no data for {self._stall:g} s"
        # A file behind an address has an end: its size or its duration is known.
        if reader is not None or container.size > 0 or container.duration:
            return None
        return "the source ended"

    def _put(self, part: Decoded) -> None:
        is_main = part.image is not None or self._video is None  # which the clock follows
        seconds = (
            self._clock.frame(part.stamp, self._now()) if is_main else self._clock.sound(part.stamp)
        )
        if seconds is None:
            return
        self._num_frames += is_main
        item: Item
        if part.image is not None:
            item = Frame(seconds, part.image)
        else:
            item = Audio(seconds, part.samples, part.rate)
        # Without time stamps nobody knows how late a frame is.
        wait = 0.0 if part.stamp is None else self._source.patience - self._clock.lag
        self._queue.put(item, wait)


def chosen_streams(container: Any, video: int | None, audio: int | None) -> tuple[Any, Any]:
    """The streams of an open container for frames and for audio; None where not wanted.

    Args:
        video, audio: their numbers, counted from 0 without cover images; None where not wanted.

    Raises:
        LiveError: there is no such video; or no such audio, where it is wanted alone.
    """
    frames = None if video is None else _numbered(list_video_streams(container), video, "video")
    try:
        sound = None if audio is None else _numbered(container.streams.audio, audio, "audio")
    except LiveError:
        if video is None:
            raise
        sound = None
    return frames, sound


def _numbered(streams: Sequence[Any], number: int, kind: str) -> Any:
    if not streams:
        raise LiveError(f"no {kind} stream in it")
    if number >= len(streams):
        raise LiveError(
            f"there is no {kind} stream {number}; the source has {len(streams)}, counted from 0"
        )
    return streams[number]


def decoded(
    container: Any,
    video: Any,
    audio: Any,
    stall: float,
    clock: Callable[[], float],
    reader: ByteReader | None,
    wait: Callable[[float], bool],
) -> Iterator[Decoded]:
    """Decode an open container as data arrives; what cannot be decoded is skipped.

    Args:
        video, audio: its streams to decode; None for one that is not wanted.
        stall: seconds after which data without a frame counts as an end.
        clock: seconds that only rise.
        reader: what the container reads; None where that is FFmpeg's.
        wait: waits so many seconds, and returns whether to stop.

    Raises:
        LiveError: no frame comes any more.
    """
    # A frame that the decoder holds back to the end has no time base of its own.
    time_base, converter, mono = video and video.time_base, VideoReformatter(), Mono()
    if video:  # threads by frame would hold back as many frames as there are threads
        video.codec_context.thread_type = "SLICE"
    last = clock()

    def check() -> None:
        # The last frames of a reader that waited are no sign of junk.
        if clock() - last > stall and not (reader and reader.stalled):
            raise LiveError(f"no frame for {stall:g} s")

    def go_on() -> bool:
        check()
        return not wait(AGAIN_SECONDS)

    for packet in demux(container, go_on=go_on):
        check()
        if packet.stream not in (video, audio):
            continue
        with contextlib.suppress(av.error.InvalidDataError, av.error.UndefinedError):
            for frame in packet.decode():
                if packet.stream is audio:
                    yield from mono(frame)
                else:
                    yield Decoded(seconds_of(frame, time_base), upright_rgb(frame, converter))
                if packet.stream is video or not video:
                    last = clock()
    if not video:
        return
    with contextlib.suppress(av.error.FFmpegError):
        for frame in video.codec_context.decode(None):
            yield Decoded(seconds_of(frame, time_base), upright_rgb(frame, converter))


def seconds_of(frame: Any, time_base: Fraction | None) -> float | None:
    """The time stamp of a decoded frame (seconds); None where it has none."""
    return None if frame.pts is None or not time_base else float(frame.pts * time_base)


class Mono:
    """Turns decoded audio into the mean of its channels, float32, at its own rate."""

    def __init__(self):
        self._resampler, self._form = av.AudioResampler(format="flt", layout="mono"), ()

    def __call__(self, frame: Any) -> Iterator[Decoded]:
        """The samples of a frame of FFmpeg."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:  # a resampler takes one form
            self._resampler, self._form = av.AudioResampler(format="flt", layout="mono"), form
        for part in self._resampler.resample(frame):
            stamp = seconds_of(part, part.time_base)
            yield Decoded(stamp, samples=part.to_ndarray()[0], rate=part.sample_rate)
