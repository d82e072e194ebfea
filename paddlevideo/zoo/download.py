"""Download one file over HTTP(S), and continue where an earlier download was broken off.

`.part-<name>` next to the file holds what has arrived, `.part-<name>.json` from which address and
of which version (ETag or Last-Modified). A server is asked for the rest of that version only; it
sends the whole file again where it has another version, or cannot send parts.
"""

import base64
import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from paddlevideo import __version__, log
from paddlevideo.weights import WeightsError

TIMEOUT = 30  # seconds without a byte
WAITS = (1, 2, 4, 8)  # seconds before further attempts that bring nothing new
CHUNK = 1 << 20
AGAIN = (408, 425, 429)  # and 5xx: the server may answer later
# Errors of a connection. Those of the disk are separate.
LOST = (OSError, http.client.HTTPException)


class DownloadError(WeightsError):
    """A file that cannot be downloaded.

    Args:
        status: the HTTP status, None where there was no answer.
    """

    def __init__(self, text: str, status: int | None = None):
        super().__init__(text)
        self.status = status


class _BrokenOff(Exception):
    """A failure after which another attempt may help."""


@dataclass(frozen=True)
class Part:
    """What has arrived of a file.

    Args:
        path: of the complete file.
    """

    path: Path

    @property
    def file(self) -> Path:
        return self.path.with_name(f".part-{self.path.name}")

    @property
    def note(self) -> Path:
        return self.path.with_name(f".part-{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.is_file() else 0

    def version(self, url: str) -> str:
        """The version of the part if it can be continued from `url`, else ""."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            version = note["version"] if note["url"] == shown(url) else ""
        except (OSError, ValueError, LookupError, TypeError):
            return ""
        return version if isinstance(version, str) and self.size else ""

    def begin(self, url: str, version: str) -> None:
        """Forget what has arrived, and note what comes."""
        self.remove()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if version:
            text = json.dumps({"url": shown(url), "version": version})
            self.note.write_text(text, encoding="utf-8")

    def remove(self) -> None:
        self.note.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


def shown(url: str) -> str:
    """An address for messages: without user name, password and query, which may be secret."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def download(url: str, path: Path) -> tuple[Path, bool]:
    """Download the file at `url` next to `path`.

    An attempt that fails is repeated: at once where it brought new bytes, else after `WAITS`.

    Returns:
        the complete file, still under the name of a part, which the caller checks and renames;
        whether it was continued after an earlier attempt.

    Raises:
        DownloadError: the address is not one of a web server, the server refuses, or the connection
            fails again and again; what has arrived is kept.
        OSError: the disk is full, or the folder cannot be written; what has arrived is kept.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{shown(url)}: expected an address that begins with https://")
    part, furthest, failures, resumed = Part(path), 0, 0, False
    while True:
        try:
            resumed |= _attempt(url, part)
            return part.file, resumed
        except _BrokenOff as error:
            failures = 0 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures > len(WAITS):
                raise DownloadError(f"{shown(url)}: {error}") from error
            seconds = WAITS[failures - 1] if failures else 0
            log.logger.warning(f"{shown(url)}: {error}; next attempt in {seconds} s")
            time.sleep(seconds)


def _attempt(url: str, part: Part) -> bool:
    """Complete the part; returns whether it was continued.

    Raises:
        _BrokenOff, DownloadError, OSError: see `download`.
    """
    version = part.version(url)
    start = part.size if version else 0
    response = _opened(url, start, version, part)
    if response is None:
        return True
    with response:
        if response.status == 206:
            found = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or "")
            if not found or int(found[1]) != start:
                part.remove()
                raise _BrokenOff("the server sent another part of the file than the one asked for")
            total = None if found[2] == "*" else int(found[2])
        else:
            start, total = 0, _number(response.headers["Content-Length"])
            part.begin(url, _version(response.headers))
        _check_space(part.path.parent, None if total is None else total - start)
        _copy(response, part, start, total)
    if total is not None and part.size != total:
        raise _BrokenOff(f"the connection ended after {part.size} of {total} bytes")
    return start > 0


def _opened(url: str, start: int, version: str, part: Part) -> http.client.HTTPResponse | None:
    """The answer of the server, or of the one that it names; None if the part is the whole file."""
    parts = urllib.parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": f"paddlevideo/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers=headers)
    if user:  # not sent to another server that this one names
        coded = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {coded}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        text = f"the server answered {error.code} {error.reason}"
        if error.code == 416:  # nothing comes after the part
            if error.headers["Content-Range"] == f"bytes */{start}":
                return None
            part.remove()
        if error.code in (*AGAIN, 416) or error.code >= 500:
            raise _BrokenOff(text) from error
        raise DownloadError(f"{shown(url)}: {text}", error.code) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            text = f"{shown(url)}: its certificate is wrong: {error.reason}"
            raise DownloadError(text) from error
        raise _BrokenOff(f"no connection: {_text(error.reason)}") from error
    except LOST as error:
        raise _BrokenOff(f"no connection: {_text(error)}") from error


def _copy(response: http.client.HTTPResponse, part: Part, start: int, total: int | None) -> None:
    bar = log.progress(total=total, label=part.path.name, start=start)
    bar.unit, bar.unit_scale = "B", True
    with part.file.open("ab" if start else "wb") as file, bar:
        while chunk := _read(response):
            _write(file, chunk, part)
            bar.update(len(chunk))


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except LOST as error:
        raise _BrokenOff(f"the connection was lost: {_text(error)}") from error


def _write(file: BinaryIO, chunk: bytes, part: Part) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # closing writes the rest again
            file.close()
        raise OSError(error.errno, f"cannot write {part.file}: {error.strerror}; {FIX}") from error


FIX = (
    "what has arrived is kept: make room and run the same again, or choose another folder with "
    "PADDLEVIDEO_HOME"
)


def _check_space(folder: Path, needed: int | None) -> None:
    """Check that a folder has room before bytes are written to it.

    Raises:
        OSError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if needed is not None and needed > free:
        text = f"{folder} has room for {free / 1e6:.1f} MB, and {needed / 1e6:.1f} MB are needed"
        raise OSError(errno.ENOSPC, f"{text}; {FIX}")


def _version(headers: http.client.HTTPMessage) -> str:
    """What names the version of the file; "" where the server names none."""
    tag = headers["ETag"] or ""
    return tag if tag.startswith('"') else headers["Last-Modified"] or ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _text(error: object) -> str:
    return str(error) or type(error).__name__


def finish(part: Path, path: Path) -> None:
    """Give a complete file its name."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    Part(path).note.unlink(missing_ok=True)
