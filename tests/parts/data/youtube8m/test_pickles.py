"""Pickles of frame features: read from Python 2 and 3, never run, and rejected if malformed."""

import collections
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.data.pipeline import StageError
from paddlevideo.data.youtube8m.pickles import parse_video, read_examples, read_videos
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder, FeaturePipeline
from paddlevideo.sample import DecodeError
from tests.parts.data.youtube8m.shard_files import (
    DECODER,
    PIPELINE,
    WIDTHS,
    load,
    make_frames,
    pickled_video,
)

FORMS = {
    "protocol 2": {"protocol": 2},
    "protocol 4": {"protocol": 4},
    "bytes keys": {"protocol": 2, "keys": str.encode},
    "one video": {"protocol": 2, "single": True},
}


def write_pickle(path: Path, protocol: int = 2, keys=str, single: bool = False) -> Path:
    videos = [pickled_video(number, keys=keys) for number in range(3)]
    path.write_bytes(pickle.dumps(videos[0] if single else videos, protocol))
    return path


def fresh_pipeline() -> FeaturePipeline:
    """A pipeline that holds no open files of other tests."""
    return FeaturePipeline(FeatureDecoder(DECODER.max_frames, WIDTHS, DECODER.num_classes))


# --- valid pickles -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_reads_pickles(tmp_path, form):
    path = write_pickle(tmp_path / "p.pkl", **FORMS[form])
    videos = list(read_examples(path))
    assert len(videos) == (1 if form == "one video" else 3)
    for number, video in enumerate(videos):
        assert video.id == f"p-{number}".encode() and video.labels.tolist() == [number]
        expected = make_frames(3, number)
        assert all(np.array_equal(video.features[name], expected[name]) for name in WIDTHS)


@pytest.mark.parametrize("form", FORMS)
def test_pickles_are_shards(tmp_path, form):
    path = write_pickle(tmp_path / "p.pkl", **FORMS[form])
    loaded, num_videos = load(path), 1 if form == "one video" else 3
    assert loaded.shuffle_buffer == len(loaded.records) == num_videos
    sample = fresh_pipeline()(loaded.records[num_videos - 1])
    assert sample["num_frames"] == 3 and sample["id"] == f"p-{num_videos - 1}".encode()


def python_2_pickle(frames: dict[str, np.ndarray]) -> bytes:
    """Write a pickle as Python 2 does: text is bytes, and so are the values of an array.

    The video has nframes 2, a NumPy scalar.
    """

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def dtype(name: bytes, order: bytes) -> bytes:
        rest = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        return b"cnumpy\ndtype\n" + text(name) + b"K\x00K\x01\x87R(K\x03" + text(order) + rest

    def array(values: np.ndarray) -> bytes:
        rows, columns = values.shape
        shape = b"K" + bytes([rows]) + b"K" + bytes([columns]) + b"\x86"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        state = dtype(b"u1", b"|") + b"\x89" + text(values.tobytes())
        return empty + b"(K\x01" + shape + state + b"tb"

    scalar = b"cnumpy.core.multiarray\nscalar\n" + dtype(b"i4", b"<") + text(b"\x02\0\0\0")
    items = {
        b"video": text(b"old"),
        b"feature": array(frames["rgb"]),
        b"audio": array(frames["audio"]),
        b"label": b"]K\x07a",
        b"nframes": scalar + b"\x86R",
    }
    content = b"".join(text(key) + value for key, value in items.items())
    return b"\x80\x02](}(" + content + b"ue."


def test_reads_pickles_of_python_2(tmp_path):
    frames = make_frames(3, 5)
    (tmp_path / "old.pkl").write_bytes(python_2_pickle(frames))
    (video,) = read_examples(tmp_path / "old.pkl")
    assert video.id == b"old" and video.labels.tolist() == [7]
    for name in WIDTHS:
        assert np.array_equal(video.features[name], frames[name][:2]), "nframes is 2"


# --- malformed pickles ---------------------------------------------------------------------------


class MakesFolder:
    """An object whose pickle makes a folder when it is loaded by `pickle`."""

    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


REFUSED = "refers to (posix|nt).mkdir, which is not an array: refused, no code in the file was run"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (pickle.dumps([MakesFolder()], 2), REFUSED),
        (pickle.dumps([{"video": MakesFolder()}], 2), "refused, no code in the file was run"),
        (pickle.dumps(5, 2), "the pickle holds a int, expected a list of dicts, one per video"),
        (pickle.dumps([1, "x"], 2), "the pickle holds a list of int, str, expected a list of"),
        (pickle.dumps(b"text", 2)[:-3], "damaged"),
    ],
)
def test_rejects_other_pickles(tmp_path, monkeypatch, raw, message):
    monkeypatch.chdir(tmp_path)
    Path("p.pkl").write_bytes(raw)
    with pytest.raises(DecodeError, match=message):
        read_videos("p.pkl")
    assert os.listdir() == ["p.pkl"], "no code was run"
    # The pickle counts as one record, which fails when it is read.
    (record,) = load("p.pkl").records
    with pytest.raises(StageError, match=message):
        PIPELINE(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": None}, "'p-1': feature is of type NoneType, expected uint8"),
        (
            {"feature": np.zeros((3, 6))},
            r"'p-1': feature is float64 \[3, 6\], expected uint8 \[T, D\]",
        ),
        ({"nframes": 4}, "'p-1': nframes is 4, but feature has 3 frames"),
        ({"nframes": -1}, "nframes is -1"),
        ({"nframes": "many"}, "'p-1': label or nframes is not an integer"),
        ({"label": ["x"]}, "label or nframes is not an integer"),
        ({"label": 3}, "label or nframes is not an integer"),
        ({"video": 3}, "the id 'video' is of type int, expected text"),
    ],
)
def test_rejects_wrong_values(tmp_path, change, message):
    path, videos = tmp_path / "p.pkl", [pickled_video(0), pickled_video(1, **change)]
    path.write_bytes(pickle.dumps(videos, 2))
    with pytest.raises(DecodeError, match=rf"p.pkl@1: .*{message}"):
        list(read_examples(path))
    with pytest.raises(StageError, match=f"number 1: .*{message}"):
        fresh_pipeline()(load(path).records[1])


def test_rejects_missing_features():
    video = pickled_video(0)
    del video["audio"]
    message = "'p-0': feature 'audio' is missing; keys: feature, label, nframes, video"
    with pytest.raises(DecodeError, match=message):
        parse_video(video)


def test_mutated_pickles_are_read_or_rejected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, outcomes = random.Random(6), collections.Counter()
    videos = [pickled_video(0), pickled_video(1)]
    for number in range(600):
        raw = bytearray(pickle.dumps(videos, number % 3 + 2))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(raw))
            raw[at : at + rng.choice((0, 1, 1, 4))] = rng.randbytes(rng.choice((0, 1, 1, 2)))
        Path("p.pkl").write_bytes(raw)
        try:
            for video in read_examples("p.pkl"):
                assert all(array.nbytes < 10_000 for array in video.features.values())
            outcomes["read"] += 1
        except DecodeError:
            outcomes["rejected"] += 1
    assert min(outcomes["read"], outcomes["rejected"]) > 20
    assert os.listdir() == ["p.pkl"], "no code was run"
