"""Which texts are live sources, how they are named, and bytes that arrive."""

import io
import os
import sys
import threading

import numpy as np
import pytest

from paddlevideo.timelines import live_inputs
from paddlevideo.timelines.live import LiveSource
from paddlevideo.timelines.live_inputs import (
    GrowingFile,
    LiveError,
    is_live,
    live_input,
    public_name,
    raw_options,
)
from tests.clips import random_frames, write_clip
from tests.live_server import stream_bytes


def test_what_is_live(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in (
        "0",
        "12",
        "-",
        "rtsp://a/b",
        "http://a/b.m3u8",
        "https://a",
        "HTTP://a/b?c=d.mp4",
    ):
        assert is_live(text)
    for text in ("a.mp4", "folder", "*.mp4", "1.mp4", "-a.mp4", ""):
        assert not is_live(text)
    for text in ("http://a/b.mp4", "http://a/b.TS?c=d", "https://a/b/", "https://a/*", "s3://a/b"):
        assert not is_live(text), "a file, or a folder"
    assert is_live("http://a/b.ts", follow=True)
    (tmp_path / "7").mkdir()
    assert not is_live("7"), "a file or folder of this name"
    assert is_live("a.ts", follow=True)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://user:secret@camera:554/a/b", "rtsp://camera:554/a/b"),
        ("rtsp://us%40er:se@cret@camera/a", "rtsp://camera/a"),
        ("http://camera/video?user=me&pwd=secret#x", "http://camera/video?..."),
        ("https://:secret@[::1]:8/a", "https://[::1]:8/a"),
        ("rtsp://user:secret@[camera/a", "rtsp://..."),
        ("rtsp://camera/a\nsecond line", "rtsp://camera/asecond line"),
        ("a\x1b.mp4", "a\\x1b.mp4"),
    ],
)
def test_names_have_no_passwords(address, name):
    assert public_name(address) == name


def test_the_address_goes_to_ffmpeg_and_nowhere_else():
    source = live_input("rtsp://user:secret@camera/a")
    assert source.source == "rtsp://user:secret@camera/a"
    assert "secret" not in repr(source)
    assert source.options["rtsp_transport"] == "tcp"
    assert live_input("rtsp://a/b", rtsp_transport="udp").options["rtsp_transport"] == "udp"
    for text in ("http://a/b", "rtsp://a"):
        assert "file" not in live_input(text).options["protocol_whitelist"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("foo://a/b", {}, r"foo:// is not supported; expected one of rtsp://"),
        ("file:///etc/passwd", {}, "file:// is not supported"),
        ("concat://a", {}, "is not supported"),
        ("rtsp:///a", {}, "names no host, as in rtsp://camera/stream"),
        ("http://user:secret@/a", {}, "names no host"),
        ("a.ts", {"follow": True}, "a.ts: no such file; --follow"),
        (".", {"follow": True}, "a folder; --follow"),
        ("http://a/b", {"raw": "2x2@5"}, "--raw is for standard input"),
    ],
)
def test_mistakes_are_reported(tmp_path, monkeypatch, text, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LiveError, match=message) as error:
        live_input(text, **options)
    assert "secret" not in str(error.value)


def test_no_camera_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(live_inputs, "CAMERAS", {"linux": ("v4l2", "/dev/no-such-camera{}")})
    with pytest.raises(LiveError, match="camera 3: there is no /dev/no-such-camera3, and") as error:
        live_input("3")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(LiveError, match="on Linux and macOS only"):
        live_input("3")


def test_a_camera_that_this_ffmpeg_cannot_open(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(live_inputs, "CAMERAS", {"linux": ("no-such-format", os.devnull)})
    with pytest.raises(LiveError, match="this FFmpeg cannot open no-such-format"):
        live_input("0")


def test_a_camera_that_is_none(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(live_inputs, "CAMERAS", {"linux": ("v4l2", os.devnull)})
    source = live_input("0")
    with pytest.raises(LiveError, match="camera 0: .+"), LiveSource(source, stall=0.3) as live:
        list(live)


# --- standard input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("640x480@25", ("640x480", "25", "yuv420p")),
        ("2x4@30000/1001:rgb24", ("2x4", "30000/1001", "rgb24")),
        ("2x4@12.5:gray", ("2x4", "12.5", "gray")),
    ],
)
def test_raw_frames(text, expected):
    options = raw_options(text)
    assert (options["video_size"], options["framerate"], options["pixel_format"]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "640x480",
        "640@25",
        "0x4@25",
        "4x0@25",
        "4x4@0",
        "4x4@1/0",
        "4x4@25:no",
        "-4x4@2",
        "4x4@",
    ],
)
def test_other_raw_frames_are_refused(text):
    with pytest.raises(LiveError, match="expected WIDTHxHEIGHT@FPS, as 640x480@25"):
        raw_options(text)


class Input(io.StringIO):
    """Standard input of another descriptor."""

    def __init__(self, descriptor: int, terminal: bool = False):
        super().__init__()
        self._descriptor, self._terminal = descriptor, terminal

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def send(monkeypatch):
    """`send(data)`: standard input gives these bytes and ends."""
    ends, threads = [], []

    def start(data: bytes) -> None:
        reading, writing = os.pipe()
        ends.append(reading)
        monkeypatch.setattr(sys, "stdin", Input(reading))

        def write() -> None:
            with open(writing, "wb") as file:
                file.write(data)

        threads.append(threading.Thread(target=write))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    for descriptor in ends:
        os.close(descriptor)


def times_of(items: list) -> list[float]:
    return [item.time for item in items]


def frames(**options) -> list:
    with LiveSource(live_input("-", **options), stall=5.0, queue_seconds=100.0) as live:
        return list(live)


def test_a_container_on_standard_input(send, tmp_path):
    send(stream_bytes(tmp_path, 12))
    assert len(frames()) == 12


def test_an_mkv_on_standard_input(send, tmp_path):
    send(write_clip(tmp_path / "a.mkv", 12).read_bytes())
    assert len(frames()) == 12


def test_raw_frames_on_standard_input(send):
    images = random_frames(6, 32, 40)
    send(images.tobytes() + b"half a frame")
    items = frames(raw="40x32@10:rgb24")
    assert np.allclose(times_of(items), np.arange(6) / 10)
    assert all(np.array_equal(a.image, b) for a, b in zip(items, images, strict=True))


@pytest.mark.parametrize(("data", "message"), [(b"", "without any data"), (b"x" * 9999, "damaged")])
def test_no_video_on_standard_input(send, data, message):
    send(data)
    with pytest.raises(LiveError, match=f"standard input: .*{message}"):
        frames()


def test_a_terminal_is_no_video(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Input(0, terminal=True))
    with pytest.raises(LiveError, match="standard input is a terminal"):
        live_input("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(LiveError, match="no standard input"):
        live_input("-")


# --- files that grow ------------------------------------------------------------------------------


def test_a_growing_file_is_read_to_its_end(tmp_path):
    data = stream_bytes(tmp_path, 30)
    path = tmp_path / "growing.ts"
    path.write_bytes(data[: len(data) // 3])

    def grow() -> None:
        with path.open("ab") as file:
            file.write(data[len(data) // 3 :])

    timer = threading.Timer(0.05, grow)
    timer.start()
    source = live_input(str(path), follow=True)
    with LiveSource(source, stall=1.0, queue_seconds=100.0) as live:
        items = list(live)
    timer.join()
    assert np.allclose(times_of(items), np.arange(30) / 20, atol=1e-4) and not live.failure


def test_a_file_that_stopped_growing_keeps_its_end(tmp_path):
    path = tmp_path / "a.ts"
    path.write_bytes(b"x")
    file = GrowingFile(str(path), 0.05, threading.Event())
    assert file.read(9) == b"x" and file.read(9) == b"" and file.stalled
    path.write_bytes(b"xy")
    assert file.read(9) == b"", "FFmpeg has closed its last frame"
    file.close()


def test_a_file_that_becomes_shorter_has_ended(tmp_path):
    path = tmp_path / "a.ts"
    path.write_bytes(b"x" * 100)
    file = GrowingFile(str(path), 60.0, threading.Event())
    assert file.read(1000) == b"x" * 100
    path.write_bytes(b"y")
    assert file.read(1000) == b"" and not file.stalled
    file.close()


def test_stopping_ends_the_wait_for_more(tmp_path):
    path, stop = tmp_path / "a.ts", threading.Event()
    path.write_bytes(b"")
    file = GrowingFile(str(path), 60.0, stop)
    threading.Timer(0.01, stop.set).start()
    assert file.read(1000) == b"" and not file.stalled
    file.close()


def test_an_empty_file_that_does_not_grow(tmp_path):
    path = tmp_path / "a.ts"
    path.write_bytes(b"")
    source = live_input(str(path), follow=True)
    with (
        pytest.raises(LiveError, match=r"a.ts: no data for 0.2 s"),
        LiveSource(source, stall=0.2) as live,
    ):
        list(live)
