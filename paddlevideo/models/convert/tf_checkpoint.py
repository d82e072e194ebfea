"""TensorFlow checkpoints (`model.ckpt-123.index` and `.data-*-of-*`) as arrays, without TensorFlow.

The index is a LevelDB table: blocks of sorted names, each with a small protocol buffer that has the
type, shape, file, offset and checksum of a tensor.

Source: the format descriptions leveldb/doc/table_format.md and tensor_bundle.proto.
"""

import glob
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np

from paddlevideo.files import check_regular
from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes
MAX_DIMENSIONS = 32
MAX_NAMES = 4 << 20  # bytes of all names, beyond four times the size of the file
# TensorFlow's type number -> NumPy's type, where NumPy has it.
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
    """Read the variables of a checkpoint by name.

    Args:
        path: the `.index` file, or the prefix that it shares with the `.data` files.

    Raises:
        WeightsError: a file is missing or damaged, or a variable is stored in an unsupported way.
    """
    path = Path(path)
    index = path if path.suffix == ".index" else path.with_name(path.name + ".index")
    try:
        check_regular(index)
        entries = dict(_table(index.read_bytes()))
        shards = _first(_fields(entries.pop(b"", b"")), 1, 1)
        prefix, arrays = index.with_suffix(""), {}
        left = _data_size(prefix)
        for name, entry in entries.items():
            arrays[name.decode()] = array = _tensor(prefix, shards, name.decode(), entry)
            left -= array.nbytes
            if left < 0:
                raise WeightsError(f"{name.decode()} shares its data with another variable")
        return arrays
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
            "not the index of a TensorFlow checkpoint; expected a .index file next to its .data "
            "files"
        )
    footer = data[-FOOTER:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)  # after the handle of the meta block is that of the index block
    blocks, names = len(data), MAX_NAMES + 4 * len(data)  # bytes left for each
    for key, handle in _block(data, *_handle(footer, at)):
        offset, size = _handle(handle, 0)
        blocks, names = blocks - size, names - len(key)
        if blocks < 0:
            raise WeightsError("its blocks overlap: the file is damaged")
        for name, value in _block(data, offset, size):
            # A name shares a prefix with the one before, so a few bytes can make a long one.
            names -= len(name)
            if names < 0:
                raise WeightsError("its names are too long for the size of the file")
            yield name, value


def _data_size(prefix: Path) -> int:
    """Bytes of all `.data` files."""
    files = prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*-of-*")
    return sum(file.stat().st_size for file in files)


def _handle(data: bytes, at: int) -> tuple[int, int]:
    """(offset, size) of a block."""
    offset, at = _varint(data, at)
    return offset, _varint(data, at)[0]


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a block; keys share prefixes with the key before them."""
    if offset + size + 5 > len(data):
        raise WeightsError(f"the block at byte {offset} ends after the file: the file is truncated")
    block, kind = data[offset : offset + size], data[offset + size]
    (checksum,) = struct.unpack_from("<I", data, offset + size + 1)
    if checksum != masked_crc(data[offset : offset + size + 1]):
        raise WeightsError(
            f"the block at byte {offset} does not match its checksum: the file is damaged"
        )
    if kind:
        raise WeightsError("its index is compressed, which TensorFlow does not do")
    (num_restarts,) = struct.unpack_from("<I", block, size - 4)
    end = size - 4 * (1 + num_restarts)  # the offsets of the restarts and their number come last
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
        how = "in slices" if 7 in fields else f"with type number {kind}"
        raise WeightsError(f"{name} is stored {how}, which is not supported")
    dimensions = _fields(_first(fields, 2, b"")).get(2, [])
    shape = [_first(_fields(bytes(dimension)), 1, 0) for dimension in dimensions]
    offset, size, dtype = _first(fields, 4, 0), _first(fields, 5, 0), np.dtype(TYPES[kind])
    if len(shape) > MAX_DIMENSIONS:
        raise WeightsError(f"{name} has {len(shape)} dimensions")
    if any(n < 0 for n in shape) or size != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise WeightsError(
            f"{name} {shape[:9]} {dtype} has {size} bytes, which does not fit its shape"
        )
    file = prefix.with_name(f"{prefix.name}.data-{_first(fields, 3, 0):05d}-of-{shards:05d}")
    check_regular(file)
    with file.open("rb") as stream:
        stream.seek(0, 2)
        if offset + size > stream.tell():
            raise WeightsError(f"{file.name} ends before {name}: the file is truncated")
        stream.seek(offset)
        data = stream.read(size)
    if _first(fields, 6, None) != masked_crc(data):
        raise WeightsError(
            f"{name} in {file.name} does not match its checksum: the file is damaged"
        )
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _fields(data: bytes) -> dict[int, list]:
    """Fields of a protocol buffer by number: integers, and bytes where a field has a length."""
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
            raise WeightsError("an entry is truncated")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _first(fields: dict[int, list], number: int, default):
    """The first value of a field, which must have the type of the default unless that is None."""
    value = fields.get(number, [default])[0]
    if default is not None and type(value) is not type(default):
        raise WeightsError("an entry is damaged")
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(integer of variable length at a position, position after it)."""
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
    """The checksum that LevelDB stores: CRC-32C, rotated, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
