"""The benchmark of the service: its throughput next to predict, and what hostile requests cost.

The service is the real command in a process of its own; the clients are threads of this process.
"""

import argparse
import contextlib
import http.client
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.predict.predictor import Predictor
from paddlevideo.serve.folder import LOCK
from paddlevideo.serve.hostile import hostile_request, multipart

START_SECONDS = 300.0
TIMEOUT = 300.0
END_SECONDS = 60.0
PATH = "/video-classification"
SERVES = re.compile(r"http://127\.0\.0\.1:(\d+) serves")
REPLACED = re.compile(r"^paddlevideo_replaced_processes (\S+)", re.M)


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py serve.

    Raises:
        ValueError: there is no model.
        OSError: the service does not start.
    """
    if args.model is None:
        raise ValueError("the benchmark of the service needs an exported model: --model FOLDER")
    predictor = Predictor(args.model, backend=args.backend, threads=args.threads)
    records = records_of(args.videos, folder, args.clips, tuple(args.size), args.frames, args.gop)
    paths = list(itertools.islice(itertools.cycle(r.path for r in records), args.requests))
    with running_service(args.model, folder, args.backend, args.threads) as service:
        if args.hostile:
            yield hostile(service, paths, args.clients)
            return
        yield throughput(service, predictor, paths, args.clients, args.rounds)


@dataclass
class Service:
    """The process of a service.

    Args:
        port: of the loopback.
        uploads: folder in which it creates its own.
    """

    process: subprocess.Popen
    port: int
    uploads: Path

    def files_left(self) -> int:
        """Uploads that are on disk now."""
        return sum(path.is_file() and path.name != LOCK for path in self.uploads.rglob("*"))

    def memory(self) -> tuple[int, int]:
        """Memory (RSS, MB) of the service, and of its decoding processes together."""
        return resident(self.process.pid), sum(map(resident, children(self.process.pid)))

    def replaced(self) -> int:
        """Decoding processes that were replaced so far."""
        status, body = send(self.port, "GET", "/metrics", b"", {})
        found = REPLACED.search(body.decode()) if status == 200 else None
        return int(float(found[1])) if found else -1


@contextlib.contextmanager
def running_service(
    model: str | Path, folder: Path, backend: str, threads: int | None
) -> Iterator[Service]:
    """Start `paddlevideo serve` on a free port for a block.

    Raises:
        OSError: it does not start.
    """
    uploads, log = folder / "uploads", folder / "service.log"
    command = [sys.executable, "-m", "paddlevideo", "serve", "--model", str(model), "--port", "0"]
    command += ["--temp_dir", str(uploads), "--backend", backend, "--queue", "1000"]
    command += ["--cpu_threads", str(threads)] if threads else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PADDLEVIDEO_TOKEN", None)
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process,
    ):
        try:
            yield Service(process, _port(process, log), uploads)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _port(process: subprocess.Popen, log: Path) -> int:
    """The port of a service, once it is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = SERVES.search(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            with contextlib.suppress(OSError):
                if send(int(found[1]), "GET", "/ready", b"", {})[0] == 200:
                    return int(found[1])
        time.sleep(0.1)
    text = log.read_text(encoding="utf-8", errors="replace")
    raise OSError(f"the service did not start; its last lines:\n{text[-2000:]}")


def send(
    port: int, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    """(status, body) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


@dataclass
class Clients:
    """Threads that send requests, each the next one when it has its response.

    Attributes:
        codes: responses by status; 0 for a connection that broke off.
        seconds: of each request with status 200.
    """

    port: int
    count: int
    codes: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, requests: Sequence[tuple[str, bytes, dict[str, str]]]) -> None:
        """Send all requests, and wait for the responses."""
        waiting = iter(requests)

        def work() -> None:
            while True:
                with self._lock:
                    request = next(waiting, None)
                if request is None:
                    return
                self._send(*request)

        threads = [threading.Thread(target=work) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        start, status = time.perf_counter(), 0
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _ = send(self.port, "POST", path, body, headers)
        with self._lock:
            self.codes[status] += 1
            if status == 200:
                self.seconds.append(time.perf_counter() - start)


def throughput(
    service: Service, predictor: Predictor, paths: list[str], num_clients: int, rounds: int
) -> Group:
    """The service with several clients, and predict on the same files, in turn."""
    requests = [(PATH, *multipart(Path(path).read_bytes(), path)) for path in paths]
    clients = Clients(service.port, num_clients)
    clients.run(requests[:num_clients])
    before = service.memory()
    clients.codes.clear()
    clients.seconds.clear()

    def note(median: float) -> str:
        return f"{latency(clients.seconds)}; {codes_text(clients.codes)}; " + state(service, before)

    variants = [
        Variant("predict", timed(lambda: list(predictor.predict(paths)))),
        Variant(f"service, {num_clients} clients", timed(lambda: clients.run(requests)), note),
    ]
    title = f"the service next to predict, {predictor.backend.name}"
    return measure(title, "video", len(paths), variants, rounds)


def hostile(service: Service, paths: list[str], num_clients: int) -> Group:
    """A mix of good, broken and hostile requests: a third of each kind, in a fixed order.

    Raises:
        OSError: the service has ended, or answers no more.
    """
    rng = np.random.default_rng(0)
    requests = []
    for number, path in enumerate(paths):
        data = Path(path).read_bytes()
        request = multipart(data, path) if number % 3 == 0 else hostile_request(data, number, rng)
        requests.append((PATH, *request))
    clients = Clients(service.port, num_clients)
    good = requests[0::3]
    clients.run(good[:num_clients])
    before = service.memory()
    clients.codes.clear()
    clients.seconds.clear()
    start = time.perf_counter()
    clients.run(requests)
    seconds = time.perf_counter() - start
    codes = Counter(clients.codes)
    clients.run(good[:num_clients])  # it still answers
    if service.process.poll() is not None or clients.codes[200] <= codes[200]:
        raise OSError(f"the service does not answer any more after {codes_text(codes)}")
    note = f"{codes_text(codes)}; {service.replaced()} processes replaced; "
    variant = Variant("mixed", lambda: seconds, lambda _: note + state(service, before))
    title = f"good, broken and hostile requests, {num_clients} clients"
    return measure(title, "request", len(requests), [variant], 1)


def latency(seconds: Sequence[float]) -> str:
    """The median and the 95th percentile of requests as text."""
    if not seconds:
        return "no request succeeded"
    half, most = np.percentile(seconds, (50, 95)) * 1000
    return f"p50 {half:.0f} ms, p95 {most:.0f} ms"


def codes_text(codes: Counter) -> str:
    """How often each status came."""
    return ", ".join(f"{count} x {status}" for status, count in sorted(codes.items()))


def state(service: Service, before: tuple[int, int]) -> str:
    """The memory before and after, and files that are left."""
    after = service.memory()
    pairs = [f"{b} -> {a} MB" for b, a in zip(before, after, strict=True)]
    deadline = time.monotonic() + 5
    while service.files_left() and time.monotonic() < deadline:
        time.sleep(0.05)  # a request whose client is gone may end now
    return f"memory {pairs[0]}, decoding processes {pairs[1]}; {service.files_left()} files left"


def resident(pid: int) -> int:
    """Memory (RSS) of a process, MB; 0 where it is unknown."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)
        return int(found[1]) >> 10 if found else 0
    return 0


def children(pid: int) -> list[int]:
    """The processes that a process has started; none where that is unknown."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found
