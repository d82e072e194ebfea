"""PyTorch's weight files (`.pth`, `.pt`, `.pyth`) as arrays, without PyTorch.

Both formats of `torch.save` are read: the zip archive (since PyTorch 1.6) and the older sequence of
pickles. No code in the file is run, see `torch_pickle`. The arrays are views of the memory-mapped
file. A zip archive is read once for its checksums; otherwise only the data that is used is read.
"""

import io
import mmap
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from paddlevideo.array_files import open_archive
from paddlevideo.bounded_pickle import kind_of
from paddlevideo.models.convert.torch_pickle import Storage, Tensor, TorchUnpickler
from paddlevideo.safe_pickle import WeightsError, reading
from paddlevideo.sample import Arrays

SUFFIXES = (".pth", ".pt", ".pyth")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
MAX_SHARED = 16 << 20  # bytes of tensors, beyond four times the size of the file
# Keys of a checkpoint under which its weights are stored.
STATE_KEYS = ("state_dict", "model_state", "model_state_dict", "model")


def read_torch(path: str | Path) -> Arrays:
    """Read the weights in a file of `torch.save`: a state dict, or a checkpoint with one.

    Names are unchanged and in order, without the prefix `module.` of data-parallel training. The
    arrays have the shapes of the tensors, whatever their strides, and are read-only.

    Raises:
        WeightsError: the file is missing or damaged, is not a PyTorch file, or contains more than
            tensors and plain containers.
    """
    path = Path(path)
    with reading(path, "a PyTorch file", SUFFIXES), path.open("rb") as file:
        start = file.read(512)
        if not start:
            raise WeightsError("the file is empty")
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        file.seek(0)
        if start.startswith(b"PK"):
            content = _read_zip(file, view)
        else:
            content = _read_legacy(file, view, start)
        return _arrays_in(content, len(view))


def _arrays_in(content, size: int) -> Arrays:
    """The tensors of a state dict, found at the top level or under the usual keys."""
    if not isinstance(content, dict):
        raise WeightsError(
            f"it contains a {kind_of(content)}, expected a state dict or a checkpoint with one"
        )
    for key in STATE_KEYS:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    allowed = (Tensor, bool, int, float)
    other = [name for name, value in content.items() if not isinstance(value, allowed)]
    if other or not content:
        problem = "it is empty"
        if other:
            problem = f"{str(other[0])[:80]!r} is a {kind_of(content[other[0]])}"
        raise WeightsError(
            f"no state dict found, neither at the top level nor under {', '.join(STATE_KEYS)}: "
            f"{problem}, expected named tensors"
        )
    arrays, left = {}, MAX_SHARED + 4 * size
    for name, value in content.items():
        array = value.array() if isinstance(value, Tensor) else np.asarray(value)
        # Tensors may share data, as tied weights do; but a small file must not become many arrays.
        left -= array.nbytes
        if left < 0:
            raise WeightsError("too many of its tensors share the same data")
        arrays[str(name)] = array
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    return arrays


# --- the two formats --------------------------------------------------------------------------


def _read_zip(file, view: mmap.mmap):
    archive = open_archive(file)
    entries = {info.filename: info for info in archive.infolist()}
    if sum(info.file_size for info in archive.infolist()) > len(view):
        raise WeightsError("its entries overlap or are compressed, which torch.save never does")
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError("a zip archive, but not one of torch.save: it has no data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in entries:
        raise WeightsError(
            "it contains a TorchScript program; save its state_dict() with torch.save instead"
        )

    def stored(name: str) -> np.ndarray:
        """uint8 view of an entry.

        torch.save never compresses, so a small file cannot expand to fill the memory.
        """
        info = entries[name]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise WeightsError(
                f"its entry {name!r} is compressed or encrypted, which torch.save never does"
            )
        head = info.header_offset
        if view[head : head + 4] != b"PK\x03\x04":
            raise WeightsError(f"its entry {name!r} has no header: the file is damaged")
        begin = head + 30 + sum(struct.unpack("<HH", view[head + 26 : head + 30]))
        data = _bytes(view, begin, info.file_size)
        if zlib.crc32(data.data) != info.CRC:
            raise WeightsError(f"its entry {name!r} does not match its checksum: it is damaged")
        return data

    order = bytes(stored(f"{prefix}byteorder")) if f"{prefix}byteorder" in entries else b"little"
    if order not in (b"little", b"big"):
        raise WeightsError(f"its byte order is {order[:20]!r}, expected little or big")
    storages: dict[str, Storage] = {}

    def load(kind: str, key: str, numel: int) -> Storage:
        name = f"{prefix}data/{key}"
        if name not in entries:
            raise WeightsError(f"it has no entry {name!r}: the file is truncated")
        if key not in storages:
            storages[key] = Storage(numel, stored(name))
        return storages[key].typed(kind, numel)

    pickled = stored(pickles[0]).tobytes()
    byte_order = "<" if order == b"little" else ">"
    return TorchUnpickler(io.BytesIO(pickled), len(pickled), load, byte_order).load()


def _read_legacy(file, view: mmap.mmap, start: bytes):
    if start[257:262] == b"ustar":
        raise WeightsError(
            "it has the tar format of the first PyTorch versions; load and save it again with a "
            "newer version"
        )
    storages: dict[str, Storage] = {}

    def declare(kind: str, key: str, numel: int) -> Storage:
        storage = storages.setdefault(key, Storage(numel, None))  # its data follows the pickles
        return storage.typed(kind, numel)

    def load_next(order: str = "<"):
        return TorchUnpickler(file, len(view), declare, order).load()

    if load_next() != LEGACY_MAGIC or load_next() != LEGACY_VERSION:
        raise WeightsError("a pickle, but not one of torch.save")
    system = load_next()  # facts about the machine that wrote it
    order = "<" if isinstance(system, dict) and system.get("little_endian", True) else ">"
    content = load_next(order)
    keys = load_next()
    offset = file.tell()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise WeightsError("its list of data is damaged")
    for key in keys:  # in this order: number of elements, then their bytes
        (numel,) = struct.unpack(f"{order}q", view[offset : offset + 8])
        storage = storages.get(key)
        if storage is None or numel != storage.numel:
            raise WeightsError(
                f"the size of its data {key[:40]!r} differs from the size in its pickle"
            )
        storage.data = _bytes(view, offset + 8, numel * storage.itemsize)
        offset += 8 + numel * storage.itemsize
    return content


def _bytes(view: mmap.mmap, begin: int, size: int) -> np.ndarray:
    if size < 0 or begin + size > len(view):
        raise WeightsError("the file is truncated")
    return np.frombuffer(view, np.uint8, size, begin) if size else np.zeros(0, np.uint8)
