"""Files inside tar shards, read where they are: nothing is unpacked, and nothing is loaded as code.

    with open_in_tar("train-000000.tar@1536+80211/v_1.mp4") as file:   # a path of tar_paths.py
        file.read(16)

Headers come from anywhere, so their sizes are held against the shard: Python's `tarfile` reads
each of them through `BoundedReads`.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from paddlevideo.remote import AccessError, SizedFile, file_identity, open_url
from paddlevideo.sample import DecodeError, Record
from paddlevideo.tar_paths import TarPath, key_of, tar_path

BLOCK = 512  # bytes of a header; the data of a file fills whole blocks
MAX_HEADER = 1 << 20  # bytes of a name or of extended headers
LARGE = 8 << 30  # a file of this size has its size in an extended header
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
# What headers made by an attacker or damaged ones raise in `tarfile`.
_DAMAGE = (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError, EOFError)


class TarDamage(DecodeError):
    """A shard that cannot be read from some byte on; the reason without its path."""


class Window(SizedFile):
    """A range of a seekable file as a file of its own.

    Args:
        file: it is closed with the window.
        offset, size: the range (bytes). Where the file ends before, so does the window.
        name: of the window.

    Attributes:
        size: bytes.
        error: of a read that failed: FFmpeg may take it for the end of the file.
    """

    error: DecodeError | AccessError | None = None

    def __init__(self, file: BinaryIO, offset: int, size: int, name: str):
        super().__init__()
        self._file, self._offset, self.size, self.name = file, offset, size, name

    def readinto(self, buffer) -> int:
        length = max(0, min(len(buffer), self.size - self._position))
        if not length:
            return 0
        try:
            self._file.seek(self._offset + self._position)
            data = self._file.read(length)
        except OSError as error:
            self.error = unreadable_shard(error)
            raise self.error from error
        except AccessError as error:
            self.error = error
            raise
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def unreadable_shard(error: OSError) -> DecodeError:
    return DecodeError(f"the shard cannot be read: {error.strerror or error}")


def open_shard(path: str) -> BinaryIO:
    """Open a shard for reading; its path may be a URL.

    Raises:
        DecodeError: it does not exist, or cannot be opened.
        AccessError: no file of the URL's scheme can be had.
    """
    try:
        return open_url(path)
    except FileNotFoundError as error:
        raise DecodeError("no such shard") from error
    except OSError as error:
        raise DecodeError(f"the shard cannot be opened: {error.strerror or error}") from error


def read_start(path: str, size: int) -> bytes:
    """The first bytes of a file, which may be in a shard."""
    with open_in_tar(path) if tar_path(path) else open_url(path) as file:
        return file.read(size) or b""


def open_in_tar(path: str) -> Window:
    """Open one file of a shard.

    Raises:
        DecodeError: the shard cannot be opened or read, or has other content than when its files
            were listed.
    """
    inside = tar_path(path)
    if inside is None:
        raise ValueError(f"{path}: not the path of a file in a shard")
    file = open_shard(inside.shard)
    try:
        check_header(file, inside)
    except BaseException:
        file.close()
        raise
    return Window(file, inside.offset, inside.size, os.path.basename(inside.name))


def check_header(file: BinaryIO, inside: TarPath) -> None:
    """Compare the header before a file with what its path says.

    Raises:
        DecodeError: the shard has changed, is cut short, or cannot be read.
    """
    changed = "the shard has changed since its files were listed; delete its .index.json"
    try:
        file.seek(max(0, inside.offset - BLOCK))
        block = file.read(BLOCK)
        end = file.seek(0, io.SEEK_END)
    except OSError as error:
        raise unreadable_shard(error) from error
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except _DAMAGE as error:
        raise DecodeError(changed) from error
    if header.size != inside.size and max(header.size, inside.size) < LARGE:
        raise DecodeError(changed)
    if inside.offset + inside.size > end:
        raise DecodeError(f"the shard is cut short: it has {end} bytes")


def read_part(path: str, offset: int, size: int) -> bytes:
    """These bytes of the shard of such a path.

    Raises:
        DecodeError: the shard cannot be opened or read, or is cut short.
    """
    inside = tar_path(path)
    with open_shard(inside.shard if inside else path) as file:
        try:
            file.seek(offset)
            data = file.read(size)
        except OSError as error:
            raise unreadable_shard(error) from error
    if len(data) < size:
        raise DecodeError(f"the shard is cut short at byte {offset + len(data)}")
    return data


def file_state(path: str) -> tuple[int | None, str | int]:
    """`file_identity` of a file, or of the shard that it is in."""
    inside = tar_path(path)
    return file_identity(inside.shard if inside else path)


def check_usable(record: Record) -> None:
    """
    Raises:
        DecodeError: the list of the record's shard knows that it cannot be used.
    """
    if record.problem:
        raise DecodeError(record.problem)


# --- headers --------------------------------------------------------------------------------------


class BoundedReads:
    """A file for `tarfile`, which reads a header of any size at once."""

    def __init__(self, file: BinaryIO | Window):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.HeaderError(f"a header of {size} bytes")
        return self._file.read(size) or b""


def headers(file: BinaryIO | Window) -> Iterator[tarfile.TarInfo]:
    """The header of each file, link or folder, in order.

    Raises:
        DecodeError: no tar file.
        TarDamage: damaged, or cut short. All headers before that place were given.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    _check_start(file.read(BLOCK))
    file.seek(0)
    place = 0
    try:
        with tarfile.TarFile(fileobj=BoundedReads(file), errors="surrogateescape") as tar:  # pyright: ignore[reportArgumentType]
            while (header := tar.next()) is not None:
                # A negative size would lead back, and round and round.
                if header.size < 0 or tar.offset <= place:
                    raise TarDamage(f"the header at byte {place} is damaged")
                place = tar.offset
                if header.isreg() and header.offset_data + header.size > end:
                    raise TarDamage(
                        f"cut short: {header.name} should end at byte "
                        f"{header.offset_data + header.size}, the file has {end} bytes"
                    )
                tar.members.clear()  # type: ignore[attr-defined]
                yield header
            place = tar.offset
    except _DAMAGE as error:
        if isinstance(error, DecodeError | AccessError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TarDamage(f"damaged after byte {place}: {reason}") from error
    file.seek(place)
    rest = file.read(BLOCK)
    if rest.strip(b"\0"):
        raise TarDamage(f"the header at byte {place} is damaged, or the file is cut short there")


def has_end(file: BinaryIO) -> bool:
    """Whether a shard ends with blocks of zeros, as a complete one does."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - BLOCK))
    return not file.read(BLOCK).strip(b"\0")


def _check_start(first: bytes) -> None:
    """
    Raises:
        DecodeError: the file does not begin as a tar file.
    """
    for magic, name in COMPRESSED.items():
        if first.startswith(magic):
            raise DecodeError(
                f"compressed with {name}, so single samples cannot be read; unpack it to a .tar"
            )
    if not first:
        raise DecodeError("the file is empty (0 bytes)")
    if not first.strip(b"\0"):
        return  # an archive without files
    try:
        tarfile.TarInfo.frombuf(first, "utf-8", "surrogateescape")
    except _DAMAGE as error:
        raise DecodeError(f"not a tar file, or its first header is damaged ({error})") from error


def files_of_range(path: str) -> dict[str, tuple[int, int]]:
    """The files with the key of such a path among its bytes: {name behind the key: (offset, size)}.

    Raises:
        DecodeError: the shard has changed, or is cut short.
    """
    inside = tar_path(path)
    if inside is None:
        raise ValueError(f"{path}: not the path of files in a shard")
    found = {}
    with Window(open_shard(inside.shard), inside.offset, inside.size, inside.name) as window:
        for header in headers(window):
            if header.isreg() and key_of(header.name) == inside.name:
                behind = header.name[len(inside.name) + 1 :]
                found[behind] = (inside.offset + header.offset_data, header.size)
    if not found:
        raise DecodeError("the shard has changed since its files were listed; delete its index")
    return found
