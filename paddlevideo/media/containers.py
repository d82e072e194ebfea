"""Read exact frames of a video stream by number (PyAV).

`PyAVReader` is the reader behind a `VideoClip`. It implements `Reader` in clip.py: `num_frames`,
`fps`, `times()`, and `fill(canvas)`, which decodes only the wanted frames and those they need.

It indexes the packets by demuxing, which decodes nothing. A wanted frame is decoded from the key
frame before it, and each frame that the decoder returns on the way must be the one that the index
announces. Otherwise the stream is decoded from its beginning.
"""

import bisect
import contextvars
import multiprocessing
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from typing import Any

import av
import av.error
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter

from paddlevideo.media.clip import FALLBACK_FPS, Canvas
from paddlevideo.media.damage import MAX_LOST, note_damage, repeated_frames
from paddlevideo.media.packets import (
    Packet,
    PacketTable,
    Stretch,
    demux,
    find_stretches,
    make_table,
    num_listed,
    stretch_starts,
)
from paddlevideo.media.sources import list_packets, open_container
from paddlevideo.media.upright import upright_rgb
from paddlevideo.sample import DecodeError
from paddlevideo.urls import path_suffix

VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
# ".npy" files hold log-mel features.
AUDIO_SUFFIXES = (
    ".aac", ".aif", ".aiff", ".flac", ".m4a", ".mka", ".mp3", ".npy", ".oga", ".ogg", ".opus",
    ".wav", ".wma",
)  # fmt: skip


def has_audio_suffix(path: str) -> bool:
    """Return whether a file of this name may hold audio: audio, log-mel features or a video."""
    return path_suffix(path) in (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)


def num_threads() -> int:
    """Return how many threads FFmpeg decodes a video with.

    1 in a loader's worker, because the other workers use the other cores; 0, which lets FFmpeg
    choose, in the main process.
    """
    return 0 if multiprocessing.parent_process() is None else 1


_one_thread: contextvars.ContextVar[bool] = contextvars.ContextVar("one_thread", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Decode on the calling thread inside the block.

    PyAV's log capture needs this: FFmpeg's own threads would wait for the Python interpreter while
    it waits for them.
    """
    token = _one_thread.set(True)
    try:
        yield
    finally:
        _one_thread.reset(token)


def list_video_streams(container) -> list[Any]:
    """Return the video streams of an open container except cover images; may be empty."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def first_video(path: str, streams: Sequence[Any]) -> Any:
    """Return the stream that is read where none is chosen: the first with more than one frame.

    A still image may be stored as an ordinary stream before the film.

    Args:
        path: the file, which is opened once more if there are several streams.
        streams: the video streams of the file. None is returned where there are none.
    """
    if len(streams) < 2:
        return streams[0] if streams else None
    counts = Counter()
    with open_container(path) as container:
        numbers = [stream.index for stream in streams]
        for packet in demux(container, *(container.streams[number] for number in numbers)):
            counts[packet.stream_index] += 1
            if counts[numbers[0]] > 1:
                break
    return next((stream for stream in streams if counts[stream.index] > 1), streams[0])


def video_streams(container) -> list[Any]:
    """Return the video streams of an open container except cover images, ready to be decoded.

    Raises:
        DecodeError: there is none, or no decoder for one.
    """
    streams = list_video_streams(container)
    if not streams:
        kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
        only = f" (only {', '.join(kinds)})" if kinds else ""
        raise DecodeError(f"no video stream in it{only}")
    for stream in streams:
        if stream.codec_context is None:
            raise DecodeError("this FFmpeg has no decoder for its video codec")
        stream.codec_context.thread_count = 1 if _one_thread.get() else num_threads()
        stream.codec_context.thread_type = "AUTO"
    return streams


def discard_others(container, stream) -> None:
    """Read only this stream of an open container: not even the data of the others is read."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all


class PyAVReader:
    """Frames of one stream by number.

    Attributes:
        num_frames: frames of the complete stream.
        fps: mean frames per second, 0.0 where unknown.
        stretches: parts in which time stamps rise, at least one; a file has more than one where its
            clock goes back.
    """

    def __init__(self, path: str, container, stream):
        self._path, self._container, self._stream = path, container, stream
        self._converter = VideoReformatter()
        self._last_packet = -1  # number of the last packet given to the decoder
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        discard_others(container, stream)
        packets = list_packets(path, container, stream)
        self._check_length(packets)
        # With several threads, FFmpeg conceals damage in another way for each number of threads.
        self._is_damaged = any(packet.is_corrupt for packet in packets)
        self._table = make_table(container.format.name, stream.codec_context.name, packets)
        if self._table is not None:
            self._times, self.stretches = self._times_of(self._table)
            self.num_frames = len(self._times)
            return
        # Without a reliable table only decoding shows how many frames there are.
        with closing(self._decode_from_start()) as frames:
            marks = [(frame.pts, frame.is_corrupt) for frame in frames]
        self._is_damaged |= any(is_corrupt for _, is_corrupt in marks)
        self.num_frames = len(marks)
        self._times, self.stretches = self._times_of_frames([pts for pts, _ in marks], packets)

    def _check_length(self, packets: Sequence[Packet]) -> None:
        # The last packet of a file that is cut short may be there in part.
        held = len(packets) - (bool(packets) and packets[-1].is_corrupt)
        listed = num_listed(self._container, self._stream)
        if held < listed:
            raise DecodeError(f"the file is cut short: it lists {listed} frames and holds {held}")

    def _times_of(self, table: PacketTable) -> tuple[np.ndarray, list[Stretch]]:
        start = int(table.shown[0])
        times = (table.shown - start) * float(self._stream.time_base)
        return times, [Stretch(0, start * self._stream.time_base, Fraction(0))]

    def _times_of_frames(
        self, pts: list[int | None], packets: Sequence[Packet]
    ) -> tuple[np.ndarray, list[Stretch]]:
        """Return the times of decoded frames; at even distances where time stamps are unknown."""
        container, fps = self._container.format.name, self.fps or FALLBACK_FPS
        found = None
        if container != "avi":
            starts = stretch_starts(container, packets)
            found = find_stretches(pts, packets, starts, self._stream.time_base, fps)
        if found is not None:
            return found
        start = (pts[0] if pts else None) or self._stream.start_time or 0
        stretch = Stretch(0, start * self._stream.time_base, Fraction(0))
        return np.arange(len(pts)) / fps, [stretch]

    def times(self) -> np.ndarray:
        """Return the time of each frame (s), 0 for the first one: float64 [num_frames].

        Where the time stamps of the file go back, the times go on; see `stretches`.
        """
        return self._times

    def fill(self, canvas: Canvas) -> None:
        """Put the wanted frames on the canvas.

        A frame that cannot be decoded is replaced by the one before it, as a player shows it; where
        this concerns more than half of the wanted frames, they stay missing.
        """
        if self._table is not None and self._fill_by_seeking(canvas, self._table):
            return
        while (decoded := self._fill_from_start(canvas)) is None:
            pass
        if 0 < len(canvas.missing) <= MAX_LOST * len(canvas.wanted):
            self._repeat_frames(canvas, decoded)

    def _fill_by_seeking(self, canvas: Canvas, table: PacketTable) -> bool:
        """Return False as soon as a decoded frame is not the one that the table announces."""
        frames, expected, self._last_packet = iter(()), -1, -1
        frame = None
        for number in canvas.wanted:
            entry = int(table.entry[number])
            if frame is None or entry > self._last_packet:
                frames = self._decode_from_key_frame(table, entry)
                expected = int(np.searchsorted(table.shown, table.pts[entry]))
            while expected <= number:
                frame = next(frames, None)
                if frame is None or frame.pts != table.shown[expected] or frame.is_corrupt:
                    self._is_damaged |= frame is not None and frame.is_corrupt
                    return False
                expected += 1
            canvas.put(number, upright_rgb(frame, self._converter))
        return True

    def _decode_from_key_frame(self, table: PacketTable, entry: int) -> Iterator[Any]:
        """Yield decoded frames from the key frame of packet `entry`; none where no seek finds it.

        It also stops where a packet is not the one that the table lists.
        """
        start = table.pts[entry]
        landing = self._seek(table, entry)
        if landing is None:
            return
        number, packet, packets = landing
        while packet is not None and number < len(table.pts):
            if packet.pts != table.pts[number]:
                return
            if number >= entry:
                self._last_packet = number
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    return
                # Frames shown before the key frame depend on frames that were not decoded.
                yield from (f for f in frames if f.pts is None or f.pts >= start)
            packet, number = next(packets, None), number + 1
        rest = self._stream.codec_context.decode(None)
        yield from (f for f in rest if f.pts is None or f.pts >= start)

    def _seek(self, table: PacketTable, entry: int) -> tuple[int, Any, Iterator[Any]] | None:
        """Seek to packet `entry` or before it.

        Returns:
            (number of the first packet, that packet, the packets after it), None where no seek
            position leads there.
        """
        keys = np.unique(table.entry)
        earlier = table.pts[keys[keys < entry][-2:][::-1]]
        # Demuxers differ in what they compare a seek position with (pts, dts, rounded values):
        # try earlier positions until the first packet is early enough.
        for position in (table.pts[entry], *earlier, table.pts.min()):
            self._container.seek(int(position), stream=self._stream)
            packets = demux(self._container, self._stream)
            first = next(packets, None)
            number = table.packet_of.get(first.pts) if first else None
            if number is not None and number <= entry:
                return number, first, packets
        return None

    def _fill_from_start(self, canvas: Canvas) -> set[int] | None:
        """Decode all frames up to the last wanted one, and return their numbers.

        Returns None where decoding shows that it has to be repeated in another way.
        """
        canvas.clear()
        number_of: dict[int, int] = {}
        if self._table is not None:
            number_of = {pts: number for number, pts in enumerate(self._table.shown.tolist())}
        wanted, numbers = set(canvas.wanted), set()
        with closing(self._decode_from_start()) as frames:
            for count, frame in enumerate(frames):
                if frame.is_corrupt and not self._is_damaged:
                    self._is_damaged = True
                    return None
                number = count if self._table is None else number_of.get(frame.pts)
                if number is None:
                    # No packet announced this time stamp: count the frames instead.
                    self._table = None
                    return None
                numbers.add(number)
                if number in wanted:
                    canvas.put(number, upright_rgb(frame, self._converter))
                if not canvas.missing:
                    break
        return numbers

    def _repeat_frames(self, canvas: Canvas, decoded: set[int]) -> None:
        """Replace each missing frame by the last one before it that can be decoded."""
        lost_after: dict[int, list[int]] = {}
        known = sorted(decoded)
        for number in sorted(canvas.missing):
            before = bisect.bisect(known, number) - 1
            if before >= 0:
                lost_after.setdefault(known[before], []).append(number)
        with closing(self._decode_from_start()) as frames:
            for count, frame in enumerate(frames):
                number = count
                if self._table is not None and frame.pts is not None:
                    number = int(np.searchsorted(self._table.shown, frame.pts))
                for lost in lost_after.pop(number, ()):
                    canvas.put(lost, upright_rgb(frame, self._converter))
                    canvas.lost.append(lost)
                if not lost_after:
                    break
        if canvas.lost:
            note_damage(self._path, repeated_frames(canvas.lost))

    def _decode_from_start(self) -> Generator[Any]:
        return decode_from_start(self._path, self._stream.index, self._is_damaged)


def decode_from_start(path: str, index: int, one_thread: bool = False) -> Generator[Any]:
    """Yield every frame of the stream with this index, from a container of its own. Packets that do
    not decode are skipped."""
    with open_container(path) as container:
        video_streams(container)
        stream = container.streams[index]
        discard_others(container, stream)
        if one_thread:
            stream.codec_context.thread_count = 1
        for packet in demux(container, stream):
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.UndefinedError):
                continue
            yield from frames
        yield from stream.codec_context.decode(None)
