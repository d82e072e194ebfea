"""URLs: only from hosts that are named, and never from addresses that are not public."""

import contextlib
import socket
import threading

import pytest

from paddlevideo.serve import fetch as fetch_module
from paddlevideo.serve.errors import RequestError
from paddlevideo.serve.fetch import Fetcher, address_of, parse_host
from tests.file_server import serve as serve_files

PRIVATE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::",
    "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "2002:7f00:1::", "2002:a00:1::", "::ffff:169.254.169.254",
]  # fmt: skip


def fetcher(*allowed, max_bytes=1000, timeout=20.0):
    return Fetcher(allowed, max_bytes, timeout)


def refused(call, url, path) -> RequestError:
    with pytest.raises(RequestError) as error:
        call(url, path)
    return error.value


@pytest.fixture
def server():
    with serve_files() as state:
        state.files = {"/a.mp4": b"x" * 500, "/long": b"y" * 5000}
        yield state


def test_nothing_is_allowed_by_default(tmp_path, server):
    error = refused(fetcher(), f"{server.url}/a.mp4", tmp_path / "a")
    assert error.status == 403 and "does not fetch from 127.0.0.1:" in error.reason
    assert "--allow-host" in error.reason and server.asked == []


def test_a_named_address_and_port(tmp_path, server):
    host = server.url.removeprefix("http://")
    fetcher(host)(f"{server.url}/a.mp4", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"x" * 500
    # Another port of the same host is another service.
    other = refused(fetcher("127.0.0.1:1"), f"{server.url}/a.mp4", tmp_path / "b")
    assert other.status == 403
    other = refused(fetcher("127.0.0.1"), f"{server.url}/a.mp4", tmp_path / "b")
    assert other.status == 403


def resolve_to(monkeypatch, *answers):
    """Each look-up of a name gets the next answer, the last one again and again."""
    asked, left = [], list(answers)
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host not in ("films.example", "other.example"):
            return real(host, port, *args, **kwargs)
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (text, port)) for text in addresses]

    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_with_an_address_that_is_not_public(tmp_path, monkeypatch, address):
    resolve_to(monkeypatch, [address])
    monkeypatch.setattr(fetch_module.socket, "create_connection", None)  # must not be called
    error = refused(fetcher("films.example"), "http://films.example/a", tmp_path / "a")
    assert error.status == 403 and "not public" in error.reason
    assert address not in error.reason  # a client learns nothing about the network


def test_one_private_address_among_public_ones(tmp_path, monkeypatch):
    resolve_to(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    error = refused(fetcher("films.example"), "http://films.example/a", tmp_path / "a")
    assert error.status == 403


def test_a_private_address_that_is_named_itself(tmp_path, monkeypatch, server):
    port = int(server.url.rpartition(":")[2])
    resolve_to(monkeypatch, ["127.0.0.1"])
    allowed = (f"films.example:{port}", "127.0.0.1")
    fetcher(*allowed)(f"http://films.example:{port}/a.mp4", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"x" * 500


def test_dns_rebinding(tmp_path, monkeypatch, server):
    """A name that is public when it is checked, and this machine when it is connected to."""
    port = int(server.url.rpartition(":")[2])
    asked = resolve_to(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    connected = []
    real = socket.create_connection

    def connect(address, timeout):
        connected.append(address[0])
        return real(("127.0.0.1", port), timeout)  # as if the network led to this machine

    monkeypatch.setattr(fetch_module.socket, "create_connection", connect)
    error = refused(
        fetcher(f"films.example:{port}"), f"http://films.example:{port}/a.mp4", tmp_path / "a"
    )
    assert error.status == 403 and "not public" in error.reason
    assert asked == ["films.example"]  # one look-up, and the address of it is connected to
    assert connected == ["93.184.216.34"] and server.asked == []


def test_redirects(tmp_path, monkeypatch, server):
    host = server.url.removeprefix("http://")
    server.plan = [("to", "/a.mp4")]
    fetcher(host)(f"{server.url}/long", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"x" * 500
    for target in (
        "http://other.example/a",
        f"http://localhost:{host.partition(':')[2]}/a.mp4",
        "//other.example/a",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
    ):
        server.plan = [("to", target)]
        error = refused(fetcher(host, "other.example"), f"{server.url}/long", tmp_path / "b")
        assert error.status in (403, 422), target
    server.plan = [("to", "http://127.0.0.1:1/")]  # another port
    assert refused(fetcher(host), f"{server.url}/long", tmp_path / "b").status == 403
    server.plan = [("to", "/long")] * 10
    error = refused(fetcher(host), f"{server.url}/long", tmp_path / "b")
    assert error.status == 422 and "redirects more than 3 times" in error.reason


def test_files_that_are_missing_too_large_or_broken_off(tmp_path, server):
    host = server.url.removeprefix("http://")
    error = refused(fetcher(host), f"{server.url}/none", tmp_path / "a")
    assert error.status == 422 and "status 404" in error.reason
    error = refused(fetcher(host), f"{server.url}/long", tmp_path / "a")
    assert error.status == 413 and "1000 bytes" in error.reason
    server.plan = [("chunked",)]
    assert refused(fetcher(host), f"{server.url}/long", tmp_path / "a").status == 413
    for plan in (("cut", 100), ("cut chunks",)):
        server.plan = [plan]
        assert refused(fetcher(host), f"{server.url}/a.mp4", tmp_path / "a").status == 422, plan
    server.plan = [500]
    assert refused(fetcher(host), f"{server.url}/a.mp4", tmp_path / "a").status == 422


def test_a_server_that_stalls(tmp_path, server):
    host = server.url.removeprefix("http://")
    server.plan = [("stall", 1.0)]
    error = refused(fetcher(host, timeout=0.2), f"{server.url}/a.mp4", tmp_path / "a")
    assert error.status == 504


@pytest.mark.parametrize(
    "pieces",
    [
        [b"H"] * 1000,
        [b"HTTP/1.1 200 OK\r\n", *[b"A"] * 1000],
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000,
        [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *[b"A"] * 900],
    ],
)
def test_a_server_that_sends_a_little_at_a_time(tmp_path, pieces):
    """Each read ends in time, and all of them together have to."""
    ended = threading.Event()

    def drip(server):
        with server.accept()[0] as connection, contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
                if ended.wait(0.02):
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        error = refused(fetcher(host, timeout=0.3), f"http://{host}/a.mp4", tmp_path / "a")
        ended.set()
        thread.join(30)
    assert error.status == 504 and "not read within 0.3 s" in error.reason


def test_a_body_that_comes_slowly(tmp_path, server):
    host = server.url.removeprefix("http://")
    server.plan = [("slow", 0.1)]
    error = refused(
        fetcher(host, max_bytes=10_000, timeout=0.25), f"{server.url}/long", tmp_path / "a"
    )
    assert error.status == 504


def test_a_length_above_the_limit_is_refused_before_the_body(tmp_path, server):
    host = server.url.removeprefix("http://")
    error = refused(fetcher(host), f"{server.url}/long", tmp_path / "a")
    assert error.status == 413 and not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/ü 影.mp4".replace(" ", ""), "/%C3%BC%E5%BD%B1.mp4"),
        ("/a%20b.mp4?x=é&y=[1]", "/a%20b.mp4?x=%C3%A9&y=[1]"),
        ("/a|b^{c}.mp4", "/a%7Cb%5E%7Bc%7D.mp4"),
        ("/a/~b;c=(1)@2,'3'!$*+.mp4", "/a/~b;c=(1)@2,'3'!$*+.mp4"),
    ],
)
def test_letters_of_any_script_in_a_url(tmp_path, server, path, asked):
    server.files[asked] = b"x"
    fetcher(server.url.removeprefix("http://"))(server.url + path, tmp_path / "a")
    assert server.paths == [asked] and (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///a",
        "http://[::1",
        "http://a:99999/",
        "http://a:b/",
        "http://user:secret@films.example/",
        "http://films.example/a b",
        "http://films.example/a\r\nHost: other",
        "http://films.example/\ud800",
        "http://films.example/\x7f",
    ],
)
def test_malformed_urls(tmp_path, url):
    assert refused(fetcher("films.example", "a"), url, tmp_path / "a").status in (403, 422)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("a.example", ("a.example", None)),
        ("A.Example.:8080", ("a.example", 8080)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("::1", ("::1", None)),
        ("[::1]:8080", ("::1", 8080)),
        ("0:0:0:0:0:0:0:1", ("::1", None)),
        ("bücher.example", ("xn--bcher-kva.example", None)),
    ],
)
def test_hosts(text, host):
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["", " ", "http://a", "a/b", "user@a", "a:b", "a:99999", ":80"])
def test_wrong_hosts(text):
    with pytest.raises(ValueError, match="expected HOST or HOST:PORT"):
        parse_host(text)


def test_addresses_inside_addresses():
    assert str(address_of("::ffff:10.0.0.1")) == "10.0.0.1"
    assert str(address_of("fe80::1%eth0")) == "fe80::1"
    assert str(address_of("8.8.8.8")) == "8.8.8.8"
