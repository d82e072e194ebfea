"""A service with the answers that a test wants; it serves the real page."""

import contextlib
import email.parser
import email.policy
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[3] / "paddlevideo/serve/page"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass
class Answer:
    """One answer: a status with JSON and headers, or rows of a stream.

    Args:
        rows: of a stream; an event among them holds the rest until it is set.
        gate: if given, the answer begins when it is set.
        cut: end the connection after the rows, without the end of the stream; without rows,
            end it without an answer.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    rows: list[dict | threading.Event] | None = None
    gate: threading.Event | None = None
    cut: bool = False


@dataclass
class StandIn:
    """The service.

    Args:
        models: what GET /models answers.
        results: {file name: what POST /video-classification answers}; "" for any other file.
        timelines: the same for POST /timeline.
        plan: {path: answers that come first}.
        token: what clients have to send; "" for a service without one.
        asked: (path, fields, file name, size of the file) of each request with a form.
    """

    models: list[dict]
    results: dict[str, Any]
    timelines: dict[str, Answer]
    plan: dict[str, list[Answer]] = field(default_factory=dict)
    token: str = ""
    asked: list[tuple[str, dict[str, str], str, int]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, fields: dict[str, str], name: str) -> Answer:
        """The answer to a request, the planned ones first."""
        if self.plan.get(path):
            return self.plan[path].pop(0)
        if path == "/models":
            return Answer(body={"models": self.models, "default": self.models[0]["name"]})
        if path == "/timeline":
            return self.timelines.get(name, self.timelines[""])
        if path == "/video-classification":
            result = self.results.get(name, self.results[""])
            if isinstance(result, Answer):
                return result
            ok = {"logId": "1", "errorCode": 0, "errorMsg": "Success"}
            topk = int(fields.get("topk", 5))
            return Answer(
                body={**ok, "result": {**result, "categories": result["categories"][:topk]}}
            )
        return (
            Answer(body={"status": "ok"})
            if path == "/health"
            else Answer(404, {"detail": "Not Found"})
        )


def read_form(content_type: str, body: bytes) -> tuple[dict[str, str], str, int]:
    """(fields, file name, size of the file) of a multipart form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields, file, size = {}, "", 0
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is None:
            fields[name] = part.get_payload(decode=True).decode()
        else:
            file, size = part.get_filename(), len(part.get_payload(decode=True))
    return fields, file, size


@contextlib.contextmanager
def stand_in(**parts: Any) -> Iterator[StandIn]:
    """Run a service on a free port of the loopback."""
    state = StandIn(**parts)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            name = "index.html" if self.path == "/" else self.path.removeprefix("/page/")
            if self.path == "/" or self.path.startswith("/page/"):
                file = PAGE / name
                self._head(200, {"Content-Type": TYPES[file.suffix]}, file.read_bytes())
            else:
                self._reply({}, "")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fields, name, size = read_form(self.headers["Content-Type"], body)
            state.asked.append((self.path, fields, name, size))
            self._reply(fields, name)

        def _reply(self, fields, name):
            known = not state.token or self.headers.get("Authorization") == f"Bearer {state.token}"
            if not known and self.path != "/health":
                return self._json(401, {"errorCode": 401, "errorMsg": "a token is needed"}, {})
            answer = state.answer(self.path, fields, name)
            if answer.gate:
                answer.gate.wait(30)
            with contextlib.suppress(ConnectionError):  # the page cancelled the request
                if answer.cut and answer.rows is None:
                    self.close_connection = True
                    return
                if answer.rows is None:
                    return self._json(answer.status, answer.body, answer.headers)
                self._stream(answer)

        def _stream(self, answer):
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for row in answer.rows:
                if isinstance(row, threading.Event):
                    row.wait(30)
                    continue
                line = json.dumps(row).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            if answer.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def _json(self, status, body, headers):
            text = body if isinstance(body, str) else json.dumps(body)
            self._head(status, {"Content-Type": "application/json", **headers}, text.encode())

        def _head(self, status, headers, body):
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
