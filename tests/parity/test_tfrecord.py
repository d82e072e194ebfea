"""Shards that TensorFlow 2.21 reads or rejects: this reader gives the same records and rejects the
same files."""

import json
import zlib

import pytest

from paddlevideo.data.youtube8m.dataset import YouTube8MDataset
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder, FeaturePipeline
from paddlevideo.data.youtube8m.sequence_example import encode_example, parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads
from paddlevideo.sample import DecodeError


@pytest.fixture(scope="module")
def folder(goldens):
    return goldens / "nextvlad"


@pytest.fixture(scope="module")
def expected(folder):
    return json.loads((folder / "tfrecord_expected.json").read_text())["small"]


def test_reads_the_same_records(folder, expected):
    videos = [parse_example(payload) for _, payload in read_payloads(folder / "small.tfrecord")]
    assert len(videos) == len(expected) == 4
    for video, wanted in zip(videos, expected, strict=True):
        assert video.id.decode() == wanted["id"] and video.labels.tolist() == wanted["labels"]
        for name in ("rgb", "audio"):
            assert len(video.features[name]) == wanted["frames"]
            assert zlib.crc32(video.features[name].tobytes()) == wanted[f"{name}_crc32"]


def test_encodes_the_same_bytes(folder):
    """Only the first two records: the others have unpacked labels, or an empty list of them."""
    payloads = [payload for _, payload in read_payloads(folder / "small.tfrecord")][:2]
    for payload in payloads:
        video = parse_example(payload)
        features = {
            name: frames.reshape(len(frames), frames.shape[1] or 1)
            for name, frames in video.features.items()
        }
        assert encode_example(video.id, video.labels, features) == payload


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flip", "byte 0: the payload fails its CRC-32C check"),
        ("trunc", "byte 358267: the record extends 10 bytes past the end of the file"),
    ],
)
def test_rejects_damaged_files(folder, tmp_path, name, message):
    """A bit of the first payload is flipped, or the last 10 bytes are missing."""
    data = bytearray((folder / "small.tfrecord").read_bytes())
    if name == "flip":
        data[2000] ^= 1
    else:
        del data[-10:]
    path = tmp_path / f"{name}.tfrecord"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=rf"{name}.tfrecord: {message}"):
        list(read_payloads(path))


def test_gives_the_same_samples(folder, expected):
    records = YouTube8MDataset(str(folder / "small.tfrecord")).load().records
    pipeline = FeaturePipeline(FeatureDecoder(num_classes=3862))
    for record, wanted in zip(records, expected, strict=True):
        sample = pipeline(record)
        count = min(300, wanted["frames"])
        assert sample["num_frames"] == count and sample["id"] == wanted["id"].encode()
        assert sample["rgb"].shape == (300, 1024) and not sample["rgb"][count:].any()
        assert sample["label"].nonzero()[0].tolist() == wanted["labels"]
        if wanted["frames"] <= 300:
            assert zlib.crc32(sample["audio"][:count].tobytes()) == wanted["audio_crc32"]
