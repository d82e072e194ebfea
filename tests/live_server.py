"""A server of streams on the loopback that can stall, cut, answer with errors, or send an end."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.clips import write_clip

PIECES = 20  # in which a body is sent
PAUSE = 0.002  # seconds between them
JUNK = 16_000  # bytes that are no frames, as often


def stream_bytes(folder: Path, num_frames: int = 30, fps: int = 20, **options) -> bytes:
    """An MPEG transport stream with a key frame at its start.

    Args:
        options: of `write_clip`.
    """
    path = folder / f"stream-{num_frames}-{len(list(folder.iterdir()))}.ts"
    settings: dict[str, Any] = {"container_format": "mpegts", "codec": "mpeg2video"} | options
    return write_clip(path, num_frames, fps=fps, **settings).read_bytes()


@dataclass
class StreamServer:
    """What the next connections get, first one first, and what they asked for.

    Args:
        plan: ("cut", body): the body, and then the connection is closed; ("stall", body): the body,
            and then nothing; ("junk", body): the body, and then bytes that are no frames;
            ("end", body): the body with its length; a number: an HTTP status. The last step is
            repeated.
    """

    plan: list = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://user:secret@127.0.0.1:{self.port}/stream?key=hidden"


@contextlib.contextmanager
def stream_server() -> Iterator[StreamServer]:
    state = StreamServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            state.asked.append(self.path)
            step = state.plan.pop(0) if len(state.plan) > 1 else state.plan[0]
            with contextlib.suppress(ConnectionError):  # the client ended first
                answer(self, state, step)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # the end waits for them
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.port = server.server_port
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, state: StreamServer, step) -> None:
    if isinstance(step, int):
        handler.send_error(step)
        return
    kind, body = step
    handler.send_response(200)
    if kind == "end":
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    size = len(body) // PIECES + 1
    for start in range(0, len(body), size):
        handler.wfile.write(body[start : start + size])
        state.closing.wait(PAUSE)
    if kind == "stall":
        state.closing.wait(60)
    while kind == "junk" and not state.closing.wait(PAUSE):
        handler.wfile.write(bytes(JUNK))
