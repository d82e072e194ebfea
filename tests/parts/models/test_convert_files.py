"""Reading the weight files of other projects."""

import numpy as np
import pytest

from paddlevideo.models.convert.files import read_weights
from paddlevideo.weights import WeightsError
from tests.parts.models.convert_files import write_checkpoint


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
