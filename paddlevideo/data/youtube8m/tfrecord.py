"""TFRecord files and the frame-level SequenceExamples of YouTube-8M, read and written without TensorFlow.

A file is records one after another, nothing before, between or after them:

    uint64 length, uint32 check of these 8 bytes, payload of `length` bytes, uint32 check of the payload     (little endian)

where a check is CRC-32C, rotated right by 15 bits, plus 0xa282ead8. A payload is a protocol buffer message:

    SequenceExample {1: context {1: {1: name, 2: Feature}...}, 2: feature_lists {1: {1: name, 2: {1: Feature...}}...}}
    Feature         {1: {1: bytes...}, or 2: {1: float...}, or 3: {1: int64...}}

Positions are always given, so that any record can be read by itself, and every error names the byte where it lies.
"""

import os
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from paddlevideo.files import atomic_write
from paddlevideo.sample import DecodeError

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
AROUND = HEADER.size + FOOTER.size  # bytes of a record besides its payload

# Bounds on what a file can make the reader hold and do. Four hours of 1024 + 128 values a second are 16 MB.
MAX_PAYLOAD = 1 << 24  # bytes
MAX_FIELDS = 20_000  # of one message; frames are the fields of theirs

ID_NAMES = (b"id", b"video_id")  # releases before 2018 have the second
BYTES, FLOAT, INT64 = 1, 2, 3  # what a Feature holds, by field number
KINDS = {BYTES: "bytes", FLOAT: "floats", INT64: "integers"}


def masked_crc(data: bytes) -> int:
    """The check of these bytes as it stands in a file."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# --- records in a file -----------------------------------------------------------------------------------------------


def payload_length(header: bytes, offset: int, file_size: int) -> int:
    """The length of the payload behind these (up to) 12 bytes, which stand at `offset`.

    Raises:
        DecodeError: the file ends before the record does, or the header is not one.
    """
    if len(header) < HEADER.size:
        raise DecodeError(
            f"byte {offset}: the file ends {len(header)} bytes into a record's header: cut short"
        )
    length, check = HEADER.unpack(header)
    if masked_crc(header[:8]) != check:
        raise DecodeError(
            f"byte {offset}: a record's length fails its check: damaged, what follows it cannot be found"
        )
    if length > MAX_PAYLOAD:
        raise DecodeError(
            f"byte {offset}: a record of {length} bytes, at most {MAX_PAYLOAD} are read"
        )
    if offset + AROUND + length > file_size:
        missing = offset + AROUND + length - file_size
        raise DecodeError(
            f"byte {offset}: the record goes on {missing} bytes after the end of the file: cut short"
        )
    return length


def read_payload(descriptor: int, offset: int, file_size: int, check: bool = True) -> bytes:
    """The payload of the record at a byte offset of an open file; the file's position is neither used nor moved.

    Raises:
        DecodeError: no record there, or one that was changed.
    """
    length = payload_length(os.pread(descriptor, HEADER.size, offset), offset, file_size)
    payload = os.pread(descriptor, length, offset + HEADER.size)
    footer = os.pread(descriptor, FOOTER.size, offset + HEADER.size + length)
    if len(payload) < length or len(footer) < FOOTER.size:
        raise DecodeError(f"byte {offset}: the file has become shorter while it is read")
    if check and masked_crc(payload) != FOOTER.unpack(footer)[0]:
        raise DecodeError(
            f"byte {offset}: the record fails its check (CRC-32C): its bytes have changed since it was written"
        )
    return payload


def record_offsets(path: str | Path) -> tuple[np.ndarray, str]:
    """Where the records are, from their headers alone: (int64 byte offsets, what is wrong with the last one or "").

    A header that is damaged or points past the end hides all that follows it. Its own offset is the last in the array, so
    that reading this record tells what is wrong.
    """
    offsets, offset, problem = array("q"), 0, ""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        if hasattr(os, "posix_fadvise"):  # no reading ahead: the headers are a fraction of the file
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        while offset < size and not problem:
            offsets.append(offset)
            try:
                offset += AROUND + payload_length(
                    os.pread(descriptor, HEADER.size, offset), offset, size
                )
            except DecodeError as error:
                problem = str(error)
    finally:
        os.close(descriptor)
    return np.frombuffer(offsets, np.int64).copy() if offsets else np.zeros(0, np.int64), problem


def read_payloads(path: str | Path, check: bool = True) -> Iterator[tuple[int, bytes]]:
    """(byte offset, payload) of every record of a file in turn.

    Raises:
        DecodeError: naming file and byte.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size, offset = os.fstat(descriptor).st_size, 0
        while offset < size:
            payload = read_payload(descriptor, offset, size, check)
            yield offset, payload
            offset += AROUND + len(payload)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from None
    finally:
        os.close(descriptor)


def write_payloads(path: str | Path, payloads: Iterator[bytes] | Sequence[bytes]) -> int:
    """Write a file of records, whole or not at all; returns how many.

    Raises:
        ValueError: a payload that would not be read back.
    """
    count = 0
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for payload in payloads:
            file.writelines(framed(payload))
            count += 1
    return count


def framed(payload: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """A record as it stands in a file, in four parts.

    Raises:
        ValueError: the payload is larger than the reader takes.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(
            f"a record of {len(payload)} bytes; at most {MAX_PAYLOAD} are read back: keep fewer frames"
        )
    length = struct.pack("<Q", len(payload))
    return length, FOOTER.pack(masked_crc(length)), payload, FOOTER.pack(masked_crc(payload))


# --- one example ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameExample:
    """One video of frame features.

    Args:
        id: b"" where the record has none.
        labels: int64 [L] class ids as they stand there; empty where the record has none, as in a test split.
        features: name -> uint8 [T, D]; D is 0 where T is. They may be windows into the payload, read-only.
    """

    id: bytes
    labels: np.ndarray
    features: dict[str, np.ndarray]


def parse_example(payload: bytes, names: Sequence[str] = ("rgb", "audio")) -> FrameExample:
    """The video in a SequenceExample; feature lists of other names are passed over.

    Raises:
        DecodeError: no SequenceExample, a feature that is missing or holds something else, frames of unequal size; with the
            video's id where it is known.
    """
    context, lists = _sequence_example(payload)
    video_id = next(
        (_one_bytes(payload, *context[name]) for name in ID_NAMES if name in context), b""
    )
    try:
        labels = (
            _integers(payload, *context[b"labels"])
            if b"labels" in context
            else np.zeros(0, np.int64)
        )
        features = {}
        for name in names:
            if name.encode() not in lists:
                there = (
                    ", ".join(key.decode("utf-8", "replace") for key in list(lists)[:8]) or "none"
                )
                raise DecodeError(f"there is no feature {name!r}; features of frames: {there}")
            features[name] = _frames(payload, *lists[name.encode()], name)
    except DecodeError as error:
        raise DecodeError(f"{printable_id(video_id)}: {error}") from None
    return FrameExample(video_id, labels, features)


def printable_id(video_id: bytes) -> str:
    """How messages call a video."""
    return (
        f"video {video_id[:64].decode('utf-8', 'backslashreplace')!r}"
        if video_id
        else "a video without id"
    )


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends) of a variable-length integer."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise DecodeError(f"a number at byte {at} of the record does not end")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, begin, end) of the fields of a message; of a number its own bytes, else what it holds."""
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        tag, begin = _varint(data, at, end)
        kind = tag & 7
        if kind == 2:
            length, begin = _varint(data, begin, end)
            stop = begin + length
        elif kind == 0:
            stop = _varint(data, begin, end)[1]
        else:
            stop = begin + {1: 8, 5: 4}.get(kind, end)
        if stop > end or tag < 8:
            raise DecodeError(f"byte {at} of the record is no field of a SequenceExample")
        yield tag >> 3, kind, begin, stop
        at = stop
    raise DecodeError(f"more than {MAX_FIELDS} entries in one part of the record")


def _only(data: bytes, at: int, end: int, what: str) -> tuple[int, int, int]:
    """(field number, begin, end) of the one list that a Feature holds; field 0 where it is empty."""
    found = (0, end, end)
    for number, kind, begin, stop in _fields(data, at, end):
        if kind != 2 or number not in KINDS:
            raise DecodeError(f"{what} is no Feature")
        if found[0]:
            raise DecodeError(f"{what} stands there twice")
        found = number, begin, stop
    return found


def _values(data: bytes, at: int, end: int, what: str) -> list[tuple[int, int]]:
    """Where the values of a list of bytes are."""
    values = []
    for number, kind, begin, stop in _fields(data, at, end):
        if kind != 2 or number != 1:
            raise DecodeError(f"{what} is no list of bytes")
        values.append((begin, stop))
    return values


def _sequence_example(
    data: bytes,
) -> tuple[dict[bytes, tuple[int, int]], dict[bytes, tuple[int, int]]]:
    """Where the values of the context and of the feature lists are, by name; a later one of a name wins."""
    maps: tuple[dict, dict] = ({}, {})
    for number, kind, begin, stop in _fields(data, 0, len(data)):
        if number not in (1, 2) or kind != 2:
            continue
        for entry, wire, start, end in _fields(data, begin, stop):
            if entry != 1 or wire != 2:
                continue
            name, value = b"", (end, end)
            for part, part_kind, first, last in _fields(data, start, end):
                if part == 1 and part_kind == 2:
                    name = data[first:last]
                elif part == 2 and part_kind == 2:
                    value = first, last
            maps[number - 1][name] = value
    return maps


def _one_bytes(data: bytes, at: int, end: int) -> bytes:
    """The one value of a Feature of bytes, as the id."""
    kind, begin, stop = _only(data, at, end, "the id's value")
    values = _values(data, begin, stop, "the id") if kind == BYTES else []
    if len(values) != 1:
        found = f"{len(values)} values of bytes" if kind == BYTES else KINDS.get(kind, "nothing")
        raise DecodeError(f"the id is {found}, expected one value of bytes")
    return data[slice(*values[0])]


def _integers(data: bytes, at: int, end: int) -> np.ndarray:
    """int64 [L] of a Feature of integers, packed or not."""
    kind, begin, stop = _only(data, at, end, "the value of labels")
    if kind not in (0, INT64):
        raise DecodeError(f"labels are {KINDS[kind]}, expected integers")
    values = array("Q")
    for number, wire, first, last in _fields(data, begin, stop):
        if number != 1 or wire not in (0, 2):
            raise DecodeError("labels are no list of integers")
        while first < last:
            value, first = _varint(data, first, last)
            values.append(value)
            if len(values) > MAX_FIELDS:
                raise DecodeError(f"more than {MAX_FIELDS} labels")
    return np.array(values, np.uint64).view(np.int64)


def _frame(data: bytes, at: int, end: int, name: str, number: int) -> tuple[int, int]:
    """Where the bytes of a frame are, given where its Feature is."""
    kind, begin, stop = _only(data, at, end, f"frame {number} of {name}")
    values = _values(data, begin, stop, f"frame {number} of {name}") if kind == BYTES else []
    if len(values) != 1:
        found = f"{len(values)} values of bytes" if kind == BYTES else KINDS.get(kind, "nothing")
        raise DecodeError(f"frame {number} of {name} holds {found}, expected one value of bytes")
    return values[0]


def _frames(data: bytes, at: int, end: int, name: str) -> np.ndarray:
    """uint8 [T, D] of a FeatureList."""
    row = next(_fields(data, at, end), None)
    if row is None:
        return np.zeros((0, 0), np.uint8)
    # All rows of a list written as usual are equal but for their values: then they are a table, and need no copy.
    if row[:2] == (1, 2):
        begin, stop = _frame(data, row[2], row[3], name, 0)
        head, stride = begin - at, row[3] - at
        count, rest = divmod(end - at, stride)
        if stop == row[3] and stop > begin and not rest:
            table = np.frombuffer(data, np.uint8, end - at, at).reshape(count, stride)
            if table[:, :head].tobytes() == data[at:begin] * count:
                return table[:, head:]
    return _frames_one_by_one(data, at, end, name)


def _frames_one_by_one(data: bytes, at: int, end: int, name: str) -> np.ndarray:
    """uint8 [T, D] of a FeatureList written in any way that protocol buffers allow."""
    values, count, width = bytearray(), 0, 0
    for number, kind, first, last in _fields(data, at, end):
        if number != 1 or kind != 2:
            raise DecodeError(f"what follows frame {count - 1} of {name} is no frame")
        begin, stop = _frame(data, first, last, name, count)
        width = width or stop - begin
        if stop - begin != width or not width:
            raise DecodeError(
                f"frame {count} of {name} has {stop - begin} values, the first one {width or 'none'}"
            )
        values += data[begin:stop]
        count += 1
    return np.frombuffer(values, np.uint8).reshape(count, width)


# --- writing an example -----------------------------------------------------------------------------------------------


def encode_example(
    video_id: bytes | str, labels: Sequence[int], features: Mapping[str, np.ndarray]
) -> bytes:
    """A SequenceExample as YouTube-8M writes them.

    Args:
        labels: class ids; none leaves them out, as in a test split.
        features: name -> uint8 [T, D], T the same for all.

    Raises:
        ValueError: another type or shape, unequal T, a label below 0.
    """
    shapes = {name: np.asarray(frames).shape for name, frames in features.items()}
    if any(
        np.asarray(frames).dtype != np.uint8 or np.ndim(frames) != 2 for frames in features.values()
    ):
        raise ValueError(f"features are {({name: str(np.asarray(f).dtype) for name, f in features.items()})} {shapes}, "
                         "expected uint8 [T, D] each")  # fmt: skip
    if len({shape[0] for shape in shapes.values()}) != 1 or any(
        0 == width < count for count, width in shapes.values()
    ):
        raise ValueError(
            f"features of one video have as many frames each, of some values, got {shapes or 'none'}"
        )
    if any(int(label) < 0 for label in labels):
        raise ValueError(f"labels {list(labels)}: class ids count from 0")
    name = video_id.encode() if isinstance(video_id, str) else bytes(video_id)
    context = _entry(b"id", _field(BYTES, _field(1, name)))
    if len(labels):
        packed = b"".join(_encode_varint(int(label)) for label in labels)
        context += _entry(b"labels", _field(INT64, _field(1, packed)))
    lists = b"".join(
        _entry(key.encode(), _encode_frames(np.asarray(frames))) for key, frames in features.items()
    )
    return _field(1, context) + _field(2, lists)


def _encode_frames(frames: np.ndarray) -> bytes:
    count, width = frames.shape
    row = _field(1, _field(BYTES, _field(1, bytes(width))))
    table = np.tile(np.frombuffer(row, np.uint8), (count, 1))
    table[:, len(row) - width :] = frames
    return table.tobytes()


def _entry(name: bytes, value: bytes) -> bytes:
    return _field(1, _field(1, name) + _field(2, value))


def _field(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | 2) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
