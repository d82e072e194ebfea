"""What the packets of a video stream say about its frames: numbers, key frames, and the clock.

The time stamps of a file may go back: a live recording that was interrupted, a transport stream
whose clock was set back, files that were joined. Each part in which they rise is a `Stretch`.
Frames keep the order in which they are decoded, and each stretch begins one frame after the last
frame of the stretch before it.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av.error
import numpy as np

# Containers that store the time of decoding (dts); FFmpeg derives that of others.
STORES_DTS = ("flv", "live_flv", "mpeg", "mpegts")
# FFmpeg takes a clock that goes back by more than a minute for one that ran over its 33 bits, and
# adds 2 ** 33 to the time stamps. Between two packets of a stream there is never so much.
WRAPPED = 2**32


class Packet(NamedTuple):
    """What is kept of a packet: without its data, which together is as large as the file."""

    pts: int | None
    dts: int | None
    position: int | None  # byte in the file
    is_key: bool
    is_shown: bool
    is_corrupt: bool


class Stretch(NamedTuple):
    """Consecutive frames whose time stamps rise.

    Args:
        first_frame: number of its first frame.
        stamp: time stamp of this frame (s), as the file stores it.
        second: when this frame is shown (s after the first frame of the file).
        position: byte in the file where its first packet begins.
    """

    first_frame: int
    stamp: Fraction
    second: Fraction
    position: int = 0


def demux(container, *streams, go_on: Callable[[], bool] = lambda: True) -> Iterator[Any]:
    """Yield the packets of an open PyAV container that hold data.

    Without data are only those with which PyAV ends each stream; for a decoder they are its end.
    FFmpeg stops with "try again" behind 64 kB in which it finds no packet, and where a camera has
    no frame yet; this reads on.

    Args:
        streams: whose packets; none means all.
        go_on: asked then whether to read on.
    """
    while True:
        try:
            for packet in container.demux(*streams):
                if packet.size:
                    yield packet
            return
        except av.error.BlockingIOError:
            if not go_on():
                return


def read_packets(container, stream) -> list[Packet]:
    """Demux a stream of an open PyAV container; this decodes nothing."""
    return [
        Packet(p.pts, p.dts, p.pos, p.is_keyframe, not p.is_discard, p.is_corrupt)
        for p in demux(container, stream)
    ]


def num_listed(container, stream) -> int:
    """Return how many packets of a stream the index of an MP4 lists; 0 where no index is complete.

    Other containers often state a wrong number. In a fragmented MP4 each fragment lists its own
    packets, so that the file may end after any of them.
    """
    if "mp4" not in container.format.name:
        return 0
    return min(len(stream.index_entries), stream.frames)


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


def make_table(container: str, codec: str, packets: Sequence[Packet]) -> PacketTable | None:
    """Return the packet table; None where time stamps do not identify the frames.

    Args:
        container, codec: FFmpeg's names of the formats.
    """
    if not packets or len(stretch_starts(container, packets)) > 1:
        return None
    pts, dts, _, is_key, is_shown, is_corrupt = zip(*packets, strict=True)
    # Only decoding shows whether a packet that is marked as corrupt gives a frame.
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


# --- stretches ------------------------------------------------------------------------------------


class StretchStarts:
    """Finds where a stretch begins: with a key frame that is shown before an earlier packet, or
    where the time of decoding goes back, if the container stores it.

    Args:
        container: FFmpeg's name of the format.
    """

    def __init__(self, container: str):
        self._stores_dts = container in STORES_DTS
        self._highest: int | None = None
        self._last_dts: int | None = None

    def begins(self, pts: int | None, dts: int | None, is_key: bool) -> bool:
        """Whether the next packet begins a stretch; the first one of a file does not."""
        if pts is None:
            return False
        step = 0
        if self._stores_dts and dts is not None and self._last_dts is not None:
            step = dts - self._last_dts
        self._last_dts = dts
        goes_back = self._highest is not None and pts <= self._highest and (is_key or step < 0)
        begins = goes_back or step > WRAPPED
        if begins or self._highest is None:
            self._highest = pts
        self._highest = max(self._highest, pts)
        return begins


def stretch_starts(container: str, packets: Sequence[Packet]) -> list[int]:
    """Return the numbers of the packets with which a stretch begins; the first is 0."""
    starts = StretchStarts(container)
    begun = [n for n, p in enumerate(packets) if starts.begins(p.pts, p.dts, p.is_key)]
    return [0, *begun]


def find_stretches(
    pts: Sequence[int | None],
    packets: Sequence[Packet],
    starts: Sequence[int],
    time_base: Fraction,
    fps: float,
) -> tuple[np.ndarray, list[Stretch]] | None:
    """Give each decoded frame a time on one clock.

    Args:
        pts: of the frames, in the order in which they are decoded.
        packets: all packets of the stream.
        starts: as `stretch_starts` returns them.
        fps: frames per second, the length of the last frame of a stretch if no other is known.

    Returns:
        the time of each frame (s), 0 for the first one, rising: float64 [num_frames]; and the
        stretches. None where the time stamps of the frames are unknown, or do not rise either.
    """
    frame_sec = 1 / Fraction(fps).limit_denominator(100_000)
    known = _fill_in(pts, frame_sec / time_base)
    if not known:
        return None
    numbers = _stretch_numbers(known, packets, starts)
    stamps, changes = np.array(known, np.int64), np.flatnonzero(np.diff(numbers)) + 1
    firsts = [0, *changes.tolist()]
    groups = np.split(stamps, changes)
    steps = np.concatenate([np.diff(group) for group in groups])
    if len(steps) and steps.min() <= 0:
        return None
    if len(steps):
        frame_sec = int(np.median(steps)) * time_base
    stretches, times, second = [], [], Fraction(0)
    for first, group in zip(firsts, groups, strict=True):
        start = int(group[0])
        position = packets[starts[numbers[first]]].position or 0
        stretches.append(Stretch(first, start * time_base, second, position))
        times.append(float(second) + (group - start) * float(time_base))
        second += int(group[-1] - start) * time_base + frame_sec
    return np.concatenate(times), stretches


def _fill_in(pts: Sequence[int | None], step: Fraction) -> list[int]:
    """Return the time stamps of the frames, those before the first known one at distances of
    `step`; none at all where others are unknown."""
    first = next((number for number, value in enumerate(pts) if value is not None), len(pts))
    known = [value for value in pts[first:] if value is not None]
    if not known or len(known) < len(pts) - first:
        return []
    return [known[0] - round((first - number) * step) for number in range(first)] + known


def _stretch_numbers(
    pts: Sequence[int], packets: Sequence[Packet], starts: Sequence[int]
) -> list[int]:
    """Return in which stretch each frame is."""
    ends = [*starts[1:], len(packets)]
    known = [
        {packet.pts for packet in packets[start:end]}
        for start, end in zip(starts, ends, strict=True)
    ]
    numbers, current, last = [], 0, None
    for value in pts:
        if value not in known[current] or (last is not None and value <= last):
            later = (n for n in range(current + 1, len(known)) if value in known[n])
            current = next(later, current)
        numbers.append(current)
        last = value
    return numbers


def stretch_of(
    stretches: Sequence[Stretch], current: int, position: int | None, goes_back: bool
) -> int:
    """Return the number of the stretch of an audio packet.

    Args:
        stretches: none while they are unknown.
        current: stretch of the packet before it.
        position: of the packet (byte in the file).
        goes_back: whether its time stamp is before that of the packet before it.
    """
    if position is None:
        return current
    while current + 1 < len(stretches) and position >= stretches[current + 1].position:
        current += 1
    if not goes_back or current + 1 >= len(stretches):
        return current
    # The first audio packets of a stretch may be before those of the video.
    is_near = stretches[current + 1].position - position < position - stretches[current].position
    return current + is_near
