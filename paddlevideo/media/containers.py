"""Open containers, and read exact frames of a video stream by number (PyAV).

`PyAVReader` is the reader behind a `VideoClip`. It implements `Reader` in clip.py: `num_frames`,
`fps`, `times()`, and `fill(canvas)`, which decodes only the wanted frames and those they need.

It indexes the packets by demuxing, which decodes nothing. A wanted frame is decoded from the key
frame before it, and each frame that the decoder returns on the way must be the one that the index
announces. Otherwise the stream is decoded from its beginning.
"""

import contextvars
import functools
import multiprocessing
import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import av
import av.error
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter

from paddlevideo.media.clip import FALLBACK_FPS, Canvas
from paddlevideo.sample import DecodeError

VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
# ".npy" files hold log-mel features.
AUDIO_SUFFIXES = (
    ".aac", ".aif", ".aiff", ".flac", ".m4a", ".mka", ".mp3", ".npy", ".oga", ".ogg", ".opus",
    ".wav", ".wma",
)  # fmt: skip

# PyAV 19 always reads metadata this way, and no longer has the argument.
METADATA_IN_ANY_ENCODING: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def has_audio_suffix(path: str) -> bool:
    """Return whether a file of this name may hold audio: audio, log-mel features or a video."""
    return os.path.splitext(path)[1].lower() in (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)


@functools.cache
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


@contextmanager
def open_container(path: str) -> Iterator[Any]:
    """Open a local file as a PyAV container; the block's end closes it.

    Raises:
        DecodeError: FFmpeg cannot open the file, or an FFmpeg error inside the block.
    """
    if not os.path.isfile(path):
        raise DecodeError("a folder, not a video file" if os.path.isdir(path) else "no such file")
    if os.path.getsize(path) == 0:
        raise DecodeError("the file is empty (0 bytes)")
    try:
        # Without "file:" FFmpeg takes a colon in the name for a protocol. The whitelist keeps a
        # playlist from reaching the network.
        container = av.open(
            f"file:{path}", options={"protocol_whitelist": "file"}, **METADATA_IN_ANY_ENCODING
        )
    except av.error.InvalidDataError as error:
        raise DecodeError(_why_unreadable(path)) from error
    except (av.error.FFmpegError, OSError) as error:
        raise DecodeError(f"cannot be opened: {error.strerror or error}") from error
    with container:
        if container.format.name == "tty":
            raise DecodeError("a text file, not a video")
        try:
            yield container
        except av.error.FFmpegError as error:
            raise DecodeError(f"cannot be decoded: {error.strerror}") from error


def _why_unreadable(path: str) -> str:
    with open(path, "rb") as file:
        is_mp4 = file.read(12)[4:8] == b"ftyp"
    if is_mp4:
        return "an mp4 without its index (no moov atom): cut short"
    return "no known video format, or damaged"


def list_video_streams(container) -> list[Any]:
    """Return the video streams of an open container except cover images; may be empty."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


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


def upright_rgb(frame, converter: VideoReformatter) -> np.ndarray:
    """Convert a decoded frame to uint8 [H, W, 3] RGB, rotated and flipped by its display matrix.

    Args:
        converter: kept over all frames of a video; with one thread it takes a third of the time of
            `frame.to_ndarray(format="rgb24")`.
    """
    image = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    # x' = a x + c y, y' = b x + d y; the matrix has the rows (a b .) and (c d .) in 16.16 fixed
    # point (ISO/IEC 14496-12, 6.2.2).
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image, right, down = image.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


class PacketTable:
    """Which packet each frame of a stream is in, and from which key frame it is decoded.

    Attributes:
        pts: int64 [num_packets], packets in decoding order (time base of the stream).
        packet_of: pts -> number of its packet.
        shown: int64 [num_frames], sorted pts of the packets that give a frame.
        entry: int64 [num_frames], for each frame the packet of the key frame from which it
            is decoded; -1 where there is none.
    """

    def __init__(self, pts: np.ndarray, is_key: np.ndarray, is_shown: np.ndarray):
        self.pts = pts
        self.packet_of = {value: number for number, value in enumerate(pts.tolist())}
        packets = np.flatnonzero(is_shown)
        packets = packets[np.argsort(pts[packets])]
        self.shown = pts[packets]
        keys = np.flatnonzero(is_key)
        if not len(keys):
            self.entry = np.full(len(packets), -1)
            return
        key = np.searchsorted(keys, packets, side="right") - 1
        # In an open group of pictures, a frame shown before its key frame also depends on the
        # group before.
        while (early := (key >= 0) & (pts[keys[key]] > self.shown)).any():
            key[early] -= 1
        self.entry = np.where(key >= 0, keys[key], -1)


class PyAVReader:
    """Frames of one stream by number.

    Attributes:
        num_frames: frames of the complete stream.
        fps: mean frames per second, 0.0 where unknown.
    """

    def __init__(self, path: str, container, stream):
        self._path, self._container, self._stream = path, container, stream
        self._converter = VideoReformatter()
        self._last_packet = -1  # number of the last packet given to the decoder
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        self._table = self._index()
        if self._table is not None:
            self.num_frames = len(self._table.shown)
        else:
            # Without a reliable table only decoding shows how many frames there are.
            self.num_frames = sum(1 for _ in self._decode_from_start())

    def _index(self) -> PacketTable | None:
        """Return the packet table; None where time stamps do not identify the frames."""
        # Keep only these fields: the packets together are as large as the file.
        packets = [
            (p.pts, p.dts, p.is_keyframe, not p.is_discard, p.is_corrupt)
            for p in self._container.demux(self._stream)
            if p.size
        ]
        if packets and packets[-1][4]:
            packets.pop()
        container, codec = self._container.format.name, self._stream.codec_context.name
        # An mp4 lists its frames exactly; the frame count of other containers is often wrong.
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
        # A hidden VP8 frame has a packet but is never shown.
        if codec == "vp8":
            return None
        table = PacketTable(np.array(pts, np.int64), np.array(is_key), np.array(is_shown))
        return table if len(table.shown) and table.entry.min() >= 0 else None

    def times(self) -> np.ndarray:
        """Return the time of each frame (s), 0 for the first one: float64 [num_frames]."""
        if self._table is None:
            return np.arange(self.num_frames) / (self.fps or FALLBACK_FPS)
        return (self._table.shown - self._table.shown[0]) * float(self._stream.time_base)

    def fill(self, canvas: Canvas) -> None:
        """Put the wanted frames on the canvas; frames that cannot be decoded stay missing."""
        if self._table is not None and self._fill_by_seeking(canvas, self._table):
            return
        canvas.clear()
        if not self._fill_from_start(canvas):
            # A frame has a time stamp that no packet announced: count the frames instead.
            self._table = None
            canvas.clear()
            self._fill_from_start(canvas)

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
            packets = (p for p in self._container.demux(self._stream) if p.size)
            first = next(packets, None)
            number = table.packet_of.get(first.pts) if first else None
            if number is not None and number <= entry:
                return number, first, packets
        return None

    def _fill_from_start(self, canvas: Canvas) -> bool:
        """Decode all frames up to the last wanted one.

        Returns False where the time stamp of a frame is not in the table.
        """
        number_of: dict[int, int] = {}
        if self._table is not None:
            number_of = {pts: number for number, pts in enumerate(self._table.shown.tolist())}
        wanted = set(canvas.wanted)
        with closing(self._decode_from_start()) as frames:
            for count, frame in enumerate(frames):
                number = count if self._table is None else number_of.get(frame.pts)
                if number is None:
                    return False
                if number in wanted and not frame.is_corrupt:
                    canvas.put(number, upright_rgb(frame, self._converter))
                if not canvas.missing:
                    break
        return True

    def _decode_from_start(self) -> Generator[Any, None, None]:
        """Yield every frame of the stream, from a container of its own. Packets that do not decode
        are skipped."""
        with open_container(self._path) as container:
            video_streams(container)
            stream = container.streams[self._stream.index]
            for packet in container.demux(stream):
                # An empty packet would end the stream for the decoder.
                if not packet.size or packet.is_corrupt:
                    continue
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue
                yield from frames
            yield from stream.codec_context.decode(None)
