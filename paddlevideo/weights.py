"""Files of named arrays: write them atomically, read them safely, and copy them into a model.

`.pdparams` and `.pdopt` are Paddle's format, a pickled dict of NumPy arrays. `.safetensors` is read
and written too. Every name of the file and of the model appears in an `Account`.
"""

import pickle
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as safetensors_bytes

from paddlevideo.array_files import wrong_value
from paddlevideo.bounded_pickle import kind_of
from paddlevideo.files import atomic_write
from paddlevideo.safe_pickle import WeightsError, damage, read_pickle, reading, unwrap
from paddlevideo.sample import Arrays

__all__ = [
    "Account",
    "WeightsError",
    "check_replaces_nothing",
    "check_values",
    "checksum",
    "load_into",
    "own_names",
    "read_arrays",
    "state_arrays",
    "write_arrays",
]


# --- files ----------------------------------------------------------------------------------------


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays: `.safetensors` in that format, any other suffix as Paddle's pickle.

    Raises:
        OSError: the file cannot be written; an earlier file is kept.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".safetensors":
            temporary.write_bytes(safetensors_bytes(contiguous))
        else:
            with temporary.open("wb") as file:
                pickle.dump(contiguous, file, 4)


def check_replaces_nothing(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that no file with other weights is at `path`; the same may be written again.

    Raises:
        ValueError: there is one.
    """
    if not Path(path).exists():
        return
    try:
        same = checksum(read_arrays(path)) == checksum(arrays)
    except WeightsError:
        same = False
    if not same:
        raise ValueError(f"{path} holds other weights; give another file, or --overwrite")


def read_arrays(path: str | Path) -> Arrays:
    """Named arrays of a `.pdparams`, `.pdopt`, `.pdstate` or `.safetensors` file.

    bfloat16 arrays come as uint16, which hold their bits, as in files of Paddle. No code in the
    file is run.

    Raises:
        WeightsError: the file is missing, damaged, or holds anything but arrays; the message names
            it.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        content = read_pickle(path)
        with reading(path):
            return _named_arrays(content)
    with reading(path):
        try:
            return {name: _tensor(view) for name, view in deserialize(_safetensors(path))}
        except SafetensorError as error:
            raise WeightsError(damage(error)) from error


MAX_HEADER = 8 << 20
_SAFETENSORS_DTYPES = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "BF16": "u2",  # NumPy has no bfloat16
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U64": "u8",
    "U32": "u4",
    "U16": "u2",
    "U8": "u1",
    "BOOL": "b1",
}


def _safetensors(path: Path) -> bytes:
    """The content of a file, after a look at its header: JSON with some 100 bytes per tensor."""
    with path.open("rb") as file:
        start = file.read(8)
        if int.from_bytes(start, "little") > MAX_HEADER:
            raise ValueError(f"a header of more than {MAX_HEADER} bytes")
        return start + file.read()


def _tensor(view) -> np.ndarray:
    dtype = _SAFETENSORS_DTYPES.get(view["dtype"])
    if dtype is None:
        known = ", ".join(_SAFETENSORS_DTYPES)
        raise WeightsError(f"it holds tensors of type {view['dtype']}; known: {known}")
    return np.frombuffer(view["data"], "<" + dtype).reshape(view["shape"]).copy()


def _named_arrays(content) -> Arrays:
    if not isinstance(content, dict):
        is_array = isinstance(unwrap(content), np.ndarray)
        found = "one array" if is_array else f"a {kind_of(content)}"
        raise WeightsError(f"it holds {found}, expected a dict of arrays")
    arrays = {}
    for name, value in content.items():
        # Notes that paddle.save adds to the tensors.
        if name == "StructuredToParameterName@@" or name == "LR_Scheduler":
            continue
        # paddle.save writes (internal name, array) for some tensors.
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        value = unwrap(value)
        if isinstance(value, (bool, int, float)):
            value = np.asarray(value)
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            kind = kind_of(value)
            raise WeightsError(f"{str(name)[:80]!r} is a {kind}, expected an array")
        arrays[str(name)] = value
    return arrays


LARGEST = sys.float_info.max
MAX_WEIGHT = 1e15  # of trained weights, statistics and optimizer states


# --- a file and a model ---------------------------------------------------------------------------

# The numbers that PaddleVideo gives the parts of a model in a distillation.
NUMBERED = re.compile(r"(Teacher\.|Student\.)?([01])\.(.+)")
PARTS = {"0": "backbone", "1": "head"}


def own_names(arrays: Arrays) -> Arrays:
    """The arrays of a distillation of PaddleVideo under the names of this project.

    It numbers the parts of a model, in `Student.0.fc.weight` and, in the file of a student,
    `0.fc.weight`. Arrays with other names come back unchanged.
    """
    matches = {name: NUMBERED.fullmatch(name) for name in arrays}
    if not all(matches.values()):
        return arrays
    return {f"{m[1] or ''}{PARTS[m[2]]}.{m[3]}": arrays[name] for name, m in matches.items() if m}


@dataclass(frozen=True)
class Account:
    """What happened to every name of a file and a model.

    Args:
        source: name of the file in messages.
        loaded: tensors that were copied into the model.
        reshaped: descriptions of tensors whose shape differs; they were not copied.
        missing: tensors of the model that the file does not have.
        unused: arrays of the file that the model does not have.
    """

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
            parts.append(f"not in the file: {_shortened(self.missing)}")
        if self.unused:
            parts.append(f"not in the model: {_shortened(self.unused)}")
        return "; ".join(parts)


def load_into(
    layer,
    arrays: Mapping[str, np.ndarray],
    source: str,
    excuse_missing: str = "",
    excuse_unused: str = "",
) -> Account:
    """Copy named arrays into `layer` (an `nn.Layer`) and account for every name.

    Any difference between `arrays` and the layer is an error, except those that are excused. After
    an error the layer is unchanged.

    Args:
        source: name of the arrays in messages, usually the path of their file.
        excuse_missing: regular expression of tensors that `arrays` may lack or have in another
            shape; they keep their values. "" excuses none.
        excuse_unused: regular expression of arrays that the layer may lack. "" excuses none.

    Raises:
        WeightsError: listing all differences, or the tensors with NaN or infinity.
    """
    tensors = layer.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    fitting = {n for n in shapes if n in arrays and tuple(arrays[n].shape) == shapes[n]}
    other_shape = [n for n in shapes if n in arrays and n not in fitting]
    missing = tuple(n for n in shapes if n not in arrays)
    unused = tuple(n for n in arrays if n not in shapes)
    account = Account(
        source,
        loaded=tuple(n for n in shapes if n in fitting),
        reshaped=tuple(
            f"{n} is {list(arrays[n].shape)} in the file, {list(shapes[n])} in the model"
            for n in other_shape
        ),
        missing=missing,
        unused=unused,
    )
    errors = [
        *(n for n in (*missing, *other_shape) if not _excused(n, excuse_missing)),
        *(n for n in unused if not _excused(n, excuse_unused)),
    ]
    if errors or not fitting:
        advice = "These weights belong to another model; check MODEL in the config, or the file"
        raise WeightsError(f"{account}. {advice}")
    check_values({name: arrays[name] for name in account.loaded}, source, LARGEST)
    for name in account.loaded:
        dtype = str(tensors[name].dtype).rsplit(".", 1)[-1]
        tensors[name].set_value(_as_dtype(np.asarray(arrays[name]), dtype))
    return account


def check_values(arrays: Mapping[str, np.ndarray], source: str, most: float = MAX_WEIGHT) -> None:
    """Check that all numbers are finite and of a possible size.

    A network may hide NaN: ReLU turns it into 0 on a CPU.

    Args:
        most: the largest possible value.

    Raises:
        WeightsError: naming the first tensors with other values, and where these are.
    """
    wrong = {name: wrong_value(_floats(array), most) for name, array in arrays.items()}
    listed = [f"{name[:80]} is {text}" for name, text in wrong.items() if text]
    if listed:
        limit = "" if most == LARGEST else f" or above {most:g}"
        raise WeightsError(
            f"{source}: {len(listed)} tensors have values that are not finite{limit}: "
            f"{_shortened(listed)}. Use an earlier checkpoint"
        )


def _floats(array: np.ndarray) -> np.ndarray:
    """The array, with the bits of bfloat16 as float32."""
    array = np.asarray(array)
    return _from_bfloat16(array) if array.dtype == np.uint16 else array


def _from_bfloat16(array: np.ndarray) -> np.ndarray:
    return (array.astype(np.uint32) << 16).view(np.float32)


def _excused(name: str, pattern: str) -> bool:
    return bool(pattern and re.search(pattern, name))


def _as_dtype(array: np.ndarray, dtype: str) -> np.ndarray:
    """`array` converted to a dtype of Paddle.

    NumPy has no bfloat16. Paddle passes its bits as uint16, a dtype that no model uses otherwise.
    """
    if array.dtype == np.uint16:
        if dtype == "bfloat16":
            return array
        array = _from_bfloat16(array)
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).reshape(array.shape)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def state_arrays(layer) -> Arrays:
    """The state dict of a layer as NumPy arrays; half precision becomes float32."""
    arrays = {}
    for name, tensor in layer.state_dict().items():
        if "bfloat16" in str(tensor.dtype) or "float16" in str(tensor.dtype):
            tensor = tensor.astype("float32")
        arrays[name] = tensor.numpy()
    return arrays


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """A CRC-32 of all names and values as 8 hex digits, to compare runs."""
    value = 0
    for name in sorted(arrays):
        name_crc = zlib.crc32(name.encode(), value)
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), name_crc)
    return f"{value:08x}"


def _shortened(names, most: int = 6) -> str:
    rest = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
