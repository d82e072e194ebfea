"""Damage in transport streams: sync bytes, marks, and counters of packets."""

import numpy as np
import pytest

from paddlevideo.curate.probe import ProbeOptions, probe_video
from paddlevideo.curate.transport_stream import CHUNK, find_ts_damage
from paddlevideo.sample import Record
from tests.clips import random_frames, write_clip
from tests.flash_clips import write_flash

B_FRAMES = {"bf": "2", "g": "12"}


def write_ts(path, seed: int = 0, num_frames: int = 40, **settings):
    frames = random_frames(num_frames, 96, 128, seed=seed)
    return write_clip(
        path, num_frames, 96, 128, frames=frames, options=B_FRAMES, tone=440.0, **settings
    )


def faults_of(path, all_frames: bool) -> list[tuple[str, str]]:
    info = probe_video(Record(str(path), id="a"), ProbeOptions(all_frames=all_frames))
    return [(fault.kind, fault.text) for fault in info.faults]


def edit(path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 188 // 2 * 188
    if kind == "bytes":
        for number in range(middle, middle + 400):
            data[number] = (data[number] * 7 + 91) & 255
    elif kind == "zeros":
        data[middle : middle + 188] = bytes(188)
    elif kind == "lost bytes":
        del data[middle + 10 : middle + 60]
    elif kind == "marked":
        data[middle + 1] |= 0x80
    elif kind == "lost packets":
        # A packet that does not begin a frame.
        while data[middle + 1] & 0x40 or data[middle + 188 + 1] & 0x40:
            middle += 188
        del data[middle : middle + 188]
    path.write_bytes(data)


KINDS = {
    "bytes": "without its sync byte",
    "zeros": "without its sync byte",
    "lost bytes": "without its sync byte",
    "marked": "that the receiver marked as damaged",
    "lost packets": "packets are missing",
}


@pytest.mark.parametrize("all_frames", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_reports_a_damaged_stream(tmp_path, kind, all_frames):
    path = write_ts(tmp_path / "a.ts")
    assert faults_of(path, all_frames) == []
    edit(path, kind)
    assert KINDS[kind] in find_ts_damage(str(path)) and " at byte " in find_ts_damage(str(path))
    ((fault, text),) = faults_of(path, all_frames)
    if kind == "lost bytes":
        assert fault == "truncated", "its size is no number of packets"
        return
    assert fault == "damaged"
    # The decoder may notice it first.
    assert "the transport stream is damaged: " in text or "the decoder conceals it" in text


@pytest.mark.parametrize("all_frames", [False, True])
def test_joined_streams_are_not_damaged(tmp_path, all_frames):
    first, second = write_ts(tmp_path / "a.ts"), write_ts(tmp_path / "b.ts", 1, 55)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    flash = write_flash(tmp_path / "flash.ts", audio="mp2")
    for path in (joined, flash):
        assert find_ts_damage(str(path)) == "", path
        assert faults_of(path, all_frames) == [], path


def test_reads_time_codes_before_the_packets(tmp_path):
    path = write_ts(tmp_path / "a.ts")
    packets = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 188)
    with_times = np.zeros((len(packets), 192), np.uint8)
    with_times[:, 4:] = packets
    m2ts = tmp_path / "a.m2ts"
    m2ts.write_bytes(with_times.tobytes())
    assert find_ts_damage(str(m2ts)) == ""
    with_times[20, 4] = 0
    m2ts.write_bytes(with_times.tobytes())
    assert find_ts_damage(str(m2ts)) == f"a packet without its sync byte at byte {20 * 192 + 4}"


def packet(pid: int, count: int, begins: bool = False, extra: bytes = b"") -> bytes:
    """A packet with payload; `extra` is its adaptation field."""
    control = 0x10 | (0x20 if extra else 0)
    head = bytes([0x47, (0x40 if begins else 0) | pid >> 8, pid & 255, control | count])
    return (head + extra).ljust(188, b"\xff")


def test_follows_the_counter_of_each_stream(tmp_path):
    path = tmp_path / "a.ts"

    def damage(*packets: bytes) -> str:
        path.write_bytes(b"".join(packets))
        return find_ts_damage(str(path))

    long = [packet(256, n % 16) for n in range(CHUNK + 3)]
    assert damage(*long) == ""
    # The counter is followed from one chunk to the next.
    assert damage(*long[:CHUNK], *long[CHUNK + 1 :]) == (
        f"packets are missing at byte {188 * CHUNK}"
    )
    assert damage(packet(256, 3), packet(257, 9), packet(256, 4), packet(257, 10)) == ""
    assert damage(packet(256, 3), packet(256, 3), packet(256, 4)) == "", "sent twice"
    assert damage(packet(256, 15), packet(256, 0)) == ""
    assert damage(packet(256, 3), packet(256, 9, begins=True)) == "", "joined"
    announced = packet(256, 9, extra=bytes([1, 0x80]))
    assert damage(packet(256, 3), announced) == ""
    assert damage(packet(0x1FFF, 3), packet(0x1FFF, 9)) == "", "stuffing"
    assert damage(packet(256, 3), packet(256, 9)) == "packets are missing at byte 188"
