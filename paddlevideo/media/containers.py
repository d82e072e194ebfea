"""Frames of a container's video stream by number, exact and with no more decoding than they need (PyAV).

Packets are indexed by demuxing, which decodes nothing. A wanted frame is decoded from the key frame before it, and every frame
that comes out on the way must be the one that the index announces; otherwise the stream is decoded from its beginning.
"""

import contextvars
import functools
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import av
import av.error
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter

from paddlevideo.sample import DecodeError


@functools.cache
def num_threads() -> int:
    """1 in a loader's worker, where each core already has a video of its own; 0 (FFmpeg chooses) in the main process."""
    return 0 if multiprocessing.parent_process() is None else 1


_one_thread: contextvars.ContextVar[bool] = contextvars.ContextVar("one_thread", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Decode on the calling thread inside the block. PyAV's log capture needs it: FFmpeg's own threads would wait for a Python
    that waits for them."""
    token = _one_thread.set(True)
    try:
        yield
    finally:
        _one_thread.reset(token)


@contextmanager
def open_container(path: str) -> Iterator[Any]:
    """An open PyAV container of a local file.

    Raises:
        DecodeError: nothing that FFmpeg can open; also for FFmpeg's errors inside the block.
    """
    if not os.path.isfile(path):
        raise DecodeError("a folder, not a video file" if os.path.isdir(path) else "no such file")
    if os.path.getsize(path) == 0:
        raise DecodeError("the file is empty (0 bytes)")
    try:
        # "file:" because a colon in a name would be read as a protocol; a playlist must not reach the network either.
        container = av.open(
            f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except av.error.InvalidDataError as error:
        with open(path, "rb") as file:
            is_mp4 = file.read(12)[4:8] == b"ftyp"
        why = (
            "an mp4 without its index (no moov atom): cut short"
            if is_mp4
            else "no known video format, or damaged"
        )
        raise DecodeError(why) from error
    except (av.error.FFmpegError, OSError) as error:
        raise DecodeError(f"cannot be opened: {error.strerror or error}") from error
    with container:
        if container.format.name == "tty":
            raise DecodeError("a text file, not a video")
        try:
            yield container
        except av.error.FFmpegError as error:
            raise DecodeError(f"cannot be decoded: {error.strerror}") from error


def video_streams(container) -> list[Any]:
    """The video streams without cover pictures.

    Raises:
        DecodeError: there is none, or no decoder for one.
    """
    streams = [
        s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        kinds = sorted({s.type for s in container.streams if s.type != "video"})
        raise DecodeError(
            f"no video stream in it{' (only ' + ', '.join(kinds) + ')' if kinds else ''}"
        )
    for stream in streams:
        if stream.codec_context is None:
            raise DecodeError("this FFmpeg has no decoder for its video codec")
        stream.codec_context.thread_count = 1 if _one_thread.get() else num_threads()
        stream.codec_context.thread_type = "AUTO"
    return streams


def upright_rgb(frame, converter: VideoReformatter) -> np.ndarray:
    """A decoded frame -> uint8 [H, W, 3] RGB, turned and flipped as its display matrix says."""
    # A converter kept over the frames, on one thread, takes a third of the time of `frame.to_ndarray(format="rgb24")`.
    image = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    # x' = a x + c y, y' = b x + d y, rows (a b .), (c d .) in 16.16 fixed point (ISO/IEC 14496-12, 6.2.2).
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image, right, down = image.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


class PacketTable:
    """Where each frame of a stream is, from its packets.

    Attributes:
        pts: int64 [P], packets in decoding order (time base of the stream).
        shown: int64 [num_frames], the sorted pts of the packets that give a frame.
        entry: int64 [num_frames], for each frame the packet of the key frame from which it decodes; -1 where none is.
    """

    def __init__(self, pts: np.ndarray, is_key: np.ndarray, is_shown: np.ndarray):
        self.pts = pts
        self.packet_of = {p: number for number, p in enumerate(pts.tolist())}
        packets = np.flatnonzero(is_shown)
        packets = packets[np.argsort(pts[packets])]
        self.shown = pts[packets]
        keys = np.flatnonzero(is_key)
        if not len(keys):
            self.entry = np.full(len(packets), -1)
            return
        at = np.searchsorted(keys, packets, side="right") - 1
        # A frame shown before its key frame (open GOP) also leans on the group before.
        while (early := (at >= 0) & (pts[keys[at]] > self.shown)).any():
            at[early] -= 1
        self.entry = np.where(at >= 0, keys[at], -1)


class PyAVReader:
    """Frames of one stream by number. `num_frames` counts the whole stream; `fps` is the mean rate, 0.0 where unknown."""

    def __init__(self, path: str, container, stream):
        self._path, self._container, self._stream = path, container, stream
        self._converter = VideoReformatter()
        self._fed = -1  # the last packet given to the decoder
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        self._table = self._index()
        # Without a trustworthy table only decoding tells how many frames there are.
        self.num_frames = (
            len(self._table.shown) if self._table else sum(1 for _ in self._from_the_beginning())
        )

    def _index(self) -> PacketTable | None:
        """None where time stamps do not tell the frames apart."""
        # The packets themselves are let go: together they are the whole file.
        packets = [
            (p.pts, p.dts, p.is_keyframe, not p.is_discard, p.is_corrupt)
            for p in self._container.demux(self._stream)
            if p.size
        ]
        if packets and packets[-1][4]:
            packets.pop()
        container, codec = self._container.format.name, self._stream.codec_context.name
        # An mp4 lists its frames exactly; what other containers announce is often wrong.
        if "mp4" in container and len(packets) < (listed := len(self._stream.index_entries)):
            raise DecodeError(
                f"the file is cut short: it lists {listed} frames and holds {len(packets)}"
            )
        if not packets:
            return None
        pts, dts, is_key, is_shown, is_corrupt = zip(*packets, strict=True)
        if None in pts or len(set(pts)) < len(pts) or any(is_corrupt):
            return None
        # AVI stores no time stamps: those of reordered frames are guesses.
        if container == "avi" and pts != dts:
            return None
        # A packet of a hidden VP8 frame shows nothing.
        if codec == "vp8":
            return None
        table = PacketTable(np.array(pts, np.int64), np.array(is_key), np.array(is_shown))
        return table if len(table.shown) and table.entry.min() >= 0 else None

    def times(self) -> np.ndarray:
        """Seconds of each frame after the first one, float64 [num_frames]."""
        if self._table is None:
            return np.arange(self.num_frames) / (self.fps or 25.0)
        return (self._table.shown - self._table.shown[0]) * float(self._stream.time_base)

    def fill(self, canvas) -> None:
        """Put the canvas's wanted frames; those that cannot be decoded stay missing."""
        if self._table is not None and self._fill_by_seeking(canvas, self._table):
            return
        canvas.clear()
        if not self._fill_from_the_beginning(canvas):
            # Time stamps that no packet announced: only the order of the frames is left to go by.
            self._table = None
            canvas.clear()
            self._fill_from_the_beginning(canvas)

    def _fill_by_seeking(self, canvas, table: PacketTable) -> bool:
        """False as soon as a decoded frame is not the one that the table announces."""
        frames, expected, self._fed = None, -1, -1
        for number in canvas.wanted:
            entry = int(table.entry[number])
            if frames is None or entry > self._fed:
                frames = self._from_key_frame(table, entry)
                expected = int(np.searchsorted(table.shown, table.pts[entry]))
            while expected <= number:
                frame = next(frames, None)
                if frame is None or frame.pts != table.shown[expected] or frame.is_corrupt:
                    return False
                expected += 1
            canvas.put(number, upright_rgb(frame, self._converter))
        return True

    def _from_key_frame(self, table: PacketTable, entry: int) -> Iterator[Any]:
        """Decoded frames from the key frame of packet `entry` on; none where no seek leads there."""
        start = table.pts[entry]
        keys = np.unique(table.entry)
        earlier = table.pts[keys[keys < entry][-2:][::-1]]
        # Demuxers differ in what they compare a position with (pts, dts, rounded): step back until the landing is early enough.
        for position in (start, *earlier, table.pts.min()):
            self._container.seek(int(position), stream=self._stream)
            packets = (p for p in self._container.demux(self._stream) if p.size)
            first = next(packets, None)
            number = table.packet_of.get(first.pts) if first else None
            if number is not None and number <= entry:
                break
        else:
            return
        packet = first
        while packet is not None and number < len(table.pts):
            if packet.pts != table.pts[number]:
                return
            if number >= entry:
                self._fed = number
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    return
                # Frames shown before the key frame lack what they lean on.
                yield from (f for f in frames if f.pts is None or f.pts >= start)
            packet, number = next(packets, None), number + 1
        yield from (
            f for f in self._stream.codec_context.decode(None) if f.pts is None or f.pts >= start
        )

    def _fill_from_the_beginning(self, canvas) -> bool:
        """Decode all up to the last wanted frame. False where a frame's time stamp is not in the table."""
        number_of = (
            {} if self._table is None else {p: n for n, p in enumerate(self._table.shown.tolist())}
        )
        wanted = set(canvas.wanted)
        with closing(self._from_the_beginning()) as frames:
            for count, frame in enumerate(frames):
                number = number_of.get(frame.pts) if self._table is not None else count
                if number is None:
                    return False
                if number in wanted and not frame.is_corrupt:
                    canvas.put(number, upright_rgb(frame, self._converter))
                if not canvas.missing:
                    break
        return True

    def _from_the_beginning(self) -> Iterator[Any]:
        """Every frame of the stream from a container of its own; a packet that does not decode gives none."""
        with open_container(self._path) as container:
            video_streams(container)
            stream = container.streams[self._stream.index]
            for packet in container.demux(stream):
                # An empty packet would tell the decoder that the stream ends.
                if not packet.size or packet.is_corrupt:
                    continue
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue
                yield from frames
            yield from stream.codec_context.decode(None)


VIDEO_SUFFIXES = (
    ".3gp",
    ".asf",
    ".avi",
    ".flv",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".vob",
    ".webm",
    ".wmv",
)


AUDIO_SUFFIXES = (
    ".aac",
    ".aif",
    ".aiff",
    ".flac",
    ".m4a",
    ".mka",
    ".mp3",
    ".npy",
    ".oga",
    ".ogg",
    ".opus",
    ".wav",
    ".wma",
)


def has_audio_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)
