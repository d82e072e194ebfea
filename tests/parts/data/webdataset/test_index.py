"""The index of a shard: when it is used, when it is written again, and what is no index."""

import json
import logging
import os

import pytest

from paddlevideo.data.lists import DatasetError
from paddlevideo.data.webdataset import index
from paddlevideo.data.webdataset.index import read_index, samples_of, samples_of_shards
from paddlevideo.data.webdataset.samples import read_samples
from tests.tar_shards import write_tar


@pytest.fixture
def shard(tmp_path):
    entries = [
        ("a.mp4", b"x"),
        ("a.json", '{"label": "走る"}'.encode()),
        ("b.1.jpg", b"x"),
        ("b.2.jpg", b"x"),
        ("c.pkl", b"x"),
        ("d\udcff.mp4", b"y"),
    ]
    return str(write_tar(tmp_path / "s-0.tar", entries))


def never(path):
    raise AssertionError(f"{path} is scanned")


def test_an_index_gives_the_samples_of_a_scan(shard, monkeypatch):
    scanned = read_samples(shard)[0]
    assert samples_of(shard) == scanned
    monkeypatch.setattr(index, "read_samples", never)
    assert samples_of(shard) == scanned
    assert [sample.key for sample in scanned] == ["a", "b", "c", "d\udcff"]


def test_a_changed_shard_is_scanned_again(shard, tmp_path):
    samples_of(shard)
    write_tar(tmp_path / "s-0.tar", [("new.mp4", b"x")])
    os.utime(shard, ns=(1, 1))
    assert [sample.key for sample in samples_of(shard)] == ["new"]
    written = read_index(shard)
    assert written is not None and written["mtime_ns"] == 1


def test_a_shard_that_is_still_written_gets_no_index(shard, monkeypatch):
    read = index.read_samples

    def read_meanwhile(path):
        found = read(path)
        os.utime(path, ns=(5, 5))
        return found

    monkeypatch.setattr(index, "read_samples", read_meanwhile)
    assert len(samples_of(shard)) == 4 and read_index(shard) is None
    assert len(samples_of(shard)) == 4 and read_index(shard) is not None


def test_a_folder_that_cannot_be_written(shard, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "write_index", full)
    assert len(samples_of(shard)) == 4
    assert read_index(shard) is None


WRONG = {
    "not json": "{",
    "another version": '{"version": 99}',
    "no samples": '{"version": 1, "size": SIZE, "mtime_ns": TIME, "problem": ""}',
    "a list": "[]",
    "deep": "[" * 100_000,
    "unknown entries": [{"key": "a", "code": "x"}],
    "no key": [{"media": {}}],
    "a key of another type": [{"key": 3}],
    "negative": [{"key": "a", "media": {"mp4": [-1, 5]}}],
    "no number": [{"key": "a", "media": {"mp4": [True, 5]}}],
    "too large": [{"key": "a", "media": {"mp4": [0, 1 << 70]}}],
    "too few": [{"key": "a", "frames": [0, 5]}],
    "media as a list": [{"key": "a", "media": [1]}],
    "sample as a text": ["a"],
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_index_is_written_again(shard, tmp_path, case, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    content, stamp = WRONG[case], index.stamp_of(shard)
    if isinstance(content, list):
        content = json.dumps({"version": 1, **stamp, "problem": "", "samples": content})
    content = content.replace("SIZE", str(stamp["size"])).replace("TIME", str(stamp["mtime_ns"]))
    (tmp_path / "s-0.index.json").write_text(content)
    assert samples_of(shard)[0].key == "a"
    assert "the index cannot be used and is written again" in caplog.text
    assert read_index(shard) is not None


def test_the_problem_of_a_shard_is_said_each_time(shard, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    with open(shard, "r+b") as file:
        file.truncate(1200)
    for _ in range(2):
        caplog.clear()
        assert samples_of(shard)[-1].key == "damaged"
        assert "s-0.tar: " in caplog.text


def test_all_files_that_are_no_shards_are_named(tmp_path):
    paths = [tmp_path / f"{number}.tar" for number in range(12)]
    for path in paths[1:]:
        path.write_bytes(b"x" * 600)
    with pytest.raises(DatasetError) as caught:
        samples_of_shards([str(path) for path in paths])
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("0.tar: no such shard")
    assert "1.tar: not a tar file" in lines[1]
    assert lines[-1] == "... and 2 more"
