"""Streams over HTTP in other forms than MPEG-TS: MJPEG and playlists."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from paddlevideo.timelines.frames import Frame
from paddlevideo.timelines.live import LiveSource
from paddlevideo.timelines.live_inputs import LiveError, live_input
from tests.clips import write_clip
from tests.file_server import serve


def frames_of(url: str, **options) -> list[Frame]:
    settings = {"stall": 30.0, "retry": 0.0, "queue_seconds": 100.0} | options
    with LiveSource(live_input(url), **settings) as live:
        return [item for item in live if isinstance(item, Frame)]


@pytest.fixture
def server():
    with serve() as state:
        yield state


def add_playlist(server, folder, ends: bool) -> None:
    """A playlist of three parts, one second each."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
    for number in range(3):
        pts = [(number * 10 + n) * 1000 for n in range(10)]
        options = {"container_format": "mpegts", "pts": pts, "options": {"bf": "0"}}
        path = write_clip(folder / f"{number}.ts", 10, fps=10, **options)
        server.files[f"/{number}.ts"] = path.read_bytes()
        lines += ["#EXTINF:1.0,", f"{number}.ts"]
    text = "\n".join([*lines, *(["#EXT-X-ENDLIST"] if ends else [])]) + "\n"
    server.files["/live.m3u8"] = text.encode()


def test_a_playlist_with_an_end(server, tmp_path):
    add_playlist(server, tmp_path, ends=True)
    frames = frames_of(f"{server.url}/live.m3u8")
    assert np.allclose([frame.time for frame in frames], np.arange(30) / 10, atol=1e-3)
    assert server.paths.count("/2.ts") == 1


def test_a_live_playlist_goes_on_until_it_is_stopped(server, tmp_path):
    add_playlist(server, tmp_path, ends=False)
    stop, frames = threading.Event(), []
    source = live_input(f"{server.url}/live.m3u8")
    with LiveSource(source, stall=30.0, retry=0.0, should_stop=stop.is_set) as live:
        for item in live:
            frames += [item] if isinstance(item, Frame) else []
            if len(frames) == 20:
                stop.set()
    assert len(frames) == 20


def test_a_playlist_cannot_name_files_of_this_machine(server, tmp_path):
    secret = write_clip(tmp_path / "secret.ts", 10, container_format="mpegts")
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    server.files["/live.m3u8"] = text.encode()
    with pytest.raises(LiveError):
        frames_of(f"{server.url}/live.m3u8")


def test_mjpeg_has_the_times_of_its_arrival(server):
    """As cameras send it: images one after another. FFmpeg would call it 25 frames per second."""
    image = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(image, "jpeg")
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % image.tell()
    server.files["/video"] = (part + image.getvalue() + b"\r\n") * 6
    server.plan = [("slow", 0.2)]  # before each 1000 bytes
    frames = frames_of(f"{server.url}/video")
    assert len(frames) >= 5 and frames[0].image.shape == (48, 64, 3)
    assert np.abs(frames[0].image.mean((0, 1)) - (200, 30, 30)).max() < 12
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    sent = len(server.files["/video"]) // 1000 * 0.2
    assert times[-1] >= sent / 2 > 6 / 25, "the first frames may wait for FFmpeg to begin"
