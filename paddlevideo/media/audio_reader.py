"""One audio stream of a file, decoded chunk by chunk, on the clock of the video's frames (PyAV).

Second 0 is when the first video frame that can be decoded is shown, even if the audio begins
earlier in the file. In a file without video it is the first audio sample. Where the time stamps of
a video go back, its audio follows the frames: each stretch (packets.py) has the audio of its own.

damage.py says what happens to audio that cannot be decoded.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame

from paddlevideo.media.clock import read_stretches
from paddlevideo.media.containers import discard_others, num_threads, open_container
from paddlevideo.media.damage import MAX_LOST, note_damage
from paddlevideo.media.packets import Stretch, demux, num_listed, stretch_of
from paddlevideo.sample import DecodeError

# Containers whose packets have exact times after a seek. In a bare mp3 the position is an estimate.
SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "wav"}
# Formats without containers and time stamps; FFmpeg counts the packets, also damaged ones.
BARE = {"aac", "ac3", "amr", "dts", "eac3", "mp3"}
SEEK_FROM = 2.0  # s; decoding up to here is faster than seeking
WARM_UP = 0.5  # s decoded before a span, for codecs whose packets depend on earlier ones
MAX_JITTER = 0.1  # s that a time stamp may differ from the count of samples; more is a gap
MAX_OFFSET = 0.01  # s; next to a video, all time stamps of a window may differ by no more than this
WINDOW = 8  # frames; time stamps that are only rounded or jitter return to the count within it
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
        yield AudioReader(path, container, streams[number])


class Decoded(NamedTuple):
    """A decoded frame.

    Args:
        stretch: number of the stretch of the video that it belongs to.
        follows_loss: a packet before it could not be decoded.
    """

    frame: AudioFrame
    stretch: int
    follows_loss: bool


class AudioReader:
    """One audio stream. Samples are counted from second 0 (see the module docstring).

    Attributes:
        sample_rate: as stored (Hz).
        num_channels: of the first samples.
        span_sec: start and end (s) of the last decoded frame, for messages.
        damage: what could not be decoded among the samples read so far, "" if nothing.
        is_lost: whether the last chunk is silence in place of audio that cannot be decoded, or a
            part of a gap of more than MAX_GAP.
    """

    def __init__(self, path: str, container: Any, stream: Any):
        if stream.codec_context is None:
            raise DecodeError("this FFmpeg has no decoder for its audio codec")
        self._path, self._container, self._stream = path, container, stream
        self._lost_until: Fraction | None = None  # time stamp; set while packets do not decode
        self.damage, self.is_lost = "", False
        self._stretches = read_stretches(path)
        self._frames = self._decode(container, stream)
        head = next(self._frames, None)
        if head is None:
            if self._lost_until is not None:
                raise DecodeError("its audio is damaged: no part of it can be decoded")
            raise NoAudioError("its audio stream is empty")
        first = head.frame
        self.sample_rate, self.num_channels = first.sample_rate, first.layout.nb_channels
        # In a file without video the first audio sample is second 0.
        self._has_video = bool(self._stretches)
        if not self._has_video:
            self._stretches = [Stretch(0, time_stamp(first) or Fraction(0), Fraction(0))]
        begin = self._stamped(head)
        self._second_frame = (begin or 0) + first.samples
        self._frames = itertools.chain([head], self._frames)
        self.span_sec = (0.0, 0.0)

    def chunks(
        self, first: int = 0, last: int | None = None, max_gap: float = MAX_GAP
    ) -> Iterator[np.ndarray]:
        """Yield the samples `first` .. `last` - 1 in chunks, float32 [channels, n].

        Zeros fill gaps, the time before the audio begins, and audio that cannot be decoded. If the
        audio ends before `last`, the chunks end there.

        Args:
            max_gap: a longer gap is an error (s).

        Raises:
            DecodeError: damaged in more than MAX_LOST of these samples, or cut short.
        """
        rate = self.sample_rate
        position = first  # the next sample to yield
        num_lost = 0
        num_channels = self.num_channels
        for begin, samples, follows_loss in self._placed_frames(first):
            end, num_channels = begin + samples.shape[1], len(samples)
            if samples.shape[1]:
                self.span_sec = (begin / rate, end / rate)
            if end <= first:
                continue
            if position == first and last is not None and begin >= last and not follows_loss:
                return
            gap = begin - position
            if gap < 0:
                samples = samples[:, -gap:]
            elif gap > 0:
                if gap > max_gap * rate:
                    raise DecodeError(
                        f"its time stamps jump from {position / rate:.3f} s to {begin / rate:.3f} s"
                    )
                silence = gap if last is None else min(gap, last - position)
                if follows_loss:
                    num_lost += silence
                self.is_lost = follows_loss or gap > MAX_GAP * rate
                yield from silent_chunks(num_channels, silence, rate)
                self.is_lost = False
                position += silence
            samples = samples[:, : None if last is None else last - position]
            if samples.shape[1]:
                yield samples
                position += samples.shape[1]
            if last is not None and position >= last:
                break
        if num_lost > MAX_LOST * (position - first):
            raise DecodeError(self.damage)
        if self.damage:
            instead = "it is left out" if self._is_bare else "silence replaces it"
            note_damage(self._path, f"{self.damage} and cannot be decoded: {instead}")

    def _placed_frames(self, first: int) -> Iterator[tuple[int, np.ndarray, bool]]:
        """Yield (number of the first sample, samples, follows_loss) of each frame in order.

        The samples of a stretch begin and end with its video frames.
        """
        window: deque[Decoded] = deque()
        expected, stretch, error = None, -1, None
        frames = self._frames_before(first)
        while True:
            while error is None and len(window) < WINDOW:
                try:
                    window.append(next(frames))
                except StopIteration:
                    error = StopIteration
                except DecodeError as failure:
                    error = failure  # raise it after the frames that are before it
            if not window:
                break
            decoded = window[0]
            if decoded.stretch != stretch:
                expected, stretch = None, decoded.stretch
            begin = self._frame_begin(window, expected)
            samples = self._samples(window.popleft().frame, begin)
            expected = begin + samples.shape[1]
            yield *self._within_stretch(begin, samples, stretch), decoded.follows_loss
        if isinstance(error, DecodeError):
            raise error
        if self._lost_until is not None and expected is not None:
            # The packets at the end cannot be decoded.
            end = self._number_at(self._lost_until, max(stretch, 0))
            if end > expected and not self._is_bare:
                yield end, np.zeros((self.num_channels, 0), np.float32), True

    def _samples(self, frame: AudioFrame, begin: int) -> np.ndarray:
        """Convert a frame to float32 [channels, n]."""
        if frame.sample_rate != self.sample_rate:
            raise DecodeError(
                f"its sample rate changes from {self.sample_rate} to {frame.sample_rate} Hz "
                f"at {begin / self.sample_rate:.3f} s"
            )
        return to_float(frame)

    def _within_stretch(
        self, begin: int, samples: np.ndarray, stretch: int
    ) -> tuple[int, np.ndarray]:
        """Cut a frame to its stretch: return the number of its first sample, and its samples."""
        if stretch + 1 < len(self._stretches):
            end = round(self._stretches[stretch + 1].second * self.sample_rate)
            samples = samples[:, : max(0, end - begin)]
        if stretch > 0:
            start = round(self._stretches[stretch].second * self.sample_rate)
            early = min(max(0, start - begin), samples.shape[1])
            begin, samples = begin + early, samples[:, early:]
        return begin, samples

    @property
    def _is_bare(self) -> bool:
        return self._container.format.name in BARE

    def _number_at(self, stamp: Fraction, stretch: int) -> int:
        """Return which sample a time stamp (s) of a stretch belongs to."""
        of = self._stretches[stretch]
        return round((stamp - of.stamp + of.second) * self.sample_rate)

    def _stamped(self, decoded: Decoded) -> int | None:
        """Return the number of a frame's first sample according to its time stamp."""
        stamp = time_stamp(decoded.frame)
        return None if stamp is None else self._number_at(stamp, decoded.stretch)

    def _frame_begin(self, window: deque[Decoded], expected: int | None) -> int:
        """Return the number of the first sample of the first frame in the window.

        The time stamp decides, unless it differs from `expected`, the count of samples, by rounding
        or jitter only.
        """
        decoded = window[0]
        stamped, num_samples = self._stamped(decoded), decoded.frame.samples
        if stamped is None or (self._is_bare and expected is not None):
            return expected or 0
        rounding = MAX_ROUNDING * self.sample_rate
        if expected is None:
            # The first frame after a seek. From the second frame of the stream on, frames of one
            # size begin at multiples of that size: correct a rounded time stamp to such a multiple.
            steps = round((stamped - self._second_frame) / num_samples)
            snapped = self._second_frame + steps * num_samples
            is_rounded = steps > 0 and abs(snapped - stamped) <= rounding
            return snapped if is_rounded and decoded.stretch == 0 else stamped
        if decoded.follows_loss and stamped > expected:
            # Both time stamps, of this frame and of the first one, are rounded.
            snapped = expected + round((stamped - expected) / num_samples) * num_samples
            return snapped if abs(snapped - stamped) <= 2 * rounding else stamped
        if not self._has_video:
            is_gap = stamped - expected > MAX_JITTER * self.sample_rate
            return stamped if is_gap else expected
        return stamped if self._is_off(window, expected) else expected

    def _is_off(self, window: deque[Decoded], expected: int) -> bool:
        """Return whether the time stamps of all frames in the window differ from the count of
        samples by more than MAX_OFFSET, all in one direction."""
        limit = MAX_OFFSET * self.sample_rate
        offsets = []
        for decoded in window:
            stamped = self._stamped(decoded)
            if stamped is None or decoded.stretch != window[0].stretch:
                break
            offsets.append(stamped - expected)
            expected += decoded.frame.samples
            if abs(offsets[-1]) <= limit:
                return False
        return min(offsets) > limit or max(offsets) < -limit

    def _frames_before(self, first: int) -> Iterator[Decoded]:
        """Yield frames in order, beginning with one that starts at or before sample `first`."""
        first_sec = first / self.sample_rate
        begin = first_sec - WARM_UP
        is_seekable = self._container.format.name in SEEKABLE and len(self._stretches) == 1
        if begin < SEEK_FROM or not is_seekable:
            yield from self._frames
            return
        zero = self._stretches[0].stamp
        target = math.floor((begin + zero) / self._stream.time_base)
        self._container.seek(target, stream=self._stream)
        self._lost_until = None
        frames = self._decode(self._container, self._stream)
        head = next(frames, None)
        stamp = None if head is None else time_stamp(head.frame)
        if head is not None and stamp is not None and stamp - zero <= first_sec:
            yield head
            yield from frames
            return
        # Either the seek went too far or the audio begins late: decode from the beginning.
        self._lost_until = None
        with open_container(self._path) as container:
            yield from self._decode(container, container.streams[self._stream.index])

    def _decode(self, container: Any, stream: Any) -> Iterator[Decoded]:
        """Yield decoded frames of an audio stream from the container's current position.

        Packets that do not decode are skipped. Those before the first frame are no damage: a
        stream that was cut out of a longer one begins with them.
        """
        discard_others(container, stream)
        if not stream.codec_context.is_open:
            stream.codec_context.thread_count = num_threads()
        last, number = None, 0
        has_begun = False
        for packet in demux(container, stream):
            goes_back = None not in (packet.dts, last) and packet.dts < last
            number = stretch_of(self._stretches, number, packet.pos, goes_back)
            last = packet.dts
            try:
                frames = stream.codec_context.decode(whole_samples(packet, stream))
            except av.error.FFmpegError:
                self._lose(packet, number, has_begun)
                continue
            for frame in frames:
                yield Decoded(frame, number, has_begun and self._lost_until is not None)
                self._lost_until, has_begun = None, True
        for frame in stream.codec_context.decode(None):
            yield Decoded(frame, number, self._lost_until is not None)
            self._lost_until = None
        listed = stream.index_entries
        if (
            num_listed(container, stream)
            and last is not None
            and last < listed[len(listed) - 1].timestamp
        ):
            raise DecodeError("the file is cut short: it lists more audio than it holds")

    def _lose(self, packet, stretch: int, has_begun: bool) -> None:
        """Remember a packet that does not decode."""
        pts = packet.pts or 0
        self._lost_until = (pts + (packet.duration or 0)) * packet.time_base
        if has_begun and not self.damage:
            at = self._number_at(pts * packet.time_base, stretch) / self.sample_rate
            self.damage = f"its audio is damaged at {at:.3f} s"


def silent_chunks(num_channels: int, count: int, rate: int) -> Iterator[np.ndarray]:
    """Yield `count` zero samples in chunks of at most MAX_GAP, float32 [channels, n]."""
    most = round(MAX_GAP * rate)
    for start in range(0, count, most):
        yield np.zeros((num_channels, min(most, count - start)), np.float32)


def whole_samples(packet: Any, stream: Any) -> Any:
    """Return a packet without the part of a sample at its end, as wav files of odd size have it.

    FFmpeg 8.0 drops the complete packet otherwise.
    """
    codec = stream.codec_context
    if not codec.name.startswith("pcm_") or packet.time_base * codec.sample_rate != 1:
        return packet
    rest = packet.size % packet.duration if packet.duration else 0
    if not rest:
        return packet
    whole = av.Packet(bytes(packet)[: packet.size - rest])
    whole.pts, whole.dts, whole.time_base = packet.pts, packet.dts, packet.time_base
    whole.duration = packet.duration
    return whole


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
