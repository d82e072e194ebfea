"""SequenceExamples: encoded videos are parsed back, and malformed messages are rejected."""

import contextlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlevideo.benchmarks.records import protobuf_reader
from paddlevideo.data.youtube8m.sequence_example import encode_example, parse_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.sample import DecodeError
from tests.parts.data.youtube8m.messages import (
    ID,
    entry,
    field,
    frame,
    random_features,
    sequence_example,
    varint,
)


def encoded_list(name: str, rows: np.ndarray) -> bytes:
    return entry(name.encode(), *(frame(row.tobytes()) for row in rows))


@given(
    st.binary(max_size=12),
    st.lists(st.integers(0, 2**63 - 1), max_size=5),
    st.integers(0, 5),
    st.integers(1, 200),
    st.integers(1, 40),
)
def test_parses_what_was_encoded(video_id, labels, num_frames, rgb, audio):
    features = random_features(num_frames, rgb, audio)
    video = parse_example(encode_example(video_id, labels, features))
    assert video.id == video_id
    assert video.labels.tolist() == labels and video.labels.dtype == np.int64
    for name, frames in features.items():
        assert video.features[name].dtype == np.uint8 and len(video.features[name]) == num_frames
        assert num_frames == 0 or np.array_equal(video.features[name], frames)


def test_frames_in_the_usual_form_are_views_of_the_payload():
    payload = encode_example("a", [1], random_features(50))
    rgb = parse_example(payload).features["rgb"]
    assert np.shares_memory(rgb, np.frombuffer(payload, np.uint8)) and not rgb.flags.writeable
    assert np.array_equal(rgb, random_features(50)["rgb"])


def test_agrees_with_protobuf(tmp_path):
    read = protobuf_reader()
    if read is None:
        pytest.skip("protobuf is not installed")
    labels = entry(b"labels", field(3, varint(8) + varint(7), field(1, varint(300), varint(2))))
    rgb, audio = (encoded_list(*item) for item in random_features(3, seed=1).items())
    reordered = field(2, audio) + field(1, labels) + field(2, rgb) + field(1, ID)
    payloads = [
        encode_example("é", [1, 300, 2**40], random_features(5)),
        encode_example("none", [2], random_features(0)),
        reordered,
    ]
    write_payloads(tmp_path / "a.tfrecord", payloads)
    expected = list(read(tmp_path / "a.tfrecord"))
    assert len(expected) == 3 and expected[2][1].tolist() == [7, 300, 2]
    for payload, (video_id, label_ids, rgb, audio) in zip(payloads, expected, strict=True):
        video = parse_example(payload)
        assert video.id == video_id and video.labels.tolist() == label_ids.tolist()
        for name, frames in (("rgb", rgb), ("audio", audio)):
            assert video.features[name].tobytes() == frames.tobytes()
            assert len(video.features[name]) == len(frames)


def test_parses_unusual_but_valid_forms():
    """Unpacked labels, unordered and unknown fields, `video_id`, and tags in a longer form."""
    features = random_features(3)
    unknown = field(9, b"zzz") + varint(10 << 3) + varint(300)
    unknown += varint(11 << 3 | 5) + bytes(4) + varint(12 << 3 | 1) + bytes(8)
    unpacked = [varint(1 << 3) + varint(7), varint(1 << 3) + varint(9)]
    labels = entry(b"labels", field(3, unpacked[0], field(1, varint(300), varint(2)), unpacked[1]))
    rows = [frame(row.tobytes()) for row in features["rgb"]]
    rows[1] = b"\x8a\x00" + rows[1][1:]  # the same tag in two bytes
    audio = encoded_list("audio", features["audio"])
    lists = [entry(b"other", b"\xff"), entry(b"rgb", *rows), audio]
    video_id = entry(b"video_id", field(1, field(1, b"wxyz")))
    context = field(1, labels) + field(1, unknown, video_id)
    video = parse_example(field(2, *lists) + unknown + context)
    assert video.id == b"wxyz" and video.labels.tolist() == [7, 300, 2, 9]
    assert all(np.array_equal(video.features[name], features[name]) for name in features)


def test_the_last_of_two_entries_wins():
    lists = [entry(b"rgb", frame(b"old")), entry(b"rgb", frame(b"new!"))]
    video = parse_example(sequence_example([ID], lists), ["rgb"])
    assert video.features["rgb"].tobytes() == b"new!"


def test_parses_videos_without_labels_and_id():
    video = parse_example(sequence_example([], [entry(b"rgb"), entry(b"audio", b"")]))
    assert video.id == b"" and video.labels.tolist() == []
    shapes = {name: frames.shape for name, frames in video.features.items()}
    assert shapes == {"rgb": (0, 0), "audio": (0, 0)}


def test_parses_negative_labels():
    labels = entry(b"labels", field(3, field(1, varint(2**64 - 5))))
    assert parse_example(sequence_example([labels]), []).labels.tolist() == [-5]


# --- malformed messages --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rgb", "message"),
    [
        ([frame(b"xy"), frame(b"x")], "frame 1 of rgb has 1 values, the first frame has 2"),
        ([frame(b"")], "frame 0 of rgb has 0 values, the first frame has 0"),
        ([frame()], "frame 0 of rgb: expected one bytes value, got 0 bytes values"),
        ([field(1)], "frame 0 of rgb: expected one bytes value, got nothing"),
        ([frame(b"x", b"y")], "frame 0 of rgb: expected one bytes value, got 2 bytes values"),
        (
            [field(1, field(2, field(1, bytes(8))))],
            "frame 0 of rgb: expected one bytes value, got floats",
        ),
        (
            [frame(b"x"), field(1, field(3, field(1, b"\1")))],
            "frame 1 of rgb: expected one bytes value, got integers",
        ),
        ([frame(b"x"), field(7, frame(b"y"))], "the field after frame 0 of rgb is not a frame"),
        ([field(1, field(1, field(2, b"y")))], "frame 0 of rgb is not a list of bytes"),
    ],
)
def test_rejects_malformed_frames(rgb, message):
    with pytest.raises(DecodeError, match=f"video 'abcd': {message}"):
        parse_example(sequence_example([ID], [entry(b"rgb", *rgb)]))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "a video without id: feature 'rgb' is missing; frame features: none"),
        (
            sequence_example([ID], [entry(b"audio", frame(b"x"))]),
            "video 'abcd': feature 'rgb' is missing; frame features: audio",
        ),
        (
            sequence_example([ID], [entry(b"rgb", frame(b"x"))]),
            "video 'abcd': feature 'audio' is missing; frame features: rgb",
        ),
    ],
)
def test_rejects_missing_features(payload, message):
    with pytest.raises(DecodeError, match=message):
        parse_example(payload)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (field(1, field(1, b"x")), "labels are bytes, expected integers"),
        (field(3, field(1, b"\xff\xff")), "the integer that ends at byte .* is incomplete"),
        (field(4, field(1, b"\1")), "field 'labels' is not a Feature"),
        (field(3, field(2, b"\1")), "labels are not a list of integers"),
        (field(3, field(1, b"\1" * 20_001)), "more than 20000 labels"),
    ],
)
def test_rejects_malformed_labels(value, message):
    with pytest.raises(DecodeError, match=f"video 'abcd': {message}"):
        parse_example(sequence_example([ID, entry(b"labels", value)]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (field(3, field(1, b"\1")), "the id: expected one bytes value, got integers"),
        (
            field(1, field(1, b"a"), field(1, b"b")),
            "the id: expected one bytes value, got 2 bytes values",
        ),
        (field(1, field(1, b"a")) * 2, "the id has two values"),
    ],
)
def test_rejects_malformed_ids(value, message):
    with pytest.raises(DecodeError, match=message):
        parse_example(sequence_example([entry(b"id", value)]))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"plain text, no message", "byte 13 of the record is not a field of a SequenceExample"),
        (b"\x0a\x05abc", "byte 0 of the record is not a field of a SequenceExample"),
        (b"\xff" * 12, "the integer that ends at byte 10 of the record is incomplete"),
        (field(1, b"\x0b"), "is not a field of a SequenceExample"),
    ],
)
def test_rejects_other_content(payload, message):
    with pytest.raises(DecodeError, match=message):
        parse_example(payload)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rgb": np.zeros((4, 16), np.float32)}, r"rgb float32 \[4, 16\].*expected uint8"),
        ({"rgb": np.zeros(16, np.uint8)}, r"rgb uint8 \[16\].*expected uint8 \[T, D\] for each"),
        ({"audio": np.zeros((2, 8), np.uint8)}, "the same number of frames in each"),
        ({"rgb": np.zeros((4, 0), np.uint8)}, "at least one value per frame"),
        (None, "features are missing; expected at least one feature"),
    ],
)
def test_does_not_encode_features_that_cannot_be_parsed(change, message):
    features = {} if change is None else random_features() | change
    with pytest.raises(ValueError, match=message):
        encode_example("a", [], features)


def test_does_not_encode_negative_labels():
    with pytest.raises(ValueError, match=r"labels \[3, -1\]: class ids start at 0"):
        encode_example("a", [3, -1], random_features())


# --- any content ---------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_rejected(payload):
    with contextlib.suppress(DecodeError):
        parse_example(payload)


def peak_memory(payload: bytes) -> int:
    """Return the bytes that the parser needs at most."""
    tracemalloc.start()
    with contextlib.suppress(DecodeError):
        parse_example(payload)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return memory


MANY_NAMES = [b"\x0a\x08\x0a\x06%06d" % number for number in range(25_000)]
LARGE_PAYLOADS = {
    "empty fields": b"\x1a\x00" * 200_000,
    "entries without a name": field(1, b"\x0a\x00" * 200_000),
    "names": field(2, *MANY_NAMES),
    "frames without a value": sequence_example([ID], [entry(b"rgb", b"\x0a\x00" * 200_000)]),
    "small frames": sequence_example([ID], [entry(b"rgb", frame(b"xx"), frame(b"x") * 25_000)]),
    "labels": sequence_example([ID, entry(b"labels", field(3, field(1, b"\1" * 200_000)))]),
}


@pytest.mark.parametrize("name", LARGE_PAYLOADS)
def test_a_record_needs_little_memory(name):
    payload = LARGE_PAYLOADS[name]
    megabytes = peak_memory(payload) / 2**20
    assert megabytes < 16, f"{megabytes:.0f} MB for a record of {len(payload) / 2**20:.0f} MB"
