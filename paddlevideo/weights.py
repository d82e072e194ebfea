"""Files of named arrays: written whole or not at all, read without executing anything, and accounted for name by name.

`.pdparams` and `.pdopt` are what Paddle writes, a pickled dict of NumPy arrays; `.safetensors` is read and written too.
"""

import contextlib
import os
import pickle
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_safetensors
from safetensors.numpy import save as safetensors_bytes

Arrays = dict[str, np.ndarray]


class WeightsError(ValueError):
    """A weight file that cannot be read, or that does not fit the model."""


# --- writing ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; when the block ends well the file is synced and takes the place of `path`.

    Raises:
        OSError: the folder is missing, full or not writable; what stood at `path` before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; the file that was there before is kept") from error
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays; the suffix decides: `.safetensors`, anything else as Paddle's pickle."""
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".safetensors":
            temporary.write_bytes(safetensors_bytes({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        else:
            with temporary.open("wb") as file:
                pickle.dump({k: np.ascontiguousarray(v) if np.ndim(v) else np.asarray(v) for k, v in arrays.items()}, file, 4)


# --- reading ----------------------------------------------------------------------------------------------------

# What a pickle of NumPy arrays refers to, under the names of NumPy 1 and 2 and of Python 2. None of it runs code.
_HARMLESS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("builtins", "tuple"),
    ("__builtin__", "tuple"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _HARMLESS:
            raise WeightsError(f"it refers to {module}.{name}, which is not an array: refused, nothing of it was run")
        return super().find_class(module, name)


def read_arrays(path: str | Path) -> Arrays:
    """Named arrays of a `.pdparams`, `.pdopt`, `.pdstate` or `.safetensors` file; no code in the file is ever run.

    Raises:
        WeightsError: missing, damaged, or holding anything else than arrays; the message names the file.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path)
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
        return _arrays_in(content)
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.pdparams")) if path.parent.is_dir() else []
        there = f"; there are {', '.join(near[:8])}" if near else ""
        raise WeightsError(f"{path}: there is no such file{there}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (pickle.UnpicklingError, EOFError, SafetensorError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            ImportError, MemoryError, OverflowError) as error:  # fmt: skip
        raise WeightsError(f"{path}: not a file of arrays, or damaged ({type(error).__name__}: {error})") from error


def _arrays_in(content) -> Arrays:
    if not isinstance(content, (dict, OrderedDict)):
        raise WeightsError(f"it holds a {type(content).__name__}, expected a dict of arrays")
    arrays = {}
    for name, value in content.items():
        if name == "StructuredToParameterName@@" or name == "LR_Scheduler":
            continue
        if isinstance(value, tuple) and len(value) == 2:  # paddle.save writes (automatic name, array)
            value = value[1]
        if isinstance(value, (bool, int, float, np.generic)):
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
    layer, arrays: Mapping[str, np.ndarray], source: str, excuse_missing: str = "", excuse_unused: str = ""
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
    reshaped = tuple(f"{n} is {list(arrays[n].shape)} in the file, {list(shapes[n])} in the model" for n in other)
    missing = tuple(n for n in shapes if n not in arrays)
    unused = tuple(n for n in arrays if n not in shapes)
    account = Account(source, tuple(fitting), reshaped, missing, unused)
    wrong = [n for n in (*missing, *other) if not (excuse_missing and re.search(excuse_missing, n))]
    wrong += [n for n in unused if not (excuse_unused and re.search(excuse_unused, n))]
    if wrong or not fitting:
        raise WeightsError(f"{account}. These weights are of another model; check MODEL in the config, or the file")
    for name in fitting:
        tensor = wanted[name]
        array = np.asarray(arrays[name])
        tensor.set_value(array if array.dtype == np.uint16 else array.astype(_numpy_dtype(tensor), copy=False))
    return account


def _numpy_dtype(tensor) -> str:
    name = str(tensor.dtype).rsplit(".", 1)[-1]
    return "uint16" if name == "bfloat16" else name


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
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), zlib.crc32(name.encode(), value))
    return f"{value:08x}"


def _some(names, most: int = 6) -> str:
    rest = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
