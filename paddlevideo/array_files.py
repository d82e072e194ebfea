"""Read `.npy` and `.npz` files whose sizes are held against those of the files.

A compressed archive may be a thousand times as large as its file, a header may announce any shape,
and NumPy's parser of headers raises the errors of Python's own. No object is ever unpickled.
"""

import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from paddlevideo.files import check_regular

# Bytes of all arrays in an archive, beyond eight times the size of its file. A good archive of
# weights is compressed by less than two; one of ids or silence by more, but it is small.
MAX_EXPANDED = 128 << 20
EXPANSION = 8
MAX_DIRECTORY = 4 << 20  # bytes of the list of entries of a zip archive: about 40,000
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_LENGTH = 1 << 40  # of an array, so that loops over one without elements end

# What damaged files raise.
_DAMAGE = (
    ValueError,  # also UnicodeDecodeError
    TypeError,
    LookupError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    OverflowError,
    RuntimeError,  # also NotImplementedError
    zipfile.BadZipFile,
    zlib.error,
)


class ArrayFileError(ValueError):
    """A `.npy` or `.npz` file that is damaged or holds other than plain arrays; the reason only."""


def open_npy(path: str | Path) -> np.ndarray:
    """The array of a `.npy` file, mapped into memory: values are read when they are used.

    Raises:
        ArrayFileError: it is damaged or no `.npy` file.
        OSError: it cannot be opened.
    """
    check_regular(path)
    try:
        with Path(path).open("rb") as file:
            shape, fortran, dtype = _header(file)
            size = os.fstat(file.fileno()).st_size - file.tell()
            _check_size(shape, dtype, size, "the array")
            if not math.prod(shape):
                return np.zeros(shape, dtype)
            order = "F" if fortran else "C"
            return np.memmap(file, dtype, "r", file.tell(), shape, order)
    except ArrayFileError:
        raise
    except _DAMAGE as error:
        raise ArrayFileError(_reason(error)) from error


def read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """The array of an open `.npy` file, in memory.

    Args:
        file: at its beginning.
        size: of the file (bytes).

    Raises:
        ArrayFileError: it is damaged or no `.npy` file.
    """
    try:
        return _read_member(file, size, "the array")
    except ArrayFileError:
        raise
    except _DAMAGE as error:
        raise ArrayFileError(_reason(error)) from error


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name.

    Raises:
        ArrayFileError: it is damaged, holds other than plain arrays, or expands too much.
        OSError: it cannot be opened.
    """
    check_regular(path)
    try:
        with Path(path).open("rb") as file, open_archive(file) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            size = os.fstat(file.fileno()).st_size
            if total > MAX_EXPANDED + EXPANSION * size:
                raise ArrayFileError(
                    f"its {size} bytes expand to {total}; save it with numpy.savez, uncompressed, "
                    "if that is right"
                )
            if any(entry.compress_type not in COMPRESSIONS for entry in entries):
                raise ArrayFileError("it is compressed in another way than NumPy does")
            if len({entry.filename for entry in entries}) < len(entries):
                raise ArrayFileError("two of its arrays have the same name")
            arrays = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as member:
                    arrays[name] = _read_member(member, entry.file_size, name)
            return arrays
    except ArrayFileError:
        raise
    except _DAMAGE as error:
        raise ArrayFileError(_reason(error)) from error


def wrong_value(array: np.ndarray, most: float) -> str:
    """The first value that is not finite or larger than `most`, with its position; "" if none is.

    It reads the array twice and copies nothing, unless there is such a value.
    """
    if array.dtype.kind not in "fc" or not array.size:
        return ""
    # Comparisons with NaN are false. Half precision cannot hold `most`, so the limits are floats.
    parts = (np.real(array), np.imag(array)) if array.dtype.kind == "c" else (array,)
    if all(float(part.min()) >= -most and float(part.max()) <= most for part in parts):
        return ""
    with np.errstate(all="ignore"):
        position = np.argwhere(~(np.abs(array.astype(_wide(array))) <= most))[0].tolist()
    value = array[tuple(position)]
    return f"{value:g} at {position}"


def _wide(array: np.ndarray) -> type:
    return np.complex128 if array.dtype.kind == "c" else np.float64


def is_archive(path: str | Path) -> bool:
    """Whether the file starts as a zip archive, such as `.npz`, does."""
    with Path(path).open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def open_archive(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip archive; its list of entries may not be larger than `MAX_DIRECTORY`.

    Raises:
        zipfile.BadZipFile: it is larger, or the file is no zip archive.
    """
    return zipfile.ZipFile(_SmallReads(file))  # pyright: ignore[reportArgumentType]


class _SmallReads:
    """A file whose reads are limited while `ZipFile` reads the list of entries with one of them."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.close = file.close

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of entries has {size} bytes")
        return self._file.read(size)


def _read_member(member: IO[bytes], size: int, name: str) -> np.ndarray:
    shape, fortran, dtype = _header(member)
    _check_size(shape, dtype, size - member.tell(), f"array {name[:80]!r}")
    array = np.empty(math.prod(shape), dtype)
    data, done = array.view(np.uint8) if dtype.itemsize else np.empty(0, np.uint8), 0
    while done < len(data):
        part = member.read(min(1 << 20, len(data) - done))
        if not part:
            raise EOFError("the file is truncated")
        data[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    member.read(1)  # the end of an entry is where its checksum is compared
    return array.reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran's order, type) of an array in NumPy's format."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the format, expected (1, 0) or (2, 0)")
    if dtype.hasobject:
        raise ArrayFileError(f"it holds Python objects in dtype {str(dtype)[:80]}")
    if dtype.names or dtype.subdtype or dtype.kind not in "biufcSU":
        raise ArrayFileError(f"it holds an array of {str(dtype)[:80]}, expected numbers or text")
    return shape, fortran, dtype


def _check_size(shape: tuple[int, ...], dtype: np.dtype, size: int, name: str) -> None:
    """Compare the size that a header announces with the bytes that follow it."""
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or max(shape, default=0) > MAX_LENGTH or expected > size:
        raise ArrayFileError(f"{name} is {list(shape)[:32]} {dtype}, but has {size} bytes")
    if math.prod(shape) and not dtype.itemsize:
        raise ArrayFileError(f"{name} is {list(shape)[:32]} texts of no characters")


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return f"damaged, or not in NumPy's format ({type(error).__name__}: {text[:200]})"
