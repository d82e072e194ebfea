"""RTSP from GStreamer's server, run by the Python of the system; skipped where it is missing."""

import shutil
import socket
import subprocess
import sys
import time

import pytest

from paddlevideo.timelines.frames import Frame, Gap
from paddlevideo.timelines.live import LiveSource
from paddlevideo.timelines.live_inputs import LiveError, live_input

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch("( videotestsrc is-live=true ! video/x-raw,width=96,height=64,framerate=25/1 "
                   "! " + sys.argv[2] + " )")
factory.set_shared(True)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""
ENCODERS = {
    "x264enc": "x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96",
    "jpegenc": "jpegenc ! rtpjpegpay name=pay0 pt=96",
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start_server(port: int) -> subprocess.Popen:
    """The server, once it is ready."""
    if not shutil.which(SYSTEM_PYTHON):
        pytest.skip(f"no {SYSTEM_PYTHON}")
    probe = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0')"
    )
    probe += "; from gi.repository import Gst, GstRtspServer; Gst.init(None)"
    probe += f"; print(*[n for n in {list(ENCODERS)} if Gst.ElementFactory.find(n)])"
    found = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, text=True)
    encoders = found.stdout.split()
    if found.returncode or not encoders:
        pytest.skip("GStreamer's RTSP server or an encoder for it is not installed")
    command = [SYSTEM_PYTHON, "-c", SERVER, str(port), ENCODERS[encoders[0]]]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout and server.stdout.readline() == "ready\n"
    return server


def end(server: subprocess.Popen) -> None:
    server.kill()
    server.wait()
    if server.stdout:
        server.stdout.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it needs the Python of a Linux system")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_and_a_restart_of_the_server(transport):
    port = free_port()
    server = start_server(port)
    source = live_input(f"rtsp://user:secret@127.0.0.1:{port}/cam", rtsp_transport=transport)
    times, gaps, restarted = [], [], False
    limit = time.monotonic() + 60
    try:
        with LiveSource(source, stall=3.0, first_pause=0.2) as live:
            for item in live:
                assert time.monotonic() < limit, f"{len(times)} frames, {gaps}"
                if isinstance(item, Gap):
                    gaps.append(item)
                elif isinstance(item, Frame):
                    assert item.image.shape == (64, 96, 3)
                    times.append(item.time)
                if len(times) == 30 and not restarted:
                    end(server)
                    server, restarted = start_server(port), True
                if gaps and len(times) > 60 and times[-1] > gaps[-1].end + 0.5:
                    break
    finally:
        end(server)
    assert times == sorted(times) and restarted and gaps
    assert not [t for gap in gaps for t in times if gap.start < t < gap.end]


@pytest.mark.slow
def test_no_such_stream():
    port = free_port()
    server = start_server(port)
    try:
        source = live_input(f"rtsp://127.0.0.1:{port}/other")
        with pytest.raises(LiveError, match="404"), LiveSource(source, stall=5.0) as live:
            list(live)
    finally:
        end(server)
