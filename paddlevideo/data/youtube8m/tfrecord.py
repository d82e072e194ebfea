"""Read and write TFRecord files without TensorFlow.

A TFRecord file is a sequence of records without padding. All integers are little-endian:

    uint64 length | uint32 CRC of these 8 bytes | payload of `length` bytes | uint32 CRC of payload

The CRC is CRC-32C, masked: rotated right by 15 bits, plus 0xa282ead8. The payloads of YouTube-8M
are SequenceExamples, see sequence_example.py.

The read functions take a byte offset, so any record can be read on its own. Error messages name
the byte offset of the damaged record.
"""

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from paddlevideo.remote import atomic_file, is_url, open_url
from paddlevideo.sample import DecodeError

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
# Bytes of a record in addition to its payload.
OVERHEAD = HEADER.size + FOOTER.size
# Bytes. The limit bounds the memory that a damaged file can request. Four hours of video at one
# frame per second and 1024 + 128 values per frame take 16 MB.
MAX_PAYLOAD = 1 << 24


def masked_crc(data: bytes) -> int:
    """Return the masked CRC-32C of `data`, as a TFRecord file stores it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def payload_length(header: bytes, offset: int, file_size: int) -> int:
    """Return the payload length that a record header gives.

    Args:
        header: the bytes of the file at `offset`, 12 or fewer at the end of the file.
        offset: position of the record in the file (bytes), also for error messages.
        file_size: bytes.

    Raises:
        DecodeError: the header is damaged, or the file ends before the record does.
    """
    if len(header) < HEADER.size:
        raise DecodeError(
            f"byte {offset}: the file ends {len(header)} bytes into a record header: truncated"
        )
    length, crc = HEADER.unpack(header)
    if masked_crc(header[:8]) != crc:
        raise DecodeError(
            f"byte {offset}: the record length fails its CRC check; "
            "the records after it cannot be found"
        )
    if length > MAX_PAYLOAD:
        raise DecodeError(
            f"byte {offset}: the record has {length} bytes, the limit is {MAX_PAYLOAD}"
        )
    missing = offset + OVERHEAD + length - file_size
    if missing > 0:
        raise DecodeError(
            f"byte {offset}: the record extends {missing} bytes past the end of the file: truncated"
        )
    return length


def _read_at(source: int | BinaryIO, count: int, offset: int) -> bytes:
    """These bytes of a file: of a descriptor, whose position is neither used nor changed, or of a
    seekable file."""
    if isinstance(source, int):
        return os.pread(source, count, offset)
    source.seek(offset)
    return source.read(count)


def read_payload(source: int | BinaryIO, offset: int, file_size: int, check: bool = True) -> bytes:
    """Read the payload of one record.

    Args:
        source: descriptor of the open file, whose position is neither used nor changed; or a
            seekable file.
        offset: position of the record (bytes).
        file_size: bytes.
        check: verify the CRC of the payload.

    Raises:
        DecodeError: no record at this offset, or a damaged one.
    """
    length = payload_length(_read_at(source, HEADER.size, offset), offset, file_size)
    payload = _read_at(source, length, offset + HEADER.size)
    footer = _read_at(source, FOOTER.size, offset + HEADER.size + length)
    if len(payload) < length or len(footer) < FOOTER.size:
        raise DecodeError(f"byte {offset}: the file shrank while it was read")
    if check and masked_crc(payload) != FOOTER.unpack(footer)[0]:
        raise DecodeError(
            f"byte {offset}: the payload fails its CRC-32C check: "
            "the file changed after it was written"
        )
    return payload


def record_offsets(path: str | Path) -> tuple[np.ndarray, str]:
    """Find the records of a file, or of one at a URL, by reading their headers only.

    A damaged header, or one that points past the end of the file, hides all following records. Its
    own offset is then the last one, so reading that record reports the problem.

    Returns:
        (int64 [num_records] byte offsets, the problem with the last record or "").
    """
    offsets, offset, problem = array("q"), 0, ""
    with open_url(path) as file:
        size = file.seek(0, os.SEEK_END)
        source: int | BinaryIO = file
        if not is_url(path):
            source = file.fileno()
            # Disable read-ahead: the headers are a small part of the file.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(source, 0, 0, os.POSIX_FADV_RANDOM)
        while offset < size and not problem:
            offsets.append(offset)
            header = _read_at(source, HEADER.size, offset)
            try:
                offset += OVERHEAD + payload_length(header, offset, size)
            except DecodeError as error:
                problem = str(error)
    return np.frombuffer(offsets, np.int64).copy() if offsets else np.zeros(0, np.int64), problem


def read_payloads(path: str | Path, check: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, payload) of every record of a file.

    Raises:
        DecodeError: a damaged record; the message names the file and the byte.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size, offset = os.fstat(descriptor).st_size, 0
        while offset < size:
            payload = read_payload(descriptor, offset, size, check)
            yield offset, payload
            offset += OVERHEAD + len(payload)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from None
    finally:
        os.close(descriptor)


def write_payloads(path: str | Path, payloads: Iterator[bytes] | Sequence[bytes]) -> int:
    """Write a file of records, which may be at a URL, atomically and return the number of records.

    Raises:
        ValueError: a payload is larger than the reader accepts.
    """
    count = 0
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for payload in payloads:
            file.writelines(framed(payload))
            count += 1
    return count


def framed(payload: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the record of a payload in four parts: length, CRC, payload, CRC.

    Raises:
        ValueError: the payload is larger than the reader accepts.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(
            f"a record of {len(payload)} bytes is over the limit of {MAX_PAYLOAD}: use fewer frames"
        )
    length = struct.pack("<Q", len(payload))
    return length, FOOTER.pack(masked_crc(length)), payload, FOOTER.pack(masked_crc(payload))
