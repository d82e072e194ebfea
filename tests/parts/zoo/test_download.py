"""Downloads from a server on the loopback: whole, in parts, and what may fail."""

import errno
import io
import socket
import sys

import pytest

from paddlevideo.zoo import download as module
from paddlevideo.zoo.download import DownloadError, Part, download, finish, shown

BODY = bytes(range(256)) * 40
PATH = "/a/m.pdparams"


@pytest.fixture
def fetch(server, tmp_path):
    """`fetch(path)`: download from the server; returns (the content, whether it was continued)."""
    server.files[PATH] = BODY

    def run(path=PATH):
        file, resumed = download(f"{server.url}{path}", tmp_path / "m.pdparams")
        return file.read_bytes(), resumed

    return run


def test_a_file_is_downloaded_and_renamed(fetch, server, tmp_path):
    assert fetch() == (BODY, False)
    target = tmp_path / "m.pdparams"
    assert not target.exists() and server.parts == [None]
    finish(Part(target).file, target)
    assert [path.name for path in tmp_path.iterdir()] == ["m.pdparams"]
    assert target.read_bytes() == BODY


def test_an_empty_file_is_a_file(fetch, server):
    server.files[PATH] = b""
    assert fetch() == (b"", False)


# --- broken off -----------------------------------------------------------------------------------


@pytest.mark.parametrize("etag", ['"v1"', None, 'W/"v1"'])
def test_a_broken_download_is_continued(fetch, server, etag):
    server.etag, server.modified = etag, "Mon, 02 Jan 2023 10:00:00 GMT"
    server.plan = [("cut", 3000), ("cut", 2000)]
    assert fetch() == (BODY, True)
    assert server.parts == [None, "bytes=3000-", "bytes=5000-"]
    version = '"v1"' if etag == '"v1"' else server.modified
    assert server.asked[1][1]["If-Range"] == version


def test_another_process_continues_it(fetch, server, tmp_path):
    server.plan = [("cut", 3000), 404]
    with pytest.raises(DownloadError, match=r"m\.pdparams: the server answered 404"):
        fetch()
    assert Part(tmp_path / "m.pdparams").size == 3000
    assert fetch() == (BODY, True) and server.parts[-1] == "bytes=3000-"


def test_a_changed_file_is_downloaded_from_the_beginning(fetch, server):
    server.plan = [("cut", 3000), 403]
    with pytest.raises(DownloadError):
        fetch()
    server.files[PATH], server.etag = BODY[::-1], '"v2"'
    assert fetch() == (BODY[::-1], False)


@pytest.mark.parametrize("why", ["no parts", "no version", "another address"])
def test_what_cannot_be_continued_begins_again(fetch, server, why):
    server.ranges = why != "no parts"
    server.etag = None if why == "no version" else '"v1"'
    server.plan = [("cut", 3000), 403]
    with pytest.raises(DownloadError):
        fetch()
    server.files["/b"] = BODY
    assert fetch("/b" if why == "another address" else PATH) == (BODY, False)
    assert server.parts[-1] == ("bytes=3000-" if why == "no parts" else None)


def test_a_note_that_is_damaged_begins_again(fetch, server, tmp_path):
    part = Part(tmp_path / "m.pdparams")
    for text in ("{", "[]", '{"url": 1}', f'{{"url": "{server.url}{PATH}", "version": 3}}'):
        part.file.write_bytes(b"old")
        part.note.write_text(text)
        assert fetch() == (BODY, False)


def test_a_part_that_is_too_long_is_dropped(fetch, server, tmp_path):
    part = Part(tmp_path / "m.pdparams")
    part.begin(f"{server.url}{PATH}", '"v1"')
    part.file.write_bytes(BODY + b"more")
    assert fetch() == (BODY, False)


def test_a_part_from_elsewhere_is_dropped(fetch, server):
    server.plan = [("cut", 3000), ("other part",)]
    assert fetch() == (BODY, False)


def test_a_part_that_is_complete_is_not_downloaded_again(fetch, server):
    server.plan = [("cut chunks",)]  # all bytes, and then no end
    assert fetch() == (BODY, True) and server.parts == [None, "bytes=10240-"]


@pytest.mark.parametrize("step", [("cut", 100), ("stall", 3), 500, 503, 429, 408])
def test_failures_that_may_pass_are_repeated(fetch, server, monkeypatch, step, logged):
    if step == ("stall", 3):
        monkeypatch.setattr(module, "TIMEOUT", 1)
    server.plan = [step]
    assert fetch()[0] == BODY and len(server.asked) == 2
    assert "next attempt in 0 s" in logged()


def test_attempts_end(fetch, server):
    server.plan = [500] * 20
    with pytest.raises(DownloadError, match="the server answered 500"):
        fetch()
    assert len(server.asked) == 1 + len(module.WAITS)


def test_attempts_that_bring_bytes_are_not_counted(fetch, server):
    server.plan = [("cut", 1000)] * 9
    assert fetch() == (BODY, True) and len(server.asked) == 10


def test_a_server_without_parts_does_not_loop(fetch, server):
    server.ranges, server.plan = False, [("cut", 1000)] * 20
    with pytest.raises(DownloadError, match=r"ended after 1000 of 10240 bytes"):
        fetch()
    assert len(server.asked) == 2 + len(module.WAITS)


def test_a_slow_server_is_waited_for(fetch, server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 2)
    server.plan = [("slow", 0.01)]
    assert fetch() == (BODY, False) and len(server.asked) == 1


def test_a_file_without_length_is_downloaded(fetch, server):
    server.plan = [("chunked",)]
    assert fetch() == (BODY, False)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_final(fetch, server, status):
    server.plan = [status]
    with pytest.raises(DownloadError, match=f"the server answered {status}") as info:
        fetch()
    assert info.value.status == status and len(server.asked) == 1


def test_no_server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(DownloadError, match=f"{url}: no connection: .*refused"):
        download(url, tmp_path / "x")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "/models/x", "host/x", ""])
def test_only_web_addresses(url, tmp_path):
    with pytest.raises(DownloadError, match="expected an address that begins with https://"):
        download(url, tmp_path / "x")


def test_a_redirect_is_followed_with_its_part(fetch, server):
    server.files["/elsewhere"] = BODY
    server.plan = [("to", "/elsewhere"), ("cut", 3000), ("to", "/elsewhere")]
    assert fetch() == (BODY, True)
    assert server.paths == [PATH, "/elsewhere"] * 2 and server.parts[-1] == "bytes=3000-"


def test_a_redirect_out_of_the_web_is_refused(fetch, server):
    server.plan = [("to", "file:///etc/passwd")]
    with pytest.raises(DownloadError, match="the server answered 302"):
        fetch()


def test_a_password_is_sent_and_not_shown(server, tmp_path):
    server.files[PATH] = BODY
    server.files["/b"] = BODY
    url = f"{server.url}{PATH}".replace("//", "//me:se%3Acret@") + "?key=hidden"
    server.files[f"{PATH}?key=hidden"] = BODY
    server.plan = [("to", "/b")]
    download(url, tmp_path / "m.pdparams")
    assert server.asked[0][1]["Authorization"] == "Basic bWU6c2U6Y3JldA=="
    assert "Authorization" not in server.asked[1][1]
    note = Part(tmp_path / "m.pdparams").note.read_text()
    server.plan = [404]
    with pytest.raises(DownloadError) as info:
        download(url, tmp_path / "m.pdparams")
    for text in (str(info.value), note, shown(url)):
        assert not [word for word in ("me:", "cret", "hidden") if word in text], text


# --- the disk -------------------------------------------------------------------------------------


def test_a_full_disk_is_found_before_writing(fetch, server, monkeypatch, tmp_path):
    full = type("Usage", (), {"free": 5000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(OSError, match=r"room for 0\.0 MB, and 0\.0 MB .*PADDLEVIDEO_HOME") as info:
        fetch()
    assert info.value.errno == errno.ENOSPC and Part(tmp_path / "m.pdparams").size == 0


def test_room_for_the_rest_is_enough(fetch, server, monkeypatch):
    server.plan = [("cut", 9000), 404]
    with pytest.raises(DownloadError):
        fetch()
    full = type("Usage", (), {"free": 5000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: full)
    assert fetch() == (BODY, True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_becomes_full_keeps_the_part(fetch, server, monkeypatch, tmp_path, number):
    monkeypatch.setattr(module, "CHUNK", 1000)
    write = module._write

    class Full(io.BytesIO):
        def write(self, chunk):
            raise OSError(number, "the disk is full")

    def limited(file, chunk, part):
        write(Full() if part.size >= 2000 else file, chunk, part)

    monkeypatch.setattr(module, "_write", limited)
    with pytest.raises(OSError, match="the disk is full; what has arrived is kept") as info:
        fetch()
    assert info.value.errno == number and len(server.asked) == 1
    assert Part(tmp_path / "m.pdparams").size == 2000
    monkeypatch.setattr(module, "_write", write)
    assert fetch() == (BODY, True)


def test_progress_is_shown_on_a_terminal(fetch, server, monkeypatch, capsys):
    server.etag = None
    fetch()
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fetch()
    assert "m.pdparams" in capsys.readouterr().err
