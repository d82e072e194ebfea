"""What `-i` may be besides files: cameras, addresses, a growing file, standard input."""

import errno
import os
import re
import select
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import av
import av.error

from paddlevideo.media.sources import METADATA_IN_ANY_ENCODING
from paddlevideo.plain_text import readable

SCHEMES = ("rtsp", "rtsps", "http", "https")
OTHER_SCHEMES = ("rtmp", "rtmps", "srt", "udp", "rtp", "tcp", "mms", "rist")  # FFmpeg reads them
STREAM_SUFFIXES = ("", ".m3u8", ".m3u", ".mjpg", ".mjpeg", ".cgi")  # of http addresses
# What FFmpeg may open for an address: a playlist must not reach files of this machine.
PROTOCOLS = {
    "rtsp": "rtsp,rtsps,rtp,srtp,tcp,udp,tls",
    "http": "http,https,httpproxy,tcp,tls,crypto,data",
}
# By sys.platform: FFmpeg's format and the name of camera number 0.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
ANALYSE = {"analyzeduration": "1000000"}  # microseconds of a stream that are read before the start
# Flags of predict for live sources alone.
LIVE_FLAGS = ("follow", "raw", "stall", "reconnect", "rtsp_transport")
POLL = 0.1  # seconds between two looks at a file that grows
RAW = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?(?:/\d+)?)(?::(\w+))?", re.ASCII)


class LiveError(ValueError):
    """A live source that cannot be opened, or has ended; the message never holds a password."""


@dataclass(frozen=True)
class LiveInput:
    """A live source that can be opened.

    Args:
        name: for messages and results, without passwords.
        source: what FFmpeg opens, or a function (stall, stop) -> what FFmpeg reads.
        format: FFmpeg's name of the format; None to find it.
        reconnects: whether it may come back after its end.
        patience: how far a frame may lag before frames are dropped (seconds): a source that sends
            in parts is not late between them.
    """

    name: str
    source: str | Callable[[float, threading.Event], "ByteReader"] = field(repr=False)
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    reconnects: bool = True
    patience: float = 0.0

    @contextmanager
    def open(
        self, stall: float, stop: threading.Event
    ) -> Iterator[tuple[Any, "ByteReader | None"]]:
        """Yield an open PyAV container, and what it reads; None where FFmpeg reads itself.

        Args:
            stall: give up after so many seconds without data.
            stop: ends waiting for data.

        Raises:
            LiveError: it cannot be opened, or an error of FFmpeg inside the block.
        """
        source = self.source if isinstance(self.source, str) else self.source(stall, stop)
        reader = source if isinstance(source, ByteReader) else None
        options = {"format": self.format, "options": self.options, "timeout": (stall, stall)}
        try:
            with av.open(source, **options, **METADATA_IN_ANY_ENCODING) as container:
                yield container, reader
        except (av.error.FFmpegError, OSError) as error:
            raise LiveError(reason_of(error, stall, reader)) from None
        finally:
            if reader:
                reader.close()


def reason_of(
    error: OSError | av.error.FFmpegError, stall: float, reader: "ByteReader | None" = None
) -> str:
    """Why FFmpeg failed, without the address, which may hold a password."""
    if isinstance(error, av.error.ExitError) or (reader and reader.stalled):
        return f"no data for {stall:g} s"
    if reader and not reader.num_bytes:
        return "it ended without any data"
    if isinstance(error, av.error.InvalidDataError):
        return "no known video format, or damaged"
    if error.errno == errno.EIO:
        return "the connection was closed"
    return error.strerror or type(error).__name__


def is_live(text: str, follow: bool = False) -> bool:
    """Whether an input is a camera, a stream or standard input; with `follow` also a file.

    An http address is a stream if its path has no suffix or that of a stream, as those of cameras,
    and else a file, a list or a folder; with `follow` it is always a stream.
    """
    if follow or text == "-":
        return True
    scheme, separator, _ = text.partition("://")
    if not separator:
        return text.isdecimal() and not Path(text).exists()
    if not scheme.lower().startswith("http"):
        return scheme.lower() in (*SCHEMES, *OTHER_SCHEMES)
    path = urlsplit(text).path
    return path[-1:] not in ("/", "*") and Path(path).suffix.lower() in STREAM_SUFFIXES


def is_live_command(args: Namespace) -> bool:
    """Whether the inputs are a live source.

    Raises:
        ValueError: there are other inputs, too; or flags for live sources without one.
    """
    live = [text for text in args.input_file if is_live(text, args.follow)]
    if live and len(args.input_file) > 1:
        raise ValueError(
            f"-i has {len(args.input_file)} inputs and a live source among them; a command takes "
            "one live source, so run a command for each"
        )
    for flag in LIVE_FLAGS:
        is_given = vars(args)[flag] is not None and vars(args)[flag] is not False
        if is_given and not live:
            raise ValueError(
                f"--{flag} is for live sources: a camera's number, rtsp:// or http:// addresses, "
                "- for standard input, or a file with --follow; leave it out"
            )
    return bool(live)


def live_input(
    text: str, follow: bool = False, raw: str | None = None, rtsp_transport: str = "tcp"
) -> LiveInput:
    """The live source that a text names.

    Args:
        text: a camera's number, an address, `-`, or with `follow` a file that grows.
        raw: WIDTHxHEIGHT@FPS[:FORMAT] of the frames on standard input, which then have no
            container; FORMAT is FFmpeg's name, yuv420p by default.
        rtsp_transport: tcp or udp.

    Raises:
        LiveError: it is none of these, or there is no such camera or file.
    """
    if raw is not None and text != "-":
        raise LiveError(f"--raw is for standard input (-i -), not for {public_name(text)}")
    if follow and "://" not in text:
        return _growing_file(text)
    if text == "-":
        return _standard_input(raw)
    if text.isdecimal():
        return _camera(int(text))
    return _address(text, rtsp_transport)


def public_name(address: str) -> str:
    """An address without its user, its password and its query, which may hold a key."""
    if "://" not in address:
        return readable(address)
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:  # of an address that is none
        return f"{readable(address.partition('://')[0])}://..."
    query = "..." if parts.query else ""
    return readable(urlunsplit((parts.scheme, host, parts.path, query, "")))


def _camera(number: int) -> LiveInput:
    name = f"camera {number}"
    if sys.platform not in CAMERAS:
        raise LiveError(
            f"{name}: cameras are opened on Linux and macOS only; send its video to -i - instead"
        )
    kind, pattern = CAMERAS[sys.platform]
    device = pattern.format(number)
    if sys.platform == "linux" and not os.path.exists(device):
        found = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
        have = f"this machine has {', '.join(found)}" if found else "this machine has no camera"
        fix = "give the number of another camera, an address or a file"
        raise LiveError(f"{name}: there is no {device}, and {have}; {fix}")
    if not any(kind in known.split(",") for known in av.formats_available):
        raise LiveError(f"{name}: this FFmpeg cannot open {kind}; send its video to -i - instead")
    return LiveInput(name, device, kind)


def _address(text: str, rtsp_transport: str) -> LiveInput:
    scheme, name = text.partition("://")[0].lower(), public_name(text)
    if scheme not in SCHEMES:
        raise LiveError(
            f"{name}: {scheme}:// is not supported; expected one of "
            f"{', '.join(f'{known}://' for known in SCHEMES)}, a camera's number, a file, or -; "
            "FFmpeg may read it: ffmpeg -i ADDRESS -c copy -f mpegts - | ... -i -"
        )
    if not urlsplit(text).hostname:
        raise LiveError(f"{name}: the address names no host, as in {scheme}://camera/stream")
    if scheme.startswith("rtsp"):
        options = {"rtsp_transport": rtsp_transport, "protocol_whitelist": PROTOCOLS["rtsp"]}
        return LiveInput(name, text, options=options | ANALYSE)
    options = {"protocol_whitelist": PROTOCOLS["http"], "reconnect": "0"}
    # Players of playlists get them in parts of up to 10 seconds.
    patience = 10.0 if urlsplit(text).path.lower().endswith((".m3u8", ".m3u")) else 1.0
    return LiveInput(name, text, options=options | ANALYSE, patience=patience)


def _growing_file(text: str) -> LiveInput:
    if not os.path.isfile(text):
        what = "a folder" if os.path.isdir(text) else "no such file"
        raise LiveError(f"{readable(text)}: {what}; --follow reads one file that grows")

    def source(stall: float, stop: threading.Event) -> GrowingFile:
        return GrowingFile(text, stall, stop)

    return LiveInput(readable(text), source, options=ANALYSE, reconnects=False, patience=1.0)


def _standard_input(raw: str | None) -> LiveInput:
    if sys.stdin is None or sys.stdin.closed:
        raise LiveError("-i -: there is no standard input")
    if sys.stdin.isatty():
        raise LiveError("-i -: standard input is a terminal; send a video to it, as with cat or |")
    descriptor = sys.stdin.fileno()

    def source(stall: float, stop: threading.Event) -> Pipe:
        return Pipe(descriptor, stall, stop)

    name = "standard input"
    if raw is None:
        return LiveInput(name, source, options=ANALYSE, reconnects=False, patience=1.0)
    return LiveInput(name, source, "rawvideo", raw_options(raw), reconnects=False, patience=1.0)


def raw_options(text: str) -> dict[str, str]:
    """FFmpeg's options for frames without a container, from WIDTHxHEIGHT@FPS[:FORMAT].

    Raises:
        LiveError: it is something else.
    """
    match = RAW.fullmatch(text)
    try:
        if match is None or not (int(match[1]) and int(match[2]) and Fraction(match[3])):
            raise ValueError
        pixels = match[4] or "yuv420p"
        av.VideoFormat(pixels, 2, 2)
    except (ValueError, ZeroDivisionError):
        raise LiveError(
            f"--raw {readable(text)}: expected WIDTHxHEIGHT@FPS, as 640x480@25, perhaps with a "
            "pixel format of FFmpeg, as 640x480@25:rgb24"
        ) from None
    return {
        "video_size": f"{match[1]}x{match[2]}",
        "framerate": match[3],
        "pixel_format": pixels,
    }


# --- bytes that arrive ----------------------------------------------------------------------------


class ByteReader:
    """A file for PyAV whose `read` waits for data; it ends when the source, `stop` or time ends it.

    Args:
        stall: seconds without data after which it ends.

    Attributes:
        num_bytes: read so far.
        stalled: whether it ended because no data came.
    """

    def __init__(self, stall: float, stop: threading.Event):
        self._stall, self._stop = stall, stop
        self.num_bytes, self.stalled, self._ended = 0, False, False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        limit = time.monotonic() + self._stall
        while not self._ended and not self._stop.is_set():
            data = self._some(size)
            if data is not None:
                self.num_bytes += len(data)
                self._ended = not data
                return data
            self._ended = self.stalled = time.monotonic() >= limit
        return b""

    def _some(self, size: int) -> bytes | None:
        """Data, nothing at the end, or None where there is none after a short time."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what this object opened."""


class Pipe(ByteReader):
    """Standard input, or another open pipe, which stays open."""

    def __init__(self, descriptor: int, stall: float, stop: threading.Event):
        super().__init__(stall, stop)
        self._descriptor = descriptor

    def _some(self, size: int) -> bytes | None:
        if os.name != "nt" and not select.select([self._descriptor], [], [], POLL)[0]:
            return None  # on Windows select is for sockets, and reading a pipe waits
        return os.read(self._descriptor, size)


class GrowingFile(ByteReader):
    """A file that another program writes. It ends when it has not grown for `stall` seconds, or was
    replaced by a shorter one."""

    def __init__(self, path: str, stall: float, stop: threading.Event):
        super().__init__(stall, stop)
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def _some(self, size: int) -> bytes | None:
        data = os.read(self._descriptor, size)
        if data or os.fstat(self._descriptor).st_size < self.num_bytes:
            return data
        self._stop.wait(POLL)
        return None

    def close(self) -> None:
        os.close(self._descriptor)
