"""Find damage in the packets of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3).

FFmpeg decodes on after lost or damaged packets, often without a message. The packets themselves
show it: each begins with a sync byte, and a counter numbers those of a stream.
"""

from collections.abc import Iterator

import numpy as np

from paddlevideo.curate.formats import TS_PACKETS, TS_SYNC
from paddlevideo.remote import open_url

CHUNK = 20_000  # packets that are read at once
NULL_PID = 0x1FFF  # stuffing, without a counter


def find_ts_damage(path: str) -> str:
    """Describe the first damaged or missing packet of a transport stream, "" if there is none.

    Files that were joined are not damaged: where one ends, the counters may jump if the next packet
    begins a frame.
    """
    last_counts: dict[int, int] = {}
    for position, size, headers in read_headers(path):
        damages = [
            (number, text)
            for number, text in (
                first_bad_header(headers),
                first_missing_packet(headers, last_counts),
            )
            if text
        ]
        if damages:
            number, text = min(damages)
            return f"{text} at byte {position + number * size}"
    return ""


def read_headers(path: str) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (position in the file, packet size, first 6 bytes of each packet: uint8 [N, 6])."""
    with open_url(path) as file:
        offset, size = TS_PACKETS[file.read(1) != bytes([TS_SYNC])]
        file.seek(0)
        position = 0
        while len(data := file.read(CHUNK * size)) >= size:
            packets = np.frombuffer(data, np.uint8)[: len(data) // size * size].reshape(-1, size)
            yield position + offset, size, packets[:, offset : offset + 6]
            position += len(packets) * size


def first_bad_header(headers: np.ndarray) -> tuple[int, str]:
    """Return (number of the packet, what is wrong), (0, "") if nothing is."""
    not_sync, marked = headers[:, 0] != TS_SYNC, (headers[:, 1] & 0x80) != 0
    bad = np.flatnonzero(not_sync | marked)
    if not len(bad):
        return 0, ""
    number = int(bad[0])
    if not_sync[number]:
        return number, "a packet without its sync byte"
    return number, "a packet that the receiver marked as damaged"


def first_missing_packet(headers: np.ndarray, last_counts: dict[int, int]) -> tuple[int, str]:
    """Return (number of the packet before which one is missing, message), (0, "") if none is.

    Args:
        last_counts: counter of the last packet of each stream (PID) before these; updated.
    """
    first, second, control = (headers[:, column].astype(int) for column in (1, 2, 3))
    pids = (first & 0x1F) << 8 | second
    has_payload = (control & 0x10) != 0
    # The counter may also jump where the packet announces it.
    is_announced = ((control & 0x20) != 0) & (headers[:, 4] > 0) & ((headers[:, 5] & 0x80) != 0)
    may_jump = ((first & 0x40) != 0) | is_announced
    found = len(headers)
    for pid in np.unique(pids[has_payload & (pids != NULL_PID)]).tolist():
        numbers = np.flatnonzero(has_payload & (pids == pid))
        counts = control[numbers] & 0x0F
        before = np.roll(counts, 1)
        before[0] = last_counts.get(pid, int(counts[0]))
        # A packet may be sent twice.
        is_next = (counts == (before + 1) % 16) | (counts == before)
        jumps = numbers[~is_next & ~may_jump[numbers]]
        if len(jumps):
            found = min(found, int(jumps[0]))
        last_counts[pid] = int(counts[-1])
    return (found, "packets are missing") if found < len(headers) else (0, "")
