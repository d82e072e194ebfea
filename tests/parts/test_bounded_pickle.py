"""Pickles that ask for all memory or for hours are refused after a bounded amount of work.

Without the limits most of these tests do not end.
"""

import os
import pickle
import tracemalloc
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest

from paddlevideo import bounded_pickle
from paddlevideo.data.youtube8m.pickles import parse_video, read_videos
from paddlevideo.metrics.score_files import read_scores
from paddlevideo.models.convert.torch_file import read_torch
from paddlevideo.safe_pickle import WeightsError, read_pickle, unwrap
from paddlevideo.sample import DecodeError
from paddlevideo.weights import read_arrays
from tests.hostile_files import pickles

MAX_OPERATIONS = bounded_pickle.MAX_OPERATIONS // 10  # all of them take seconds
PICKLES = pickles()
SMALL = {name: content for name, content in PICKLES.items() if len(content) < 100_000}


@pytest.fixture
def few_operations(monkeypatch):
    monkeypatch.setattr(bounded_pickle, "MAX_OPERATIONS", MAX_OPERATIONS)


@pytest.fixture(params=PICKLES)
def hostile(request, tmp_path, few_operations):
    path = tmp_path / "file.pdparams"
    path.write_bytes(PICKLES[request.param])
    return path


def test_weights_are_refused(hostile):
    with pytest.raises(WeightsError) as raised:
        read_arrays(hostile)
    assert str(raised.value).startswith(f"{hostile}: ")
    assert len(str(raised.value)) < len(str(hostile)) + 200


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exponential key", "a key in it is a tuple, expected text or a number"),
        ("exponential keys of an OrderedDict", "a key in it is a tuple"),
        ("exponential value", "'w' is a tuple, expected an array"),
        ("exponential shape", "an array whose shape is not a tuple of sizes"),
        ("exponential type of an array", "an array of a tuple, expected numbers"),
        ("deep value", "nests lists, tuples or dicts more than 100 deep"),
        ("3 GB of bytes", "truncated: 3221225472 bytes are announced"),
        ("memo entries", "bytes describe too many small objects, expected arrays"),
        ("tuples of the same list", "copies the same data many times"),
        ("wide text", "3000004 characters of text, expected arrays"),
        ("keys of equal hash", "a key in it is too large a number"),
        ("an attribute of a function", "it changes a function, which is not allowed"),
        ("an extension", "objects of the program that wrote it"),
    ],
)
def test_the_message_names_the_limit(tmp_path, name, message):
    path = tmp_path / "w.pdparams"
    path.write_bytes(PICKLES[name])
    with pytest.raises(WeightsError, match=message):
        read_arrays(path)


@pytest.mark.parametrize("name", SMALL)
def test_small_files_take_little_memory(tmp_path, name):
    path = tmp_path / "w.pdparams"
    path.write_bytes(PICKLES[name])
    tracemalloc.start()
    with pytest.raises(WeightsError):
        read_arrays(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize("name", SMALL)
def test_other_readers_have_the_same_limits(tmp_path, name):
    scores, torch = tmp_path / "s.pkl", tmp_path / "w.pth"
    scores.write_bytes(PICKLES[name])
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("archive/data.pkl", PICKLES[name])
    with pytest.raises(ValueError, match=r"s\.pkl: "):
        read_scores(scores)
    with pytest.raises(WeightsError, match=r"w\.pth: "):
        read_torch(torch)
    with pytest.raises(DecodeError):  # some fail when the video is used
        for video in read_videos(scores):
            parse_video(video)


# --- what may not be refused ----------------------------------------------------------------------


def test_keys_may_be_text_bytes_and_numbers(tmp_path):
    content = {"a": 1, b"b": 2, 3: 4, -7: 0, 0.5: 5, None: 6, True: 7}
    assert read(tmp_path, content) == content
    assert read(tmp_path, OrderedDict(content)) == content


@pytest.mark.parametrize("protocol", [0, 2])
def test_many_float_numbers_are_not_too_many_objects(tmp_path, few_operations, protocol):
    """Score files of other tools hold rows of Python numbers."""
    rows = np.random.default_rng(0).random((300, 400)).tolist()
    assert MAX_OPERATIONS < 300 * 400
    path = tmp_path / "s.pkl"
    with path.open("wb") as file:
        # Without a memo, so that each row is written out.
        pickler = pickle.Pickler(file, protocol)
        pickler.fast = True
        pickler.dump(rows)
    assert read_scores(path).values.tolist() == rows


def test_small_records_of_many_videos(tmp_path):
    video = {"video": b"abcd", "label": [1, 2, 3], "nframes": 2}
    videos = [
        {**video, "feature": np.zeros((2, 1024), np.uint8), "audio": np.zeros((2, 128), np.uint8)}
        for _ in range(2000)
    ]
    assert len(read(tmp_path, videos)) == 2000


def test_sets_and_nested_containers(tmp_path):
    assert read(tmp_path, {"a": {1, 2}, "b": frozenset("x")}, 4) == {"a": [1, 2], "b": ["x"]}
    nested: list = []
    for _ in range(45):
        nested = [{"deeper": nested}]
    assert read(tmp_path, nested) == nested
    cycle: list = []
    cycle.append(cycle)
    assert read(tmp_path, cycle)[0][0][0] is not None


def test_text_of_any_script(tmp_path):
    content = {"names": ["köpfen", "跳舞", "\U0001f600" * 1000], "latin": "é" * 2_000_000}
    for protocol in (0, 2, 4):
        assert read(tmp_path, content, protocol) == content


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_large_arrays_of_all_kinds(tmp_path, protocol):
    values = np.random.default_rng(0).integers(0, 255, 3 << 20, np.uint8)
    for array in (values, np.asfortranarray(values.reshape(3, -1)), values.view(">f4")[:1000]):
        found = unwrap(read(tmp_path, array, protocol))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype and found.flags.writeable


def test_an_array_does_not_keep_the_file_in_memory(tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"w": np.ones(1 << 20)}, 4))
    tracemalloc.start()
    content = read_pickle(path)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert unwrap(content["w"]).nbytes == 8 << 20 and kept < 9 << 20


def test_rejects_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "w.pdparams")
    with pytest.raises(WeightsError, match="a FIFO, expected a regular file"):
        read_arrays(tmp_path / "w.pdparams")


def test_the_functions_of_the_reader_are_unchanged(tmp_path):
    before = dict(vars(read_pickle)), Counter(dir(unwrap))
    path = tmp_path / "w.pdparams"
    path.write_bytes(PICKLES["an attribute of a function"])
    with pytest.raises(WeightsError):
        read_arrays(path)
    assert (dict(vars(read_pickle)), Counter(dir(unwrap))) == before


def read(tmp_path, content, protocol=4):
    path = tmp_path / "content.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return read_pickle(path)
