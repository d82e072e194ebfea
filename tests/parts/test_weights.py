"""Weight files: whole or not at all, nothing in them is run, every name accounted for."""

import errno
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paddle import nn

from paddlevideo import weights
from paddlevideo.files import atomic_write
from paddlevideo.weights import (
    WeightsError,
    checksum,
    load_into,
    read_arrays,
    state_arrays,
    write_arrays,
)

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "half": np.array([0.5, -2], np.float16),
    "bits": np.array([0x3F80, 0xC000], np.uint16),
    "count": np.array(7, np.int64),
    "flag": np.array([True, False]),
    "none": np.zeros((0, 3), np.float32),
    "ünïcode": np.frombuffer(b"bytes", np.uint8),
    "big endian": np.array([1.5, 2.5], ">f4"),
}


def equal(left, right) -> bool:
    pairs = zip(left.values(), right.values(), strict=True)
    same = [
        a.dtype in (b.dtype, b.dtype.newbyteorder("=")) and a.shape == b.shape for a, b in pairs
    ]
    return (
        list(left) == list(right)
        and all(same)
        and all(np.array_equal(left[k], right[k]) for k in left)
    )


def refusal(path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_arrays(path)
    assert str(caught.value).startswith(f"{path}: "), "the message names the file"
    return str(caught.value).removeprefix(f"{path}: ")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_in_a_folder_that_was_not_there(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent and not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole" and os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("broke"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")],
)
def test_the_old_file_stays_when_writing_fails(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    path = tmp_path / "model.pdparams"
    write_arrays(path, {"w": np.zeros(3, np.float32)})
    before = path.read_bytes()

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError,
        match="model.pdparams: No space left on device; a file that was there before is kept",
    ) as caught:
        write_arrays(path, ARRAYS)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.pdparams"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_fills_up_while_writing(tmp_path, monkeypatch):
    path = tmp_path / "model.pdparams"
    path.write_bytes(b"old")
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *a, **k: opened(Path("/dev/full") if ".tmp" in self.name else self, *a, **k),
    )
    with pytest.raises(OSError, match="No space left on device"):
        write_arrays(path, ARRAYS)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["model.pdparams"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_a_folder_that_may_not_be_written(tmp_path):
    path = tmp_path / "model.pdparams"
    path.write_bytes(b"old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="cannot write .*model.pdparams: Permission denied"):
            write_arrays(path, ARRAYS)
        assert path.read_bytes() == b"old"
    finally:
        tmp_path.chmod(0o700)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "output").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write .*output/model.pdparams: "):
        write_arrays(tmp_path / "output" / "model.pdparams", ARRAYS)


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt", ".pdstate", ".safetensors"])
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    arrays = {k: v for k, v in ARRAYS.items() if suffix != ".safetensors" or k != "big endian"}
    write_arrays(path, arrays)
    back = read_arrays(path)
    order = sorted if suffix == ".safetensors" else list
    assert equal({k: back[k] for k in order(back)}, {k: arrays[k] for k in order(arrays)})
    for array in back.values():
        array[...] = 0  # they are the reader's own
    assert equal(
        *({k: read_arrays(path)[k] for k in order(arrays)}, {k: arrays[k] for k in order(arrays)})
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_pickle_protocols(tmp_path, protocol):
    path = tmp_path / "file.pdparams"
    content = OrderedDict(
        ARRAYS, scalar=np.float32(2.5), number=3, pair=("conv2d_0.w_0", np.ones(2))
    )
    path.write_bytes(pickle.dumps(content, protocol))
    back = read_arrays(path)
    assert (back.pop("scalar"), back.pop("number"), back.pop("pair").tolist()) == (2.5, 3, [1, 1])
    assert equal(back, ARRAYS)


@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_names_of_numpy_1_and_2(tmp_path, module):
    path = tmp_path / "file.pdparams"
    text = (
        pickle.dumps({"w": np.ones((2, 2), np.float32)}, 2)
        .replace(b"numpy._core", b"numpy.core")
        .replace(b"numpy.core", module)
    )
    path.write_bytes(text)
    assert read_arrays(path)["w"].tolist() == [[1, 1], [1, 1]]


def test_python_2_wrote_bytes_as_text(tmp_path):
    data = struct.pack("<2f", 1.5, -2.0)
    text = (
        b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(data)])
        + data
        + b"tbs."
    )
    path = tmp_path / "file.pdparams"
    path.write_bytes(text)
    assert read_arrays(path)["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_is_read(tmp_path, protocol):
    model = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = paddle.optimizer.Momentum(parameters=model.parameters())
    model(paddle.ones([1, 3, 3, 3])).sum().backward()
    optimizer.step()
    paddle.save(model.state_dict(), str(tmp_path / "m.pdparams"), protocol=protocol)
    paddle.save(optimizer.state_dict(), str(tmp_path / "m.pdopt"), protocol=protocol)
    arrays = read_arrays(tmp_path / "m.pdparams")
    assert list(arrays) == list(model.state_dict())
    assert all(np.array_equal(arrays[k], v.numpy()) for k, v in model.state_dict().items())
    states = {k: v for k, v in optimizer.state_dict().items() if isinstance(v, paddle.Tensor)}
    assert states and all(
        np.array_equal(read_arrays(tmp_path / "m.pdopt")[k], v.numpy()) for k, v in states.items()
    )


def test_paddle_reads_what_is_written(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    write_arrays(tmp_path / "m.pdparams", state_arrays(model))
    assert other.set_state_dict(paddle.load(str(tmp_path / "m.pdparams"))) == ([], [])
    assert checksum(state_arrays(model)) == checksum(state_arrays(other))


def test_safetensors_of_others(tmp_path):
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"a": np.arange(3), "b": np.ones((2, 2), np.float32)}, path)
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2H", 0x3F80, 0xC000))
    assert read_arrays(path)["w"].tolist() == [0x3F80, 0xC000], (
        "bfloat16 comes as its bits, as Paddle passes it"
    )
    path.write_bytes(
        (struct.pack("<Q", len(header)) + header)
        .replace(b'"BF16"', b'"F8_E5M2"')
        .replace(b"7", b"A")
    )
    refusal(path)


# --- malice and damage ------------------------------------------------------------------------------------------------


class Call:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def crafted(tmp_path, content, protocol=2) -> Path:
    path = tmp_path / "weights.pdparams"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_file_is_refused_by_name_and_not_run(tmp_path, protocol):
    trap = tmp_path / "trap"
    evil = {
        "system": Call(os.system, f"touch {trap}"),
        "eval": Call(eval, f"open({str(trap)!r}, 'w')"),
        "exec": Call(exec, f"open({str(trap)!r}, 'w')"),
        "open": Call(open, str(trap), "w"),
        "numpy.save": Call(np.save, str(trap), 3),
        "numpy.load": Call(np.load, str(trap), None, True),
        "getattr": Call(getattr, os, "system"),
        "import": Call(__import__, "this"),
    }
    for name, call in evil.items():
        if name == "getattr" and protocol < 2:
            continue
        try:
            path = crafted(tmp_path, {"fine": np.ones(3), "w": call}, protocol)
        except TypeError:  # a module cannot be pickled
            continue
        assert "which is not an array: refused, nothing of it was run" in refusal(path)
    assert not trap.exists() and not (tmp_path / "trap.npy").exists()
    assert refusal(crafted(tmp_path, Call(os.system, "true"), protocol)).startswith(
        f"it refers to {os.system.__module__}.system"
    )


def test_numpy_functions_under_allowed_modules_are_refused(tmp_path):
    for line in (
        b"numpy\nload",
        b"numpy.core.multiarray\nfromfile",
        b"numpy._core._internal\neval",
        b"numpy\ndtype.type",
    ):
        path = tmp_path / "weights.pdparams"
        path.write_bytes(b"\x80\x02c" + line + b"\nU\x01x\x85R.")
        assert "refused, nothing of it was run" in refusal(path)


class Dtype(Call):
    def __init__(self, *args, state=None):
        super().__init__(np.dtype, *args)
        self.call = (np.dtype, args, state) if state else (np.dtype, args)


def array_with(dtype, data, shape=(1,)):
    class Evil:
        def __reduce__(self):
            return (
                np.zeros(1).__reduce__()[0],
                (np.ndarray, (0,), b"b"),
                (1, shape, dtype, False, data),
            )

    return {"w": Evil()}


def test_a_dtype_that_hides_objects_cannot_reach_memory(tmp_path):
    # NumPy's own reader would follow the bytes "AAAAAAAA" as a pointer.
    state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    assert "an array of 'V8', expected numbers" in refusal(
        crafted(tmp_path, array_with(Dtype("V8", False, True, state=state), b"A" * 8))
    )
    assert "expected numbers" in refusal(
        crafted(tmp_path, array_with(Dtype("O8", False, True), b"A" * 8))
    )
    assert "expected numbers" in refusal(crafted(tmp_path, {"w": np.array([{}, []], object)}))
    assert "expected numbers" in refusal(crafted(tmp_path, {"w": np.array(["text"])}))
    assert "expected numbers" in refusal(crafted(tmp_path, {"w": np.zeros(2, "f4,i4")}))
    assert refusal(crafted(tmp_path, array_with("f4", b"A" * 8)))


def test_wrong_sizes_are_damage(tmp_path):
    for shape, data in (
        ((3,), b"A" * 8),
        ((-5,), b"A" * 4),
        ((2**62, 4), b""),
        (("x",), b"AAAA"),
        ((1,), [1.0]),
        ((1,), b"A"),
    ):
        refusal(crafted(tmp_path, array_with(np.dtype("f4"), data, shape)))


def test_a_file_cannot_change_the_reader(tmp_path):
    path = tmp_path / "weights.pdparams"
    # BUILD with attributes, on what the allowed names stand for: a function, a class.
    for name in (
        b"numpy.core.multiarray\n_reconstruct",
        b"numpy\ndtype",
        b"collections\nOrderedDict",
        b"numpy\nndarray",
    ):
        path.write_bytes(b"\x80\x02c" + name + b"\nN}U\x01xK\x01s\x86b.")
        refusal(path)
    write_arrays(path, ARRAYS)
    assert equal(read_arrays(path), ARRAYS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([np.ones(2)], "it holds a list, expected a dict of arrays"),
        (np.ones(2), "it holds a _Array, expected a dict of arrays"),
        ({"w": "text"}, "'w' is a str, expected an array"),
        ({"w": None}, "'w' is a NoneType, expected an array"),
        ({"epoch": {"deep": np.ones(2)}}, "'epoch' is a dict, expected an array"),
    ],
)
def test_other_content(tmp_path, content, said):
    assert refusal(crafted(tmp_path, content)) == said


def test_bookkeeping_of_paddle_is_left_out(tmp_path):
    content = {
        "StructuredToParameterName@@": {"w": "linear_0.w_0"},
        "LR_Scheduler": {"last_epoch": 3},
        "w": np.ones(2),
    }
    assert list(read_arrays(crafted(tmp_path, content))) == ["w"]


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_damaged_and_foreign_files(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    write_arrays(path, {"w": np.ones((50, 50), np.float32)})
    whole = path.read_bytes()
    for content in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:3],
        b"",
        b"just text\n",
        b"\x89PNG\r\n",
        b"PK\x03\x04" + whole,
    ):
        path.write_bytes(content)
        assert "not a file of arrays, or damaged" in refusal(path)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), protocol=st.integers(0, 5))
def test_any_bytes_are_read_or_refused(tmp_path, data, protocol):
    whole = bytearray(
        pickle.dumps({"w": np.ones((2, 3), np.float32), "n": np.float32(1)}, protocol)
    )
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        whole = whole or bytearray(b".")
    path = tmp_path / "any.pdparams"
    path.write_bytes(whole)
    try:
        arrays = read_arrays(path)
    except WeightsError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(a, np.ndarray) and not a.dtype.hasobject for a in arrays.values())


def test_missing_files_list_their_neighbours(tmp_path):
    assert refusal(tmp_path / "no" / "a.pdparams") == "there is no such file"
    assert refusal(tmp_path / "a.pdparams") == "there is no such file"
    for name in ("b.safetensors", "best.pdparams", "log.txt"):
        (tmp_path / name).touch()
    assert (
        refusal(tmp_path / "a.pdparams")
        == "there is no such file; there are b.safetensors, best.pdparams"
    )
    assert refusal(tmp_path / "a.safetensors").endswith("there are b.safetensors, best.pdparams")


@pytest.mark.parametrize("name", ["folder", "folder.safetensors"])
def test_a_folder_is_no_file(tmp_path, name):
    (tmp_path / name).mkdir()
    assert refusal(tmp_path / name) == "cannot be read: Is a directory"


# --- fitting ----------------------------------------------------------------------------------------------------------


def test_every_name_is_accounted_for():
    layer = nn.Linear(3, 2)
    arrays = {"weight": np.full((3, 2), 0.5, np.float64), "bias": np.ones(2, np.float32)}
    account = load_into(layer, arrays, "good.pdparams")
    assert (account.loaded, account.reshaped, account.missing, account.unused) == (
        ("weight", "bias"),
        (),
        (),
        (),
    )
    assert str(account) == "good.pdparams: 2 of 2 tensors loaded"
    assert (
        layer.weight.numpy().tolist() == [[0.5] * 2] * 3
        and str(layer.weight.dtype) == "paddle.float32"
    )


def test_what_does_not_fit_is_an_error_and_nothing_is_copied():
    layer = nn.Linear(3, 2)
    before = checksum(state_arrays(layer))
    arrays = {
        "weight": np.ones((3, 2), np.float32),
        "bias": np.ones(5, np.float32),
        "extra": np.ones(1),
    }
    with pytest.raises(WeightsError) as caught:
        load_into(layer, arrays, "bad.pdparams")
    assert str(caught.value) == (
        "bad.pdparams: 1 of 2 tensors loaded; bias is [5] in the file, [2] in the model; not in the model: extra. "
        "These weights are of another model; check MODEL in the config, or the file"
    )
    with pytest.raises(WeightsError, match="1 of 2 tensors loaded; not in the file: bias"):
        load_into(layer, {"weight": arrays["weight"]}, "bad.pdparams")
    with pytest.raises(
        WeightsError,
        match="0 of 2 tensors loaded; not in the file: weight, bias; not in the model: a, b, c",
    ):
        load_into(layer, dict.fromkeys("abcdefgh", arrays["extra"]), "bad.pdparams", ".*", ".*")
    assert checksum(state_arrays(layer)) == before


def test_what_is_excused_is_still_in_the_account():
    layer = nn.Linear(3, 2)
    bias = layer.bias.numpy()
    arrays = {
        "weight": np.ones((3, 2), np.float32),
        "bias": np.ones(5, np.float32),
        "extra": np.ones(1),
    }
    account = load_into(layer, arrays, "x", excuse_missing="^bias$", excuse_unused="^extra$")
    assert (account.loaded, account.unused) == (("weight",), ("extra",))
    assert account.reshaped == ("bias is [5] in the file, [2] in the model",)
    assert np.array_equal(layer.bias.numpy(), bias), "it keeps its own values"
    account = load_into(layer, {"weight": arrays["weight"]}, "x", excuse_missing="bias")
    assert (
        account.missing == ("bias",)
        and str(account) == "x: 1 of 2 tensors loaded; not in the file: bias"
    )


def test_long_lists_of_names_are_cut_short():
    account = weights.Account("x", (), (), tuple(f"n{i}" for i in range(9)), ())
    assert (
        str(account)
        == "x: 0 of 9 tensors loaded; not in the file: n0, n1, n2, n3, n4, n5, and 3 more"
    )


def test_half_precision_models_take_float32_files_and_the_other_way_round():
    values = np.array([1.0, -0.3, 1e-30, 3e38, np.inf, 1.00390625, 1.01171875, 0], np.float32)
    half = nn.Linear(1, 8).to(dtype="bfloat16")
    load_into(half, {"weight": values[None], "bias": values}, "x")
    reference = paddle.to_tensor(values).astype("bfloat16")
    assert np.array_equal(half.bias.numpy(), reference.numpy()), "rounded as Paddle does"
    arrays = state_arrays(half)
    assert arrays["bias"].dtype == np.float32 and np.array_equal(
        arrays["bias"], reference.astype("float32").numpy()
    )

    again = nn.Linear(1, 8).to(dtype="bfloat16")
    load_into(again, arrays, "x")
    assert np.array_equal(again.bias.numpy(), half.bias.numpy()), (
        "no bit is lost on the way through float32"
    )
    bits = {
        name: tensor.numpy() for name, tensor in half.state_dict().items()
    }  # uint16, as paddle.save writes them
    load_into(again, {k: np.zeros_like(v) for k, v in bits.items()}, "x")
    load_into(again, bits, "x")
    assert np.array_equal(again.bias.numpy(), half.bias.numpy())
    single = nn.Linear(1, 8)
    load_into(single, bits, "x")
    assert np.array_equal(single.bias.numpy(), arrays["bias"])


def test_not_a_number_stays_one_in_bfloat16():
    half = nn.Linear(1, 2).to(dtype="bfloat16")
    load_into(
        half,
        {"weight": np.ones((1, 2), np.float32), "bias": np.array([np.nan, 1], np.float32)},
        "x",
    )
    assert np.isnan(state_arrays(half)["bias"]).tolist() == [True, False]


def test_a_checksum_changes_with_any_bit():
    first = {"a": np.zeros((2, 2), np.float32), "b": np.arange(3)}
    assert (
        checksum(first) == checksum({"b": first["b"], "a": first["a"].copy(order="F")})
        and len(checksum(first)) == 8
    )
    for name, place in (("a", 3), ("b", 0)):
        other = {k: v.copy() for k, v in first.items()}
        other[name].reshape(-1).view(np.uint8)[place] ^= 1
        assert checksum(other) != checksum(first)
    assert checksum({"a": first["a"], "c": first["b"]}) != checksum(first), "names count"


def test_a_made_up_memo_index_takes_no_memory(tmp_path):
    """Eleven bytes that ask for an entry number 2^31 - 2 of the memo; C's unpickler would make room for all before it."""
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"\x80\x02}r\xfe\xff\xff\x7f.")
    tracemalloc.start()
    assert read_arrays(path) == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
