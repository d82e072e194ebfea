"""The pipeline of frame features: samples, damaged records, and open files."""

import collections
import logging
import os
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.youtube8m import sequence_example, tfrecord
from paddlevideo.data.youtube8m.pipeline import OPEN_FILES, FeatureDecoder, FeaturePipeline
from paddlevideo.data.youtube8m.sequence_example import encode_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.sample import BatchShape, ClipShape
from tests.parts.data.youtube8m.shard_files import PIPELINE, WIDTHS, load, write_three_shards
from tests.parts.data.youtube8m.shard_files import make_frames as frames
from tests.parts.data.youtube8m.shard_files import write_shard as write
from tests.parts.data.youtube8m.test_tfrecord import mutated


@pytest.fixture
def three(tmp_path):
    """A folder of three shards with 4, 1 and 3 videos."""
    return write_three_shards(tmp_path)


def only(tmp_path, payload, name="one"):
    """The record of a shard with this payload alone."""
    write_payloads(tmp_path / f"{name}.tfrecord", [payload])
    return load(tmp_path / f"{name}.tfrecord").records[0]


def test_makes_a_sample(tmp_path):
    sample = PIPELINE(only(tmp_path, encode_example("vid", [9, 0, 9], frames(3))))
    assert {key: (str(np.asarray(a).dtype), np.shape(a)) for key, a in sample.items()} == {
        "rgb": ("uint8", (5, 6)),
        "audio": ("uint8", (5, 3)),
        "num_frames": ("int64", ()),
        "label": ("uint8", (10,)),
        "id": ("|S3", ()),
    }
    assert np.array_equal(sample["rgb"][:3], frames(3)["rgb"]) and not sample["rgb"][3:].any()
    assert sample["label"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert sample["num_frames"] == 3 and sample["id"] == b"vid"
    assert sample["rgb"].flags.c_contiguous and sample["rgb"].flags.writeable
    assert PIPELINE.finish(sample) is sample and PIPELINE.finish_on_device(sample) is sample
    assert {name: (spec.shape, spec.dtype) for name, spec in PIPELINE.batch_specs.items()} == {
        "rgb": ((None, 5, 6), "uint8"),
        "audio": ((None, 5, 3), "uint8"),
        "num_frames": ((None,), "int64"),
    }
    assert PIPELINE.num_clips == PIPELINE.num_views == 1
    assert not PIPELINE.view_axis and not PIPELINE.random
    synthetic = PIPELINE.synthetic()
    assert synthetic["rgb"].shape == (5, 6) and synthetic["label"].shape == (10,)
    assert synthetic["num_frames"] == 3
    with pytest.raises(ValueError, match="FeaturePipeline has no clip shape"):
        PIPELINE.shaped(ClipShape(8, 112, (1, 2), (128, 160)))


def test_accepts_records_without_frames_labels_or_id(tmp_path):
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
    assert PIPELINE(only(tmp_path, nameless, "\udcff"))["id"] == b"\xff.tfrecord:0"


@pytest.mark.parametrize(
    ("payload", "message"),
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
def test_rejects_a_record_that_does_not_fit(tmp_path, payload, message):
    record = only(tmp_path, payload)
    with pytest.raises(StageError, match=message) as caught:
        PIPELINE(record)
    assert caught.value.stage == "decode" and caught.value.reason.startswith("byte 0: ")


def test_rejects_feature_lists_of_unequal_length(tmp_path):
    rgb, audio = (
        encode_example("v", [], {name: frames(n)[name]}) for name, n in (("rgb", 3), ("audio", 2))
    )
    lists = [
        next(f[2:] for f in sequence_example._fields(p, 0, len(p)) if f[0] == 2)
        for p in (rgb, audio)
    ]
    both = sequence_example._field(
        2, b"".join(p[slice(*bounds)] for p, bounds in zip((rgb, audio), lists, strict=True))
    )
    with pytest.raises(
        StageError, match="has 3 frames of rgb, 2 frames of audio; expected equal numbers"
    ):
        PIPELINE(only(tmp_path, both))


def test_damage_loses_one_record_or_those_after_it(three, caplog):
    path = three / "a.tfrecord"
    raw, offsets = bytearray(path.read_bytes()), tfrecord.record_offsets(path)[0]
    raw[int(offsets[1]) + 40] ^= 1
    path.write_bytes(raw)
    records = load(path).records
    assert len(records) == 4
    with pytest.raises(
        StageError, match=rf"byte {offsets[1]}: the payload fails its CRC-32C check"
    ):
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
    with pytest.raises(
        StageError, match=rf"byte {offsets[2]}: the record length fails its CRC check"
    ):
        FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(records[2])

    path.write_bytes(path.read_bytes()[: int(offsets[1]) + 30])
    records = load(path).records
    with pytest.raises(StageError, match="extends .* bytes past the end of the file: truncated"):
        FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(records[1])


def test_training_replaces_and_locates_a_damaged_record(three):
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
        rf"{re.escape(str(path))}.*: decode: byte 0: the payload fails its CRC-32C check",
        failures.pop(),
    )


def test_reports_a_missing_shard(three):
    records = load(three).records
    (three / "b.tfrecord").unlink()
    with pytest.raises(StageError, match="decode: FileNotFoundError: .*b.tfrecord"):
        FeaturePipeline(FeatureDecoder(5, WIDTHS, 10))(records[4])


def test_a_shard_that_was_replaced_is_read_again(tmp_path):
    decoder = FeatureDecoder(5, WIDTHS, 10)
    for name in ("first", "another"):
        file = tmp_path / "new.tfrecord"
        write_payloads(file, [encode_example(name, [1], frames(2))])
        file.replace(tmp_path / "one.tfrecord")  # the earlier one is still open
        (record,) = load(tmp_path / "one.tfrecord").records
        assert decoder.read(record).id == name.encode()


def test_keeps_few_files_open(tmp_path):
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
    ("arguments", "message"),
    [
        ({"max_frames": 0}, "max_frames is 0, expected at least 1"),
        ({"features": {}}, "expected names and values per frame"),
        ({"features": {"rgb": 0}}, "expected names and values per frame"),
        ({"features": {"rgb": "many"}}, "expected names and values per frame"),
    ],
)
def test_decoder_rejects_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeatureDecoder(**arguments)


def test_requires_the_number_of_classes():
    with pytest.raises(ValueError, match="num_classes is unknown; set it in the model's head"):
        FeaturePipeline(FeatureDecoder())


def test_mutated_shards_give_samples_or_failures(tmp_path):
    """Damaged shards raise only the errors that training and tests handle."""
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
                assert "Error" not in error.reason, f"unexpected error: {error.reason}"
                seen["failure"] += 1
    assert min(seen[kind] for kind in ("no shard", "sample", "failure")) > 3, seen
