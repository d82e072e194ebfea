"""The service as a process: signals, kills, hostile files, clients that leave."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from paddlevideo.serve.folder import PREFIX
from paddlevideo.serve.settings import Limits
from tests.clips import write_clip
from tests.parts.serve.conftest import Client, form
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


@pytest.mark.slow
def test_sigterm_finishes_what_runs_and_a_kill_leaves_nothing(root, exported, tmp_path):
    path = exported.videos / "a.mp4"
    with started(root, exported, tmp_path) as (process, client):
        assert client.post(path).status == 200
        # A request whose upload is not complete when the signal comes.
        body, kind = form(path.read_bytes())
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        connection.putrequest("POST", "/video-classification")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.send(body[:1000])
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGTERM)  # also to the decoding processes
        time.sleep(0.3)
        connection.send(body[1000:])
        assert connection.getresponse().status == 200
        connection.close()
        assert process.wait(60) == 0
        with pytest.raises(OSError):
            client.get("/health")
    assert os.listdir(tmp_path / "uploads") == []

    with started(root, exported, tmp_path) as (process, client):
        workers = children(process)
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        connection.putrequest("POST", "/video-classification")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.send(body[:2000])
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        connection.close()
        [left] = os.listdir(tmp_path / "uploads")
        assert left.startswith(PREFIX)
        deadline = time.monotonic() + 20
        while any(map(is_alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert workers and not any(map(is_alive, workers))
    with started(root, exported, tmp_path) as (process, client):
        assert left not in os.listdir(tmp_path / "uploads")
        assert client.post(path).status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert os.listdir(tmp_path / "uploads") == []


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
        for _ in range(3):  # leave in the middle of the upload
            body, kind = form(data)
            connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
            connection.putrequest("POST", "/video-classification")
            connection.putheader("Content-Type", kind)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body[:500])
            connection.close()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)  # as a crash of the decoder
        assert client.post(path).status == 200
        assert client.service.workers.pids != pids
        long = write_clip(tmp_path / "long.mp4", 60, fps=10)
        assert b'"done": true' in client.post(long, "/timeline").body
        deadline = time.monotonic() + 20
        while client.service._active and time.monotonic() < deadline:
            time.sleep(0.01)
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
        deadline = time.monotonic() + 20
        while not jobs and time.monotonic() < deadline:
            time.sleep(0.01)
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        connection.request("POST", "/video-classification", body, {"Content-Type": kind})
        while client.service._active < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        connection.close()
        while client.service._active > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.service._active == 1 and len(client.service.folder.files()) == 1
        release.set()
        first.join(30)
        assert len(jobs) == 1
