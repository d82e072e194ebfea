"""Live sources against a server on the loopback: ends, stalls, cuts, other sizes, other clocks."""

import itertools
import os
import threading
from typing import Any

import numpy as np
import pytest

from paddlevideo.timelines.frames import Audio, Frame, Gap
from paddlevideo.timelines.live import LiveSource
from paddlevideo.timelines.live_inputs import LiveError, LiveInput, Pipe, live_input
from tests.clips import write_clip
from tests.live_server import stream_bytes, stream_server


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    return stream_bytes(tmp_path_factory.mktemp("stream"))  # 30 frames, 20 per second


@pytest.fixture
def server():
    with stream_server() as state:
        yield state


def read(source: LiveInput, **options) -> tuple[list, LiveSource]:
    """All items of a source, read to its end."""
    settings: dict[str, Any] = {"stall": 30.0, "retry": 5.0, "first_pause": 0.01} | options
    with LiveSource(source, **settings) as live:
        return list(live), live


def frames_of(items: list) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def gaps_of(items: list) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


def check_order(items: list) -> None:
    """Frames and gaps follow one another, and no frame is inside a gap."""
    now = -1.0
    for item in items:
        if isinstance(item, Gap):
            assert now <= item.start < item.end
            now = item.end
        elif isinstance(item, Frame):
            assert item.time >= now or now == -1.0
            now = item.time


def test_a_stream_with_an_end(server, stream, caplog):
    server.plan = [("end", stream)]
    items, live = read(live_input(server.url))
    assert not gaps_of(items) and not live.failure and not caplog.records
    assert np.allclose([frame.time for frame in items], np.arange(30) / 20, atol=1e-4)
    assert items[0].image.shape == (48, 64, 3) and items[0].image.dtype == np.uint8
    assert live.dropped == 0 and len(server.asked) == 1


def test_a_cut_connection_is_opened_again(server, stream, caplog):
    server.plan = [("cut", stream), ("cut", stream), ("end", stream)]
    items, live = read(live_input(server.url))
    check_order(items)
    assert len(server.asked) == 3 and not live.failure
    assert len(frames_of(items)) in range(80, 91), "a cut may lose frames that the decoder holds"
    gaps = gaps_of(items)
    assert gaps and {gap.reason for gap in gaps} == {"the connection was closed"}
    text = caplog.text
    assert "the connection was closed; connecting again in 0.01 s" in text
    assert text.count("connected again") == 2
    assert "secret" not in text and "hidden" not in text and "user" not in text


@pytest.mark.parametrize("kind", ["stall", "junk"])
def test_a_stalled_source_is_opened_again(server, stream, kind):
    server.plan = [(kind, stream), ("end", stream)]
    items, live = read(live_input(server.url), stall=2.0)
    check_order(items)
    lost = gaps_of(items)
    assert sum(gap.end - gap.start for gap in lost) >= 2.0
    assert {gap.reason for gap in lost} <= {"no frame for 2 s", "no data for 2 s"}
    assert len(frames_of(items)) in range(55, 61) and not live.failure


def test_pauses_grow_and_a_source_is_given_up(server, stream, caplog):
    server.plan = [("cut", stream), 503]
    items, live = read(live_input(server.url), retry=2.0)
    check_order(items)
    assert live.failure.startswith("Server returned 5XX")
    pauses = [r.getMessage().rsplit(" in ")[1] for r in caplog.records if " in " in r.getMessage()]
    assert pauses[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.08 s"]
    assert "given up" in caplog.records[-1].getMessage()
    gaps = gaps_of(items)
    assert gaps[-1].end - gaps[0].start >= 1.99, "the timeline has all of the time"
    assert {gap.reason for gap in gaps} == {"the connection was closed"}


def test_without_retry_the_first_loss_ends_it(server, stream):
    server.plan = [("cut", stream)]
    _, live = read(live_input(server.url), retry=0.0)
    assert live.failure == "the connection was closed" and len(server.asked) == 1


def test_another_size_and_another_clock_midway(server, stream, tmp_path):
    large = stream_bytes(tmp_path, height=96, width=128)  # its time stamps begin again
    server.plan = [("end", stream + large + stream)]
    items, _ = read(live_input(server.url))
    check_order(items)
    shapes = [frame.image.shape[:2] for frame in frames_of(items)]
    changes = [b for a, b in itertools.pairwise(shapes) if a != b]
    assert changes == [(96, 128), (48, 64)]


def test_damaged_frames_are_left_out(server, stream):
    broken = bytearray(stream)
    broken[len(stream) // 3 : len(stream) // 2] = bytes(len(stream) // 2 - len(stream) // 3)
    server.plan = [("end", bytes(broken))]
    items, _ = read(live_input(server.url))
    check_order(items)
    assert 5 < len(frames_of(items)) < 30


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([404], "404 Not Found"),
        ([401], "401 Unauthorized"),
        ([("end", b"")], "damaged|ended|closed|End of file"),
        ([("end", b"no video " * 4000)], "no known video format"),
        ([("stall", b"")], "no data for 0.3 s"),
    ],
)
def test_a_source_that_cannot_be_opened_is_an_error(server, plan, message):
    server.plan = plan
    stall = 0.3 if plan == [("stall", b"")] else 30.0
    with pytest.raises(LiveError, match=message) as error:
        read(live_input(server.url), stall=stall)
    assert f"127.0.0.1:{server.port}" in str(error.value)
    assert "secret" not in str(error.value) and "hidden" not in str(error.value)


def test_a_server_that_is_not_there():
    with pytest.raises(LiveError, match="Connection refused"):
        read(live_input("http://user:secret@127.0.0.1:1/stream"))


def test_audio_comes_next_to_the_frames(server, tmp_path):
    source = write_clip(tmp_path / "a.ts", 20, tone=440.0, container_format="mpegts")
    server.plan = [("end", source.read_bytes())]
    items, _ = read(live_input(server.url), sound=True)
    sounds = [item for item in items if isinstance(item, Audio)]
    assert sounds and {sound.rate for sound in sounds} == {16000}
    assert sounds[0].samples.dtype == np.float32 and sounds[0].samples.ndim == 1
    assert np.abs(np.concatenate([s.samples for s in sounds])).max() > 0.2
    steps = np.diff([sound.time for sound in sounds])
    assert np.allclose(steps, 1024 / 16000, atol=1e-3)
    assert abs(sounds[0].time) < 0.2 and len(frames_of(items)) == 20


def test_sound_is_left_out_where_nobody_asks(server, tmp_path):
    source = write_clip(tmp_path / "a.ts", 20, tone=440.0, container_format="mpegts")
    server.plan = [("end", source.read_bytes())]
    items, _ = read(live_input(server.url))
    assert {type(item) for item in items} == {Frame}


@pytest.mark.parametrize(("number", "width"), [(None, 64), (0, 64), (1, 128)])
def test_the_chosen_stream_is_read(server, tmp_path, number, width):
    source = write_clip(tmp_path / "a.ts", 20, num_streams=2, container_format="mpegts")
    server.plan = [("end", source.read_bytes())]
    items, _ = read(live_input(server.url), video_stream=number)
    assert {frame.image.shape for frame in frames_of(items)} == {(48, width, 3)}


def test_streams_that_are_not_there(server, stream, tmp_path):
    server.plan = [("end", stream)] * 3
    with pytest.raises(LiveError, match="there is no video stream 2; the source has 1, counted"):
        read(live_input(server.url), video_stream=2)
    with pytest.raises(LiveError, match="no audio stream in it"):
        read(live_input(server.url), frames=False, audio_stream=1)
    items, _ = read(live_input(server.url), sound=True, audio_stream=1)
    assert {type(item) for item in items} == {Frame}, "next to frames, audio may be missing"


# --- the end, latency and drops -------------------------------------------------------------------


def test_stopping_ends_a_stalled_source(server, stream):
    server.plan = [("stall", stream)]
    stop, items = threading.Event(), []
    with LiveSource(live_input(server.url), stall=30.0, should_stop=stop.is_set) as live:
        for item in live:
            items.append(item)
            if len(items) == 20:
                stop.set()
        server.closing.set()  # FFmpeg waits for data of the server
    assert len(items) == 20 and not live.failure


def test_latency_is_the_time_since_the_first_frame_of_a_window(server, stream):
    server.plan = [("end", stream)]
    now = [100.0]
    with LiveSource(live_input(server.url), clock=lambda: now[0], retry=0) as live:
        assert live.latency(0.0) is None
        first = next(iter(live))
        now[0] += 2.5
        assert isinstance(first, Frame) and live.latency(0.0) == 2.5
        assert live.latency(5.0) is None, "no frame of it has come"


def test_a_slow_network_gets_the_newest_frames(stream):
    """The source is a pipe, whose reader is late by more than its patience."""
    source = LiveInput("pipe", lambda stall, stop: Memory(stream, stall, stop), reconnects=False)
    with LiveSource(source, queue_seconds=0.2) as live:
        live._thread.join()  # all of it has come before the network takes its first frame
        times = [item.time for item in live if isinstance(item, Frame)]
    assert np.allclose(times, np.arange(25, 30) / 20, atol=1e-4)
    assert live.dropped == 25


def test_a_fast_source_waits_for_the_network(stream):
    """A recording that is sent faster than it plays loses no frames."""
    source = LiveInput(
        "pipe", lambda stall, stop: Memory(stream, stall, stop), reconnects=False, patience=60.0
    )
    with LiveSource(source, queue_seconds=0.2) as live:
        assert len(list(live)) == 30 and live.dropped == 0


class Memory(Pipe):
    """Bytes in memory in place of standard input."""

    def __init__(self, data: bytes, stall: float, stop: threading.Event):
        super().__init__(-1, stall, stop)
        self._data = data

    def _some(self, size: int) -> bytes:
        part, self._data = self._data[:size], self._data[size:]
        return part


def pipe_of(data: bytes, stalls: bool = False):
    """The end of a pipe to read from, the one to write to, and a thread that writes."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", closefd=not stalls) as file:
            file.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    return reading, writing, thread


def test_a_pipe_that_ends(stream):
    reading, _, thread = pipe_of(stream)
    source = LiveInput("pipe", lambda *end: Pipe(reading, *end), reconnects=False, patience=60.0)
    items, live = read(source)
    thread.join()
    os.close(reading)
    assert len(frames_of(items)) == 30 and not gaps_of(items) and not live.failure


def test_a_pipe_that_stalls_is_given_up(stream):
    reading, writing, thread = pipe_of(stream, stalls=True)
    source = LiveInput("pipe", lambda *end: Pipe(reading, *end), reconnects=False, patience=60.0)
    items, live = read(source, stall=1.0)
    thread.join()
    os.close(reading)
    os.close(writing)
    assert live.failure == "no data for 1 s"
    assert gaps_of(items)[0].reason == "no data for 1 s" and len(frames_of(items)) == 30


@pytest.mark.parametrize(
    "options", [{"stall": 0.0}, {"retry": -1.0}, {"queue_seconds": 0.0}, {"stall": float("nan")}]
)
def test_wrong_numbers_are_refused(options):
    with pytest.raises(ValueError, match="expected stall and queue_seconds above 0"):
        LiveSource(LiveInput("a", "http://a"), **options)
