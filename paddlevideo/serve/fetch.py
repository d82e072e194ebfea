"""Videos of URLs, only from hosts that are allowed, and never from addresses that are not public.

A host name is resolved once. The request goes to an address that was checked, and the address at
the other end of the open connection is checked again before anything is sent. So a name that
resolves to another address a moment later (DNS rebinding) gains nothing.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from paddlevideo.serve.errors import RequestError
from paddlevideo.serve.receive import readable_bytes

MAX_REDIRECTS = 3
CHUNK = 1 << 16
DEFAULT_PORTS = {"http": 80, "https": 443}
QUOTED = "!#$%&'()*+,/:;=?@[]~"  # stays as it is in an address; spaces and other letters do not

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def parse_host(text: str) -> tuple[str, int | None]:
    """(host, port) of `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`; the port is None without one.

    Raises:
        ValueError: it is none of these.
    """
    wrong = f"{text!r} is no host; expected HOST or HOST:PORT, as videos.example.org"
    if "/" in text or "@" in text or not text.strip():
        raise ValueError(wrong)
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wrong) from None
    if not host:
        raise ValueError(wrong)
    return normal(host), port


def normal(host: str) -> str:
    """A host name as it is compared: lower case, ASCII, without a dot at its end."""
    host = host.lower().rstrip(".")
    with contextlib.suppress(UnicodeError):
        host = host.encode("idna").decode("ascii")
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return host


def address_of(text: str) -> Address:
    """The address of a text; an IPv6 address that carries one of IPv4 becomes that one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if carried is None and address in NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is None and address.teredo:
            carried = address.teredo[1]
        return carried or address
    return address


@dataclass(frozen=True)
class Fetcher:
    """Fetches videos.

    Args:
        allowed: `HOST` or `HOST:PORT`; without a port, 80 for http and 443 for https. An address
            that is not public (private, loopback, link-local, ...) has to be named itself.
        max_bytes: of a file.
        timeout: of a fetch with its redirects (s).
    """

    allowed: Sequence[str]
    max_bytes: int
    timeout: float

    def __post_init__(self):
        for text in self.allowed:
            parse_host(text)

    def __call__(self, url: str, path: Path) -> None:
        """Write the file of a URL to `path`.

        Raises:
            RequestError: 403 where the host is not allowed; 422 where there is no such file; 413
                where it is too large; 504 where it takes too long.
        """
        deadline = time.monotonic() + self.timeout
        first = self._checked(url)
        for _ in range(MAX_REDIRECTS + 1):
            try:
                following = self._get(self._checked(url), path, deadline)
            except (OSError, http.client.HTTPException) as error:
                late = time.monotonic() >= deadline  # its connection was ended
                raise self._failed(TimeoutError() if late else error) from error
            if following is None:
                return
            url = urljoin(url, following)
            if normal(urlsplit(url).hostname or "") != normal(first.hostname or ""):
                raise RequestError(403, "video: the URL redirects to another host")
            if first.scheme == "https" and urlsplit(url).scheme != "https":
                raise RequestError(403, "video: the URL redirects from https to http")
        raise RequestError(422, f"video: the URL redirects more than {MAX_REDIRECTS} times")

    def _failed(self, error: Exception) -> RequestError:
        if isinstance(error, TimeoutError):
            return RequestError(504, f"video: the URL was not read within {self.timeout:g} s")
        reason = error.strerror if isinstance(error, OSError) else None
        return RequestError(422, f"video: the URL cannot be read: {reason or type(error).__name__}")

    def _checked(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
            host = normal(parts.hostname or "")
            url.encode()
        except ValueError:
            raise RequestError(422, "video: this URL is malformed") from None
        if not host or parts.scheme not in DEFAULT_PORTS or any(c <= " " for c in url):
            raise RequestError(422, "video: this URL is malformed; expected http or https")
        if parts.username is not None or parts.password is not None:
            raise RequestError(422, "video: a URL with a user name is not fetched")
        default = DEFAULT_PORTS[parts.scheme]
        if not any(
            host == name and port == (named or default)
            for name, named in map(parse_host, self.allowed)
        ):
            raise RequestError(
                403,
                f"video: this service does not fetch from {host}:{port}; send the file itself, or "
                "start the service with --allow-host",
            )
        return parts

    def _get(self, parts: SplitResult, path: Path, deadline: float) -> str | None:
        """Write the file; or return where the server redirects to."""
        connection = self._connection(parts, deadline)
        with contextlib.closing(connection), _ended_at(deadline, connection.sock):
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            target = quote(target, safe=QUOTED)
            connection.request("GET", target, headers={"Accept-Encoding": "identity"})
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                return response.getheader("Location") or ""
            if response.status != 200:
                raise RequestError(422, f"video: the URL answers with status {response.status}")
            self._write(response, path, deadline)
        return None

    def _write(self, response: http.client.HTTPResponse, path: Path, deadline: float) -> None:
        size, expected = 0, response.length
        if expected is not None and expected > self.max_bytes:
            raise self._too_large()
        with path.open("wb") as file:
            while True:
                chunk = response.read1(CHUNK)
                _left(deadline)
                if not chunk:
                    break
                size += len(chunk)
                if size > self.max_bytes:
                    raise self._too_large()
                file.write(chunk)
        if expected is not None and size < expected:
            raise RequestError(422, f"video: the URL broke off after {size} of {expected} bytes")

    def _too_large(self) -> RequestError:
        limit = readable_bytes(self.max_bytes)
        return RequestError(413, f"video: the URL has more than {limit}")

    def _connection(self, parts: SplitResult, deadline: float) -> http.client.HTTPConnection:
        """An open connection to a checked address of the host."""
        host = parts.hostname or ""
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        opened = self._connected(host, port, deadline)
        connection = http.client.HTTPConnection(host, port, timeout=_left(deadline))
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=_left(deadline))
            opened = ssl.create_default_context().wrap_socket(opened, server_hostname=host)
        connection.sock = opened
        return connection

    def _connected(self, host: str, port: int, deadline: float) -> socket.socket:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise RequestError(422, f"video: there is no host {host}") from error
        addresses = [str(entry[4][0]) for entry in found]
        for text in addresses:
            self._check_address(text)
        last: OSError = OSError(f"{host} has no address")
        for text in addresses:
            try:
                opened = socket.create_connection((text, port), timeout=_left(deadline))
            except OSError as error:
                last = error
                continue
            try:
                self._check_address(str(opened.getpeername()[0]))
            except BaseException:
                opened.close()
                raise
            return opened
        raise last

    def _check_address(self, text: str) -> None:
        """Refuse an address that is not public, unless it is named itself."""
        address = address_of(text)
        named = {name for name, _ in map(parse_host, self.allowed)}
        public = address.is_global and not address.is_multicast
        if not public and str(address) not in named:
            raise RequestError(
                403,
                "video: the host of the URL has an address that is not public, which this service "
                "does not fetch from unless --allow-host names the address itself",
            )


@contextlib.contextmanager
def _ended_at(deadline: float, connection: socket.socket) -> Iterator[None]:
    """Shut a connection down at the deadline, so that reading ends.

    The timeout of a socket holds for each of its reads; a server may send a byte at a time.
    """

    def end() -> None:
        with contextlib.suppress(OSError):  # it has ended
            # Not SSLSocket.shutdown, which changes the object that another thread reads from.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(_left(deadline), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
