"""Run the service with uvicorn: until a signal ends it, or in a thread."""

import contextlib
import errno
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
# A connection on which nothing happens is closed after one to two times as many seconds while the
# head of a request is incomplete, or while its client does not read a response.
IDLE_SECONDS = 30.0
START_SECONDS = 180.0
NOT_STARTED = "the service did not start; the lines above give the reason"


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
            http=protocol(),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=round(timeout),
        )
    )


def protocol() -> Any:
    """uvicorn's HTTP protocol, which also ends connections whose clients do nothing.

    uvicorn itself waits without end for the head of a request, and for a client that does not read.
    """
    from uvicorn.protocols.http import h11_impl

    head_is_awaited = h11_impl.h11.IDLE

    class Protocol(h11_impl.H11Protocol):
        def connection_made(self, transport: Any) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._next_look = self.loop.call_later(IDLE_SECONDS, self._look, None)

        def connection_lost(self, exc: Exception | None) -> None:
            self._next_look.cancel()
            super().connection_lost(exc)

        def _look(self, before: Any) -> None:
            """End the connection if it waits for its client in the same state as `before`."""
            unread = self.transport.get_write_buffer_size()
            served = self.cycle is not None and not self.cycle.response_complete
            waits = unread > 0 or (not served and self.conn.their_state is head_is_awaited)
            now = (self.cycle, unread) if waits else None
            if now is not None and now == before:
                self.transport.abort()
            else:
                self._next_look = self.loop.call_later(IDLE_SECONDS, self._look, now)

    return Protocol


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: the address or the port is not available.
    """
    try:
        if not 0 <= port < 1 << 16:
            raise OSError(errno.EINVAL, "a port is a number from 0 to 65535")
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
    """Serve until SIGTERM or Ctrl-C, which end it when the running requests are answered.

    Raises:
        OSError: the decoding processes do not start.
    """

    def ends(number: int, frame: Any) -> None:
        """uvicorn raises the signal once more at its end; by then all is done."""

    before = {number: signal.signal(number, ends) for number in (signal.SIGTERM, signal.SIGINT)}
    server = make_server(service)
    try:
        with contextlib.suppress(SystemExit):  # of newer versions, where the service does not start
            server.run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not server.started:
        raise OSError(NOT_STARTED)
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
                raise OSError(NOT_STARTED)
            yield opened.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
