"""Read pickles of numbers, text and NumPy arrays without running code from the file.

A pickle may name any Python function and have it called. This reader knows only the names that
pickled NumPy arrays consist of, and replaces each of them with code of its own.
"""

import contextlib
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddlevideo.bounded_pickle import BoundedUnpickler, WeightsError, kind_of
from paddlevideo.files import check_regular

__all__ = ["SavedArray", "WeightsError", "damage", "read_pickle", "reading", "unwrap"]

SUFFIXES = (".pdparams", ".pdopt", ".pdstate", ".safetensors")  # of weight files
ARRAY_FILE = "a file of arrays"
MAX_EMPTY = 1 << 20  # sizes of an array without elements; loops over them have to end


def read_pickle(path: str | Path) -> Any:
    """The content of a pickle of lists, dicts, text, numbers and arrays; runs no code from it.

    Arrays and NumPy scalars come as `SavedArray`; `unwrap` gives the array. Text that Python 2
    wrote is decoded as latin-1.

    Raises:
        WeightsError: the file is missing, damaged, or holds anything else; the message names it.
    """
    with reading(Path(path)), Path(path).open("rb") as file:
        return _ArrayUnpickler(file, os.fstat(file.fileno()).st_size).load()


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
        check_regular(path)
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
    return f"not {expected}, or damaged ({type(error).__name__}: {str(error)[:200]})"


def _files_in(folder: Path, suffixes: tuple[str, ...], most: int = 8) -> str:
    files = folder.iterdir() if folder.is_dir() else ()
    names = sorted(file.name for file in files if file.suffix in suffixes)
    return f"; there are {', '.join(names[:most])}" if names else ""


# --- the reader -----------------------------------------------------------------------------------


class SavedArray:
    """Replaces an array or NumPy scalar while a file is read; accepts plain numbers only."""

    array: np.ndarray | None = None

    def __init__(self, charge: Callable[[int], None]):
        self._charge: Callable[[int], None] | None = charge

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data, dtype, shape, order: Literal["C", "F"]) -> None:
        """Set the array, once, as its pickle describes it."""
        if self._charge is None or not isinstance(data, (str, bytes, bytearray)):
            raise WeightsError("it holds an array of objects, expected numbers")
        self._charge(len(data))
        self._charge = None  # it would keep the reader in memory, and all that was read
        self.array = _array(data, dtype, shape, order)


class _SavedDType:
    """Replaces a NumPy dtype while a file is read."""

    def __init__(self, name: str, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[biufc]\d{1,2}", name):
            given = repr(name[:40]) if isinstance(name, str) else f"a {kind_of(name)}"
            raise WeightsError(f"it holds an array of {given}, expected numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state):  # as numpy.dtype.__reduce__ gives it
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise WeightsError("it holds an array of an unknown byte order")
        self.dtype = self.dtype.newbyteorder(order)


def _array(data, dtype, shape, order: Literal["C", "F"] = "C") -> np.ndarray:
    if not isinstance(dtype, _SavedDType):
        raise WeightsError("it holds an array of objects, expected numbers")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape[:64]):
        raise WeightsError("it holds an array whose shape is not a tuple of sizes")
    raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 wrote bytes as text
    array = np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)
    if not array.size and max(shape) > MAX_EMPTY:
        raise WeightsError(f"it holds an array of shape {list(shape)} without elements")
    return array.copy(order)


class _ArrayUnpickler(BoundedUnpickler):
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
            ("collections", "OrderedDict"): self.make_dict,
            ("builtins", "tuple"): self.make_tuple,
            ("__builtin__", "tuple"): self.make_tuple,
            ("_codecs", "encode"): self.make_bytes,
            ("builtins", "bytes"): self._no_bytes,
            ("__builtin__", "bytes"): self._no_bytes,
        }
        key = (module.replace("._core", ".core"), name)
        if key not in known:
            raise WeightsError(
                f"it refers to {module[:80]}.{name[:80]}, which is not an array: "
                "refused, no code in the file was run"
            )
        return known[key]

    def _reconstruct(self, *_):
        return SavedArray(self.charge)

    def _dtype(self, *args):
        return _SavedDType(*args)

    def _scalar(self, dtype, data):
        return self._frombuffer(data, dtype, (), "C")

    def _frombuffer(self, data, dtype, shape, order):
        saved = SavedArray(self.charge)
        saved.fill(data, dtype, shape, order)
        return saved

    def _no_bytes(self):  # older protocols write an array without elements so
        return b""
