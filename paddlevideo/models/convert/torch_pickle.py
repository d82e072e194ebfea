"""The pickles in PyTorch's files: tensors and plain containers, without running code.

A pickle may call any function that it names. The unpickler therefore knows a few names only, each
with a stand-in defined here; a file with another name is rejected.
"""

import math
import re

import numpy as np

from paddlevideo.bounded_pickle import BoundedUnpickler, Skipped, WeightsError, kind_of

# PyTorch's type -> NumPy's. bfloat16, which NumPy lacks, is read as uint16, as in `weights`.
STORAGE_TYPES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "b1", "Untyped": "u1",
}  # fmt: skip
DTYPES = {
    "float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": "u2", "int64": "i8",
    "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "b1",
}  # fmt: skip
MAX_EMPTY = 1 << 20  # sizes of a tensor without elements
# Objects that training frameworks store with the weights. They are skipped without reading them;
# all other unknown objects are rejected.
_SKIPPED_MODULES = re.compile(
    r"(mmengine|mmcv|mmaction|yacs|fvcore|argparse|datetime|pathlib|numpy)\..*|torch\.device"
)


class _Immutable:
    """An object that a pickle cannot change after its creation."""

    def __setstate__(self, state):
        raise WeightsError(f"it changes a {kind_of(self)} after its creation, which is not allowed")


class Storage(_Immutable):
    """The bytes of one or more tensors; `data` is set later where the format stores it last."""

    def __init__(self, numel: int, data: np.ndarray | None):
        self.numel, self.data, self.itemsize, self.kind = numel, data, 1, ""

    def typed(self, kind: str, numel: int) -> "Storage":
        """Set the type, and check it against that of other tensors of this storage."""
        if self.kind not in ("", kind) or self.numel != numel:
            raise WeightsError("two tensors share data, but differ in its type or size")
        self.kind, self.itemsize = kind, np.dtype(STORAGE_TYPES[kind]).itemsize
        if self.data is not None and len(self.data) != numel * self.itemsize:
            raise WeightsError(f"{len(self.data)} bytes of data for {numel} numbers of type {kind}")
        return self


class Tensor(_Immutable):
    """A view of a storage, checked when its array is created: a file may claim any strides."""

    def __init__(self, storage, offset, shape, strides, dtype, order):
        self._arguments = (storage, offset, shape, strides, dtype, order)

    def array(self) -> np.ndarray:
        """The elements, as a view of the storage."""
        storage, offset, shape, strides, dtype, order = self._arguments
        if not isinstance(storage, Storage) or storage.data is None:
            raise WeightsError("it contains a tensor without data")
        numbers = (offset, *shape, *strides)
        if not all(type(n) is int and 0 <= n < 2**60 for n in numbers):
            raise WeightsError("it contains a tensor whose shape or strides are not sizes")
        if len(shape) != len(strides) or len(shape) > 32:
            raise WeightsError(
                f"it contains a tensor of shape {shape[:9]} and strides {strides[:9]}"
            )
        data = storage.data.view(np.dtype(dtype).newbyteorder(order))
        count = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if count and (last >= len(data) or count > len(data)):
            raise WeightsError(
                f"it contains a tensor {list(shape)} that exceeds its data of {len(data)} numbers"
            )
        if not count:
            if max(shape) > MAX_EMPTY:
                raise WeightsError(f"it contains a tensor {list(shape)} without elements")
            return np.zeros(shape, dtype)
        strides = [s * data.itemsize for s in strides]
        array = np.lib.stride_tricks.as_strided(data[offset:], shape, strides, writeable=False)
        return array if data.dtype.isnative else array.astype(dtype)


class TorchUnpickler(BoundedUnpickler):
    """Reads tensors and plain containers, nothing else.

    Args:
        file: open at the position of the pickle.
        size: bytes of the file.
        load_storage: (type, key, number of elements) -> the storage of a tensor.
        order: byte order, `<` or `>`.
    """

    def __init__(self, file, size: int, load_storage, order: str):
        super().__init__(file, size)
        self._load_storage, self._order = load_storage, order

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise WeightsError("it refers to an object outside of the file")
        _, kind, key, _, numel = pid[:5]
        valid = isinstance(key, str) and type(numel) is int and numel >= 0
        if not valid or not isinstance(kind, str) or kind not in STORAGE_TYPES:
            given = repr(kind[:40]) if isinstance(kind, str) else f"a {kind_of(kind)}"
            raise WeightsError(
                f"it contains data of type {given}, expected one of {', '.join(STORAGE_TYPES)}"
            )
        if pid[5:] not in ((), (None,)):
            raise WeightsError(
                "it contains views of data, as PyTorch before 0.4 wrote them; load and save it "
                "again with a newer version"
            )
        return self._load_storage(kind, key, numel)

    def find_class(self, module, name):
        """The stand-in for `module.name`.

        Stand-ins are bound methods and strings, on which a pickle cannot set attributes.

        Raises:
            WeightsError: the name is neither a tensor, nor a plain container, nor skipped.
        """
        known = {
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self._tensor_v3,
            ("torch._utils", "_rebuild_parameter"): self._first,
            ("torch._utils", "_rebuild_parameter_with_state"): self._first,
            ("torch._tensor", "_rebuild_from_type_v2"): self._from_type,
            ("torch", "Tensor"): "Tensor",  # this and the next are used as arguments only
            ("torch.nn.parameter", "Parameter"): "Parameter",
            ("torch", "Size"): self.make_tuple,
            ("collections", "OrderedDict"): self.make_dict,
            ("builtins", "dict"): self.make_dict,
            ("builtins", "tuple"): self.make_tuple,
            ("builtins", "list"): self.make_list,
            ("builtins", "set"): self.make_set,
            ("builtins", "frozenset"): self.make_set,
            ("_codecs", "encode"): self.make_bytes,
        }
        key = ("builtins" if module == "__builtin__" else module, name)
        if key in known:
            return known[key]
        if module in ("torch", "torch.storage") and name.removesuffix("Storage") in STORAGE_TYPES:
            return name.removesuffix("Storage")
        if module == "torch" and name in DTYPES:
            return name
        if _SKIPPED_MODULES.fullmatch(f"{module}.{name}"):
            return self._skip
        raise WeightsError(
            f"it refers to {module[:80]}.{name[:80]}, which is neither a tensor nor a plain "
            "container; the file is rejected, and no code in it was run"
        )

    def _tensor(self, storage, offset, size, stride, *_):
        kind = storage.kind if isinstance(storage, Storage) else ""
        return Tensor(
            storage,
            offset,
            self.make_tuple(size),
            self.make_tuple(stride),
            STORAGE_TYPES.get(kind, "u1"),
            self._order,
        )

    def _tensor_v3(self, storage, offset, size, stride, requires_grad, hooks, dtype, *_):
        if not isinstance(dtype, str) or dtype not in DTYPES:
            given = repr(dtype[:40]) if isinstance(dtype, str) else f"a {kind_of(dtype)}"
            raise WeightsError(f"it contains a tensor of type {given}")
        return Tensor(
            storage,
            offset,
            self.make_tuple(size),
            self.make_tuple(stride),
            DTYPES[dtype],
            self._order,
        )

    def _first(self, data, *_):
        return data

    def _from_type(self, function, kind, args, state):
        if function not in (self._tensor, self._tensor_v3, self._first):
            raise WeightsError("it creates a tensor in an unknown way, which is not allowed")
        return self._call(function, args)

    def _skip(self, *_):
        return Skipped()
