"""TensorFlow's checkpoints (`model.ckpt-123.index` and `.data-*-of-*`) as named arrays, without TensorFlow.

The index is a table of LevelDB: sorted names in blocks, each with a small protocol buffer that says type, shape, file, place
and checksum of a tensor. Written to the formats' documentation (leveldb/doc/table_format.md, tensor_bundle.proto).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np

from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes
# Their numbers of types that NumPy has too.
TYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}


def read_checkpoint(path: str | Path) -> Arrays:
    """The variables of a checkpoint by their names.

    Args:
        path: the `.index` file, or the prefix that it shares with the `.data` files.

    Raises:
        WeightsError: a file is missing or damaged, or a variable is stored in a way that is not read here; names the file.
    """
    path = Path(path)
    index = path if path.suffix == ".index" else path.with_name(path.name + ".index")
    try:
        entries = dict(_table(index.read_bytes()))
        shards = _first(_fields(entries.pop(b"", b"")), 1, 1)
        return {
            name.decode(): _tensor(index.with_suffix(""), shards, name.decode(), entry)
            for name, entry in entries.items()
        }
    except OSError as error:
        raise WeightsError(
            f"{error.filename or index}: cannot be read: {error.strerror}"
        ) from error
    except WeightsError as error:
        raise WeightsError(f"{index}: {error}") from None
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"{index}: not the index of a TensorFlow checkpoint, or damaged ({error})"
        ) from error


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a LevelDB table."""
    if len(data) < FOOTER or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise WeightsError(
            "not the index of a TensorFlow checkpoint; expected a .index file with its .data files beside it"
        )
    footer = data[-FOOTER:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    for _, handle in _block(data, *_handle(footer, at)):
        yield from _block(data, *_handle(handle, 0))


def _handle(data: bytes, at: int) -> tuple[int, int]:
    offset, at = _varint(data, at)
    return offset, _varint(data, at)[0]


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + 5 > len(data):
        raise WeightsError(f"the block at byte {offset} ends behind the file: it was cut short")
    block, kind = data[offset : offset + size], data[offset + size]
    if struct.unpack_from("<I", data, offset + size + 1)[0] != masked_crc(
        data[offset : offset + size + 1]
    ):
        raise WeightsError(
            f"the block at byte {offset} does not fit its checksum: the file is damaged"
        )
    if kind:
        raise WeightsError("its index is compressed, which TensorFlow does not do")
    end = size - 4 * (
        1 + struct.unpack_from("<I", block, size - 4)[0]
    )  # restarts, and their number
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        new, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + new + length > end:
            raise WeightsError(f"the block at byte {offset} is damaged")
        key = key[:shared] + block[at : at + new]
        yield key, block[at + new : at + new + length]
        at += new + length


def _tensor(prefix: Path, shards: int, name: str, entry: bytes) -> np.ndarray:
    fields = _fields(entry)
    kind = _first(fields, 1, 0)
    if kind not in TYPES or 7 in fields:
        what = "in slices" if 7 in fields else f"of type number {kind}"
        raise WeightsError(f"{name} is stored {what}, which is not read here")
    shape = [
        _first(_fields(bytes(dim)), 1, 0) for dim in _fields(_first(fields, 2, b"")).get(2, [])
    ]
    offset, size, dtype = _first(fields, 4, 0), _first(fields, 5, 0), np.dtype(TYPES[kind])
    if any(n < 0 for n in shape) or size != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise WeightsError(f"{name} {shape} has {size} bytes, which does not fit")
    file = prefix.with_name(f"{prefix.name}.data-{_first(fields, 3, 0):05d}-of-{shards:05d}")
    with file.open("rb") as stream:
        stream.seek(0, 2)
        if offset + size > stream.tell():
            raise WeightsError(f"{file.name} ends before {name}: it was cut short")
        stream.seek(offset)
        data = stream.read(size)
    if _first(fields, 6, None) != masked_crc(data):
        raise WeightsError(f"{name} in {file.name} does not fit its checksum: the file is damaged")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _fields(data: bytes) -> dict[int, list]:
    """Fields of a protocol buffer by number, in order: integers, and bytes of what has a length."""
    fields, at = {}, 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif key & 7 in (1, 5):
            width = 8 if key & 7 == 1 else 4
            value, at = int.from_bytes(data[at : at + width], "little"), at + width
        else:
            raise WeightsError("an entry is damaged")
        if at > len(data):
            raise WeightsError("an entry is cut short")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _first(fields: dict[int, list], number: int, default):
    value = fields.get(number, [default])[0]
    if default is not None and type(value) is not type(default):
        raise WeightsError("an entry is damaged")
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise WeightsError("a number is too long")


def masked_crc(data: bytes) -> int:
    """The checksum as LevelDB stores it: CRC-32C, rotated, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
