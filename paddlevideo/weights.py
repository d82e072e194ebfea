"""Files of named arrays: written whole or not at all, read without executing anything, and accounted for name by name.

`.pdparams` and `.pdopt` are what Paddle writes, a pickled dict of NumPy arrays; `.safetensors` is read and written too.
"""

import contextlib
import pickle
import re
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as safetensors_bytes

from paddlevideo.files import atomic_write
from paddlevideo.sample import Arrays

SUFFIXES = (".pdparams", ".pdopt", ".pdstate", ".safetensors")


class WeightsError(ValueError):
    """A weight file that cannot be read, or that does not fit the model."""


# --- writing ----------------------------------------------------------------------------------------------------


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays; the suffix decides: `.safetensors`, anything else as Paddle's pickle."""
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".safetensors":
            temporary.write_bytes(safetensors_bytes(plain))
        else:
            with temporary.open("wb") as file:
                pickle.dump(plain, file, 4)


# --- reading ----------------------------------------------------------------------------------------------------


class _DType:
    """Stands in for a NumPy dtype while a file is read; `state` as `numpy.dtype.__reduce__` gives it."""

    def __init__(self, name: str, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[biufc]\d{1,2}", name):
            raise WeightsError(f"it holds an array of {name!r}, expected numbers")
        self.type = np.dtype(name)

    def __setstate__(self, state):
        self.type = self.type.newbyteorder(state[1])


class _Array:
    """Stands in for an array: takes the bytes of a plain one, and nothing else."""

    value: np.ndarray

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data, dtype, shape, order: Literal["C", "F"] = "C") -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(data, (str, bytes, bytearray, memoryview)):
        raise WeightsError("it holds an array of objects, expected numbers")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise WeightsError(f"it holds an array of shape {shape!r}")
    raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 wrote bytes as text
    return np.frombuffer(raw, dtype.type).reshape(shape, order=order).copy(order)


# The one in Python: a made-up memo index makes the one in C fill the memory.
class _ArrayUnpickler(pickle._Unpickler):
    """Reads the few things that pickled NumPy arrays consist of.

    Not even NumPy's own constructors run on what a file says: a made-up dtype with objects in it would let them follow any
    pointer. The methods below take their place, under the module names of NumPy 1 and 2 and of Python 2.
    """

    def find_class(self, module, name):
        place = module.replace("._core", ".core")
        known = {
            ("numpy.core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy.core.multiarray", "scalar"): self._scalar,
            ("numpy.core.numeric", "_frombuffer"): self._frombuffer,
            ("numpy", "ndarray"): None,  # only ever an argument of _reconstruct
            ("numpy", "dtype"): self._dtype,
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "tuple"): tuple,
            ("__builtin__", "tuple"): tuple,
            ("_codecs", "encode"): self._encode,
            ("builtins", "bytes"): self._no_bytes,
            ("__builtin__", "bytes"): self._no_bytes,
        }
        if (place, name) not in known:
            raise WeightsError(
                f"it refers to {module}.{name}, which is not an array: refused, nothing of it was run"
            )
        return known[place, name]

    def _reconstruct(self, *_):
        return _Array()

    def _dtype(self, *args):
        return _DType(*args)

    def _scalar(self, dtype, data):
        return self._frombuffer(data, dtype, (), "C")

    def _frombuffer(self, data, dtype, shape, order):
        array = _Array()
        array.value = _array(data, dtype, shape, order)
        return array

    def _no_bytes(self):  # how the older protocols spell an array without elements
        return b""

    def _encode(self, text, encoding):
        if encoding != "latin1":
            raise WeightsError(f"it holds text in {encoding!r}: refused")
        return text.encode("latin1")


def read_pickle(path: str | Path) -> Any:
    """What a pickle of lists, dicts, text, numbers and arrays holds; no code in the file is ever run.

    Arrays and NumPy's numbers are to be taken out with `plain`; text of Python 2 comes as latin-1.

    Raises:
        WeightsError: missing, damaged, or holding anything else; the message names the file.
    """
    with _telling(Path(path)), Path(path).open("rb") as file:
        return _ArrayUnpickler(file, encoding="latin1").load()


def plain(value: Any) -> Any:
    """The array that a value of `read_pickle` stands for; anything else as it is."""
    return getattr(value, "value", value) if isinstance(value, _Array) else value


def read_arrays(path: str | Path) -> Arrays:
    """Named arrays of a `.pdparams`, `.pdopt`, `.pdstate` or `.safetensors` file; no code in the file is ever run.

    Raises:
        WeightsError: missing, damaged, or holding anything else than arrays; the message names the file.
    """
    path = Path(path)
    with _telling(path):
        if path.suffix == ".safetensors":
            return {name: _tensor(view) for name, view in deserialize(path.read_bytes())}
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
        return _arrays_in(content)


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a WeightsError that names it."""
    try:
        yield
    except FileNotFoundError:
        near = (
            sorted(p.name for p in path.parent.iterdir() if p.suffix in SUFFIXES)
            if path.parent.is_dir()
            else []
        )
        there = f"; there are {', '.join(near[:8])}" if near else ""
        raise WeightsError(f"{path}: there is no such file{there}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (pickle.UnpicklingError, EOFError, SafetensorError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            ImportError, MemoryError, OverflowError, RecursionError, struct.error) as error:  # fmt: skip
        raise WeightsError(
            f"{path}: not a file of arrays, or damaged ({type(error).__name__}: {error})"
        ) from error


_SAFETENSORS = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
                "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "b1"}  # fmt: skip


def _tensor(view) -> np.ndarray:
    if view["dtype"] not in _SAFETENSORS:
        raise WeightsError(
            f"it holds tensors of type {view['dtype']}; known: {', '.join(_SAFETENSORS)}"
        )
    return (
        np.frombuffer(view["data"], "<" + _SAFETENSORS[view["dtype"]]).reshape(view["shape"]).copy()
    )


def _arrays_in(content) -> Arrays:
    if not isinstance(content, (dict, OrderedDict)):
        raise WeightsError(f"it holds a {type(content).__name__}, expected a dict of arrays")
    arrays = {}
    for name, value in content.items():
        if name == "StructuredToParameterName@@" or name == "LR_Scheduler":
            continue
        if (
            isinstance(value, tuple) and len(value) == 2
        ):  # paddle.save writes (automatic name, array)
            value = value[1]
        if isinstance(value, _Array) and hasattr(value, "value"):
            value = value.value
        elif isinstance(value, (bool, int, float)):
            value = np.asarray(value)
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise WeightsError(f"{name!r} is a {type(value).__name__}, expected an array")
        arrays[str(name)] = value
    return arrays


# --- fitting a file to a model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """What became of every name: in the file and the model, of another shape, only in the model, only in the file."""

    source: str
    loaded: tuple[str, ...]
    reshaped: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self):
        total = len(self.loaded) + len(self.reshaped) + len(self.missing)
        parts = [f"{self.source}: {len(self.loaded)} of {total} tensors loaded"]
        parts += list(self.reshaped)
        if self.missing:
            parts.append(f"not in the file: {_some(self.missing)}")
        if self.unused:
            parts.append(f"not in the model: {_some(self.unused)}")
        return "; ".join(parts)


def load_into(
    layer,
    arrays: Mapping[str, np.ndarray],
    source: str,
    excuse_missing: str = "",
    excuse_unused: str = "",
) -> Account:
    """Copy named arrays into `layer` (an `nn.Layer`) and account for every name.

    Args:
        source: how messages call the arrays, usually the file's path.
        excuse_missing, excuse_unused: patterns of names that may be absent from the file (or differ in shape), or from the
            model; anything else that does not match is an error and nothing is copied.

    Raises:
        WeightsError: listing what does not fit.
    """
    wanted = layer.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    fitting = [n for n in shapes if n in arrays and tuple(arrays[n].shape) == shapes[n]]
    other = [n for n in shapes if n in arrays and n not in set(fitting)]
    reshaped = tuple(
        f"{n} is {list(arrays[n].shape)} in the file, {list(shapes[n])} in the model" for n in other
    )
    missing = tuple(n for n in shapes if n not in arrays)
    unused = tuple(n for n in arrays if n not in shapes)
    account = Account(source, tuple(fitting), reshaped, missing, unused)
    wrong = [n for n in (*missing, *other) if not (excuse_missing and re.search(excuse_missing, n))]
    wrong += [n for n in unused if not (excuse_unused and re.search(excuse_unused, n))]
    if wrong or not fitting:
        raise WeightsError(
            f"{account}. These weights are of another model; check MODEL in the config, or the file"
        )
    for name in fitting:
        tensor = wanted[name]
        tensor.set_value(_as_stored(np.asarray(arrays[name]), str(tensor.dtype).rsplit(".", 1)[-1]))
    return account


def _as_stored(array: np.ndarray, dtype: str) -> np.ndarray:
    """`array` in the dtype of a tensor. NumPy has no bfloat16: Paddle passes its bits as uint16, which no model has else."""
    if array.dtype == np.uint16:
        if dtype == "bfloat16":
            return array
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).reshape(array.shape)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def state_arrays(layer) -> Arrays:
    """The state_dict of a layer as float32 (or integer) arrays, under its structured names."""
    arrays = {}
    for name, tensor in layer.state_dict().items():
        if "bfloat16" in str(tensor.dtype) or "float16" in str(tensor.dtype):
            tensor = tensor.astype("float32")
        arrays[name] = tensor.numpy()
    return arrays


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Eight hex digits that change with any bit of any array; equal runs print equal ones."""
    value = 0
    for name in sorted(arrays):
        value = zlib.crc32(
            np.ascontiguousarray(arrays[name]).tobytes(), zlib.crc32(name.encode(), value)
        )
    return f"{value:08x}"


def _some(names, most: int = 6) -> str:
    rest = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
