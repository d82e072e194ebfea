"""Run the service with uvicorn: until a signal ends it, or in a thread."""

import contextlib
import importlib.util
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from paddlevideo.log import logger
from paddlevideo.serve.app import make_app
from paddlevideo.serve.service import Service

PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
GRACE = 5.0  # seconds that the end waits longer than the longest request
START_SECONDS = 180.0


def require_packages() -> None:
    """Check that the packages of the extra `serve` are there.

    Raises:
        ModuleNotFoundError: one is missing.
    """
    missing = [name for module, name in PACKAGES.items() if not importlib.util.find_spec(module)]
    if missing:
        raise ModuleNotFoundError(
            f"the service needs {', '.join(missing)}: pip install 'paddlevideo[serve]', or "
            f"pip install {' '.join(missing)}"
        )


def make_server(service: Service) -> Any:
    """A server for an open socket."""
    import uvicorn

    timeout = service.settings.limits.timeout + GRACE
    return uvicorn.Server(
        uvicorn.Config(
            make_app(service),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=round(timeout),
        )
    )


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: the address or the port is not available.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(2048)
        except BaseException:
            opened.close()
            raise
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            error.errno, f"cannot listen on {host}:{port}: {reason}; use --port or --host"
        ) from error
    return opened


def serve(service: Service, opened: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C, which end it when the running requests are answered."""

    def ends(number: int, frame: Any) -> None:
        """uvicorn raises the signal once more at its end; by then all is done."""

    before = {number: signal.signal(number, ends) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        make_server(service).run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        logger.info("the service has ended")


@contextlib.contextmanager
def running(service: Service, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve in a thread on a free port for a block; yields the port.

    Raises:
        OSError: it did not start.
    """
    with open_socket(host, 0) as opened:
        server = make_server(service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + START_SECONDS
            while not server.started and thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            if not server.started:
                raise OSError("the service did not start; see its log")
            yield opened.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
