"""Weight files: round trips, messages, and an account of every name that is loaded."""

import errno
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy
from paddle import nn

from paddlevideo import weights
from paddlevideo.weights import (
    WeightsError,
    check_values,
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
    """Whether names, order, shapes and values are equal, and dtypes up to byte order."""
    return list(left) == list(right) and all(
        a.dtype in (b.dtype, b.dtype.newbyteorder("="))
        and a.shape == b.shape
        and np.array_equal(a, b)
        for a, b in zip(left.values(), right.values(), strict=True)
    )


def rejection(path) -> str:
    """The message of `read_arrays` about a file, without its path."""
    with pytest.raises(WeightsError) as caught:
        read_arrays(path)
    assert str(caught.value).startswith(f"{path}: "), "the message names the file"
    return str(caught.value).removeprefix(f"{path}: ")


# --- writing --------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pdparams"
    write_arrays(path, {"w": np.zeros(3, np.float32)})
    before = path.read_bytes()

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="model.pdparams: No space left on device"):
        write_arrays(path, ARRAYS)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.pdparams"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pdparams"
    path.write_bytes(b"old")
    open_path = Path.open

    def open_full(self, *args, **kwargs):
        target = Path("/dev/full") if ".tmp" in self.name else self
        return open_path(target, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match="No space left on device"):
        write_arrays(path, ARRAYS)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["model.pdparams"]


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt", ".pdstate", ".safetensors"])
def test_reads_what_it_writes(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    arrays = dict(ARRAYS)
    if suffix == ".safetensors":
        del arrays["big endian"]  # the format has little-endian numbers only
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert equal({name: found[name] for name in arrays}, arrays) and len(found) == len(arrays)
    for array in found.values():
        array[...] = 0  # the arrays are writable copies
    found = read_arrays(path)
    assert equal({name: found[name] for name in arrays}, arrays)
    if suffix != ".safetensors":
        assert list(found) == list(arrays)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_paddle_saves(tmp_path, protocol):
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
    arrays = read_arrays(tmp_path / "m.pdopt")
    assert states and all(np.array_equal(arrays[k], v.numpy()) for k, v in states.items())


def test_paddle_reads_what_is_written(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    write_arrays(tmp_path / "m.pdparams", state_arrays(model))
    assert other.set_state_dict(paddle.load(str(tmp_path / "m.pdparams"))) == ([], [])
    assert checksum(state_arrays(model)) == checksum(state_arrays(other))


def test_reads_safetensors_of_other_programs(tmp_path):
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"a": np.arange(3), "b": np.ones((2, 2), np.float32)}, path)
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header
    path.write_bytes(content + struct.pack("<2H", 0x3F80, 0xC000))
    bits = read_arrays(path)["w"].tolist()
    assert bits == [0x3F80, 0xC000], "bfloat16 comes as its bits, as Paddle passes it"
    path.write_bytes(content.replace(b'"BF16"', b'"F8_E5M2"').replace(b"7", b"A"))
    rejection(path)


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([np.ones(2)], "it holds a list, expected a dict of arrays"),
        (np.ones(2), "it holds one array, expected a dict of arrays"),
        ({"w": "text"}, "'w' is a str, expected an array"),
        ({"w": None}, "'w' is a NoneType, expected an array"),
        ({"epoch": {"deep": np.ones(2)}}, "'epoch' is a dict, expected an array"),
    ],
)
def test_rejects_pickles_of_other_things(tmp_path, content, message):
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(content))
    assert rejection(path) == message


def test_skips_the_notes_of_paddle(tmp_path):
    content = {
        "StructuredToParameterName@@": {"w": "linear_0.w_0"},
        "LR_Scheduler": {"last_epoch": 3},
        "w": np.ones(2),
    }
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(content))
    assert list(read_arrays(path)) == ["w"]


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_rejects_damaged_files_and_other_formats(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    write_arrays(path, {"w": np.ones((50, 50), np.float32)})
    complete = path.read_bytes()
    for content in (
        complete[:-1],
        complete[: len(complete) // 2],
        complete[:3],
        b"",
        b"just text\n",
        b"\x89PNG\r\n",
        b"PK\x03\x04" + complete,
    ):
        path.write_bytes(content)
        assert "not a file of arrays, or damaged" in rejection(path)


def test_rejects_a_long_header(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 50 << 20) + b"{" + b" " * 100)
    assert "damaged (ValueError: a header of more than 8388608 bytes)" in rejection(path)


def test_a_missing_file_lists_other_weight_files(tmp_path):
    assert rejection(tmp_path / "no" / "a.pdparams") == "there is no such file"
    assert rejection(tmp_path / "a.pdparams") == "there is no such file"
    for name in ("b.safetensors", "best.pdparams", "log.txt"):
        (tmp_path / name).touch()
    message = "there is no such file; there are b.safetensors, best.pdparams"
    assert rejection(tmp_path / "a.pdparams") == message
    assert rejection(tmp_path / "a.safetensors") == message


@pytest.mark.parametrize("name", ["folder", "folder.safetensors"])
def test_rejects_a_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    assert rejection(tmp_path / name) == "cannot be read: Is a directory"


# --- loading into a model -------------------------------------------------------------------------


def test_accounts_for_every_name():
    layer = nn.Linear(3, 2)
    arrays = {"weight": np.full((3, 2), 0.5, np.float64), "bias": np.ones(2, np.float32)}
    account = load_into(layer, arrays, "good.pdparams")
    assert account == weights.Account("good.pdparams", ("weight", "bias"), (), (), ())
    assert str(account) == "good.pdparams: 2 of 2 tensors loaded"
    assert layer.weight.numpy().tolist() == [[0.5] * 2] * 3
    assert str(layer.weight.dtype) == "paddle.float32"


def test_rejects_differences_and_copies_nothing():
    layer = nn.Linear(3, 2)
    before = checksum(state_arrays(layer))
    extra = np.ones(1)
    arrays = {
        "weight": np.ones((3, 2), np.float32),
        "bias": np.ones(5, np.float32),
        "extra": extra,
    }
    with pytest.raises(WeightsError) as caught:
        load_into(layer, arrays, "bad.pdparams")
    assert str(caught.value) == (
        "bad.pdparams: 1 of 2 tensors loaded; bias is [5] in the file, [2] in the model; "
        "not in the model: extra. "
        "These weights belong to another model; check MODEL in the config, or the file"
    )
    with pytest.raises(WeightsError, match="1 of 2 tensors loaded; not in the file: bias"):
        load_into(layer, {"weight": arrays["weight"]}, "bad.pdparams")
    message = "0 of 2 tensors loaded; not in the file: weight, bias; not in the model: a, b, c"
    with pytest.raises(WeightsError, match=message):
        load_into(layer, dict.fromkeys("abcdefgh", extra), "bad.pdparams", ".*", ".*")
    assert checksum(state_arrays(layer)) == before


def test_excused_names_appear_in_the_account():
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
    assert np.array_equal(layer.bias.numpy(), bias), "the model keeps its values"
    account = load_into(layer, {"weight": arrays["weight"]}, "x", excuse_missing="bias")
    assert account.missing == ("bias",)
    assert str(account) == "x: 1 of 2 tensors loaded; not in the file: bias"


def test_shortens_long_lists_of_names():
    account = weights.Account("x", (), (), tuple(f"n{i}" for i in range(9)), ())
    names = "n0, n1, n2, n3, n4, n5, and 3 more"
    assert str(account) == f"x: 0 of 9 tensors loaded; not in the file: {names}"


# --- bfloat16 -------------------------------------------------------------------------------------


def test_converts_between_bfloat16_models_and_float32_files():
    values = np.array([1.0, -0.3, 1e-30, 3e38, -2e-5, 1.00390625, 1.01171875, 0], np.float32)
    half = nn.Linear(1, 8).to(dtype="bfloat16")
    load_into(half, {"weight": values[None], "bias": values}, "x")
    reference = paddle.to_tensor(values).astype("bfloat16")
    assert np.array_equal(half.bias.numpy(), reference.numpy()), "rounded as Paddle rounds"
    arrays = state_arrays(half)
    assert arrays["bias"].dtype == np.float32
    assert np.array_equal(arrays["bias"], reference.astype("float32").numpy())

    copy = nn.Linear(1, 8).to(dtype="bfloat16")
    load_into(copy, arrays, "x")
    assert np.array_equal(copy.bias.numpy(), half.bias.numpy()), "float32 holds every bfloat16"
    # uint16, as paddle.save writes them
    bits = {name: tensor.numpy() for name, tensor in half.state_dict().items()}
    load_into(copy, {name: np.zeros_like(array) for name, array in bits.items()}, "x")
    load_into(copy, bits, "x")
    assert np.array_equal(copy.bias.numpy(), half.bias.numpy())
    single = nn.Linear(1, 8)
    load_into(single, bits, "x")
    assert np.array_equal(single.bias.numpy(), arrays["bias"])


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_rejects_values_that_no_training_gives(value, text, dtype):
    layer = nn.Linear(2, 3)
    before = state_arrays(layer)
    arrays = {"weight": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}
    arrays["weight"][1, 2] = value
    arrays = {name: weights._as_dtype(array, dtype) for name, array in arrays.items()}
    with pytest.raises(WeightsError) as raised:
        load_into(layer, arrays, "x.pdparams")
    message = str(raised.value)
    assert message.startswith("x.pdparams: 1 tensors have values that are not finite: ")
    assert message.endswith(" at [1, 2]. Use an earlier checkpoint")
    assert f"weight is {text}" in message or dtype == "bfloat16"
    assert all((state_arrays(layer)[name] == before[name]).all() for name in before)


def test_names_the_first_tensors_with_other_values():
    arrays = {f"w{number}": np.full(2, np.nan, np.float16) for number in range(9)}
    with pytest.raises(WeightsError, match=r"9 tensors .*w0 is nan at \[0\], .*, and 3 more"):
        check_values(arrays, "x")


def test_large_weights_and_integers_are_loaded():
    arrays = {"w": np.array([1e14, -1e14, 0]), "n": np.array([2**62]), "e": np.zeros((0, 3))}
    for value in (1e16, -1e29):
        with pytest.raises(WeightsError, match=r"not finite or above 1e\+15: w is .* at \[0\]"):
            check_values({"w": np.array([value, 0])}, "x")
    check_values({**arrays, "b": np.array([True]), "c": np.array([1j])}, "x")


def test_a_tensor_that_is_not_used_may_hold_anything():
    arrays = {"weight": np.ones((1, 2)), "bias": np.ones(2), "old": np.array([np.nan])}
    load_into(nn.Linear(1, 2), arrays, "x", excuse_unused="old")


def test_the_checksum_changes_with_any_bit_and_name():
    first = {"a": np.zeros((2, 2), np.float32), "b": np.arange(3)}
    reordered = {"b": first["b"], "a": first["a"].copy(order="F")}
    assert checksum(first) == checksum(reordered) and len(checksum(first)) == 8
    for name, index in (("a", 3), ("b", 0)):
        other = {key: array.copy() for key, array in first.items()}
        other[name].reshape(-1).view(np.uint8)[index] ^= 1
        assert checksum(other) != checksum(first)
    assert checksum({"a": first["a"], "c": first["b"]}) != checksum(first)
