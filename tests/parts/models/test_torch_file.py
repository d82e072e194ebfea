"""Weight files of PyTorch in both formats of torch.save, valid and damaged."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from paddlevideo.models.convert.torch_file import LEGACY_MAGIC, LEGACY_VERSION, read_torch
from paddlevideo.weights import WeightsError

TYPES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "uint16": "BFloat16Storage",
}


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """Stand-ins for the modules and names of PyTorch that pickle needs for writing."""
    for name in ("torch", "torch._utils", "torch.nn.parameter", "mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    def define(module, name):
        value = type(name, (), {"__module__": module})
        monkeypatch.setattr(sys.modules[module], name, value, raising=False)
        return value

    for storage in TYPES.values():
        define("torch", storage)
    for name in ("Size", "device"):
        define("torch", name)
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_sparse_tensor"):
        define("torch._utils", name)
    define("mmengine.logging", "HistoryBuffer")
    return sys.modules


class Storage:
    def __init__(self, array, key, kind=None, numel=None):
        self.array, self.key = array, str(key)
        self.kind, self.numel = (
            kind or TYPES[array.dtype.name],
            array.size if numel is None else numel,
        )


class Call:
    """Pickles as a call of a named function or class."""

    def __init__(self, module, name, *arguments, state=None):
        self.module, self.name, self.arguments, self.state = module, name, arguments, state

    def __reduce__(self):
        function = getattr(sys.modules[self.module], self.name)
        if self.state is None:
            return function, self.arguments
        return function, self.arguments, self.state


def tensor(array, key="0", storage=None, offset=0, shape=None, strides=None):
    array = np.asarray(array)
    storage = storage or Storage(array, key)
    shape = array.shape if shape is None else shape
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    return Call(
        "torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, OrderedDict()
    )


class Writer(pickle.Pickler):
    """Pickles storages as references."""

    def __init__(self, file, legacy):
        super().__init__(file, 2)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value
        kind = getattr(sys.modules["torch"], value.kind)
        return ("storage", kind, value.key, "cpu", value.numel, *((None,) if self.legacy else ()))


def save(path, content, compress=zipfile.ZIP_STORED, order=b"little", extra=()):
    pickled = io.BytesIO()
    writer = Writer(pickled, legacy=False)
    writer.dump(content)
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", order)
        for key, storage in writer.storages.items():
            array = (
                storage.array.astype(storage.array.dtype.newbyteorder(">"))
                if order == b"big"
                else storage.array
            )
            archive.writestr(f"archive/data/{key}", array.tobytes())
        for name in extra:
            archive.writestr(f"archive/{name}", b"")
    return path


def save_legacy(path, content):
    with path.open("wb") as file:
        for part in (
            LEGACY_MAGIC,
            LEGACY_VERSION,
            {"little_endian": True, "protocol_version": 1001},
        ):
            pickle.dump(part, file, 2)
        writer = Writer(file, legacy=True)
        writer.dump(content)
        pickle.dump(sorted(writer.storages), file, 2)
        for _, storage in sorted(writer.storages.items()):
            file.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())
    return path


def arrays():
    rng = np.random.default_rng(0)
    found = {name: (rng.random((3, 4)) * 100).astype(name) for name in TYPES if name != "bool"}
    return {
        **found,
        "flag": np.array([True, False]),
        "scalar": np.array(3.5, "float32"),
        "none": np.zeros((0, 3), "float32"),
    }


def state_dict(prefix=""):
    return OrderedDict(
        (prefix + name, tensor(array, i)) for i, (name, array) in enumerate(arrays().items())
    )


def check(found, expected=None):
    expected = expected or arrays()
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


# --- valid files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [save, save_legacy])
def test_reads_every_type(write, tmp_path):
    found = read_torch(write(tmp_path / "a.pth", state_dict()))
    check(found)
    assert not found["float32"].flags.writeable, "a view of the file"


def test_reads_big_endian_files(tmp_path):
    check(read_torch(save(tmp_path / "a.pth", state_dict(), order=b"big")))


@pytest.mark.parametrize("key", ["state_dict", "model_state", "model"])
def test_reads_the_weights_of_a_checkpoint(key, tmp_path):
    content = {
        "epoch": 3,
        key: state_dict("module."),
        "optimizer": {
            "state": {0: {"momentum": tensor([1.0], 99)}},
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        },
        "meta": {
            "classes": ("a", "b"),
            "seed": None,
            "numbers": {1, 2},
            "device": Call("torch", "device", "cpu"),
        },
        "history": Call("mmengine.logging", "HistoryBuffer", state={"_history": [1, 2]}),
        "best": np.float64(0.5),
    }
    check(read_torch(save(tmp_path / "a.pth", content)))


def test_reads_views_of_shared_data(tmp_path):
    base = np.arange(24, dtype="float32").reshape(4, 6)
    storage = Storage(base, 0)
    content = {
        "all": tensor(base, storage=storage),
        "transposed": tensor(base, storage=storage, shape=(6, 4), strides=(1, 6)),
        "part": tensor(base, storage=storage, offset=6, shape=(3, 3), strides=(6, 2)),
        "parameter": Call(
            "torch._utils", "_rebuild_parameter", tensor(base, storage=storage), True, OrderedDict()
        ),
    }
    check(
        read_torch(save(tmp_path / "a.pth", content)),
        {"all": base, "transposed": base.T, "part": base[1:, ::2], "parameter": base},
    )


# --- rejected files -------------------------------------------------------------------------------


class CallsFail:
    def __reduce__(self):
        return (pytest.fail, ("it ran",))


class CallsShell:
    def __reduce__(self):
        return (__import__("os").system, ("echo ran > ran.txt",))


@pytest.mark.parametrize("write", [save, save_legacy])
@pytest.mark.parametrize(("bad", "named"), [(CallsFail(), r"_pytest\S+"), (CallsShell(), "system")])
def test_rejects_code_without_running_it(write, bad, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.pth", {"weight": tensor([1.0]), "more": bad})
    with pytest.raises(
        WeightsError,
        match=f"a.pth: it refers to .*{named}, which is neither .* rejected, and no code in it",
    ):
        read_torch(path)
    assert not (tmp_path / "ran.txt").exists()


def names(content):
    """A pickle with handwritten opcodes that name functions which are not allowed."""
    return b"\x80\x02" + content + b"."


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(X\x03\x00\x00\x001+1tR",
        b"cbuiltins\ngetattr\n",
        b"ctorch\nload\n",
        b"ctorch._utils\n_rebuild_sparse_tensor\n",
        # Sets attributes of a known function.
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__(tsb",
        b"ccollections\nOrderedDict\nN}X\x05\x00\x00\x00itemsK\x01s\x86b",
        b"cpaddlevideo.torchfile\nread_torch\n",
    ],
)
def test_rejects_other_names(content, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", names(content))
    with pytest.raises(WeightsError, match=r"a\.pth: "):
        read_torch(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (
            {"shape": (5,), "strides": (1,)},
            r"a tensor \[5\] that exceeds its data of 4 numbers",
        ),
        ({"shape": (2,), "strides": (2**40,)}, "exceeds its data"),
        ({"offset": -1}, r"strides"),
        ({"shape": (4,), "strides": (-1,)}, r"strides"),
        ({"shape": (10**6, 10**6), "strides": (0, 0)}, "exceeds its data"),  # would fill the memory
        ({"shape": (4,), "strides": (1, 1)}, r"shape \(4,\) and strides \(1, 1\)"),
        ({"shape": ("4",), "strides": (1,)}, "shape"),
    ],
)
def test_rejects_views_beyond_their_data(view, message, tmp_path):
    path = save(tmp_path / "a.pth", {"weight": tensor(np.ones(4, "float32"), **view)})
    with pytest.raises(WeightsError, match=message):
        read_torch(path)


@pytest.mark.parametrize("write", [save, save_legacy])
def test_rejects_sizes_that_disagree(write, tmp_path):
    array = np.ones(4, "float32")
    with pytest.raises(
        WeightsError, match="bytes of data for 5 numbers|size of its data '0' differs"
    ):
        read_torch(
            write(tmp_path / "a.pth", {"weight": tensor(array, storage=Storage(array, 0, numel=5))})
        )


def test_rejects_two_types_of_the_same_data(tmp_path):
    array = np.ones(4, "float32")
    other = tensor(array, storage=Storage(array, 0, kind="IntStorage"))
    with pytest.raises(WeightsError, match="share data, but differ in its type or size"):
        read_torch(save(tmp_path / "a.pth", {"a": tensor(array, 0), "b": other}))


def test_rejects_files_without_weights(tmp_path):
    for content, message in (
        ({}, "no state dict found"),
        ([tensor([1.0])], "it contains a list, expected a state dict"),
        ({"epoch": 1, "notes": "none"}, "'notes' is a str, expected named tensors"),
        ({"state_dict": {"a": {"b": 1}}}, "'a' is a dict"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_torch(save(tmp_path / "a.pth", content))


def test_rejects_other_files(tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(WeightsError, match="there is no such file"):
        read_torch(path)
    for content, message in (
        (b"", "the file is empty"),
        (b"hello", "not a PyTorch file, or damaged"),
        (pickle.dumps({"a": 1}), "a pickle, but not one of torch.save"),
        (b"x" * 257 + b"ustar" + b"x" * 300, "tar format"),
    ):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            read_torch(path)
    np.savez(tmp_path / "b.npz", a=np.ones(2))
    (tmp_path / "b.npz").rename(path)
    with pytest.raises(WeightsError, match="no data.pkl"):
        read_torch(path)
    for arguments, message in (
        ({"extra": ["constants.pkl"]}, "TorchScript"),
        ({"compress": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"order": b"middle"}, "byte order is b'middle'"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_torch(save(path, state_dict(), **arguments))
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsError, match="cannot be read"):
        read_torch(path)


@pytest.mark.parametrize("write", [save, save_legacy])
def test_rejects_or_reads_damaged_files(write, tmp_path):
    """Truncated and changed files are rejected, or read where the format has no checksum."""
    valid = write(tmp_path / "valid.pth", state_dict()).read_bytes()
    rng, path, rejected = np.random.default_rng(0), tmp_path / "a.pth", 0
    for number in range(300):
        data = bytearray(valid)
        if number < 100:
            data = data[: rng.integers(len(data))]
        else:
            for index in rng.integers(0, len(data), 1 + number % 3):
                data[index] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            read_torch(path)
        except WeightsError as error:
            assert str(error).startswith(str(path))
            rejected += 1
    assert rejected > 150


def test_a_small_file_cannot_become_many_arrays(tmp_path):
    storage = Storage(np.zeros(100_000, "float32"), 0)
    tied = {f"w{number}": tensor(storage.array, storage=storage) for number in range(200)}
    for order in (b"little", b"big"):
        with pytest.raises(WeightsError, match="too many of its tensors share the same data"):
            read_torch(save(tmp_path / "a.pth", tied, order=order))
    few = {name: tied[name] for name in ("w0", "w1", "w2")}
    assert len(read_torch(save(tmp_path / "a.pth", few))) == 3


def test_rejects_entries_that_overlap(tmp_path):
    """Every entry is read for its checksum, so overlapping ones would take quadratic time."""
    content = save(tmp_path / "a.pth", state_dict()).read_bytes()
    size = content.rindex(b"PK\x01\x02") + 24
    forged = content[:size] + struct.pack("<I", len(content)) + content[size + 4 :]
    (tmp_path / "a.pth").write_bytes(forged)
    with pytest.raises(WeightsError, match="its entries overlap or are compressed"):
        read_torch(tmp_path / "a.pth")


def test_a_file_cannot_change_a_skipped_class(tmp_path):
    for end, message in (
        (b")\x81}X\x01\x00\x00\x00aNsb", "it contains a object"),
        (b"}X\x01\x00\x00\x00aNsb", "it changes a function, which is not allowed"),
    ):
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("archive/data.pkl", names(b"cmmengine.config\nConfig\n" + end))
        with pytest.raises(WeightsError, match=message):
            read_torch(tmp_path / "a.pth")
