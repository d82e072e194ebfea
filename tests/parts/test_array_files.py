"""`.npy` and `.npz` files: read completely, or refused if damaged or much larger than the file."""

import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from paddlevideo.array_files import ArrayFileError, is_archive, open_npy, read_npz, wrong_value
from paddlevideo.data.audio_pipeline import read_feature
from paddlevideo.features.codec import Codec, read_codecs
from paddlevideo.metrics.fusion import FusionError
from paddlevideo.metrics.score_files import read_scores
from paddlevideo.models.convert.files import read_weights
from paddlevideo.models.nextvlad import NeXtVLAD
from paddlevideo.sample import DecodeError
from paddlevideo.weights import WeightsError
from tests.hostile_files import archive, npy, npys, npzs

NPYS, NPZS = npys(), npzs()
ARRAYS = {
    "weights": np.random.default_rng(0).random((3, 5)).astype(np.float32),
    "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big": np.arange(4, dtype=">i8"),
    "scalar": np.array(2.5),
    "nothing": np.zeros((0, 4)),
    "names": np.array(["köpfen", "", "跳舞"]),
    "bytes": np.array([b"a", b"bc"]),
    "flags": np.array([True, False]),
    "complex": np.array([1j]),
}


def equal(found, expected) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_saves(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS) and is_archive(tmp_path / "a.npz")
    assert all(equal(found[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_opens_what_numpy_saves(tmp_path, name, version):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, ARRAYS[name], version)
    assert equal(open_npy(tmp_path / "a.npy"), ARRAYS[name])
    assert not is_archive(tmp_path / "a.npy")


def test_small_archives_may_expand_much(tmp_path):
    """Silence, masks and text compress well."""
    np.savez_compressed(tmp_path / "a.npz", audio=np.zeros((1000, 12_000), np.float32))
    assert read_npz(tmp_path / "a.npz")["audio"].shape == (1000, 12_000)


# Seconds with each allocation traced; the .npy file with this header is fast.
SLOW = "a member with a deep header"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == SLOW)) for name in NPZS]
)
def test_rejects_hostile_archives(tmp_path, name):
    path = tmp_path / "a.npz"
    path.write_bytes(NPZS[name]())
    tracemalloc.start()
    for read, message in (
        (read_npz, "."),
        (read_scores, r"a\.npz: not an .npz file of plain arrays: "),
        (read_weights, r"a\.npz: not a .npz file of arrays: "),
        (read_codecs, r"a\.npz: not a file of feature codecs, or damaged "),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            read(path)
        assert len(str(raised.value)) < len(str(path)) + 400
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize("name", NPYS)
def test_rejects_hostile_arrays(tmp_path, name):
    path = tmp_path / "a.npy"
    path.write_bytes(NPYS[name])
    with pytest.raises(ArrayFileError):
        open_npy(path)
    with pytest.raises(DecodeError) as raised:
        read_feature(str(path), 80)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("160 MB of zeros", "bytes expand to 160000"),
        ("1.6 GB in one entry", "bytes expand to 1600000000; save it with numpy.savez"),
        ("60,000 entries", "its list of entries has"),
        ("two arrays of one name", "two of its arrays have the same name"),
        ("compressed in another way", "compressed in another way than NumPy does"),
        (archive({"a.npy": npy("(3,)")}), r"array 'a' is \[3\] float32, but has 0 bytes"),
        (archive({"a.npy": NPYS["objects"]}), "Python objects in dtype object"),
        (archive({"a.npy": NPYS["records"]}), "expected numbers or text"),
        (b"text", "damaged, or not in NumPy's format"),
    ],
)
def test_the_message_names_the_reason(tmp_path, content, message):
    (tmp_path / "a.npz").write_bytes(NPZS[content]() if isinstance(content, str) else content)
    with pytest.raises(ArrayFileError, match=message):
        read_npz(tmp_path / "a.npz")


def test_any_changed_byte_is_read_or_refused(tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    np.savez(path, **ARRAYS)
    content, refused = path.read_bytes(), 0
    for _ in range(300):
        changed = bytearray(content)
        changed[int(rng.integers(len(changed)))] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            read_npz(path)
        except ArrayFileError:
            refused += 1
    assert refused > 100


def test_rejects_a_damaged_checksum(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.full(100, 7.0))
    content = path.read_bytes()
    path.write_bytes(content.replace(np.full(3, 7.0).tobytes(), np.full(3, 8.0).tobytes(), 1))
    with pytest.raises(ArrayFileError, match="Bad CRC-32"):
        read_npz(path)


def test_rejects_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.npz")
    for read in (read_npz, open_npy):
        with pytest.raises(OSError, match="a FIFO, expected a regular file"):
            read(tmp_path / "fifo.npz")
        with pytest.raises(OSError, match="device or socket, expected a regular file"):
            read("/dev/zero")
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.npz")
    with pytest.raises(DecodeError, match="cannot be read: a FIFO"):
        read_feature(str(tmp_path / "fifo.npz"), 80)


def test_an_encrypted_archive_is_refused(tmp_path):
    content = archive({"a.npy": npy("(0,)")}, zipfile.ZIP_STORED)
    at = content.rindex(b"PK\x01\x02")
    (tmp_path / "a.npz").write_bytes(content[: at + 8] + b"\x01\x00" + content[at + 10 :])
    with pytest.raises(ArrayFileError, match="RuntimeError"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "c8", "c16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_finds_values_that_are_not_finite(dtype, value):
    array = np.ones((3, 4), dtype)
    assert wrong_value(array, 1e15) == ""
    array[2, 1] = value
    assert wrong_value(array, 1e15).endswith(" at [2, 1]")


def test_finds_values_that_are_too_large():
    assert wrong_value(np.array([1.0, -11.0, 12.0]), 10) == "-11 at [1]"
    assert wrong_value(np.array([10.0, -10.0]), 10) == ""
    for array in (np.array([2**62]), np.zeros(0), np.array(["text"]), np.array([True])):
        assert wrong_value(array, 1) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e29])
def test_readers_reject_such_values(tmp_path, value):
    array = np.zeros((4, 80), np.float32)
    array[1, 79] = value
    np.save(tmp_path / "a.npy", array)
    message = r"feature has values that are not finite or above 1e\+09: .* at \[1, 79\]"
    with pytest.raises(DecodeError, match=message):
        read_feature(str(tmp_path / "a.npy"), 80)
    np.savez(tmp_path / "a.npz", w=array)
    with pytest.raises(WeightsError, match=r"a\.npz: 1 tensors .* w is .* at \[1, 79\]"):
        read_weights(tmp_path / "a.npz")
    ids, label = np.array(list("abcd")), np.zeros(4, np.int64)
    np.savez(tmp_path / "s.npz", id=ids, label=label, scores=array)
    with pytest.raises(
        FusionError, match=r"s\.npz: the score of class 79 of 'b' is .*, expected a"
    ):
        read_scores(tmp_path / "s.npz")
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(list(array)))
    with pytest.raises(FusionError, match=r"s\.pkl: the score of class 79 of row 1 is"):
        read_scores(tmp_path / "s.pkl")
    np.save(tmp_path / "whitening.npy", array[1])
    with pytest.raises(ValueError, match=r"whitening.npy is .* at \[79\], expected at most"):
        NeXtVLAD(4, 2, 2, 2, 2, 80, 80, whitening=str(tmp_path / "whitening.npy"))


@pytest.mark.parametrize("name", ["mean", "components", "scale"])
@pytest.mark.parametrize("value", [np.nan, 1e29])
def test_codecs_reject_such_values(name, value):
    parts = {"mean": np.zeros(3), "components": np.ones((3, 2)), "scale": np.ones(2)}
    parts[name].flat[1] = value
    with pytest.raises(ValueError, match=f"{name} holds values that are not finite or above"):
        Codec(**parts)


def test_large_features_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 80), -1e6, np.float32))
    assert read_feature(str(tmp_path / "a.npy"), 80).min() == -1e6
