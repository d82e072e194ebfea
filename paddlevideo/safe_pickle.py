"""Read pickles of numbers, text and NumPy arrays without running code from the file.

A pickle may name any Python function and have it called. This reader knows only the names that
pickled NumPy arrays consist of, and replaces each of them with code of its own.
"""

import contextlib
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

SUFFIXES = (".pdparams", ".pdopt", ".pdstate", ".safetensors")  # of weight files
ARRAY_FILE = "a file of arrays"


class WeightsError(ValueError):
    """A file of arrays that cannot be read, or that does not fit the model."""


def read_pickle(path: str | Path) -> Any:
    """The content of a pickle of lists, dicts, text, numbers and arrays; runs no code from it.

    Arrays and NumPy scalars come as `SavedArray`; `unwrap` gives the array. Text that Python 2
    wrote is decoded as latin-1.

    Raises:
        WeightsError: the file is missing, damaged, or holds anything else; the message names it.
    """
    with reading(Path(path)), Path(path).open("rb") as file:
        return _ArrayUnpickler(file, encoding="latin1").load()


def unwrap(value: Any) -> Any:
    """The array of a `SavedArray`; any other value unchanged."""
    return value.array if isinstance(value, SavedArray) and value.array is not None else value


# --- errors ---------------------------------------------------------------------------------------

# What the readers raise on damaged files.
_DAMAGE = (
    pickle.UnpicklingError,
    struct.error,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    zipfile.BadZipFile,
)


@contextlib.contextmanager
def reading(
    path: Path, expected: str = ARRAY_FILE, suffixes: tuple[str, ...] = SUFFIXES
) -> Iterator[None]:
    """Turn an error while `path` is read into a `WeightsError` that names the file.

    Args:
        expected: what the file is, for the message about a damaged one.
        suffixes: of the files that the message about a missing one lists.
    """
    try:
        yield
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: there is no such file{_files_in(path.parent, suffixes)}"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise WeightsError(f"{path}: {damage(error, expected)}") from error


def damage(error: Exception, expected: str = ARRAY_FILE) -> str:
    """The message about a file whose reader raised `error`."""
    return f"not {expected}, or damaged ({type(error).__name__}: {error})"


def _files_in(folder: Path, suffixes: tuple[str, ...], most: int = 8) -> str:
    files = folder.iterdir() if folder.is_dir() else ()
    names = sorted(file.name for file in files if file.suffix in suffixes)
    return f"; there are {', '.join(names[:most])}" if names else ""


# --- the reader -----------------------------------------------------------------------------------


class SavedArray:
    """Replaces an array or NumPy scalar while a file is read; accepts plain numbers only."""

    array: np.ndarray | None = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _SavedDType:
    """Replaces a NumPy dtype while a file is read."""

    def __init__(self, name: str, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[biufc]\d{1,2}", name):
            raise WeightsError(f"it holds an array of {name!r}, expected numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state):  # as numpy.dtype.__reduce__ gives it
        self.dtype = self.dtype.newbyteorder(state[1])


def _array(data, dtype, shape, order: Literal["C", "F"] = "C") -> np.ndarray:
    if not isinstance(dtype, _SavedDType) or not isinstance(
        data, (str, bytes, bytearray, memoryview)
    ):
        raise WeightsError("it holds an array of objects, expected numbers")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise WeightsError(f"it holds an array of shape {shape!r}")
    raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 wrote bytes as text
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order).copy(order)


# Python's unpickler, not the one in C: a forged memo index makes the C code allocate all memory.
class _ArrayUnpickler(pickle._Unpickler):
    """Reads the names that pickled NumPy arrays consist of, and nothing else.

    Even NumPy's own constructors never run on data of the file: a forged dtype with object fields
    would make them follow arbitrary pointers. The methods below replace them, under the module
    names of NumPy 1, NumPy 2 and Python 2.
    """

    def find_class(self, module, name):
        known = {
            ("numpy.core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy.core.multiarray", "scalar"): self._scalar,
            ("numpy.core.numeric", "_frombuffer"): self._frombuffer,
            ("numpy", "ndarray"): None,  # only an argument of _reconstruct
            ("numpy", "dtype"): self._dtype,
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "tuple"): tuple,
            ("__builtin__", "tuple"): tuple,
            ("_codecs", "encode"): self._encode,
            ("builtins", "bytes"): self._no_bytes,
            ("__builtin__", "bytes"): self._no_bytes,
        }
        key = (module.replace("._core", ".core"), name)
        if key not in known:
            raise WeightsError(
                f"it refers to {module}.{name}, which is not an array: "
                "refused, no code in the file was run"
            )
        return known[key]

    def _reconstruct(self, *_):
        return SavedArray()

    def _dtype(self, *args):
        return _SavedDType(*args)

    def _scalar(self, dtype, data):
        return self._frombuffer(data, dtype, (), "C")

    def _frombuffer(self, data, dtype, shape, order):
        saved = SavedArray()
        saved.array = _array(data, dtype, shape, order)
        return saved

    def _no_bytes(self):  # older protocols write an array without elements so
        return b""

    def _encode(self, text, encoding):
        if encoding != "latin1":
            raise WeightsError(f"it holds text in {encoding!r}: refused")
        return text.encode("latin1")
