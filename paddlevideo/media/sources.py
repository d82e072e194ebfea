"""Open local and remote files as PyAV containers, and list the packets of a stream.

Of a remote file, only the parts that FFmpeg reads are transferred (remote/url_file.py). The index
of an MP4 says all about its packets, so that listing them needs none of their data; of other
containers, the packets of a stream are spread over the whole file.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import av
import av.error
import av.stream

from paddlevideo.media.packets import Packet, num_listed, read_packets
from paddlevideo.media.tar_files import Window, open_in_tar
from paddlevideo.remote import RemoteError, UrlFile, is_url, shown
from paddlevideo.sample import DecodeError
from paddlevideo.tar_paths import tar_path

# PyAV 19 always reads metadata this way, and no longer has the argument.
METADATA_IN_ANY_ENCODING: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)
MAX_BOXES = 32  # at the top level of an MP4; one with more is fragmented
# FFmpeg would look for key frames in the data of H.264; the index of the file lists them, too.
BY_INDEX = {"fflags": "noparse"}


@contextmanager
def open_container(path: str) -> Iterator[Any]:
    """Open a file, a URL, or a file in a tar shard as a PyAV container; the block's end closes it.

    Raises:
        DecodeError: FFmpeg cannot open the file, or an FFmpeg error inside the block; or the file
            cannot be had from its server.
        AccessError: no file of the URL's scheme can be had.
    """
    with _container(path) as container:
        if container.format.name == "tty":
            raise DecodeError("a text file, not a video")
        try:
            yield container
        except av.error.FFmpegError as error:
            raise DecodeError(f"cannot be decoded: {error.strerror}") from error


def _container(path: str) -> AbstractContextManager[Any]:
    if tar_path(path):
        return _tar_container(path)
    return _remote_container(path) if is_url(path) else _local_container(path)


@contextmanager
def _local_container(path: str) -> Iterator[Any]:
    if not os.path.isfile(path):
        if os.path.isdir(path):
            raise DecodeError("a folder, not a video file")
        exists = os.path.exists(path)
        raise DecodeError("a pipe or a device, not a file" if exists else "no such file")
    if os.path.getsize(path) == 0:
        raise DecodeError("the file is empty (0 bytes)")
    try:
        # Without "file:" FFmpeg takes a colon in the name for a protocol. The whitelist keeps a
        # playlist from reaching the network.
        container = av.open(
            f"file:{path}", options={"protocol_whitelist": "file"}, **METADATA_IN_ANY_ENCODING
        )
    except (av.error.FFmpegError, OSError) as error:
        head = b""
        with contextlib.suppress(OSError), open(path, "rb") as file:  # as it may not be read
            head = file.read(12)
        raise unreadable(error, head) from error
    with container:
        yield container


def unreadable(error: av.error.FFmpegError | OSError, head: bytes) -> DecodeError:
    """The error of a file that FFmpeg cannot open, which begins with these 12 bytes."""
    if not isinstance(error, av.error.InvalidDataError):
        return DecodeError(f"cannot be opened: {error.strerror or error}")
    if head[4:8] == b"ftyp":
        return DecodeError("an mp4 without its index (no moov atom): cut short")
    return DecodeError("no known video format, or damaged")


@contextmanager
def _tar_container(path: str) -> Iterator[Any]:
    with open_in_tar(path) as file, kept_errors(file):
        if file.size == 0:
            raise DecodeError("the file is empty (0 bytes)")
        with _opened(file) as container:
            yield container


# --- remote files ---------------------------------------------------------------------------------


class _MediaFile(UrlFile):
    """A remote file that remembers an error: FFmpeg may take it for the end of the file."""

    error: Exception | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except Exception as error:
            self.error = error
            raise


@contextmanager
def media_file(url: str) -> Iterator[_MediaFile]:
    """Open a remote file; its errors in the block become DecodeErrors."""
    try:
        with _MediaFile(url) as file, kept_errors(file):
            yield file
    except RemoteError as error:
        raise DecodeError(str(error).removeprefix(f"{shown(url)}: ")) from error


@contextmanager
def kept_errors(file: _MediaFile | Window) -> Iterator[None]:
    """Raise the error of a file that is read in the block, in place of FFmpeg's or libsndfile's."""
    try:
        yield
    except (av.error.FFmpegError, DecodeError, RuntimeError):  # also of libsndfile
        if file.error is None:
            raise
    if file.error is not None:
        raise file.error


@contextmanager
def _remote_container(url: str) -> Iterator[Any]:
    with media_file(url) as file:
        if file.size == 0:
            raise DecodeError("the file is empty (0 bytes)")
        with _opened(file) as container:
            yield container


def _opened(file: _MediaFile | Window, options: dict[str, str] | None = None) -> Any:
    try:
        # No protocol is called "none": a remote playlist reaches neither files nor the network.
        options = {"protocol_whitelist": "none", **(options or {})}
        return av.open(file, options=options, **METADATA_IN_ANY_ENCODING)
    except (av.error.FFmpegError, OSError) as error:
        if file.error is not None:
            raise file.error from error
        file.seek(0)
        raise unreadable(error, file.read(12)) from error


def list_packets(path: str, container: Any, stream: Any) -> list[Packet]:
    """List the packets of a stream of an open container; this decodes nothing.

    Of a remote file with a complete index, the data of the packets is not transferred.
    """
    if tar_path(path) or not is_url(path) or not num_listed(container, stream):
        return read_packets(container, stream)
    with media_file(path) as file:
        zeros = media_data(file)
        file.seek(0)
        # A container of its own: this one must not keep the zeros in its buffer.
        with _opened(file, BY_INDEX) as other:
            for each in other.streams:
                if each.index != stream.index:
                    each.discard = av.stream.Discard.all
            file.zeros = zeros
            packets = read_packets(other, other.streams[stream.index])
    # A file without a list of its key frames seems to have nothing else.
    if not zeros or (len(packets) > 1 and all(packet.is_key for packet in packets)):
        return read_packets(container, stream)
    return packets


def media_data(file: Any) -> list[tuple[int, int]]:
    """Return the parts (first byte, end) of an MP4 that hold only data of packets; none where its
    index is spread over the file."""
    parts: list[tuple[int, int]] = []
    file.seek(0, os.SEEK_END)
    position, end = 0, file.tell()
    for _ in range(MAX_BOXES):
        if position >= end:
            return parts
        file.seek(position)
        head = b""
        while len(head) < 16 and (more := file.read(16 - len(head))):
            head += more
        size, kind, begin = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, begin = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:
            size = end - position
        if size < begin or kind == b"moof":
            return []
        if kind == b"mdat":
            parts.append((position + begin, min(end, position + size)))
        position += size
    return []
