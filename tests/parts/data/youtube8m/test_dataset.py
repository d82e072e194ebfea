"""Shards of frame features: finding them, their records and order, samples, what is wrong in them, and preparing them."""

import collections
import gzip
import importlib.util
import itertools
import logging
import os
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.curate import youtube8m as youtube8m_prepare
from paddlevideo.curate.demo_shards import ShardPlan, make_shards, make_video
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.youtube8m import sequence_example, shards, tfrecord
from paddlevideo.data.youtube8m.dataset import (
    OPEN_FILES,
    FeatureDecoder,
    FeaturePipeline,
    YouTube8MDataset,
)
from paddlevideo.data.youtube8m.pickles import parse_video, read_examples, read_videos
from paddlevideo.data.youtube8m.sequence_example import encode_example, parse_example
from paddlevideo.data.youtube8m.shards import ShardOrder, index_shards, shuffled
from paddlevideo.data.youtube8m.tfrecord import read_payloads, write_payloads
from paddlevideo.sample import BatchShape, DecodeError, Record
from tests.parts.data.youtube8m.test_tfrecord import mutated

WIDTHS = {"rgb": 6, "audio": 3}
DECODER = FeatureDecoder(max_frames=5, features=WIDTHS, num_classes=10)
PIPELINE = FeaturePipeline(DECODER)


def frames(count, seed=0, **widths):
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(1, 256, (count, width), np.uint8)
        for name, width in {**WIDTHS, **widths}.items()
    }


def write(path, *videos, prefix=""):
    """A shard of videos (labels, number of frames); ids are the file's name and a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [
        encode_example(f"{prefix or path.stem}-{i}", labels, frames(count, i))
        for i, (labels, count) in enumerate(videos)
    ]
    write_payloads(path, made)
    return path


@pytest.fixture
def three(tmp_path):
    """A folder of three shards with 4, 1 and 3 videos."""
    for name, count in (("a", 4), ("b", 1), ("c", 3)):
        write(tmp_path / f"{name}.tfrecord", *([([n], n + 1) for n in range(count)]))
    return tmp_path


def load(path, **more):
    return YouTube8MDataset(str(path), **more).load()


def names(records):
    return [(Path(record.path).name, record.id) for record in records]


# --- finding shards -----------------------------------------------------------------------------------------------------


def test_a_folder_a_list_a_glob_and_a_shard(three, monkeypatch):
    write(three / "sub" / "d.TFRecord", ([1], 1))
    write(three / ".hidden.tfrecord", ([1], 1))
    (three / "b.list").write_text("c.tfrecord\r\n\na.tfrecord\n")
    assert [Path(p).name for p in shards.find_shards(str(three))] == [
        "a.tfrecord",
        "b.tfrecord",
        "c.tfrecord",
        "d.TFRecord",
    ]
    assert [Path(p).name for p in shards.find_shards(str(three / "b.list"))] == [
        "c.tfrecord",
        "a.tfrecord",
    ]
    assert [Path(p).name for p in shards.find_shards(str(three / "[ac].tfrecord"))] == [
        "a.tfrecord",
        "c.tfrecord",
    ]
    assert shards.find_shards(str(three / "a.tfrecord")) == [str(three / "a.tfrecord")]
    (three / "a.tfrecord").rename(three / "no_suffix")
    assert len(load(three / "no_suffix").records) == 4
    (three / "moved.list").write_text("c.tfrecord\n")
    (three / "elsewhere").mkdir()
    (three / "moved.list").rename(three / "elsewhere" / "moved.list")
    assert len(load(three / "elsewhere" / "moved.list", data_prefix=str(three)).records) == 3


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("gone.list", None, "no such file or folder; set file_path to a list of shards, a folder, a glob or a shard"),
        ("*.nothing", None, "no file matches this pattern"),
        ("a.list", b"\n \n", "no shards in this list"),
        ("a.list", b"b.tfrecord\nx.tfrecord\nb.tfrecord\n", r"a.list:2: no file x.tfrecord in .*\n.*a.list:3: "
         "b.tfrecord is already on line 1; its videos would count twice"),
        ("a.list", b"\xff\xfe\x00", "not UTF-8 text .* expected a shard, or a list of shards"),
        ("empty", "folder", "no shards in this folder"),
        ("z.tfrecord", gzip.compress(b"x" * 99, mtime=0), "compressed with gzip.*; unpack it with gunzip"),
        ("z.tfrecord.gz", gzip.compress(b"x" * 99, mtime=0), "compressed with gzip"),
        ("z.tfrecord", b"hello, this is no shard", "not a TFRecord file but text that begins with 'hello, this is no s"),
        ("z.tfrecord", bytes(range(1, 240)), "not a TFRecord file, or its first record's header is damaged"),
        ("z.tfrecord", b"", "no records in 1 shard"),
    ],
)  # fmt: skip
def test_what_is_no_shard(three, name, content, told):
    if content == "folder":
        (three / name).mkdir()
    elif content is not None:
        (three / name).write_bytes(content)
    with pytest.raises(DatasetError, match=told):
        load(three / name)


def test_all_files_that_are_no_shards_are_named(three):
    (three / "b.tfrecord").write_text("text, more than twelve bytes")
    (three / "d.tfrecord").write_bytes(gzip.compress(b"x", mtime=0))
    with pytest.raises(
        DatasetError, match=r"(?s)b.tfrecord: not a TFRecord.*d.tfrecord: compressed with gzip"
    ):
        load(three)


def test_an_empty_shard_among_others_is_told_and_holds_nothing(three, caplog):
    (three / "b.tfrecord").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        found = load(three)
    assert len(found.records) == 7 and "b.tfrecord: the file is empty" in caplog.text


# --- records and their index ---------------------------------------------------------------------------------------------


def test_records_are_numbered_through(three):
    records = load(three).records
    assert len(records) == 8 and records.starts.tolist() == [0, 4, 5, 8]
    assert names(records) == [
        (f"{shard}.tfrecord", f"{shard}.tfrecord:{n}")
        for shard, count in (("a", 4), ("b", 1), ("c", 3))
        for n in range(count)
    ]
    assert records[-1] == records[7] and records[5].offset == 0
    assert records[5].location == f"{three}/c.tfrecord@0" and Record("x.mp4").location == "x.mp4"
    with pytest.raises(IndexError):
        records[8]
    assert load(three).max_label == -1 and load(three).class_names is None
    ids = [PIPELINE(record)["id"].decode() for record in records]
    assert ids == ["a-0", "a-1", "a-2", "a-3", "b-0", "c-0", "c-1", "c-2"]


def test_the_index_is_kept_and_renewed_where_shards_change(three, monkeypatch, caplog):
    (three / "all.list").write_text("a.tfrecord\nb.tfrecord\nc.tfrecord\n")
    looked_up = []
    look_up = shards.find_offsets
    monkeypatch.setattr(
        shards, "find_offsets", lambda path: (looked_up.append(Path(path).name), look_up(path))[1]
    )
    first = load(three / "all.list").records
    assert (
        looked_up == ["a.tfrecord", "b.tfrecord", "c.tfrecord"]
        and (three / "all.list.index.npz").exists()
    )
    looked_up.clear()
    again = load(three / "all.list").records
    assert (
        not looked_up
        and np.array_equal(again.offsets, first.offsets)
        and names(again) == names(first)
    )

    write(three / "b.tfrecord", ([1], 2), ([2], 3))  # another size
    with caplog.at_level(logging.INFO):
        changed = load(three / "all.list").records
    assert (
        looked_up == ["b.tfrecord"]
        and len(changed) == 9
        and "1 of 3 shards are new or changed" in caplog.text
    )
    looked_up.clear()
    os.utime(three / "c.tfrecord", ns=(1, 1))  # another time
    load(three / "all.list")
    assert looked_up == ["c.tfrecord"]

    # It moves with the shards, and a damaged one is made anew.
    looked_up.clear()
    three.rename(three.with_name("moved"))
    moved = three.with_name("moved")
    load(moved / "all.list")
    assert not looked_up
    index = moved / "all.list.index.npz"
    for damage in (index.read_bytes()[:100], index.read_bytes()[:-30], b"", b"text"):
        index.write_bytes(damage)
        assert len(load(moved / "all.list").records) == 9
    assert "cannot be used and is rewritten" in caplog.text
    assert len(looked_up) == 12 and len(shards.read_index(index)) == 3


def test_no_index_where_none_can_be_written(three, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(30, "cannot write x: Read-only file system")

    monkeypatch.setattr(shards, "write_index", refuse)
    with caplog.at_level(logging.INFO):
        assert len(load(three).records) == 8
    assert "Read-only file system; the next run reads the record offsets again" in caplog.text
    monkeypatch.undo()
    load(three, index_file=str(three / "sub" / "own.npz"))
    assert (three / "sub" / "own.npz").exists() and not (three / "shards.index.npz").exists()


def test_records_take_no_memory_each(tmp_path):
    records = shards.ShardRecords(["a"] * 4000, [1000] * 4000, np.zeros(4_000_000, np.int64))
    assert records.offsets.nbytes == 32_000_000 and records[3_999_999].id == "a:999"


# --- order --------------------------------------------------------------------------------------------------------------


def order(starts, batch=4, **more):
    given = {
        "seed": 3,
        "rank": 0,
        "world_size": 1,
        "max_batches": None,
        "shuffle_buffer": 16,
        **more,
    }
    return ShardOrder(starts[-1], (BatchShape(batch),), starts=tuple(starts), **given)


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def drawn(order, epoch=0):
    return [[draw.index for draw in batch] for batch in order.batches(epoch)]


def test_every_record_once_and_batches_of_any_number_of_ranks():
    starts = [0, 30, 31, 31, 95, 128]
    one = drawn(order(starts, 8))
    assert sorted(flat(one)) == list(range(128)) and len(one) == 16
    parts = [drawn(order(starts, 2, rank=rank, world_size=4)) for rank in range(4)]
    assert [sorted(flat(part[b] for part in parts)) for b in range(16)] == [
        sorted(batch) for batch in one
    ]
    assert sum(map(len, one)) == 128 and drawn(order(starts, 8)) == one
    assert drawn(order(starts, 8), epoch=1) != one and drawn(order(starts, 8, seed=4)) != one
    assert len(drawn(order(starts, 8, max_batches=3))) == 3
    with pytest.raises(
        ValueError, match="128 training records do not fill one batch of 100 on 2 rank"
    ):
        order(starts, 100, world_size=2)


def test_records_stay_near_their_shard():
    starts = np.arange(0, 10001, 100)
    for buffer in (1, 50, 400):
        numbers = shuffled(starts, buffer, np.random.default_rng(0))
        assert sorted(numbers.tolist()) == list(range(10000))
        # shards that records come from, among as many records as the buffer holds
        held = [len(set((numbers[i : i + 100] // 100).tolist())) for i in range(0, 10000, 100)]
        assert max(held) <= (100 + 2 * buffer) / 100 + 1
    plain = shuffled(starts, 1, np.random.default_rng(0))
    assert (np.diff(plain.reshape(100, 100)) == 1).all() and plain[0] != 0, (
        "shards at random, each in its order"
    )
    mixed = shuffled(starts, 400, np.random.default_rng(0))
    came = np.argsort(mixed)  # record -> place
    entered = np.argsort(plain)
    moved = np.abs(came - entered)
    assert moved.max() < 400 and moved.mean() > 50
    whole = shuffled(starts, 10**6, np.random.default_rng(0))
    assert np.abs(np.argsort(whole) - np.arange(10000)).mean() > 3000


def test_epochs_mix_differently_and_all_pairs_can_meet():
    starts = np.arange(0, 65, 8)
    together = np.zeros((64, 64), bool)
    for epoch in range(200):
        batches = shuffled(starts, 24, np.random.default_rng((0, epoch))).reshape(-1, 8)
        for batch in batches:
            together[np.ix_(batch, batch)] = True
    assert together.mean() > 0.99


def test_the_dataset_gives_the_order(three):
    made = load(three, shuffle_buffer=2).order((BatchShape(2),), 7, 1, 2, None)
    assert (
        isinstance(made, ShardOrder)
        and made.starts == (0, 4, 5, 8)
        and made.shuffle_buffer == 2
        and len(made) == 2
    )
    with pytest.raises(ValueError, match="shuffle_buffer is 0, expected at least 1"):
        YouTube8MDataset("x", shuffle_buffer=0)


def test_workers_ranks_and_a_resume_give_the_same_samples(three):
    found = load(three)

    def loaded(workers, start=0, **rank):
        dataset = ClipDataset(found.records, PIPELINE, seed=1, replace=True)
        loader = Loader(
            dataset,
            found.order((BatchShape(2),), 1, rank.get("rank", 0), rank.get("world_size", 1), None),
            workers,
        )
        try:
            return [batch.batch for batch in loader.epoch(2, start)]
        finally:
            loader.close()

    plain = loaded(0)
    assert len(plain) == 4 and {key: array.shape for key, array in plain[0].items()} == {
        "rgb": (2, 5, 6), "audio": (2, 5, 3), "num_frames": (2,), "label": (2, 10), "id": (2,), "index": (2,),
    }  # fmt: skip
    for other in (loaded(2), [*plain[:2], *loaded(0, start=2)]):
        for mine, theirs in zip(plain, other, strict=True):
            assert all(np.array_equal(mine[key], theirs[key]) for key in mine)
    ranks = [loaded(1, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(x for part in ranks for batch in part for x in batch["id"].tolist()) == sorted(
        x for batch in plain for x in batch["id"].tolist()
    )


def test_a_test_reads_everything_in_order(three):
    dataset = ClipDataset(load(three).records, PIPELINE)
    ids = [
        x for batch in Loader(dataset, EvalOrder(8, 3)).epoch(0) for x in batch.batch["id"].tolist()
    ]
    assert ids == [b"a-0", b"a-1", b"a-2", b"a-3", b"b-0", b"c-0", b"c-1", b"c-2"]


# --- samples --------------------------------------------------------------------------------------------------------------


def only(tmp_path, payload, name="one"):
    write_payloads(tmp_path / f"{name}.tfrecord", [payload])
    return load(tmp_path / f"{name}.tfrecord").records[0]


def test_a_sample(tmp_path):
    sample = PIPELINE(only(tmp_path, encode_example("vid", [9, 0, 9], frames(3))))
    assert {key: (str(np.asarray(value).dtype), np.shape(value)) for key, value in sample.items()} == {
        "rgb": ("uint8", (5, 6)), "audio": ("uint8", (5, 3)), "num_frames": ("int64", ()), "label": ("uint8", (10,)),
        "id": ("|S3", ()),
    }  # fmt: skip
    assert np.array_equal(sample["rgb"][:3], frames(3)["rgb"]) and not sample["rgb"][3:].any()
    assert (
        sample["label"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        and sample["num_frames"] == 3
        and sample["id"] == b"vid"
    )
    assert sample["rgb"].flags.c_contiguous and sample["rgb"].flags.writeable
    assert PIPELINE.finish(sample) is sample and PIPELINE.finish_on_device(sample) is sample
    assert {name: (spec.shape, spec.dtype) for name, spec in PIPELINE.batch_specs.items()} == {
        "rgb": ((None, 5, 6), "uint8"), "audio": ((None, 5, 3), "uint8"), "num_frames": ((None,), "int64"),
    }  # fmt: skip
    assert (PIPELINE.num_clips, PIPELINE.num_views, PIPELINE.view_axis, PIPELINE.random) == (
        1,
        1,
        False,
        False,
    )
    made = PIPELINE.synthetic()
    assert made["rgb"].shape == (5, 6) and made["num_frames"] == 3 and made["label"].shape == (10,)
    assert PIPELINE.shaped(None) is PIPELINE


def test_what_has_a_meaning(tmp_path):
    """No frames, more frames than are used, no labels, no id."""
    none = PIPELINE(only(tmp_path, encode_example("vid", [1], frames(0))))
    assert none["num_frames"] == 0 and not none["rgb"].any() and none["label"].sum() == 1
    many = PIPELINE(only(tmp_path, encode_example("vid", [], frames(9)), "two"))
    assert (
        many["num_frames"] == 5
        and np.array_equal(many["audio"], frames(9)["audio"][:5])
        and not many["label"].any()
    )
    nameless = encode_example("", [1], frames(1))
    assert PIPELINE(only(tmp_path, nameless, "three"))["id"] == b"three.tfrecord:0"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (
            encode_example("vid", [1], {"rgb": frames(2)["rgb"]}),
            "video 'vid': feature 'audio' is missing; frame features: rgb",
        ),
        (
            encode_example("vid", [1], frames(2, rgb=7)),
            "video 'vid': a frame of rgb has 7 values, expected 6; 'features' of the decoder",
        ),
        (
            encode_example("vid", [10], frames(2)),
            "video 'vid': label 10, but num_classes is 10: labels end at 9",
        ),
        (
            encode_example("vid", [3], frames(2)).replace(
                b"\x1a\x03\x0a\x01\x03", b"\x1a\x03\x0a\x01\x7f"
            ),
            "video 'vid': label 127",
        ),
        (
            encode_example("vid", [1], frames(3)).replace(b"audio", b"other"),
            "feature 'audio' is missing; frame features: rgb, other",
        ),
        (b"not a message", "byte 0: byte 0 of the record is not a field"),
    ],
)
def test_what_is_wrong_in_a_record(tmp_path, payload, told):
    record = only(tmp_path, payload)
    with pytest.raises(StageError, match=told) as caught:
        PIPELINE(record)
    assert caught.value.stage == "decode" and caught.value.reason.startswith("byte 0: ")


def test_feature_lists_of_unequal_length(tmp_path):
    rgb, audio = (
        encode_example("v", [], {name: frames(n)[name]}) for name, n in (("rgb", 3), ("audio", 2))
    )
    lists = [next(f[2:] for f in sequence_example._fields(p, 0, len(p)) if f[0] == 2) for p in (rgb, audio)]
    both = sequence_example._field(
        2, b"".join(p[slice(*place)] for p, place in zip((rgb, audio), lists, strict=True))
    )
    with pytest.raises(
        StageError, match="has 3 frames of rgb, 2 frames of audio; each frame needs all of them"
    ):
        PIPELINE(only(tmp_path, both))


def test_damage_costs_one_record_or_what_is_behind_it(three, caplog):
    path = three / "a.tfrecord"
    raw, offsets = bytearray(path.read_bytes()), tfrecord.record_offsets(path)[0]
    raw[int(offsets[1]) + 40] ^= 1
    path.write_bytes(raw)
    records = load(path).records
    assert len(records) == 4
    with pytest.raises(StageError, match=rf"byte {offsets[1]}: the payload fails its CRC-32C check"):
        PIPELINE(records[1])
    assert [PIPELINE(records[i])["id"] for i in (0, 2, 3)] == [b"a-0", b"a-2", b"a-3"]

    raw[int(offsets[2])] ^= 1
    path.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        records = load(path).records
    assert (
        len(records) == 3
        and f"a.tfrecord: byte {offsets[2]}: the record length fails" in caplog.text
    )
    with pytest.raises(StageError, match=rf"byte {offsets[2]}: the record length fails its CRC check"):
        FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(records[2])

    path.write_bytes(path.read_bytes()[: int(offsets[1]) + 30])
    records = load(path).records
    with pytest.raises(StageError, match="extends .* bytes past the end of the file: truncated"):
        FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(records[1])


def test_a_training_replaces_a_damaged_record_and_says_where(three):
    path = three / "a.tfrecord"
    raw = bytearray(path.read_bytes())
    raw[60] ^= 1
    path.write_bytes(raw)
    found = load(three)
    dataset = ClipDataset(
        found.records, FeaturePipeline(FeatureDecoder(5, WIDTHS, 10)), replace=True
    )
    batches = list(Loader(dataset, found.order((BatchShape(4),), 0, 0, 1, None)).epoch(0))
    failures = {str(failure) for loaded in batches for failure in loaded.failures}
    assert len(failures) == 1 and all(len(loaded.batch["rgb"]) == 4 for loaded in batches)
    assert re.match(
        rf"{re.escape(str(path))}.*: decode: byte 0: the payload fails its CRC-32C check", failures.pop()
    )


def test_a_shard_that_has_gone(three):
    records = load(three).records
    (three / "b.tfrecord").unlink()
    with pytest.raises(StageError, match="decode: FileNotFoundError: .*b.tfrecord"):
        FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(records[4])


def test_few_files_stay_open(tmp_path):
    for number in range(OPEN_FILES + 30):
        write(tmp_path / f"{number:03}.tfrecord", ([1], 1))
    records = load(tmp_path).records
    decoder = FeatureDecoder(5, WIDTHS, 10)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for record in [*records, *records]:
        decoder.read(record)
    if before:
        assert len(os.listdir("/proc/self/fd")) - before <= OPEN_FILES
    sent = pickle.loads(pickle.dumps(decoder))  # as to a spawned worker
    assert sent == decoder and sent.read(records[3]).id == b"003-0"
    del decoder, sent
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_frames": 0}, "max_frames is 0, expected at least 1"),
        ({"features": {}}, "expected names and values a frame"),
        ({"features": {"rgb": 0}}, "expected names and values a frame"),
        ({"features": {"rgb": "many"}}, "expected names and values a frame"),
    ],
)
def test_a_decoder_that_makes_no_sense(arguments, told):
    with pytest.raises(ValueError, match=told):
        FeatureDecoder(**arguments)


def test_a_pipeline_needs_the_number_of_classes():
    with pytest.raises(ValueError, match="num_classes is not known: set it in the model's head"):
        FeaturePipeline(FeatureDecoder())


def test_mutated_shards_give_samples_or_failures(tmp_path):
    """From the file to the sample: nothing but the errors that a training or a test knows what to do with."""
    rng, seen = random.Random(5), collections.Counter()
    payloads = [encode_example(f"v{n}", [n], frames(n, n)) for n in (3, 0, 7)]
    raw = b"".join(b"".join(tfrecord.framed(payload)) for payload in payloads)
    for number in range(400):
        path = tmp_path / f"{number}.tfrecord"
        path.write_bytes(mutated(raw, rng, len(payloads[0])))
        try:
            records = load(path).records
        except DatasetError:
            seen["no shard"] += 1
            continue
        for record in records:
            try:
                assert PIPELINE(record)["rgb"].shape == (5, 6)
                seen["sample"] += 1
            except StageError as error:
                assert "Error" not in error.reason, f"an error that nobody foresaw: {error.reason}"
                seen["failure"] += 1
    assert min(seen[kind] for kind in ("no shard", "sample", "failure")) > 3, seen


# --- pickles ---------------------------------------------------------------------------------------------------------------


def as_dict(number, count=3, keys=str, **more):
    made = frames(count, number)
    video = {
        "video": f"p-{number}".encode(),
        "feature": made["rgb"],
        "audio": made["audio"],
        "label": [number],
        "nframes": np.int32(count),
    }
    return {keys(key): value for key, value in {**video, **more}.items()}


@pytest.mark.parametrize(
    "form", ["py3, protocol 2", "py3, protocol 4", "py3, bytes keys", "one video"]
)
def test_pickles_are_read(tmp_path, form):
    keys = str.encode if "bytes" in form else str
    videos = [as_dict(number, keys=keys) for number in range(3)]
    content = videos[0] if form == "one video" else videos
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content, 4 if "4" in form else 2))
    read = list(read_examples(tmp_path / "p.pkl"))
    assert [video.id for video in read] == [b"p-0", b"p-1", b"p-2"][: len(read)] and len(read) == (
        1 if form == "one video" else 3
    )
    for number, video in enumerate(read):
        assert video.labels.tolist() == [number]
        assert all(np.array_equal(video.features[name], frames(3, number)[name]) for name in WIDTHS)
    found = load(tmp_path / "p.pkl")
    assert found.shuffle_buffer == len(found.records) == len(read)
    sample = FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(found.records[len(read) - 1])
    assert sample["num_frames"] == 3 and sample["id"] == read[-1].id


def test_a_pickle_of_python_2(tmp_path):
    """Written out by hand, operation by operation: text as byte strings, an array's bytes as one of them, a NumPy scalar."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def dtype(name, order):
        rest = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        return b"cnumpy\ndtype\n" + text(name) + b"K\x00K\x01\x87R(K\x03" + text(order) + rest

    def array(values):
        rows, columns = values.shape
        shape = b"K" + bytes([rows]) + b"K" + bytes([columns]) + b"\x86"
        made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        return (
            made + b"(K\x01" + shape + dtype(b"u1", b"|") + b"\x89" + text(values.tobytes()) + b"tb"
        )

    made = frames(3, 5)
    scalar = (
        b"cnumpy.core.multiarray\nscalar\n" + dtype(b"i4", b"<") + text(b"\x02\0\0\0") + b"\x86R"
    )
    items = {
        b"video": text(b"old"),
        b"feature": array(made["rgb"]),
        b"audio": array(made["audio"]),
        b"label": b"]K\x07a",
        b"nframes": scalar,
    }
    raw = b"\x80\x02](}(" + b"".join(text(key) + value for key, value in items.items()) + b"ue."
    (tmp_path / "old.pkl").write_bytes(raw)
    (video,) = read_examples(tmp_path / "old.pkl")
    assert video.id == b"old" and video.labels.tolist() == [7]
    assert all(np.array_equal(video.features[name], made[name][:2]) for name in WIDTHS), (
        "nframes says how many count"
    )


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            [Evil()],
            "refers to (posix|nt).mkdir, which is not an array: refused, no code in the file was run",
        ),
        ([{"video": Evil()}], "refused, no code in the file was run"),
        (5, "the pickle holds a int, expected a list of dicts, one per video"),
        ([1, "x"], "the pickle holds a list of int, str, expected a list of dicts"),
        (b"cut", "damaged"),
    ],
)
def test_pickles_that_are_refused(tmp_path, monkeypatch, content, told):
    monkeypatch.chdir(tmp_path)
    raw = pickle.dumps(content, 2)
    Path("p.pkl").write_bytes(raw[:-3] if content == b"cut" else raw)
    with pytest.raises(DecodeError, match=told):
        read_videos("p.pkl")
    assert os.listdir() == ["p.pkl"]
    records = load("p.pkl").records  # as a damaged record: it fails when it is read
    with pytest.raises(StageError, match=told):
        PIPELINE(records[0])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"feature": None}, "'p-1': feature is of type NoneType, expected uint8"),
        (
            {"feature": np.zeros((3, 6))},
            r"'p-1': feature is float64 \[3, 6\], expected uint8 \[T, D\]",
        ),
        ({"nframes": 4}, "nframes is 4, but feature has 3 frames"),
        ({"nframes": -1}, "nframes is -1"),
        ({"nframes": "many"}, "label or nframes is not an integer"),
        ({"label": ["x"]}, "label or nframes is not an integer"),
        ({"label": 3}, "label or nframes is not an integer"),
        ({"video": 3}, "the id 'video' is of type int, expected text"),
    ],
)
def test_what_is_wrong_in_a_pickled_video(tmp_path, change, told):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps([as_dict(0), as_dict(1, **change)], 2))
    with pytest.raises(DecodeError, match=rf"p.pkl@1: .*{told}"):
        list(read_examples(tmp_path / "p.pkl"))
    records = load(tmp_path / "p.pkl").records
    with pytest.raises(StageError, match=f"number 1: .*{told}"):
        FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(records[1])
    gone = as_dict(0)
    del gone["audio"]
    with pytest.raises(
        DecodeError,
        match="'p-0': feature 'audio' is missing; keys: feature, label, nframes, video",
    ):
        parse_video(gone)


def test_mutated_pickles_are_videos_or_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, seen = random.Random(6), collections.Counter()
    for number in range(600):
        raw = bytearray(pickle.dumps([as_dict(0), as_dict(1)], number % 3 + 2))
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(raw))
            raw[place : place + rng.choice((0, 1, 1, 4))] = rng.randbytes(rng.choice((0, 1, 1, 2)))
        Path("p.pkl").write_bytes(raw)
        try:
            for video in read_examples("p.pkl"):
                assert all(array.nbytes < 10_000 for array in video.features.values())
            seen["read"] += 1
        except DecodeError:
            seen["refused"] += 1
    assert min(seen["read"], seen["refused"]) > 20 and os.listdir() == ["p.pkl"]


# --- preparing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tool(root, monkeypatch, capsys):
    """`tool(words...)` -> (exit code, standard output, standard error) of tools/data/prepare_youtube8m.py."""
    path = root / "tools/data/prepare_youtube8m.py"
    spec = importlib.util.spec_from_file_location("prepare_youtube8m", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*words):
        monkeypatch.setattr("sys.argv", [str(path), *map(str, words)])
        code = module.main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


SIZES = (
    "--features",
    "rgb=6",
    "audio=3",
    "--max_frames",
    "5",
    "--num_classes",
    "10",
    "--workers",
    "1",
)


def test_check_counts_and_writes_the_index(three, tool, monkeypatch):
    write(three / "d.tfrecord", ([], 0), ([1, 2, 9], 7))
    code, out, err = tool("check", three, *SIZES)
    assert code == 0, err
    assert (
        "4 shards, 10 videos, 24 frames (2.4 per video)" in out
        and "11 labels (1.10 per video), the largest is 9" in out
    )
    assert (
        "1 videos have no labels" in out
        and "1 videos have no frames" in out
        and "1 videos have more than 5 frames" in out
    )
    monkeypatch.setattr(
        shards, "find_offsets", lambda path: pytest.fail(f"{path} is read again, although it was checked")
    )
    assert len(load(three).records) == 10


def test_check_names_what_is_wrong(three, tool):
    write(three / "b.tfrecord", ([12], 1), ([3], 2), prefix="a")
    raw = bytearray((three / "c.tfrecord").read_bytes())
    raw[60] ^= 1
    (three / "c.tfrecord").write_bytes(raw[:-5])
    (three / "d.tfrecord").write_bytes(b"")
    (three / "e.tfrecord").write_bytes(gzip.compress(b"x", mtime=0))
    code, out, err = tool("check", three, *SIZES)
    assert code == 1 and "5 shards, 9 videos" in out
    for told in (
        "b.tfrecord: byte 0: video 'a-0': label 12, but num_classes is 10",
        "c.tfrecord: byte 0: the payload fails its CRC-32C check",
        "extends 5 bytes past the end",
        "d.tfrecord: the file is empty",
        "e.tfrecord: compressed with gzip",
        "video 'a-1' occurs 2 times: ",
    ):
        assert told in err, told
    assert len(err.splitlines()) == 6
    code, _, err = tool("check", three / "nowhere", *SIZES)
    assert code == 1 and "no such file or folder" in err


def test_check_in_processes_says_the_same(three):
    paths = shards.find_shards(str(three))
    both = [youtube8m_prepare.check(paths, DECODER, workers) for workers in (1, 2)]
    for one, other in zip(*both, strict=True):
        assert (one.path, one.num_frames, one.ids.tolist(), one.stamp) == (
            other.path,
            other.num_frames,
            other.ids.tolist(),
            other.stamp,
        )


def test_many_problems_are_cut_short(tmp_path):
    write(tmp_path / "a.tfrecord", *([([11], 1)] * 30))
    told = youtube8m_prepare.problems(
        youtube8m_prepare.check([str(tmp_path / "a.tfrecord")], DECODER, 1)
    )
    assert len(told) == 11 and told[-1].endswith("a.tfrecord: ... and 20 more records")


def test_lists(tmp_path, tool):
    for name in ("train0001", "train0000", "validate00", "test7"):
        write(tmp_path / "shards" / f"{name}.tfrecord", ([1], 1))
    code, out, err = tool("lists", tmp_path / "shards", "--out", tmp_path / "lists")
    assert code == 0 and "train.list: 2 shards" in out, err
    assert (
        tmp_path / "lists/train.list"
    ).read_text() == "../shards/train0000.tfrecord\n../shards/train0001.tfrecord\n"
    assert (
        len(load(tmp_path / "lists/train.list").records) == 2
        and len(load(tmp_path / "lists/val.list").records) == 1
    )
    write(tmp_path / "other" / "a.tfrecord", ([1], 1))
    code, _, err = tool("lists", tmp_path / "other", "--out", tmp_path)
    assert (
        code == 1 and "no shard name begins with train, val, test; the first shard is a.tfrecord" in err
    )


def test_class_names(tmp_path, tool):
    from paddlevideo.data.class_names import read_class_names

    table = tmp_path / "vocabulary.csv"
    table.write_text(
        "Index,TrainVideoCount,KnowledgeGraphId,Name,Url\n"
        '1,5,/m/b,"Game, board",x\n0,9,/m/a,Game,x\n2,4,/m/c,,x\n3,1,/m/d,Game,x\n'
    )
    code, out, _ = tool("labels", table, "--out", tmp_path / "labels.txt")
    assert code == 0 and "4 classes" in out
    assert read_class_names(tmp_path / "labels.txt") == [
        "Game",
        "Game, board",
        "/m/c",
        "Game (/m/d)",
    ]
    for text, told in [
        ("Index,Name\n0,a\n2,b\n", "Index must be 0 .. 1, each once"),
        ("Index,Name\n0,a\n0,b\n", "Index must be 0 .. 1, each once"),
        ("a,b\n1,2\n", "expected the columns Index, KnowledgeGraphId, Name, ...; got a, b"),
        ("", "got no rows"),
    ]:
        table.write_text(text)
        code, _, err = tool("labels", table, "--out", tmp_path / "labels.txt")
        assert code == 1 and told in err
    assert "no such file" in tool("labels", tmp_path / "x.csv", "--out", tmp_path / "l.txt")[2]


def test_pickles_become_tfrecord(tmp_path, tool):
    folder = tmp_path / "pickles"
    folder.mkdir()
    for name, numbers in (("x", (0, 1, 2)), ("y", (3, 4))):
        (folder / f"{name}.pkl").write_bytes(
            pickle.dumps([as_dict(number) for number in numbers], 2)
        )
    code, out, err = tool("convert", folder, "--out", tmp_path / "out", "--workers", "1")
    assert code == 0 and "2 files with 5 videos written" in out, err
    videos = [
        parse_example(payload)
        for name in "xy"
        for _, payload in read_payloads(tmp_path / f"out/{name}.tfrecord")
    ]
    assert [(video.id, video.labels.tolist()) for video in videos] == [
        (b"p-%d" % n, [n]) for n in range(5)
    ]
    assert np.array_equal(videos[4].features["rgb"], frames(3, 4)["rgb"])

    code, out, _ = tool("convert", folder, "--out", tmp_path / "out", "--workers", "1")
    assert code == 0 and "0 files with 0 videos written" in out, "what is there is kept"
    code, out, _ = tool(
        "convert", folder, "--out", tmp_path / "one", "--group", "2", "--workers", "1"
    )
    assert code == 0 and len(list(read_payloads(tmp_path / "one/part00000.tfrecord"))) == 5

    (folder / "y.pkl").write_bytes(b"\x80\x02")
    code, out, err = tool("convert", folder, "--out", tmp_path / "third", "--workers", "1")
    assert code == 1 and re.search(
        r"y.tfrecord was not written: .*y.pkl: not a file of arrays, or damaged", err
    )
    assert os.listdir(tmp_path / "third") == ["x.tfrecord"]
    (folder / "sub").mkdir()
    (folder / "x.pkl").rename(folder / "sub" / "y.pkl")
    assert "2 pickles would become" in tool("convert", folder, "--out", tmp_path / "fourth")[2]


def test_the_demo_set_is_the_same_again_and_can_be_learnt(tmp_path, tool):
    plan = ShardPlan(
        classes=4, videos=48, per_shard=20, frames=(4, 8), features=(("rgb", 32), ("audio", 8))
    )
    assert make_shards(tmp_path / "a", plan) == make_shards(tmp_path / "b", plan) == 5
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    sizes = ("--features", "rgb=32", "audio=8", "--num_classes", "4", "--workers", "1")
    code, out, err = tool("check", tmp_path / "a", *sizes)
    assert code == 0 and "5 shards, 72 videos" in out, err
    assert (tmp_path / "a/labels.txt").read_text().splitlines()[3] == "3 thing 3"

    def table(split, count):
        videos = [make_video(plan, split, number) for number in range(count)]
        targets = np.array([[label in labels for label in range(4)] for _, labels, _ in videos])
        return np.array([features["rgb"].mean(0) for _, _, features in videos]), targets

    rows, targets = table("train", 48)
    weights = np.linalg.lstsq(np.c_[rows, np.ones(48)], targets * 2 - 1, rcond=None)[0]
    rows, targets = table("val", 24)
    scores = np.c_[rows, np.ones(24)] @ weights
    assert targets[np.arange(24), scores.argmax(1)].mean() > 0.9, (
        "the best guess is one of the labels"
    )
    with pytest.raises(ValueError, match="at least 1"):
        ShardPlan(videos=0)


def test_the_tool_makes_a_demo_set(tmp_path, tool):
    code, out, _ = tool("demo", "--out", tmp_path / "set", "--videos", "8", "--classes", "3")
    assert code == 0 and "3 shards" in out
    sample = FeaturePipeline(FeatureDecoder(num_classes=3))(
        load(tmp_path / "set/train.list").records[0]
    )
    assert sample["rgb"].shape == (300, 1024) and sample["label"].sum() >= 1


def test_index_shards_needs_no_index_file(three):
    assert len(index_shards(shards.find_shards(str(three)))) == 8 and not list(three.glob("*.npz"))
