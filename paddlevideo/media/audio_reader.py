"""One audio stream of a file, decoded chunk by chunk, on the clock of the video's frames (PyAV).

Second 0 is when the first video frame is shown, even if the audio begins earlier in the file. In a
file without video it is the first audio sample.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av.error
import numpy as np
from av.audio.frame import AudioFrame

from paddlevideo.media.containers import list_video_streams, num_threads, open_container
from paddlevideo.sample import DecodeError

# Containers whose packets have exact times after a seek. In a bare mp3 the position is an estimate.
SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "wav"}
SEEK_FROM = 2.0  # s; decoding up to here is faster than seeking
WARM_UP = 0.5  # s decoded before a span, for codecs whose packets depend on earlier ones
MAX_JITTER = 0.1  # s that a time stamp may differ from the count of samples; more is a gap
MAX_ROUNDING = 0.001  # s; Matroska and others store time stamps in milliseconds
MAX_GAP = 30.0  # s; a longer gap means a broken time stamp


class NoAudioError(DecodeError):
    """The file has no audio stream, or no audio in the requested span.

    Damaged audio raises a plain DecodeError instead.
    """


@contextmanager
def open_audio(path: str, stream: int | None = None) -> Iterator["AudioReader"]:
    """Open an audio stream of a file, to be read once; the block's end closes it.

    Args:
        stream: which audio stream, counted from 0; None is the first.

    Raises:
        NoAudioError: the file has no such audio stream, or the stream is empty.
        DecodeError: not a media file, or damaged.
    """
    with open_container(path) as container:
        streams, number = container.streams.audio, stream or 0
        if not streams:
            raise NoAudioError("no audio stream in it")
        if not 0 <= number < len(streams):
            raise NoAudioError(
                f"there is no audio stream {number}; the file has {len(streams)}, counted from 0"
            )
        yield AudioReader(path, container, streams[number], number)


class AudioReader:
    """One audio stream. Samples are counted from second 0 (see the module docstring).

    Attributes:
        sample_rate: as stored (Hz).
        num_channels: of the first samples.
        span_sec: start and end (s) of the last decoded frame, for messages.
    """

    def __init__(self, path: str, container: Any, stream: Any, number: int):
        if stream.codec_context is None:
            raise DecodeError("this FFmpeg has no decoder for its audio codec")
        stream.codec_context.thread_count = num_threads()
        self._path, self._container, self._stream, self._number = path, container, stream, number
        self._zero = Fraction(0)  # time (s) of second 0 in the stream's own time stamps
        self._frames = self._decode()
        head = next(self._frames, None)
        if head is None:
            raise NoAudioError("its audio stream is empty")
        self.sample_rate, self.num_channels = head.sample_rate, head.layout.nb_channels
        # Only in a file without video does the first audio sample define second 0.
        videos = list_video_streams(container)
        start = head.pts if not videos else videos[0].start_time
        base = head.time_base if not videos else videos[0].time_base
        self._zero = (start or 0) * (base or 0)
        head_sec = (time_stamp(head) or 0) - self._zero
        self._second_frame = round(head_sec * self.sample_rate) + head.samples
        self._frames = itertools.chain([head], self._frames)
        self.span_sec = (0.0, 0.0)

    def chunks(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Yield the samples `first` .. `last` - 1 in chunks, float32 [channels, n].

        Zeros fill gaps, and the time before the audio begins. If the audio ends before `last`,
        the chunks end there.

        Raises:
            DecodeError: damaged within these samples, or cut short.
        """
        rate = self.sample_rate
        position = first  # the next sample to yield
        expected = None  # where the next frame begins if there is no gap
        for frame in self._frames_before(first):
            if frame.sample_rate != rate:
                raise DecodeError(
                    f"its sample rate changes from {rate} to {frame.sample_rate} Hz "
                    f"at {position / rate:.3f} s"
                )
            samples = to_float(frame)
            begin = self._frame_begin(frame, expected)
            expected = end = begin + samples.shape[1]
            self.span_sec = (begin / rate, end / rate)
            if end <= first:
                continue
            if position == first and last is not None and begin >= last:
                return
            gap = begin - position
            if gap < 0:
                samples = samples[:, -gap:]
            elif gap > 0:
                if gap > MAX_GAP * rate:
                    raise DecodeError(
                        f"its time stamps jump from {position / rate:.3f} s to {begin / rate:.3f} s"
                    )
                silence = gap if last is None else min(gap, last - position)
                yield np.zeros((len(samples), silence), np.float32)
                position += silence
            samples = samples[:, : None if last is None else last - position]
            if samples.shape[1]:
                yield samples
                position += samples.shape[1]
            if last is not None and position >= last:
                return

    def _frame_begin(self, frame: AudioFrame, expected: int | None) -> int:
        """Return the number of a frame's first sample.

        The time stamp decides, unless it differs from `expected` by rounding only.
        """
        rate = self.sample_rate
        stamp = time_stamp(frame)
        if stamp is None:
            return expected or 0
        stamped = round((stamp - self._zero) * rate)
        if expected is not None:
            is_gap = stamped - expected > MAX_JITTER * rate
            return stamped if is_gap else expected
        # The first frame after a seek. From the second frame of the stream on, frames of one size
        # begin at multiples of that size: correct a rounded time stamp to such a multiple.
        steps = round((stamped - self._second_frame) / frame.samples)
        snapped = self._second_frame + steps * frame.samples
        is_rounded = steps > 0 and abs(snapped - stamped) <= MAX_ROUNDING * rate
        return snapped if is_rounded else stamped

    def _frames_before(self, first: int) -> Iterator[AudioFrame]:
        """Yield frames in order, beginning with one that starts at or before sample `first`."""
        first_sec = first / self.sample_rate
        begin = first_sec - WARM_UP
        if begin < SEEK_FROM or self._container.format.name not in SEEKABLE:
            yield from self._frames
            return
        target = math.floor((begin + self._zero) / self._stream.time_base)
        self._container.seek(target, stream=self._stream)
        frames = self._decode(first_sec)
        head = next(frames, None)
        stamp = None if head is None else time_stamp(head)
        if head is not None and stamp is not None and stamp - self._zero <= first_sec:
            yield head
            yield from frames
            return
        # Either the seek went too far or the audio begins late: decode from the beginning.
        with open_audio(self._path, self._number) as fresh:
            yield from fresh._frames

    def _decode(self, begin_sec: float = WARM_UP) -> Iterator[AudioFrame]:
        """Yield decoded frames from the container's current position.

        Packets before `begin_sec` that do not decode are skipped, because a stream that was cut
        out of a longer one begins with such packets. Later ones raise DecodeError.
        """
        last = None
        for packet in self._container.demux(self._stream):
            # An empty packet would end the stream for the decoder; a corrupt one is the last of a
            # file that is cut short.
            if not packet.size or packet.is_corrupt:
                continue
            last = packet.dts
            try:
                yield from packet.decode()
            except av.error.FFmpegError as error:
                at = float((packet.pts or 0) * packet.time_base) - float(self._zero)
                if at >= begin_sec:
                    raise DecodeError(f"its audio is damaged at {at:.3f} s") from error
        yield from self._stream.codec_context.decode(None)
        listed = self._stream.index_entries if "mp4" in self._container.format.name else ()
        if len(listed) and last is not None and last < listed[len(listed) - 1].timestamp:
            raise DecodeError("the file is cut short: it lists more audio than it holds")


def time_stamp(frame: AudioFrame) -> Fraction | None:
    """Return the time of a frame's first sample (s), as the file stores it; None where unknown."""
    if frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * frame.time_base


def to_float(frame: AudioFrame) -> np.ndarray:
    """Convert a decoded frame to float32 [channels, n] with full scale -1 .. 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    return samples.astype(np.float32, copy=False)
