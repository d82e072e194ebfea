"""The service as a process: signals, kills, hostile files, clients that leave."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from paddlevideo.serve import run as run_module
from paddlevideo.serve import service as service_module
from paddlevideo.serve.batches import Batcher
from paddlevideo.serve.folder import PREFIX
from paddlevideo.serve.models import ServedModel
from paddlevideo.serve.run import open_socket
from paddlevideo.serve.service import Service
from paddlevideo.serve.settings import Limits, Settings
from paddlevideo.serve.workers import WorkerFailed
from tests.clips import write_clip
from tests.parts.serve.conftest import Client, LocalWorkers, form
from tests.process_state import is_alive

SECONDS = 120


@contextlib.contextmanager
def started(root, exported, tmp_path, *flags):
    """(process, client) of the real command, once it is ready."""
    pytest.importorskip("fastapi")
    command = [sys.executable, str(root / "tools/serve.py"), "--model", f"tiny={exported.folder}"]
    command += ["--port", "0", "--temp_dir", str(tmp_path / "uploads"), "--decode_workers", "1"]
    command += ["--backend", "paddle", "--cpu_threads", "1", *flags]
    log = (tmp_path / "log.txt").open("ab+")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        port, deadline = 0, time.monotonic() + SECONDS
        while not port and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
            text = (tmp_path / "log.txt").read_text().rpartition("--begin--")[2]
            if " serves tiny" in text:
                port = int(text.partition("http://127.0.0.1:")[2].partition(" ")[0])
        assert port, (tmp_path / "log.txt").read_text()
        client = Client(port, None)
        while time.monotonic() < deadline and not ready(client):
            time.sleep(0.05)
        yield process, client
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.write(b"--begin--\n")
        log.close()


def wait_for(condition) -> None:
    """Wait until a function returns something true, or 20 s."""
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def ready(client) -> bool:
    with contextlib.suppress(OSError):
        return client.get("/ready").status == 200
    return False


def children(process) -> list[int]:
    task = f"/proc/{process.pid}/task"
    found = []
    for thread in os.listdir(task):
        with contextlib.suppress(OSError), open(f"{task}/{thread}/children") as file:
            found += map(int, file.read().split())
    return found


@contextlib.contextmanager
def begun_upload(client, path, count):
    """(connection, the bytes that are left) of a request whose first `count` bytes are sent."""
    body, kind = form(path)
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/video-classification")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.send(body[:count])
        yield connection, body[count:]


def connections_of(port) -> list[str]:
    """The connections of this process to clients of a port, as the system lists them."""
    with open("/proc/self/net/tcp") as file:
        rows = [line.split() for line in file][1:]
    mine = f"0100007F:{port:04X}"
    return [row[2] for row in rows if row[1] == mine and row[3] == "01"]  # established


@pytest.mark.slow
def test_a_kill_leaves_nothing_and_sigterm_finishes_what_runs(root, exported, tmp_path):
    path, uploads = exported.videos / "a.mp4", tmp_path / "uploads"
    with started(root, exported, tmp_path) as (process, client):
        assert client.post(path).status == 200
        workers = children(process)
        with begun_upload(client, path, 2000):
            wait_for(lambda: any(uploads.glob("*/*upload*")))
            process.send_signal(signal.SIGKILL)
            process.wait()
        [left] = os.listdir(uploads)
        assert left.startswith(PREFIX)
        wait_for(lambda: not any(map(is_alive, workers)))
        assert workers and not any(map(is_alive, workers))
    with started(root, exported, tmp_path) as (process, client):
        assert left not in os.listdir(uploads)
        assert client.post(path).status == 200
        # A request whose upload is not complete when the signal comes.
        with begun_upload(client, path, 1000) as (connection, rest):
            wait_for(lambda: any(uploads.glob("*/*upload*")))
            os.killpg(process.pid, signal.SIGTERM)  # also to the decoding processes
            time.sleep(0.3)
            connection.send(rest)
            assert connection.getresponse().status == 200
        assert process.wait(60) == 0
        with pytest.raises(OSError):
            client.get("/health")
    assert os.listdir(uploads) == []


def test_connections_that_do_nothing_are_closed(serve, exported, monkeypatch):
    """Each costs a file descriptor; a client may open thousands, and never complete a request."""
    monkeypatch.setattr(run_module, "IDLE_SECONDS", 0.1)
    heads = (b"", b"G", b"POST /video-classification HTTP/1.1\r\nHost: a\r\n")
    with serve() as client, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", client.port)
        for head in heads:
            connection = stack.enter_context(socket.create_connection(address, 60))
            connection.sendall(head)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
        # One that does not read what it asked for.
        connection = stack.enter_context(socket.create_connection(address, 60))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        monkeypatch.setattr(type(client.service.counters), "text", lambda self: bytes(64 << 20))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: not connections_of(client.port))
        assert not connections_of(client.port)


def test_a_slow_upload_is_no_idle_connection(serve, exported, monkeypatch):
    monkeypatch.setattr(run_module, "IDLE_SECONDS", 2.0)
    path = exported.videos / "a.mp4"
    with serve() as client, begun_upload(client, path, 500) as (connection, rest):
        wait_for(lambda: client.service._active == 1)
        monkeypatch.setattr(run_module, "IDLE_SECONDS", 0.05)  # after the first look at it
        time.sleep(2.3)
        connection.send(rest)
        assert connection.getresponse().status == 200


def test_decoding_processes_that_do_not_start(serve, tiny, tmp_path, monkeypatch):
    def fail(self):
        raise WorkerFailed("a decoding process cannot be started")

    monkeypatch.setattr(LocalWorkers, "start", fail)
    monkeypatch.setattr(service_module, "Workers", LocalWorkers)
    models = {"tiny": ServedModel("tiny", tiny, Batcher(tiny, 0.0), 3)}
    service = Service(models, Settings(workers=1, folder=tmp_path))
    before = signal.getsignal(signal.SIGTERM)
    with open_socket("127.0.0.1", 0) as opened, pytest.raises(OSError, match="did not start"):
        run_module.serve(service, opened)
    assert signal.getsignal(signal.SIGTERM) is before and list(tmp_path.iterdir()) == []


def test_with_processes(serve, exported, tmp_path):
    """Everything at once: good, broken and hostile files, and clients that leave."""
    path = exported.videos / "a.mp4"
    data = path.read_bytes()
    with serve(processes=True, workers=1, limits=Limits(timeout=60, memory=512)) as client:
        assert client.post(path, details=1, frames=1).result["frames"]
        pids = client.service.workers.pids
        assert len(pids) == 1
        for content in (b"", b"x", data[:2000], b"ffconcat version 1.0\nfile 0-upload.mp4\n"):
            assert client.post(content).status == 422
        for _ in range(3):
            with begun_upload(client, path, 500):
                pass  # and leave in the middle of it
        for pid in pids:
            os.kill(pid, signal.SIGKILL)  # as a crash of the decoder
        assert client.post(path).status == 200
        assert client.service.workers.pids != pids
        assert b"paddlevideo_replaced_processes 1.0" in client.get("/metrics").body
        long = write_clip(tmp_path / "long.mp4", 60, fps=10)
        assert b'"done": true' in client.post(long, "/timeline").body
        wait_for(lambda: not client.service._active)
        assert client.service._active == 0


def test_a_client_that_leaves_before_its_turn_costs_no_decoding(serve, exported):
    body, kind = form(exported.videos / "a.mp4")
    release, jobs = threading.Event(), []
    with serve(workers=1) as client:
        real = client.service.workers.replies

        def slow(job, timeout):
            jobs.append(job)
            release.wait(30)
            return real(job, timeout)

        client.service.workers.replies = slow
        first = threading.Thread(target=client.post, args=(exported.videos / "a.mp4",))
        first.start()
        wait_for(lambda: jobs)
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        connection.request("POST", "/video-classification", body, {"Content-Type": kind})
        wait_for(lambda: client.service._active == 2)
        connection.close()
        wait_for(lambda: client.service._active == 1)
        assert client.service._active == 1 and len(client.service.folder.files()) == 1
        release.set()
        first.join(30)
        assert len(jobs) == 1
