"""The body of a request, written to a file while it arrives, within a limit."""

import asyncio
import base64
import binascii
import contextlib
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlevideo.data.youtube8m.find import SUFFIXES as SHARD_SUFFIXES
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from paddlevideo.serve.errors import RequestError

# An upload may stall this long at its start, and has to be this fast on average.
SLOW_SECONDS = 30.0
SLOWEST = 10_000  # bytes per second
# What is read of a body that is refused, so that the client reads the response.
DRAIN_BYTES, DRAIN_SECONDS = 64 << 20, 5.0
MAX_FIELDS, FIELD_BYTES, HEADER_BYTES = 20, 1024, 8192
# Values of a JSON. Python takes twenty times the memory of a text that is made of empty lists.
MAX_VALUES = 1000
JSON_RATIO = 1.4  # bytes of base64 with line breaks, per byte of the file
SUFFIXES = {*VIDEO_SUFFIXES, *AUDIO_SUFFIXES, *SHARD_SUFFIXES}
NPY = b"\x93NUMPY"
URL = re.compile(r"https?://", re.I)
DATA_URL = re.compile(r"data:[^,]{0,100};base64,", re.I)
BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}")  # of text without space around it

FORM = "multipart/form-data"

Fetch = Callable[[str, Path], None]  # URL, file to write; raises a RequestError
_json_turn = threading.Lock()  # the text of one large request is in memory at a time


@dataclass
class Upload:
    """What a request contains.

    Args:
        path: of the file; None where the request has none.
        fields: the other values, as text.
    """

    path: Path | None = None
    fields: dict[str, str] = field(default_factory=dict)


class Body:
    """The bytes of a request, at most `limit` of them.

    Args:
        receive: gives the messages of ASGI.
        length: as the header states it; None where it does not.
        limit: bytes.
    """

    def __init__(self, receive: Callable[[], Awaitable[Any]], length: int | None, limit: int):
        self._receive, self._length, self._limit = receive, length, limit
        self._received, self._start, self._complete = 0, time.monotonic(), False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive.

        Raises:
            RequestError: there are too many, they are too slow, or the client is gone.
        """
        if self._length is not None and self._length > self._limit:
            raise self._too_large()
        while not self._complete:
            allowed = SLOW_SECONDS + self._received / SLOWEST
            left = self._start + allowed - time.monotonic()
            try:
                message = await asyncio.wait_for(self._receive(), max(0.001, left))
            except TimeoutError:
                rate = SLOWEST // 1000
                raise RequestError(
                    408, f"the upload is too slow: less than {rate} kB per second"
                ) from None
            if message["type"] == "http.disconnect":
                raise Disconnected()
            data = message.get("body", b"")
            self._complete = not message.get("more_body", False)
            self._received += len(data)
            if self._received > self._limit:
                raise self._too_large()
            if data:
                yield data

    def _too_large(self) -> RequestError:
        return RequestError(
            413, f"the request is larger than {readable_bytes(self._limit)}; send a smaller file"
        )

    async def drain(self) -> None:
        """Read and forget the rest of a body that is refused, as far as that is soon done."""
        rest = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._complete and rest < DRAIN_BYTES:
                    message = await self._receive()
                    rest += len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)


class Disconnected(Exception):
    """The client is gone; nobody reads a response."""


def readable_bytes(count: int) -> str:
    """A size for people."""
    return f"{count / 2**20:.4g} MB" if count >= 2**20 else f"{count} bytes"


async def receive(content_type: str, body: Body, path: Path, fetch: Fetch) -> Upload:
    """Write the file of a request to a path that begins with `path`.

    Args:
        content_type: of the request: multipart/form-data, or JSON.
        fetch: gets the video of a URL.

    Raises:
        RequestError: the body is malformed, too large, or its URL is refused.
        OSError: the disk is full.
    """
    kind = media_type(content_type)
    if kind == FORM:
        return await receive_form(content_type, body, path)
    if kind in ("application/json", "", "text/plain"):
        return await receive_json(body, path, fetch)
    raise RequestError(
        415,
        f"the content type is {kind[:100]!r}; send multipart/form-data with a part named file, or "
        'JSON as {"video": base64 or URL}',
    )


def media_type(content_type: str) -> str:
    """The type that the header of a request names, without its options."""
    return content_type.partition(";")[0].strip().lower()


async def receive_form(content_type: str, body: Body, path: Path) -> Upload:
    """Read a multipart form; see `receive`."""
    import python_multipart
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import parse_options_header

    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise RequestError(400, "the content type multipart/form-data has no boundary")
    with FormFile(path, parse_options_header) as form:
        try:
            parser = python_multipart.MultipartParser(options[b"boundary"], form.callbacks())
            async for chunk in body.chunks():
                parser.write(chunk)
        except FormParserError as error:
            raise RequestError(400, f"the multipart form is malformed: {error}") from error
    if not form.ended:
        raise RequestError(400, "the multipart form ends before its last boundary: cut short")
    return form.upload


class FormFile:
    """Writes the parts of a multipart form: the file to disk, other values to memory.

    Args:
        path: how the path of the file begins.
        parse_options: splits the value of a header.
    """

    def __init__(self, path: Path, parse_options: Callable[[bytes], Any]):
        self._path, self._parse_options = path, parse_options
        self.upload, self.ended = Upload(), False
        self._file: Any = None
        self._name, self._value = "", bytearray()
        self._header, self._header_value = bytearray(), bytearray()
        self._disposition = b""
        self._is_file, self._num_parts, self._header_bytes = False, 0, 0

    def __enter__(self) -> "FormFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def callbacks(self) -> Any:
        """The functions that the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: self._add(
                self._header_value, data[start:end]
            ),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _add(self, buffer: bytearray, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES:
            raise RequestError(400, "the multipart form has a part with headers of more than 8 kB")
        buffer += data

    def _begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_FIELDS:
            raise RequestError(400, f"the multipart form has more than {MAX_FIELDS} parts")
        self._disposition, self._value, self._header_bytes = b"", bytearray(), 0

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header, self._header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        _, options = self._parse_options(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        # Programs such as curl may send a file without a name.
        self._is_file = b"filename" in options or self._name in ("file", "video")
        if not self._is_file:
            return
        if self._file is not None:
            raise RequestError(400, "the multipart form has several files; send one per request")
        suffix = suffix_of(options.get(b"filename", b"").decode("utf-8", "replace"))
        self.upload.path = self._path.with_name(self._path.name + f"upload{suffix}")
        self._file = self.upload.path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file.write(data[start:end])
            return
        if len(self._value) + end - start > FIELD_BYTES:
            raise RequestError(400, f"the field {self._name[:50]!r} is longer than {FIELD_BYTES}")
        self._value += data[start:end]

    def _end_part(self) -> None:
        if not self._is_file:
            self.upload.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True


async def receive_json(body: Body, path: Path, fetch: Fetch) -> Upload:
    """Read PaddleX's JSON, `{"video": base64 or URL, "topk": 5}`; see `receive`."""
    raw = path.with_name(path.name + "json")
    with raw.open("xb") as file:
        async for chunk in body.chunks():
            file.write(chunk)
    return await asyncio.to_thread(_upload_of_json, raw, path, fetch)


def _upload_of_json(raw: Path, path: Path, fetch: Fetch) -> Upload:
    target = path.with_name(path.name + "upload")
    with _json_turn:
        video, fields = _read_json(raw)
        raw.unlink()
        if not URL.match(video):
            target = _write_base64(video, target)
            return Upload(target, fields)
    target = target.with_name(target.name + suffix_of(video.partition("?")[0]))
    fetch(video, target)
    return Upload(target, fields)


def _read_json(raw: Path) -> tuple[str, dict[str, str]]:
    text = raw.read_bytes()
    if sum(map(text.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise RequestError(
            400, f'the JSON has more than {MAX_VALUES} values; expected {{"video": base64 or URL}}'
        )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise RequestError(
            400, f'the JSON is a {type(content).__name__}; expected {{"video": base64 or URL}}'
        )
    video = content.pop("video", None)
    if not isinstance(video, str) or not video.strip():
        given = "nothing" if video is None else "empty text" if video == "" else repr(video)[:50]
        raise RequestError(422, f"video: {given}; expected a file as base64, or a URL")
    fields = {}
    for name, value in content.items():
        if isinstance(value, bool):
            fields[name] = str(int(value))
        elif value is not None:
            fields[name] = value if isinstance(value, str) else json.dumps(value)
    for name, value in fields.items():
        if len(name) + len(value) > FIELD_BYTES:
            raise RequestError(400, f"the field {name[:50]!r} is longer than {FIELD_BYTES}")
    return video.strip(), fields


def _write_base64(text: str, path: Path) -> Path:
    if match := DATA_URL.match(text):
        text = text[match.end() :]
    try:
        if not BASE64.fullmatch(text):
            raise binascii.Error("it has characters that base64 does not have")
        data = base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            422, f"video: neither a URL (http, https) nor base64: {error}"
        ) from error
    if data.startswith(NPY):
        path = path.with_name(path.name + ".npy")
    path.write_bytes(data)
    return path


def suffix_of(name: str) -> str:
    """The suffix of a file name if it is one of videos, audio files or shards, else "".

    FFmpeg takes a file of some other names for a playlist, which names further files.
    """
    suffix = Path(name.replace("\\", "/").rpartition("/")[2]).suffix.lower()
    return suffix if suffix in SUFFIXES else ""
