"""Bodies of requests: limits while they arrive, malformed forms and JSON, clients that leave."""

import asyncio
import base64
import json
import time

import pytest

from paddlevideo.serve import receive as receive_module
from paddlevideo.serve.errors import RequestError
from paddlevideo.serve.receive import Body, Disconnected, receive, suffix_of
from tests.parts.serve.conftest import form

pytest.importorskip("python_multipart")


def no_fetch(url, path):
    raise AssertionError(url)


def run(chunks, content_type, folder, limit=10_000, length=None, fetch=no_fetch):
    """(upload, number of chunks that were read); a chunk may be an ASGI message."""
    waiting = list(chunks)

    async def message():
        if not waiting:
            await asyncio.sleep(60)
        item = waiting.pop(0)
        if isinstance(item, dict):
            return item
        return {"type": "http.request", "body": item, "more_body": bool(waiting)}

    async def all_of_it():
        body = Body(message, length, limit)
        try:
            return await receive(content_type, body, folder / "0-", fetch)
        finally:
            read.append(len(chunks) - len(waiting))

    read = []
    try:
        return asyncio.run(all_of_it()), read[0]
    except (RequestError, Disconnected) as error:
        error.read = read[0]
        raise


def pieces(body, size):
    return [body[i : i + size] for i in range(0, len(body), size)]


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_a_form_in_pieces_of_any_size(tmp_path, size):
    data = bytes(range(256)) * 8 + b"\r\n--x\r\n"
    body, kind = form(data, "a b.MP4", topk=3, model="ü")
    upload, _ = run(pieces(body, size), kind, tmp_path)
    assert upload.path.read_bytes() == data and upload.path.suffix == ".mp4"
    assert upload.path.name.startswith("0-")
    assert upload.fields == {"topk": "3", "model": "ü"}


def test_the_limit_holds_while_the_body_arrives(tmp_path):
    body, kind = form(bytes(100_000))
    chunks = pieces(body, 1000)
    with pytest.raises(RequestError) as error:
        run(chunks, kind, tmp_path, limit=5000)
    assert error.value.status == 413 and error.value.read == 6  # not after all 100
    with pytest.raises(RequestError) as error:
        run(chunks, kind, tmp_path, limit=5000, length=len(body))
    assert error.value.status == 413 and error.value.read == 0
    (tmp_path / "0-upload.mp4").unlink()
    with pytest.raises(RequestError) as error:  # a length that is a lie
        run(chunks, kind, tmp_path, limit=5000, length=10)
    assert error.value.status == 413
    text = json.dumps({"video": "A" * 100_000}).encode()
    with pytest.raises(RequestError) as error:
        run(pieces(text, 1000), "application/json", tmp_path, limit=5000)
    assert error.value.status == 413 and error.value.read == 6


def test_a_client_that_leaves(tmp_path):
    body, kind = form(bytes(1000))
    for chunks in ([{"type": "http.disconnect"}], [body[:300], {"type": "http.disconnect"}]):
        chunks = [
            {"type": "http.request", "body": c, "more_body": True} if isinstance(c, bytes) else c
            for c in chunks
        ]
        with pytest.raises(Disconnected):
            run(chunks, kind, tmp_path)


def test_a_slow_client(tmp_path, monkeypatch):
    monkeypatch.setattr(receive_module, "SLOW_SECONDS", 0.05)
    body, kind = form(bytes(100))
    first = {"type": "http.request", "body": body[:50], "more_body": True}
    start = time.monotonic()
    with pytest.raises(RequestError, match="too slow") as error:
        run([first], kind, tmp_path)
    assert error.value.status == 408 and time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", "multipart/form-data", "no boundary"),
        (b"", "multipart/form-data; boundary=x", "cut short"),
        (b"no form", "multipart/form-data; boundary=x", "malformed"),
        (b"--x\r\n", "multipart/form-data; boundary=x", "cut short"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
            "multipart/form-data; boundary=x",
            "cut short",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + bytes(2000) + b"\r\n--x--",
            "multipart/form-data; boundary=x",
            "the field 'a' is longer than 1024",
        ),
        (
            b"--x\r\nA: " + b"b" * 9000 + b"\r\n\r\n\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            "header",
        ),
        (
            b"--x\r\n" + b"A: b\r\n" * 9000 + b"\r\n\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            "headers of more than 8 kB|header count",
        ),
        (
            b"--x\r\n" + b"".join(b"A%d: %s\r\n" % (n, b"b" * 3000) for n in range(4)) + b"\r\n",
            "Multipart/Form-Data; boundary=x",
            "headers of more than 8 kB",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 30 + b"--x--\r\n",
            "multipart/form-data; boundary=x",
            "more than 20 parts",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n1\r\n' * 2
            + b"--x--\r\n",
            "multipart/form-data; boundary=x",
            "several files",
        ),
    ],
)
def test_malformed_forms(tmp_path, body, kind, reason):
    with pytest.raises(RequestError, match=reason) as error:
        run([body], kind, tmp_path, limit=100_000)
    assert error.value.status == 400


def test_a_file_without_a_name(tmp_path):
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--x--\r\n'
    upload, _ = run([body], "multipart/form-data; boundary=x", tmp_path)
    assert upload.path.read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, "no JSON"),
        (b"[]", 400, "the JSON is a list"),
        (b'"text"', 400, "the JSON is a str"),
        (b"\xff\xfe\x00", 400, "no JSON"),
        (b"[" * 999, 400, "no JSON"),
        (b"[" * 50_000, 400, "the JSON has more than 1000 values"),
        (b'{"a": [' + b"{}," * 30_000 + b"{}]}", 400, "more than 1000 values"),
        (b'{"a": [' + b"[]," * 30_000 + b"[]]}", 400, "more than 1000 values"),
        (b'{"video": "AAAA", "a": [' + b"0," * 30_000 + b"0]}", 400, "more than 1000 values"),
        (b'{"video": "AAAA", "model": "' + b"a" * 30_000 + b'"}', 400, "'model' is longer than"),
        (b'{"video": "AAAA", "' + b"a" * 30_000 + b'": 1}', 400, "'aaa.*' is longer than 1024"),
        (b'{"video": "AAAA", "a": {"b": "' + b"c" * 2000 + b'"}}', 400, "'a' is longer"),
        (b"1" * 50_000, 400, "no JSON"),
        (b"{}", 422, "video: nothing"),
        (b'{"video": null}', 422, "video: nothing"),
        (b'{"video": ""}', 422, "video: empty text"),
        (b'{"video": 5}', 422, "video: 5"),
        (b'{"video": ["AAAA"]}', 422, "video: "),
        (b'{"video": "a video"}', 422, "neither a URL"),
        (b'{"video": "AAA"}', 422, "base64"),
        (b'{"video": "/etc/passwd.mp4"}', 422, "neither a URL"),
        (b'{"video": "file:///etc/passwd"}', 422, "neither a URL"),
        (b'{"video": "AA' + b" " * 50_000 + b'!"}', 422, "neither a URL"),
    ],
)
def test_malformed_json(tmp_path, body, status, reason):
    with pytest.raises(RequestError, match=reason) as error:
        run([body], "application/json", tmp_path, limit=100_000)
    assert error.value.status == status


def test_json(tmp_path):
    video = base64.b64encode(b"\x93NUMPY and more").decode()
    content = {"video": video, "topk": 5, "details": True, "frames": False, "model": "a", "x": None}
    upload, _ = run([json.dumps(content).encode()], "application/json; charset=utf-8", tmp_path)
    assert upload.path.read_bytes() == b"\x93NUMPY and more" and upload.path.suffix == ".npy"
    assert upload.fields == {"topk": "5", "details": "1", "frames": "0", "model": "a"}
    assert [path.name for path in tmp_path.iterdir()] == ["0-upload.npy"]


def test_a_url_is_fetched(tmp_path):
    asked = []
    upload, _ = run(
        [b'{"video": "https://h/a/b.MKV?c=d.avi"}'],
        "application/json",
        tmp_path,
        fetch=lambda url, path: asked.append((url, path)),
    )
    assert asked == [("https://h/a/b.MKV?c=d.avi", upload.path)]
    assert upload.path.name == "0-upload.mkv"


def test_other_content_types(tmp_path):
    for kind in ("video/mp4", "application/x-www-form-urlencoded", "application/xml"):
        with pytest.raises(RequestError, match="send multipart/form-data") as error:
            run([b"x"], kind, tmp_path)
        assert error.value.status == 415


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.mp4", ".mp4"),
        ("A.MOV", ".mov"),
        ("a.b.wav", ".wav"),
        ("C:\\films\\a.avi", ".avi"),
        ("../../a.mkv", ".mkv"),
        ("a.m3u8", ""),
        ("a.ffconcat", ""),
        ("a.mpd", ""),
        ("a.sdp", ""),
        ("a.py", ""),
        (".mp4", ""),
        ("", ""),
        ("a.mp4/../b", ""),
    ],
)
def test_only_suffixes_of_media_are_kept(name, suffix):
    assert suffix_of(name) == suffix


def test_drain_reads_the_rest_of_a_refused_body():
    sent = [{"type": "http.request", "body": bytes(1000), "more_body": n < 4} for n in range(5)]

    async def message():
        return sent.pop(0)

    asyncio.run(Body(message, None, 10).drain())
    assert sent == []
