"""Reading the weight files of other projects."""

import os
import struct

import numpy as np
import pytest

from paddlevideo.models.convert.files import read_weights
from paddlevideo.models.convert.tf_checkpoint import MAGIC
from paddlevideo.weights import WeightsError
from tests.parts.models.convert_files import block, masked, varint, write_checkpoint

# A variable float32 [1000] of ones at the start of the data.
SHARED = b"\x08\x01\x12\x05\x12\x03\x08\xe8\x07\x28\xa0\x1f\x35"
SHARED += struct.pack("<I", masked(np.ones(1000, "<f4").tobytes()))


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {f"tower/layer_{i}/weights": (3, i % 4) for i in range(12)} | {
        "tower/one": (),
        "tower/long": (300, 7),
    }
    arrays = {name: rng.standard_normal(shape).astype("<f4") for name, shape in shapes.items()}
    arrays |= {"global_step": np.array(12500, "<i8"), "double": rng.random(3)}
    return write_checkpoint(tmp_path / "model.ckpt-12500", arrays), arrays


@pytest.mark.parametrize("ending", ["", ".index"])
def test_reads_a_tensorflow_checkpoint(checkpoint, ending):
    prefix, arrays = checkpoint
    found = read_weights(f"{prefix}{ending}")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_rejects_a_damaged_checkpoint(checkpoint):
    prefix, _ = checkpoint
    data, index = (
        prefix.with_name(prefix.name + ".data-00000-of-00001"),
        prefix.with_name(prefix.name + ".index"),
    )
    good = data.read_bytes()
    data.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    with pytest.raises(
        WeightsError,
        match=r"model.ckpt-12500.index: .* does not match its checksum: the file is damaged",
    ):
        read_weights(index)
    data.write_bytes(good[:-9])
    with pytest.raises(WeightsError, match="ends before tower/.*: the file is truncated"):
        read_weights(index)
    data.unlink()
    with pytest.raises(WeightsError, match="data-00000-of-00001: cannot be read: No such file"):
        read_weights(index)
    index.write_bytes(b"no index at all, but long enough for one: " + bytes(60))
    with pytest.raises(
        WeightsError, match="not the index of a TensorFlow checkpoint; expected a .index file"
    ):
        read_weights(index)


def table(blocks, index):
    """An index file of these blocks, and the (name, handle) entries that point to them."""
    index_block, meta = block(index, 1), block([])
    start = len(blocks) + len(meta)
    footer = varint(len(blocks)) + varint(len(meta) - 5) + varint(start)
    footer = (footer + varint(len(index_block) - 5)).ljust(40, b"\0")
    return blocks + meta + index_block + footer + struct.pack("<Q", MAGIC)


def test_rejects_small_files_that_become_large(tmp_path):
    path = tmp_path / "a.index"
    long = b"w" * 20_000
    growing = block([(long + b"%05d" % number, b"") for number in range(300)], 300)
    path.write_bytes(table(growing, [(b"", varint(0) + varint(len(growing) - 5))]))
    with pytest.raises(WeightsError, match="its names are too long for the size of the file"):
        read_weights(path)
    part = block([(b"name%05d" % number, b"") for number in range(2000)])
    again = [(b"%05d" % number, varint(0) + varint(len(part) - 5)) for number in range(2000)]
    path.write_bytes(table(part, again))
    with pytest.raises(WeightsError, match="its blocks overlap"):
        read_weights(path)


def test_rejects_variables_that_share_their_data(tmp_path):
    arrays = {f"w{number}": np.ones(1000, "<f4") for number in range(50)}
    prefix = write_checkpoint(tmp_path / "a", arrays)
    data = tmp_path / "a.data-00000-of-00001"
    os.truncate(data, 4000)
    entries = [(b"", b"\x08\x01"), *((b"%05d" % n, SHARED) for n in range(50))]
    part = block(entries)
    (tmp_path / "a.index").write_bytes(table(part, [(b"", varint(0) + varint(len(part) - 5))]))
    with pytest.raises(WeightsError, match="00001 shares its data with another variable"):
        read_weights(prefix)


def test_rejects_many_dimensions(tmp_path):
    dims = b"\x12\x04\x08\xff\xff\x03" * 50_000
    entry = b"\x08\x01\x12" + varint(len(dims)) + dims
    part = block([(b"", b"\x08\x01"), (b"w", entry)])
    (tmp_path / "a.index").write_bytes(table(part, [(b"", varint(0) + varint(len(part) - 5))]))
    with pytest.raises(WeightsError, match="w has 50000 dimensions"):
        read_weights(tmp_path / "a.index")


def test_mutated_index_is_rejected_or_unchanged(checkpoint):
    """Every bit of the index is checked, by a checksum or as the offset of a block."""
    prefix, arrays = checkpoint
    index = prefix.with_name(prefix.name + ".index")
    good, rng, refused = index.read_bytes(), np.random.default_rng(0), 0
    for _ in range(400):
        bad = bytearray(good[: rng.integers(len(good))] if rng.random() < 0.2 else good)
        for _ in range(rng.integers(1, 4) if bad else 0):
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        index.write_bytes(bytes(bad))
        try:
            found = read_weights(index)
        except WeightsError:
            refused += 1
        else:
            assert all((found[name] == array).all() for name, array in arrays.items())
    assert refused > 300


def test_reads_npz_files(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), **{"b/c": np.ones(2)})
    assert {name: a.tolist() for name, a in read_weights(tmp_path / "a.npz").items()} == {
        "x": [0, 1, 2],
        "b/c": [1, 1],
    }
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="objects.npz: not a .npz file of arrays"):
        read_weights(tmp_path / "objects.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(WeightsError, match="text.npz: not a .npz file of arrays"):
        read_weights(tmp_path / "text.npz")
    with pytest.raises(WeightsError, match="there is no such file"):
        read_weights(tmp_path / "none.npz")
