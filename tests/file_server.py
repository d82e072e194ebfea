"""A file server on the loopback that can be slow, break off, or answer with errors."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What the server has, how it behaves, and what it was asked for.

    Args:
        files: {path: content}.
        ranges: whether it sends parts of files.
        heads: whether it answers HEAD.
        etag: of all files; None for a server without ETag.
        modified: Last-Modified of all files.
        plan: what the next answers are instead, first one first: a number is an HTTP status,
            ("cut", n) n bytes of the body, ("short", n) n bytes and no more in the header either,
            ("to", url) a redirect, ("slow", seconds) a pause before each piece of 1000 bytes,
            ("stall", seconds) a pause after half of the body, ("chunked",) no length,
            ("cut chunks",) no length and no end, ("other part",) a part that begins elsewhere,
            "" the usual answer.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    heads: bool = True
    etag: str | None = '"v1"'
    modified: str | None = None
    plan: list = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    @property
    def parts(self) -> list[str | None]:
        """The Range header of each request."""
        return [headers.get("Range") for _, headers in self.asked]


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.close_connection = True
            state.asked.append((self.path, dict(self.headers)))
            with contextlib.suppress(ConnectionError):  # the client ended first
                answer(self, state, state.plan.pop(0) if state.plan else "")

        def do_HEAD(self):
            self.close_connection = True
            body = state.files.get(self.path)
            if body is None or not state.heads:
                head(self, 404 if state.heads else 501, {"Content-Length": "0"})
                return
            names = {"ETag": state.etag, "Last-Modified": state.modified}
            head(self, 200, {k: v for k, v in names.items() if v} | length_of(body))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, state: Server, step) -> None:
    body = state.files.get(handler.path)
    if body is None or isinstance(step, int):
        status = step if isinstance(step, int) else 404
        head(handler, status, {"Content-Length": "5"})
        handler.wfile.write(b"error")
        return
    kind, *values = step or ("",)
    if kind == "to":
        head(handler, 302, {"Location": values[0], "Content-Length": "0"})
        return
    headers = {"ETag": state.etag, "Last-Modified": state.modified}
    headers = {name: value for name, value in headers.items() if value}
    status, (start, end) = 200, wanted_part(handler, state, len(body))
    if start or end < len(body):
        if start >= len(body):
            head(handler, 416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        shift = 1 if kind == "other part" else 0
        headers["Content-Range"] = f"bytes {start - shift}-{end - 1}/{len(body)}"
        status, body = 206, body[start - shift : end]
    if kind == "short":
        body = body[: values[0]]
    if kind in ("chunked", "cut chunks"):
        head(handler, status, {**headers, "Transfer-Encoding": "chunked"})
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        handler.wfile.write(b"0\r\n\r\n" if kind == "chunked" else b"ff\r\n")
        return
    head(handler, status, {**headers, "Content-Length": str(len(body))})
    send(handler, body, kind, values)


def send(handler: BaseHTTPRequestHandler, body: bytes, kind: str, values: list) -> None:
    if kind == "cut":
        handler.wfile.write(body[: values[0]])
    elif kind == "slow":
        for start in range(0, len(body), 1000):
            time.sleep(values[0])
            handler.wfile.write(body[start : start + 1000])
    elif kind == "stall":
        handler.wfile.write(body[: len(body) // 2])
        time.sleep(values[0])
    else:
        handler.wfile.write(body)


def length_of(body: bytes) -> dict[str, str]:
    return {"Content-Length": str(len(body))}


def wanted_part(handler: BaseHTTPRequestHandler, state: Server, size: int) -> tuple[int, int]:
    """First byte and end of the part that is asked for; the whole file otherwise."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range") in (None, state.etag, state.modified)
    if not (match and state.ranges and same):
        return 0, size
    return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size


def head(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
