"""Reading remote files: parts of them, failures, repeated requests, listings."""

import importlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from paddlevideo.remote import (
    AccessError,
    MissingError,
    RemoteError,
    UrlFile,
    access,
    exists,
    get_info,
    glob_url,
    list_url,
    local_copy,
    open_url,
    read_bytes,
    url_file,
)
from paddlevideo.remote.block_cache import BLOCK
from paddlevideo.remote.url_file import MAX_AHEAD

BODY = np.random.default_rng(0).bytes(6 * BLOCK + 1234)


# --- parts of a file ------------------------------------------------------------------------------


def test_only_what_is_read_is_transferred(memory):
    file = UrlFile(memory.put("a.bin", BODY))
    assert file.size == len(BODY) and file.num_fetched == 0
    file.seek(-34, os.SEEK_END)
    assert file.read(100) == BODY[-34:]
    assert file.num_fetched == 1234
    file.seek(BLOCK + 5)
    assert file.read(7) == BODY[BLOCK + 5 : BLOCK + 12]
    assert file.num_fetched == 1234 + BLOCK
    assert file.read(3) == BODY[BLOCK + 12 : BLOCK + 15]
    assert UrlFile(file.url).size == file.size and file.num_fetched == 1234 + BLOCK
    with pytest.raises(ValueError, match="position -1 is before the file"):
        file.seek(-1)


def test_parts_of_a_file_on_a_web_server(server):
    server.files["/a.bin"] = BODY
    file = UrlFile(f"{server.url}/a.bin")
    file.seek(2 * BLOCK)
    assert file.read(10) == BODY[2 * BLOCK : 2 * BLOCK + 10]
    assert server.parts == [f"bytes={2 * BLOCK}-{3 * BLOCK - 1}"]


def test_reading_on_fetches_more_at_once(server):
    server.files["/a.bin"] = body = BODY * 3
    assert read_bytes(f"{server.url}/a.bin") == body
    blocks = -(-len(body) // BLOCK)
    assert len(server.parts) < blocks / 2
    ends = [part.partition("=")[2].split("-") for part in server.parts]
    sizes = [(int(end) - int(start) + 1) // BLOCK for start, end in ends]
    assert sizes[:4] == [1, 2, 4, 8] and max(sizes) == MAX_AHEAD


def test_a_small_file_takes_one_request(server):
    server.files["/a.bin"] = BODY[: 2 * BLOCK]
    file = UrlFile(f"{server.url}/a.bin")
    file.seek(BLOCK + 3)
    assert file.read(2) == BODY[BLOCK + 3 : BLOCK + 5]
    file.seek(0)
    assert io.BufferedReader(file).read() == BODY[: 2 * BLOCK]
    assert len(server.parts) == 1


def test_parts_that_are_read_as_zeros_are_not_transferred(memory):
    file = UrlFile(memory.put("a.bin", BODY))
    file.zeros = [(10, 5 * BLOCK), (5 * BLOCK + 4, 5 * BLOCK + 6)]
    content = io.BufferedReader(file).read()
    expected = bytearray(BODY)
    for start, end in file.zeros:
        expected[start:end] = bytes(end - start)
    assert content == expected
    assert file.num_fetched == 2 * BLOCK + 1234


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1])
def test_files_of_any_size(memory, size):
    assert read_bytes(memory.put("a.bin", BODY[:size])) == BODY[:size]


def test_many_threads_read_one_file(memory):
    url = memory.put("a.bin", BODY)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read_bytes, [url] * 16)) == {BODY}


def test_a_block_that_another_thread_brings_meanwhile(memory, monkeypatch):
    body = BODY[: 2 * BLOCK]  # fetched by one request, from its first block on
    file = UrlFile(memory.put("a.bin", body))
    store = url_file._Memory()
    get = store.get

    def get_late(name, number):
        found = get(name, number)
        store.put(name, number, body[number * BLOCK :][:BLOCK])
        return found

    monkeypatch.setattr(store, "get", get_late)
    monkeypatch.setattr(url_file, "_memory", store)
    file.seek(BLOCK + 3)
    assert file.read(2) == body[BLOCK + 3 : BLOCK + 5]


def test_a_replaced_file_is_read_anew(memory, monkeypatch):
    monkeypatch.setattr(access, "INFO_SECONDS", 0)
    url = memory.put("a.bin", b"old")
    assert read_bytes(url) == b"old"
    memory.put("a.bin", b"new")
    assert read_bytes(url) == b"new"


def two_parts(url: str, between) -> bytes:
    """The first and the last block of a file; `between` is called after the first one."""
    file = UrlFile(url)
    first = file.read(9)
    between()
    file.seek(4 * BLOCK)
    return first + file.read(9)


@pytest.mark.parametrize("known", [0, 30])
def test_parts_of_two_versions_are_not_mixed(server, monkeypatch, known):
    monkeypatch.setattr(access, "INFO_SECONDS", known)
    server.files["/a.bin?sig=secret"] = BODY

    def replace():
        server.files["/a.bin?sig=secret"], server.etag = BODY[::-1], '"v2"'

    with pytest.raises(RemoteError, match=r"/a\.bin: it was replaced while it was read; read it"):
        two_parts(f"{server.url}/a.bin?sig=secret", replace)
    assert two_parts(f"{server.url}/a.bin?sig=secret", lambda: None)[:9] == BODY[::-1][:9]


def test_parts_of_two_versions_without_etags(server, memory, monkeypatch):
    server.files["/a.bin"], server.etag, server.modified = (
        BODY,
        None,
        "Mon, 01 Jan 2024 00:00:00 GMT",
    )

    def replace():
        server.modified = "Mon, 01 Jan 2024 00:00:01 GMT"

    with pytest.raises(RemoteError, match="it was replaced"):
        two_parts(f"{server.url}/a.bin", replace)
    monkeypatch.setattr(access, "INFO_SECONDS", 0)
    with pytest.raises(RemoteError, match="it was replaced"):
        two_parts(memory.put("a.bin", BODY), lambda: memory.put("a.bin", BODY[::-1]))


def test_a_server_with_other_versions_in_its_answers(server, monkeypatch):
    server.files["/a.bin"] = BODY
    monkeypatch.setattr(
        url_file, "_web_range", lambda *args, of=url_file._web_range: (of(*args)[0], True)
    )
    assert two_parts(f"{server.url}/a.bin", lambda: None) == BODY[:9] + BODY[4 * BLOCK :][:9]


def test_a_process_after_a_fork_opens_connections_of_its_own(server):
    server.files |= {"/a.bin": BODY, "/b.bin": BODY[::-1]}
    assert read_bytes(f"{server.url}/a.bin") == BODY  # connections and a thread in this process
    with get_context("fork").Pool(2) as pool:
        names = [f"{server.url}/{name}.bin" for name in "abab"]
        assert pool.map(read_bytes, names) == [BODY, BODY[::-1]] * 2


# --- servers that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [500, 503, 429, ("cut", 100), ("short", 100), ("other part",)])
def test_a_failed_request_is_repeated(server, logged, failure):
    server.files["/a.bin"] = BODY
    file = UrlFile(f"{server.url}/a.bin")
    file.seek(BLOCK)
    server.plan = [failure, failure]
    assert file.read(10) == BODY[BLOCK : BLOCK + 10]
    assert len(server.parts) == 3 and "next attempt in 0 s" in logged()


def test_a_connection_that_breaks_again_and_again(server):
    server.files["/a.bin"] = BODY
    file = UrlFile(f"{server.url}/a.bin")
    server.plan = [("cut", 100)] * 5
    with pytest.raises(RemoteError, match=r"/a\.bin: no answer, or the connection broke: "):
        file.read(10)
    assert len(server.parts) == 3


def test_a_server_that_stalls_is_given_up(server, monkeypatch):
    server.files["/a.bin"] = BODY
    file = UrlFile(f"{server.url}/a.bin")
    monkeypatch.setattr(access, "SECONDS", 0.1)
    server.plan = [("stall", 0.5), ("stall", 0.5), ("stall", 0.5)]
    with pytest.raises(RemoteError, match="no answer, or the connection broke"):
        file.read(10)


def test_a_server_that_sends_no_parts(server, logged):
    server.files["/a.bin"], server.ranges = BODY, False
    file = UrlFile(f"{server.url}/a.bin")
    file.seek(3 * BLOCK)
    assert file.read(10) == BODY[3 * BLOCK : 3 * BLOCK + 10]
    assert io.BufferedReader(file).read(BLOCK) == BODY[3 * BLOCK + 10 :][:BLOCK]
    assert "this server sends no parts of files: fetching the whole file" in logged()
    file.close()


def test_a_server_that_does_not_answer_head(server):
    server.files["/a.bin"], server.heads = BODY, False
    assert read_bytes(f"{server.url}/a.bin") == BODY


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (404, MissingError, "no such file"),
        (410, MissingError, "no such file"),
        (401, AccessError, r"asks for credentials \(401\); use a signed address, or set headers"),
        (403, RemoteError, "access denied: "),
        (418, RemoteError, "the server answered 418"),
        (500, RemoteError, "the server answered 500"),
    ],
)
def test_what_a_server_refuses(server, status, kind, text):
    server.files["/a.bin"], server.heads = BODY, False
    server.plan = [status] * 3
    with pytest.raises(kind, match=rf"/a\.bin: (the server )?{text}"):
        open_url(f"{server.url}/a.bin?sig=secret")
        get_info(f"{server.url}/a.bin")


@pytest.mark.parametrize("status", [403, 418])
def test_messages_have_no_secrets(server, logged, status):
    server.files["/a.bin?sig=secret"] = BODY
    server.heads, server.plan = False, [500, status]
    address = server.url.replace("://", "://user:secret@")
    with pytest.raises(RemoteError) as caught:
        open_url(f"{address}/a.bin?sig=secret")
    assert (
        f"{server.url}/a.bin" in str(caught.value) and "secret" not in f"{caught.value}{logged()}"
    )


def test_nobody_listens(server):
    with pytest.raises(RemoteError, match="no answer, or the connection broke: .*Connect"):
        open_url("http://127.0.0.1:9/a.bin")


def test_missing_files(memory):
    with pytest.raises(MissingError, match="memory://.*/none.bin: no such file"):
        open_url(f"{memory.url}/none.bin")
    with pytest.raises(FileNotFoundError):
        local_copy(f"{memory.url}/none.bin")
    with pytest.raises(MissingError, match="no such folder, or no file in it"):
        list_url(f"{memory.url}/none")
    assert not exists(f"{memory.url}/none.bin") and glob_url(f"{memory.url}/*.bin") == []


def test_a_folder_is_not_a_file(memory):
    memory.put("d/a.bin", b"a")
    for function in (open_url, local_copy):
        with pytest.raises(RemoteError, match="a folder"):
            function(f"{memory.url}/d")


# --- schemes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("zz://b/a", "fsspec has no package for zz://; known are s3, gs, oss, hdfs, http"),
        ("bos://b/a", "no package for bos://; Baidu's storage speaks S3, too: write s3://"),
        ("rtsp://b/a", "no package for rtsp://"),
    ],
)
def test_unknown_schemes(url, text):
    with pytest.raises(AccessError, match=text):
        open_url(url)


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr(access, "_state", access._Process())
    monkeypatch.setitem(sys.modules, "fsspec", None)
    text = r"s3://b/a: files of s3:// need fsspec: pip install 'paddlevideo\[remote\]'"
    with pytest.raises(AccessError, match=text):
        open_url("s3://b/a")


@pytest.mark.parametrize(
    ("scheme", "module", "fix"),
    [("s3", "s3fs", r"paddlevideo\[remote\]"), ("gs", "gcsfs", "pip install gcsfs")],
)
def test_without_the_package_of_a_scheme(monkeypatch, scheme, module, fix):
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setattr(access, "_state", access._Process())
    monkeypatch.setattr(registry, "_registry", {})
    monkeypatch.setattr(registry, "registry", {})
    monkeypatch.setitem(sys.modules, module, None)
    text = rf"{scheme}://b/a: a package for {scheme}:// is missing .*: .*{fix}"
    with pytest.raises(AccessError, match=text):
        open_url(f"{scheme}://b/a")


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError(5, "x")])
def test_errors_that_may_pass_are_repeated(monkeypatch, error):
    monkeypatch.setattr(access, "WAITS", (0, 0))
    calls = []

    def action():
        calls.append(1)
        if len(calls) < 3:
            raise error
        return "done"

    assert access.attempts("s3://b/a", action) == "done"


def test_errors_that_do_not_pass_are_not_repeated():
    calls = []

    def action():
        calls.append(1)
        raise IsADirectoryError(21, "Is a directory")

    with pytest.raises(RemoteError, match="s3://b/a: .*Is a directory"):
        access.attempts("s3://b/a", action)
    assert len(calls) == 1
