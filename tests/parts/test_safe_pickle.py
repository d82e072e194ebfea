"""Pickles of arrays: read without running code, rejected where forged or damaged."""

import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddlevideo.safe_pickle import WeightsError, read_pickle, unwrap
from paddlevideo.weights import read_arrays, write_arrays
from tests.parts.test_weights import ARRAYS, equal, rejection

# --- formats --------------------------------------------------------------------------------------


def test_reads_lists_dicts_text_and_numbers(tmp_path):
    content = [{"id": "a", "count": 3, "scores": np.arange(3.0)}, (None, True, 0.5)]
    path = crafted(tmp_path, content)
    first, second = read_pickle(path)
    assert unwrap(first.pop("scores")).tolist() == [0, 1, 2]
    assert first == {"id": "a", "count": 3} and second == (None, True, 0.5)
    assert unwrap("text") == "text"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_all_pickle_protocols(tmp_path, protocol):
    pair = ("conv2d_0.w_0", np.ones(2))
    content = OrderedDict(ARRAYS, scalar=np.float32(2.5), number=3, pair=pair)
    arrays = read_arrays(crafted(tmp_path, content, protocol))
    assert (arrays.pop("scalar"), arrays.pop("number")) == (2.5, 3)
    assert arrays.pop("pair").tolist() == [1, 1]
    assert equal(arrays, ARRAYS)


@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_reads_the_module_names_of_numpy_1_and_2(tmp_path, module):
    path = tmp_path / "file.pdparams"
    content = pickle.dumps({"w": np.ones((2, 2), np.float32)}, 2)
    content = content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", module)
    path.write_bytes(content)
    assert read_arrays(path)["w"].tolist() == [[1, 1], [1, 1]]


def test_reads_arrays_that_python_2_wrote_as_text(tmp_path):
    data = struct.pack("<2f", 1.5, -2.0)
    parts = [
        b"\x80\x02}q\x00U\x01wq\x01",
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R",
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R",
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U",
        bytes([len(data)]) + data,
        b"tbs.",
    ]
    path = tmp_path / "file.pdparams"
    path.write_bytes(b"".join(parts))
    assert read_arrays(path)["w"].tolist() == [1.5, -2.0]


# --- code -----------------------------------------------------------------------------------------


class Call:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def crafted(tmp_path, content, protocol=2) -> Path:
    """A file that holds `content` as a pickle."""
    path = tmp_path / "weights.pdparams"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_rejects_functions_by_name_and_does_not_run_them(tmp_path, protocol):
    trap = tmp_path / "trap"
    calls = {
        "system": Call(os.system, f"touch {trap}"),
        "eval": Call(eval, f"open({str(trap)!r}, 'w')"),
        "exec": Call(exec, f"open({str(trap)!r}, 'w')"),
        "open": Call(open, str(trap), "w"),
        "numpy.save": Call(np.save, str(trap), 3),
        "numpy.load": Call(np.load, str(trap), None, True),
        "getattr": Call(getattr, os, "system"),
        "import": Call(__import__, "this"),
    }
    for name, call in calls.items():
        if name == "getattr" and protocol < 2:
            continue
        try:
            path = crafted(tmp_path, {"fine": np.ones(3), "w": call}, protocol)
        except TypeError:  # modules cannot be pickled
            continue
        assert "which is not an array: refused, no code in the file was run" in rejection(path)
    assert not trap.exists() and not (tmp_path / "trap.npy").exists()
    message = rejection(crafted(tmp_path, Call(os.system, "true"), protocol))
    assert message.startswith(f"it refers to {os.system.__module__}.system")


def test_rejects_other_functions_of_known_modules(tmp_path):
    for name in (
        b"numpy\nload",
        b"numpy.core.multiarray\nfromfile",
        b"numpy._core._internal\neval",
        b"numpy\ndtype.type",
    ):
        path = tmp_path / "weights.pdparams"
        path.write_bytes(b"\x80\x02c" + name + b"\nU\x01x\x85R.")
        assert "refused, no code in the file was run" in rejection(path)


def test_a_file_cannot_change_the_reader(tmp_path):
    path = tmp_path / "weights.pdparams"
    # BUILD sets attributes on the replacements of the known names: functions and classes.
    for name in (
        b"numpy.core.multiarray\n_reconstruct",
        b"numpy\ndtype",
        b"collections\nOrderedDict",
        b"numpy\nndarray",
    ):
        path.write_bytes(b"\x80\x02c" + name + b"\nN}U\x01xK\x01s\x86b.")
        rejection(path)
    write_arrays(path, ARRAYS)
    assert equal(read_arrays(path), ARRAYS)


# --- forged arrays --------------------------------------------------------------------------------


class Dtype(Call):
    """Pickles as a dtype with any arguments and state."""

    def __init__(self, *args, state=None):
        super().__init__(np.dtype, *args)
        self.call = (np.dtype, args, state) if state else (np.dtype, args)


def array_with(dtype, data, shape=(1,)):
    """Pickles as an array with any dtype, data and shape."""

    class Forged:
        def __reduce__(self):
            reconstruct = np.zeros(1).__reduce__()[0]
            return reconstruct, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, data)

    return {"w": Forged()}


def test_a_forged_dtype_cannot_reach_memory(tmp_path):
    def message(content):
        return rejection(crafted(tmp_path, content))

    # NumPy's own reader would follow the bytes "AAAAAAAA" as a pointer.
    state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    forged = array_with(Dtype("V8", False, True, state=state), b"A" * 8)
    assert "an array of 'V8', expected numbers" in message(forged)
    assert "expected numbers" in message(array_with(Dtype("O8", False, True), b"A" * 8))
    assert "expected numbers" in message({"w": np.array([{}, []], object)})
    assert "expected numbers" in message({"w": np.array(["text"])})
    assert "expected numbers" in message({"w": np.zeros(2, "f4,i4")})
    assert message(array_with("f4", b"A" * 8))


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((3,), b"A" * 8),
        ((-5,), b"A" * 4),
        ((2**62, 4), b""),
        (("x",), b"AAAA"),
        ((1,), [1.0]),
        ((1,), b"A"),
    ],
)
def test_rejects_data_that_does_not_fit_the_shape(tmp_path, shape, data):
    rejection(crafted(tmp_path, array_with(np.dtype("f4"), data, shape)))


def test_a_forged_memo_index_takes_no_memory(tmp_path):
    """Python's unpickler in C would allocate memory for all 2^31 - 2 entries below the index."""
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"\x80\x02}r\xfe\xff\xff\x7f.")
    tracemalloc.start()
    assert read_arrays(path) == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), protocol=st.integers(0, 5))
def test_any_bytes_are_read_or_rejected(tmp_path, data, protocol):
    arrays = {"w": np.ones((2, 3), np.float32), "n": np.float32(1)}
    content = bytearray(pickle.dumps(arrays, protocol))
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        end = start + data.draw(st.integers(0, 3))
        content[start:end] = data.draw(st.binary(max_size=3))
        content = content or bytearray(b".")
    path = tmp_path / "any.pdparams"
    path.write_bytes(content)
    try:
        arrays = read_arrays(path)
    except WeightsError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(a, np.ndarray) and not a.dtype.hasobject for a in arrays.values())
