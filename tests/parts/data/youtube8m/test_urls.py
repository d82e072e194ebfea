"""Shards of frame features at URLs: the same records and samples as on the local disk."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from paddlevideo.data.lists import DatasetError
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.youtube8m import shards
from paddlevideo.predict.inputs import InputRules, find_inputs
from paddlevideo.remote import AccessError, access, read_bytes
from tests.parts.data.youtube8m.shard_files import PIPELINE, load, pickled_video, write_three_shards

pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return write_three_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def stored(local, memory):
    for path in local.glob("*.tfrecord"):
        memory.put(f"s/{path.name}", path.read_bytes())
    memory.put("s/all.list", "a.tfrecord\nb.tfrecord\nc.tfrecord\n")
    return f"{memory.url}/s"


def samples(data) -> list[dict]:
    return [PIPELINE(record) for record in data.records]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("way", ["all.list", "", "*.tfrecord"])
def test_ways_to_name_shards(local, stored, way, home):
    data = load(f"{stored}/{way}")
    expected = load(local)
    assert [r.id for r in data.records] == [r.id for r in expected.records]
    assert [r.path for r in data.records][:1] == [f"{stored}/a.tfrecord"]
    assert_equal(samples(data), samples(expected))
    assert len(list((home / "shards").glob("*.index.npz"))) == 1


def test_one_shard_and_a_local_list_of_urls(local, stored, tmp_path):
    assert_equal(samples(load(f"{stored}/c.tfrecord")), samples(load(local / "c.tfrecord")))
    (tmp_path / "l.list").write_text(f"{stored}/c.tfrecord\n{local}/a.tfrecord\n")
    data = load(tmp_path / "l.list")
    assert [r.id for r in data.records] == [f"{n}" for n in IDS] and len(samples(data)) == 7
    assert (tmp_path / "l.list.index.npz").exists()


IDS = [*(f"c.tfrecord:{n}" for n in range(3)), *(f"a.tfrecord:{n}" for n in range(4))]


def test_locations_are_kept_until_a_shard_changes(local, stored, memory, monkeypatch):
    expected = load(stored).records.offsets.tolist()
    found = []
    find = shards.find_offsets
    monkeypatch.setattr(shards, "find_offsets", lambda path: found.append(path) or find(path))
    assert load(stored).records.offsets.tolist() == expected and not found
    memory.put("s/b.tfrecord", (local / "c.tfrecord").read_bytes())
    access.forget(f"{stored}/b.tfrecord")
    assert len(load(stored).records) == len(expected) + 2 and found == [f"{stored}/b.tfrecord"]


def test_a_shard_that_is_replaced_or_lost_fails(stored, memory):
    records = load(stored).records
    memory.put("s/c.tfrecord", b"x" * 500)
    memory.files.rm(f"{stored}/b.tfrecord")
    access.forget(stored)
    with pytest.raises(StageError, match="byte .*: the record length fails its CRC check"):
        PIPELINE(records[-1])
    with pytest.raises(StageError, match="b.tfrecord: no such file"):
        PIPELINE(records[4])
    assert PIPELINE(records[0])["num_frames"] == 1


def test_threads_and_forked_processes_read_shards(stored, local):
    records = list(load(stored).records) * 3
    expected = samples(load(local)) * 3
    with ThreadPoolExecutor(4) as pool:
        assert_equal(list(pool.map(PIPELINE, records)), expected)
    with get_context("fork").Pool(2) as pool:
        assert_equal(pool.map(PIPELINE, records), expected)


def test_pickles_at_urls(memory):
    content = pickle.dumps([pickled_video(number) for number in range(3)])
    memory.put("p/a.pkl", content)
    data = load(f"{memory.url}/p")
    assert [r.id for r in data.records] == [f"a.pkl:{number}" for number in range(3)]
    assert [sample["id"] for sample in samples(data)] == [b"p-0", b"p-1", b"p-2"]


def test_signed_addresses(local, server, tmp_path, monkeypatch):
    for sig in "12":
        server.files[f"/a.tfrecord?sig={sig}"] = (local / "a.tfrecord").read_bytes()
    data = load(f"{server.url}/a.tfrecord?sig=1")
    assert [r.id for r in data.records] == [f"a.tfrecord:{number}" for number in range(4)]
    assert_equal(samples(data), samples(load(local / "a.tfrecord")))
    monkeypatch.setattr(shards, "find_offsets", None)
    assert_equal(samples(load(f"{server.url}/a.tfrecord?sig=2")), samples(data))
    with pytest.raises(DatasetError) as caught:
        load(f"{server.url}/none.tfrecord?sig=1")
    assert str(caught.value) == f"{server.url}/none.tfrecord: no such file"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none.tfrecord", r"none\.tfrecord: no such file"),
        ("none", r"none: no such file or folder; expected a shard, or a list of shards"),
        ("*.none", r"\*\.none: no shards in this folder"),
        (
            "bad.list",
            r"bad\.list:2: a\.tfrecord is already on line 1; its videos would",
        ),
        ("lost.list", r"lost\.tfrecord: no such file\n.*lost2\.tfrecord: no such file"),
        ("text.tfrecord", r"text\.tfrecord: not a TFRecord file but text that begins with"),
        ("zip.tfrecord", r"zip\.tfrecord: compressed with gzip"),
    ],
)
def test_mistakes(stored, memory, name, text):
    memory.put("s/bad.list", "a.tfrecord\na.tfrecord\n")
    memory.put("s/lost.list", "lost.tfrecord\na.tfrecord\nlost2.tfrecord\n")
    memory.put("s/text.tfrecord", "this is a text")
    memory.put("s/zip.tfrecord", b"\x1f\x8b" + bytes(30))
    with pytest.raises(DatasetError, match=text):
        load(f"{stored}/{name}")


def test_what_concerns_all_files_ends_a_run():
    with pytest.raises(AccessError, match="fsspec has no package for nowhere://"):
        load("nowhere://b/a.tfrecord")


def test_inputs_of_a_prediction(stored):
    rules = InputRules(suffixes=(), find_records=PIPELINE.find_records)
    assert len(list(find_inputs(stored, rules))) == 8


def test_shards_on_s3(s3, local):
    for path in local.glob("*.tfrecord"):
        s3.put(f"yt8m/{path.name}", path.read_bytes())
    data = load(f"{s3.url}/yt8m/*.tfrecord")
    assert_equal(samples(data), samples(load(local)))
    assert read_bytes(data.records[0].path) == (local / "a.tfrecord").read_bytes()
