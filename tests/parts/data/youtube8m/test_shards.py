"""Shards: find them, number their records, keep an index, and order an epoch."""

import gzip
import itertools
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.data.lists import DatasetError
from paddlevideo.data.youtube8m import shards
from paddlevideo.data.youtube8m.find import find_shards
from paddlevideo.data.youtube8m.shards import ShardOrder, index_shards, shuffled
from paddlevideo.sample import BatchShape, Record
from tests.parts.data.youtube8m.shard_files import PIPELINE, load, write_shard, write_three_shards


@pytest.fixture
def folder(tmp_path):
    """A folder of three shards with 4, 1 and 3 videos."""
    return write_three_shards(tmp_path)


# --- find shards ---------------------------------------------------------------------------------


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


def test_finds_the_shards_of_a_folder(folder):
    write_shard(folder / "sub" / "d.TFRecord", ([1], 1))
    write_shard(folder / ".hidden.tfrecord", ([1], 1))
    expected = ["a.tfrecord", "b.tfrecord", "c.tfrecord", "d.TFRecord"]
    assert names(find_shards(str(folder))) == expected


def test_prefers_tfrecord_files_to_pickles(folder, caplog):
    (folder / "x.pkl").touch()
    with caplog.at_level(logging.INFO):
        assert len(find_shards(str(folder))) == 3
    assert "3 .tfrecord files are used, 1 .pkl files are not" in caplog.text


def test_finds_the_shards_of_a_list_and_a_glob(folder):
    (folder / "b.list").write_text("c.tfrecord\r\n\na.tfrecord\n")
    assert names(find_shards(str(folder / "b.list"))) == ["c.tfrecord", "a.tfrecord"]
    assert names(find_shards(str(folder / "[ac].tfrecord"))) == ["a.tfrecord", "c.tfrecord"]


def test_data_prefix_is_the_folder_of_the_paths(folder):
    (folder / "elsewhere").mkdir()
    file = folder / "elsewhere" / "moved.list"
    file.write_text("c.tfrecord\n")
    assert len(load(file, data_prefix=str(folder)).records) == 3


def test_a_shard_needs_no_suffix(folder):
    assert find_shards(str(folder / "a.tfrecord")) == [str(folder / "a.tfrecord")]
    (folder / "a.tfrecord").rename(folder / "no_suffix")
    assert len(load(folder / "no_suffix").records) == 4


WRONG_LINES = (
    r"a.list:2: no file x.tfrecord in .*; set data_prefix .*\n"
    r".*a.list:3: b.tfrecord is already on line 1; its videos would count twice"
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.list", None, "no such file or folder; set file_path to a list of shards"),
        ("*.nothing", None, "no file matches this pattern"),
        ("a.list", b"\n \n", "no shards in this list"),
        ("a.list", b"b.tfrecord\nx.tfrecord\nb.tfrecord\n", WRONG_LINES),
        ("a.list", b"\xff\xfe\x00", "expected a shard, or a list of shards"),
        ("z.tfrecord", gzip.compress(b"x" * 99, mtime=0), "compressed with gzip.*; unpack it"),
        ("z.tfrecord.gz", gzip.compress(b"x" * 99, mtime=0), "compressed with gzip"),
        (
            "z.tfrecord",
            b"hello, this is no shard",
            "not a TFRecord file but text that begins with 'hello, this is no s",
        ),
        (
            "z.tfrecord",
            bytes(range(1, 240)),
            "not a TFRecord file, or its first record's header is damaged",
        ),
        ("z.tfrecord", b"", "no records in 1 shard"),
    ],
)
def test_rejects_other_files(folder, name, content, message):
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        load(folder / name)


def test_rejects_folders_without_shards(tmp_path):
    with pytest.raises(DatasetError, match="no shards in this folder"):
        load(tmp_path)


def test_names_all_files_that_are_not_shards(folder):
    (folder / "b.tfrecord").write_text("text, more than twelve bytes")
    (folder / "d.tfrecord").write_bytes(gzip.compress(b"x", mtime=0))
    message = r"(?s)b.tfrecord: not a TFRecord.*d.tfrecord: compressed with gzip"
    with pytest.raises(DatasetError, match=message):
        load(folder)


def test_an_empty_shard_has_no_records(folder, caplog):
    (folder / "b.tfrecord").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        records = load(folder).records
    assert len(records) == 7 and "b.tfrecord: the file is empty" in caplog.text


# --- records and their index ---------------------------------------------------------------------


def test_numbers_the_records_of_all_shards(folder):
    records = load(folder).records
    assert len(records) == 8 and records.starts.tolist() == [0, 4, 5, 8]
    counts = (("a", 4), ("b", 1), ("c", 3))
    ids = [f"{shard}.tfrecord:{n}" for shard, count in counts for n in range(count)]
    assert [record.id for record in records] == ids
    assert [Path(record.path).name for record in records] == [text.split(":")[0] for text in ids]
    assert records[-1] == records[7] and records[5].offset == 0
    assert records[5].location == f"{folder}/c.tfrecord@0"
    assert Record("x.mp4").location == "x.mp4"
    with pytest.raises(IndexError):
        records[8]
    video_ids = [PIPELINE(record)["id"].decode() for record in records]
    assert video_ids == ["a-0", "a-1", "a-2", "a-3", "b-0", "c-0", "c-1", "c-2"]


def test_records_need_little_memory():
    records = shards.ShardRecords(["a"] * 4000, [1000] * 4000, np.zeros(4_000_000, np.int64))
    assert records.offsets.nbytes == 32_000_000 and records[3_999_999].id == "a:999"


@pytest.fixture
def searched(monkeypatch) -> list[str]:
    """The names of the shards whose headers were read."""
    names_read, find_offsets = [], shards.find_offsets

    def find(path):
        names_read.append(Path(path).name)
        return find_offsets(path)

    monkeypatch.setattr(shards, "find_offsets", find)
    return names_read


@pytest.fixture
def indexed_list(folder, searched) -> Path:
    """A list of the three shards with its index file."""
    file = folder / "all.list"
    file.write_text("a.tfrecord\nb.tfrecord\nc.tfrecord\n")
    load(file)
    assert sorted(searched) == ["a.tfrecord", "b.tfrecord", "c.tfrecord"]
    searched.clear()
    return file


def test_the_index_replaces_reading_the_headers(indexed_list, searched):
    records = load(indexed_list).records
    assert not searched and len(records) == 8
    without_index = index_shards(find_shards(str(indexed_list)))
    assert np.array_equal(records.offsets, without_index.offsets)
    assert list(records) == list(without_index)


def test_the_index_is_updated_for_changed_shards(indexed_list, searched, caplog):
    folder = indexed_list.parent
    write_shard(folder / "b.tfrecord", ([1], 2), ([2], 3))
    with caplog.at_level(logging.INFO):
        records = load(indexed_list).records
    assert searched == ["b.tfrecord"] and len(records) == 9, "another size"
    assert "1 of 3 shards are new or changed; reading their record offsets" in caplog.text
    searched.clear()
    os.utime(folder / "c.tfrecord", ns=(1, 1))
    load(indexed_list)
    assert searched == ["c.tfrecord"], "another modification time"


def test_the_index_moves_with_the_shards(indexed_list, searched):
    moved = indexed_list.parent.rename(indexed_list.parent.with_name("moved"))
    load(moved / "all.list")
    assert not searched


def test_a_damaged_index_is_rewritten(indexed_list, searched, caplog):
    index = indexed_list.with_name("all.list.index.npz")
    intact = index.read_bytes()
    for damaged in (intact[:100], intact[:-30], b"", b"text"):
        index.write_bytes(damaged)
        assert len(load(indexed_list).records) == 8
    assert "the index cannot be used and is rewritten" in caplog.text
    assert len(searched) == 12 and len(shards.read_index(index)) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": np.int64(2)}, "version 2, expected 1"),
        ({"counts": np.array([1, 1, 1])}, "its arrays do not fit together"),
        ({"stamps": np.zeros((3, 3), np.int64)}, "the index cannot be used and is rewritten"),
        ({"stamps": np.array([["a", "b"]] * 3)}, "the index cannot be used and is rewritten"),
        ({"counts": np.array([2.5, 2.5, 3])}, "the index cannot be used and is rewritten"),
    ],
)
def test_an_index_of_another_form_is_rewritten(indexed_list, caplog, change, message):
    index = indexed_list.with_name("all.list.index.npz")
    with np.load(index) as file:
        content = dict(file)
    with index.open("wb") as file:
        np.savez(file, **(content | change))
    assert len(load(indexed_list).records) == 8 and message in caplog.text


def test_works_without_a_writable_index(folder, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(30, "cannot write x: Read-only file system")

    monkeypatch.setattr(shards, "write_index", refuse)
    with caplog.at_level(logging.INFO):
        assert len(load(folder).records) == 8
    message = "Read-only file system; the next run reads the record offsets again"
    assert message in caplog.text


def test_index_shards_needs_no_index_file(folder):
    assert len(index_shards(find_shards(str(folder)))) == 8
    assert not list(folder.glob("*.npz"))


def test_the_index_file_may_be_elsewhere(folder):
    load(folder, index_file=str(folder / "sub" / "own.npz"))
    assert (folder / "sub" / "own.npz").exists()
    assert not (folder / "shards.index.npz").exists()


# --- order ---------------------------------------------------------------------------------------


def make_order(starts, batch_size=4, seed=3, rank=0, world_size=1, max_batches=None) -> ShardOrder:
    return ShardOrder(
        starts[-1],
        (BatchShape(batch_size),),
        seed=seed,
        rank=rank,
        world_size=world_size,
        max_batches=max_batches,
        starts=tuple(starts),
        shuffle_buffer=16,
    )


def drawn(order, epoch=0) -> list[list[int]]:
    """Return the record numbers of each batch of an epoch."""
    return [[draw.index for draw in batch] for batch in order.batches(epoch)]


def flat(lists) -> list:
    return list(itertools.chain.from_iterable(lists))


STARTS = [0, 30, 31, 31, 95, 128]


def test_an_epoch_has_each_record_once():
    batches = drawn(make_order(STARTS, 8))
    assert sorted(flat(batches)) == list(range(128)) and len(batches) == 16
    assert drawn(make_order(STARTS, 8)) == batches, "reproducible"
    assert drawn(make_order(STARTS, 8), epoch=1) != batches
    assert drawn(make_order(STARTS, 8, seed=4)) != batches
    assert len(drawn(make_order(STARTS, 8, max_batches=3))) == 3


def test_ranks_share_the_same_batches():
    batches = drawn(make_order(STARTS, 8))
    of_ranks = [drawn(make_order(STARTS, 2, rank=rank, world_size=4)) for rank in range(4)]
    joined = [sorted(flat(parts)) for parts in zip(*of_ranks, strict=True)]
    assert joined == [sorted(batch) for batch in batches]


def test_rejects_batches_larger_than_the_set():
    message = "128 training records do not fill one batch of 100 on 2 rank"
    with pytest.raises(ValueError, match=message):
        make_order(STARTS, 100, world_size=2)


# 100 shards of 100 records.
EQUAL = np.arange(0, 10001, 100)


@pytest.mark.parametrize("buffer", [1, 50, 400])
def test_a_stretch_of_the_order_needs_few_shards(buffer):
    numbers = shuffled(EQUAL, buffer, np.random.default_rng(0))
    assert sorted(numbers.tolist()) == list(range(10000))
    stretches = numbers.reshape(100, 100) // 100
    num_shards = [len(set(stretch.tolist())) for stretch in stretches]
    assert max(num_shards) <= (100 + 2 * buffer) / 100 + 1


def test_the_buffer_limits_how_far_records_move():
    in_order = shuffled(EQUAL, 1, np.random.default_rng(0))
    assert (np.diff(in_order.reshape(100, 100)) == 1).all(), "each shard keeps its order"
    assert in_order[0] != 0, "the order of the shards is random"
    mixed = shuffled(EQUAL, 400, np.random.default_rng(0))
    # argsort gives the position of each record.
    distances = np.abs(np.argsort(mixed) - np.argsort(in_order))
    assert distances.max() < 400 and distances.mean() > 50
    all_mixed = shuffled(EQUAL, 10**6, np.random.default_rng(0))
    assert np.abs(np.argsort(all_mixed) - np.arange(10000)).mean() > 3000


def test_almost_all_pairs_of_records_meet_in_a_batch():
    starts = np.arange(0, 65, 8)
    together = np.zeros((64, 64), bool)
    for epoch in range(200):
        for batch in shuffled(starts, 24, np.random.default_rng((0, epoch))).reshape(-1, 8):
            together[np.ix_(batch, batch)] = True
    assert together.mean() > 0.99
