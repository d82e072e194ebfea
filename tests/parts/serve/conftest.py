"""A service on a free port of the loopback, with the small exported model, and its client."""

import contextlib
import http.client
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from paddlevideo.predict.predictor import Predictor
from paddlevideo.serve import service as service_module
from paddlevideo.serve.batches import Batcher
from paddlevideo.serve.decoder import refusal
from paddlevideo.serve.models import ServedModel
from paddlevideo.serve.run import running
from paddlevideo.serve.service import Service
from paddlevideo.serve.settings import Settings
from paddlevideo.serve.workers import FileRefused, WorkerFailed


class LocalWorkers:
    """Does the jobs of decoding processes in the calling thread."""

    def __init__(self, setup, count):
        self._work, self.num_replaced, self.pids = setup.work, 0, []

    def start(self):
        pass

    def close(self):
        pass

    @contextlib.contextmanager
    def lend(self, timeout):
        yield self

    def replies(self, job, timeout):
        try:
            yield from self._work(job)
        except Exception as error:
            reason = refusal(error)
            raise (FileRefused(reason) if reason else WorkerFailed(repr(error))) from error


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Of an error in PaddleX's form."""
        assert self.json.keys() == {"logId", "errorCode", "errorMsg"}
        assert self.json["errorCode"] == self.status
        return self.json["errorMsg"]

    @property
    def result(self) -> Any:
        assert self.status == 200, self.body[:500]
        assert self.json.keys() == {"logId", "errorCode", "errorMsg", "result"}
        assert (self.json["errorCode"], self.json["errorMsg"]) == (0, "Success")
        return self.json["result"]


class Client:
    """Sends requests to a service."""

    def __init__(self, port: int, service: Service):
        self.port, self.service = port, service

    def ask(self, method: str, path: str, body=None, headers=None) -> Answer:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        ) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, content)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post_json(self, content: Any, path: str = "/video-classification") -> Answer:
        body = content if isinstance(content, (bytes, str)) else json.dumps(content)
        return self.ask("POST", path, body, {"Content-Type": "application/json"})

    def post(
        self,
        file: bytes | Path | None,
        path: str = "/video-classification",
        name: str = "clip.mp4",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        body, kind = form(file, name, **fields)
        return self.ask("POST", path, body, {"Content-Type": kind, **(headers or {})})


def form(file: bytes | Path | None, name: str = "clip.mp4", **fields: Any) -> tuple[bytes, str]:
    """(body, content type) of a multipart form, as browsers and curl send it."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    if file is not None:
        data = file.read_bytes() if isinstance(file, Path) else file
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Type: video/mp4\r\n\r\n" + data + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


@pytest.fixture(scope="session")
def tiny(exported) -> Predictor:
    """The small exported model, opened once."""
    return Predictor(exported.folder, backend="paddle", device="cpu", threads=1)


@pytest.fixture
def serve(tiny, tmp_path, monkeypatch):
    """`with serve(settings fields) as client`; decodes in this process unless `processes`."""
    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(package)

    @contextlib.contextmanager
    def start(
        processes: bool = False, models: Mapping[str, Predictor] | None = None, **fields: Any
    ) -> Iterator[Client]:
        if not processes:
            monkeypatch.setattr(service_module, "Workers", LocalWorkers)
        fields = {"workers": 2, "folder": tmp_path / "uploads", **fields}
        settings = Settings(**fields)
        served = {
            name: ServedModel(name, predictor, Batcher(predictor, settings.batch_wait), 3)
            for name, predictor in (models or {"tiny": tiny}).items()
        }
        service = Service(served, settings)
        with running(service) as port:
            yield Client(port, service)
            assert service.folder.files() == []
        assert not service.folder.path.exists()

    return start
