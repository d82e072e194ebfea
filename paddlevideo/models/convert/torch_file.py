"""PyTorch's weight files (`.pth`, `.pt`, `.pyth`) as named arrays, without PyTorch and without running anything in them.

Both formats of `torch.save` are read: the zip archive (since PyTorch 1.6) and the pickles in a row before it. A pickle can call
any function it names, so only a handful of names is known here, each with a stand-in of ours: tensors and plain containers.
The arrays are views of the memory-mapped file; what is not looked at is not read, but for its checksum.
"""

import io
import math
import mmap
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError

SUFFIXES = (".pth", ".pt", ".pyth")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
# Where checkpoints keep the weights beside an epoch, an optimizer and so on.
STATE_KEYS = ("state_dict", "model_state", "model_state_dict", "model")

# NumPy has no bfloat16; its bits travel as uint16, as everywhere in `weights`.
_TYPES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1",
    "Byte": "u1", "Bool": "b1", "Untyped": "u1",
}  # fmt: skip
_DTYPES = {
    "float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": "u2", "int64": "i8", "int32": "i4", "int16": "i2",
    "int8": "i1", "uint8": "u1", "bool": "b1",
}  # fmt: skip
# What training frameworks put beside the weights: skipped without a look inside. Anything else unknown is refused.
_BESIDE = re.compile(
    r"(mmengine|mmcv|mmaction|yacs|fvcore|argparse|datetime|pathlib|numpy)\..*|torch\.device"
)


def read_torch(path: str | Path) -> Arrays:
    """The weights in a file of `torch.save`: of a state dict, or of a checkpoint that holds one.

    Names keep their order and spelling, but for the `module.` that data-parallel training puts before each. Strided tensors
    come in the order of their axes; the arrays are read-only.

    Raises:
        WeightsError: missing, damaged, no such file, or holding anything but tensors and plain containers; names the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(512)
            if not start:
                raise WeightsError("the file is empty")
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            file.seek(0)
            content = (
                _read_zip(file, view)
                if start.startswith(b"PK")
                else _read_legacy(file, view, start)
            )
        return _arrays_in(content)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            ImportError, MemoryError, OverflowError, RecursionError, NotImplementedError, struct.error) as error:  # fmt: skip
        raise WeightsError(
            f"{path}: not a PyTorch file, or damaged ({type(error).__name__}: {error})"
        ) from error


def _arrays_in(content) -> Arrays:
    """The tensors of a state dict, looked for at the top and under the usual keys."""
    if not isinstance(content, dict):
        raise WeightsError(
            f"it holds a {_kind(content)}, expected a state dict or a checkpoint with one"
        )
    for key in STATE_KEYS:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    strange = [
        name
        for name, value in content.items()
        if not isinstance(value, (_Tensor, bool, int, float))
    ]
    if strange or not content:
        what = (
            f"{str(strange[0])[:80]!r} is a {_kind(content[strange[0]])}" if strange else "nothing"
        )
        raise WeightsError(
            f"no state dict found, neither at the top nor under {', '.join(STATE_KEYS)}: {what}, expected named tensors"
        )
    arrays = {
        str(name): v.array() if isinstance(v, _Tensor) else np.asarray(v)
        for name, v in content.items()
    }
    parallel = all(name.startswith("module.") for name in arrays)
    return {
        name.removeprefix("module.") if parallel else name: array for name, array in arrays.items()
    }


def _kind(value) -> str:
    return "dict" if isinstance(value, dict) else type(value).__name__.lstrip("_")


# --- the two formats ----------------------------------------------------------------------------------------------------


def _read_zip(file, view: mmap.mmap):
    archive = zipfile.ZipFile(file)
    entries = {info.filename: info for info in archive.infolist()}
    found = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise WeightsError("a zip archive, but not one of torch.save: it has no data.pkl")
    prefix = found[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in entries:
        raise WeightsError(
            "it holds a TorchScript program; save its state_dict() with torch.save instead"
        )

    def stored(name: str) -> np.ndarray:
        """uint8 view of an entry; torch.save never compresses, so an entry is as large as the file says."""
        info = entries[name]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise WeightsError(
                f"{name!r} in it is compressed or encrypted, which torch.save never does"
            )
        head = info.header_offset
        if view[head : head + 4] != b"PK\x03\x04":
            raise WeightsError(f"{name!r} in it has no header: the file is damaged")
        begin = head + 30 + sum(struct.unpack("<HH", view[head + 26 : head + 30]))
        data = _bytes(view, begin, info.file_size)
        if zlib.crc32(data) != info.CRC:
            raise WeightsError(f"{name!r} in it is damaged: its checksum does not fit")
        return data

    order = bytes(stored(f"{prefix}byteorder")) if f"{prefix}byteorder" in entries else b"little"
    if order not in (b"little", b"big"):
        raise WeightsError(f"its byte order is {order[:20]!r}, expected little or big")
    storages: dict[str, _Storage] = {}

    def load(kind: str, key: str, numel: int) -> _Storage:
        name = f"{prefix}data/{key}"
        if name not in entries:
            raise WeightsError(f"the data of {name!r} is not in it: the file is cut short")
        if key not in storages:
            storages[key] = _Storage(numel, stored(name))
        return storages[key].typed(kind, numel)

    pickled = io.BytesIO(stored(found[0]).tobytes())
    return _TorchUnpickler(pickled, load, "<" if order == b"little" else ">").load()


def _read_legacy(file, view: mmap.mmap, start: bytes):
    if start[257:262] == b"ustar":
        raise WeightsError(
            "it has the tar format of the first PyTorch versions; load and save it again with a newer one"
        )
    storages: dict[str, _Storage] = {}

    def later(kind: str, key: str, numel: int) -> _Storage:
        storage = storages.setdefault(key, _Storage(numel, None))
        return storage.typed(kind, numel)

    def part():
        return _TorchUnpickler(file, later, "<")

    if part().load() != LEGACY_MAGIC or part().load() != LEGACY_VERSION:
        raise WeightsError("a pickle, but not one of torch.save")
    system = part().load()
    order = "<" if isinstance(system, dict) and system.get("little_endian", True) else ">"
    content = _TorchUnpickler(file, later, order).load()
    keys = part().load()
    place = file.tell()
    for key in keys:  # in this order, each as the number of its elements and their bytes
        (numel,) = struct.unpack("<q" if order == "<" else ">q", view[place : place + 8])
        storage = storages.get(key)
        if storage is None or numel != storage.numel:
            raise WeightsError(
                f"the sizes of its data do not fit what it says of them (data {str(key)[:40]!r})"
            )
        storage.data = _bytes(view, place + 8, numel * storage.itemsize)
        place += 8 + numel * storage.itemsize
    return content


def _bytes(view: mmap.mmap, begin: int, size: int) -> np.ndarray:
    if size < 0 or begin + size > len(view):
        raise WeightsError("the file is cut short")
    return np.frombuffer(view, np.uint8, size, begin) if size else np.zeros(0, np.uint8)


# --- stand-ins ----------------------------------------------------------------------------------------------------------


class _Fixed:
    """What a pickle cannot change once it is made."""

    def __setstate__(self, state):
        raise WeightsError(f"it changes a {_kind(self)} after it was made: refused")


class _Storage(_Fixed):
    """The bytes behind one or more tensors; `data` follows later where the format has it at the end."""

    def __init__(self, numel: int, data: np.ndarray | None):
        self.numel, self.data, self.itemsize, self.kind = numel, data, 1, ""

    def typed(self, kind: str, numel: int) -> "_Storage":
        if self.kind not in ("", kind) or self.numel != numel:
            raise WeightsError("two tensors share data, but tell its type or size differently")
        self.kind, self.itemsize = kind, np.dtype(_TYPES[kind]).itemsize
        if self.data is not None and len(self.data) != numel * self.itemsize:
            raise WeightsError(f"{len(self.data)} bytes of data for {numel} numbers of type {kind}")
        return self


class _Tensor(_Fixed):
    """A window on a storage; everything is checked where the array is made, since strides could lead anywhere."""

    def __init__(self, storage, offset, shape, strides, dtype, order):
        self._told = (storage, offset, shape, strides, dtype, order)

    def array(self) -> np.ndarray:
        storage, offset, shape, strides, dtype, order = self._told
        if not isinstance(storage, _Storage) or storage.data is None:
            raise WeightsError("it holds a tensor without data")
        numbers = (offset, *shape, *strides)
        if (
            len(shape) != len(strides)
            or len(shape) > 32
            or not all(type(n) is int and 0 <= n < 2**60 for n in numbers)
        ):
            raise WeightsError(
                f"it holds a tensor of shape {str(shape)[:80]} and strides {str(strides)[:80]}"
            )
        data = storage.data.view(np.dtype(dtype).newbyteorder(order))
        count = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if count and (last >= len(data) or count > len(data)):
            raise WeightsError(
                f"it holds a tensor {list(shape)} that reaches beyond its data of {len(data)} numbers"
            )
        if not count:
            return np.zeros(shape, dtype)
        strides = [s * data.itemsize for s in strides]
        array = np.lib.stride_tricks.as_strided(data[offset:], shape, strides, writeable=False)
        return array if data.dtype.isnative else array.astype(dtype)


class _Skipped:
    """An object beside the weights: takes whatever the file gives it, and keeps nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


class _Dict(dict):
    """An OrderedDict; the attributes that PyTorch gives it (`_metadata`) are not kept."""

    def __setstate__(self, state):
        pass


# The one in Python: a made-up memo index makes the one in C fill the memory.
class _TorchUnpickler(pickle._Unpickler):
    """Reads tensors, plain containers, and nothing else.

    Args:
        file: where it stands, at the place to read from.
        load: (type, key, number of elements) -> the storage that a tensor refers to.
        order: of the bytes, `<` or `>`.
    """

    def __init__(self, file, load, order: str):
        super().__init__(file, encoding="latin1")
        self._storage, self._order = load, order

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise WeightsError("it refers to something outside of it")
        _, kind, key, _, numel = pid[:5]
        if kind not in _TYPES or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise WeightsError(
                f"it holds data of type {str(kind)[:40]!r}, expected one of {', '.join(_TYPES)}"
            )
        if pid[5:] not in ((), (None,)):
            raise WeightsError(
                "it holds views of data, as PyTorch before 0.4 wrote; load and save it again with a newer one"
            )
        return self._storage(kind, key, numel)

    def find_class(self, module, name):
        """A stand-in for what the file calls `module.name`.

        They are bound methods and strings, on which a pickle cannot set anything; a skipped class is made anew each time.
        """
        known = {
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self._tensor_v3,
            ("torch._utils", "_rebuild_parameter"): self._first,
            ("torch._utils", "_rebuild_parameter_with_state"): self._first,
            ("torch._tensor", "_rebuild_from_type_v2"): self._from_type,
            ("torch", "Tensor"): "Tensor",  # these two are only ever arguments
            ("torch.nn.parameter", "Parameter"): "Parameter",
            ("torch", "Size"): self._tuple,
            ("collections", "OrderedDict"): self._dict,
            ("builtins", "dict"): self._dict,
            ("builtins", "tuple"): self._tuple,
            ("builtins", "list"): self._list,
            ("builtins", "set"): self._set,
            ("builtins", "frozenset"): self._set,
            ("_codecs", "encode"): self._encode,
        }
        place = "builtins" if module == "__builtin__" else module
        if (place, name) in known:
            return known[place, name]
        if module in ("torch", "torch.storage") and name.removesuffix("Storage") in _TYPES:
            return name.removesuffix("Storage")
        if module == "torch" and name in _DTYPES:
            return name
        if _BESIDE.fullmatch(f"{module}.{name}"):
            return type("Skipped", (_Skipped,), {})
        raise WeightsError(
            f"it refers to {module}.{name}, which is neither a tensor nor a plain container: refused, nothing of it was run"
        )

    def _tensor(self, storage, offset, size, stride, *_):
        kind = storage.kind if isinstance(storage, _Storage) else ""
        return _Tensor(
            storage,
            offset,
            self._tuple(size),
            self._tuple(stride),
            _TYPES.get(kind, "u1"),
            self._order,
        )

    def _tensor_v3(self, storage, offset, size, stride, requires_grad, hooks, dtype, *_):
        if dtype not in _DTYPES:
            raise WeightsError(f"it holds a tensor of type {str(dtype)[:40]!r}")
        return _Tensor(
            storage, offset, self._tuple(size), self._tuple(stride), _DTYPES[dtype], self._order
        )

    def _first(self, data, *_):
        return data

    def _from_type(self, function, kind, args, state):
        if function not in (self._tensor, self._tensor_v3, self._first):
            raise WeightsError("it makes a tensor in an unknown way: refused")
        return function(*args)

    def _tuple(self, values=()):
        return tuple(values)

    def _list(self, values=()):
        return list(values)

    def _set(self, values=()):
        return frozenset(values)

    def _dict(self, items=()):
        return _Dict(items)

    def _encode(self, text, encoding):
        if encoding != "latin1":
            raise WeightsError(f"it holds text in {str(encoding)[:40]!r}: refused")
        return text.encode("latin1")
