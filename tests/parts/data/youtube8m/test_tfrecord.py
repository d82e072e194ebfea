"""TFRecord framing and SequenceExamples: what is written is read, damage is named, nothing makes the reader fall over."""

import contextlib
import random
import struct
import tracemalloc

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.records import protobuf_reader
from paddlevideo.data.youtube8m import tfrecord
from paddlevideo.data.youtube8m.tfrecord import (
    encode_example,
    parse_example,
    read_payloads,
    record_offsets,
    write_payloads,
)
from paddlevideo.sample import DecodeError


def features(num_frames=4, rgb=16, audio=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "rgb": rng.integers(0, 256, (num_frames, rgb), np.uint8),
        "audio": rng.integers(0, 256, (num_frames, audio), np.uint8),
    }


def number(value):
    """A varint, written as slowly as it is defined."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def field(place, *content):
    inside = b"".join(content)
    return number(place << 3 | 2) + number(len(inside)) + inside


def entry(name, *value):
    return field(1, field(1, name), field(2, *value))


def frame(*values):
    return field(1, field(1, *(field(1, value) for value in values)))


def message(context=(), lists=()):
    return field(1, *context) + field(2, *lists)


ID = entry(b"id", field(1, field(1, b"abcd")))


# --- framing ---------------------------------------------------------------------------------------------------------


def test_a_file_holds_what_was_written(tmp_path):
    payloads = [b"", b"a", bytes(1000), "ü".encode()]
    assert write_payloads(tmp_path / "a.tfrecord", iter(payloads)) == 4
    raw = (tmp_path / "a.tfrecord").read_bytes()
    # the second record, byte by byte: length, check of the length, content, check of the content
    mask = lambda data: (
        ((lambda c: ((c >> 15) | (c << 17)) + 0xA282EAD8)(google_crc32c.value(data))) % 2**32
    )  # noqa: E731
    assert raw[16:33] == struct.pack("<Q", 1) + struct.pack(
        "<I", mask(struct.pack("<Q", 1))
    ) + b"a" + struct.pack("<I", mask(b"a"))
    assert google_crc32c.value(b"123456789") == 0xE3069283, "the check value of CRC-32C"

    assert [payload for _, payload in read_payloads(tmp_path / "a.tfrecord")] == payloads
    offsets, problem = record_offsets(tmp_path / "a.tfrecord")
    assert offsets.tolist() == [0, 16, 33, 1049] and not problem
    assert [offset for offset, _ in read_payloads(tmp_path / "a.tfrecord")] == offsets.tolist()


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(b"")
    assert list(read_payloads(tmp_path / "a.tfrecord")) == []
    assert record_offsets(tmp_path / "a.tfrecord")[0].tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:70], "byte 66: the file ends 4 bytes into a record's header: cut short"),
        (
            lambda raw: raw[:90],
            r"byte 66: the record goes on 42 bytes after the end of the file: cut short",
        ),
        (
            lambda raw: raw[:-1],
            "byte 66: the record goes on 1 bytes after the end of the file: cut short",
        ),
        (
            lambda raw: raw[:66] + b"\x01" + raw[67:],
            "byte 66: a record's length fails its check: damaged",
        ),
        (
            lambda raw: raw[:74] + b"\x01" + raw[75:],
            "byte 66: a record's length fails its check: damaged",
        ),
        (
            lambda raw: raw[:80] + b"\x01" + raw[81:],
            r"byte 66: the record fails its check \(CRC-32C\)",
        ),
        (lambda raw: raw[:-1] + b"\x01", r"byte 66: the record fails its check \(CRC-32C\)"),
        (lambda raw: raw + bytes(7), "byte 132: the file ends 7 bytes into"),
    ],
)
def test_damage_is_named_with_file_and_byte(tmp_path, change, message):
    path = tmp_path / "a.tfrecord"
    write_payloads(path, [b"x" * 50, b"y" * 34 + bytes(16)])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DecodeError, match=rf"^{path}: {message}"):
        list(read_payloads(path))


def test_a_damaged_header_hides_what_follows_but_is_counted(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_payloads(path, [b"x" * 50] * 5)
    raw = bytearray(path.read_bytes())
    raw[2 * 66] ^= 1
    path.write_bytes(raw)
    offsets, problem = record_offsets(path)
    assert offsets.tolist() == [0, 66, 132] and problem.startswith(
        "byte 132: a record's length fails its check"
    )


def test_a_length_past_reason_is_refused_without_being_read(tmp_path):
    length = struct.pack("<Q", 1 << 40)
    (tmp_path / "a.tfrecord").write_bytes(
        length + struct.pack("<I", tfrecord.masked_crc(length)) + bytes(100)
    )
    with pytest.raises(
        DecodeError, match="byte 0: a record of 1099511627776 bytes, at most 16777216 are read"
    ):
        list(read_payloads(tmp_path / "a.tfrecord"))
    with pytest.raises(ValueError, match="at most 16777216 are read back: keep fewer frames"):
        write_payloads(tmp_path / "b.tfrecord", [bytes(tfrecord.MAX_PAYLOAD + 1)])
    assert not (tmp_path / "b.tfrecord").exists() and len(list(tmp_path.iterdir())) == 1, (
        "whole or not at all"
    )


def test_a_check_can_be_left_out(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_payloads(path, [b"x" * 50])
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    assert [payload for _, payload in read_payloads(path, check=False)] == [b"x" * 50]


# --- examples ----------------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=12),
    st.lists(st.integers(0, 2**63 - 1), max_size=5),
    st.integers(0, 5),
    st.integers(1, 200),
    st.integers(1, 40),
)
def test_an_example_comes_back(video_id, labels, num_frames, rgb, audio):
    made = features(num_frames, rgb, audio)
    video = parse_example(encode_example(video_id, labels, made))
    assert (
        video.id == video_id and video.labels.tolist() == labels and video.labels.dtype == np.int64
    )
    for name, frames in made.items():
        assert video.features[name].dtype == np.uint8 and len(video.features[name]) == num_frames
        assert num_frames == 0 or np.array_equal(video.features[name], frames)


def test_frames_of_the_usual_form_are_not_copied():
    payload = encode_example("a", [1], features(50))
    rgb = parse_example(payload).features["rgb"]
    assert np.shares_memory(rgb, np.frombuffer(payload, np.uint8)) and not rgb.flags.writeable
    assert np.array_equal(rgb, features(50)["rgb"])


def test_protobuf_reads_the_same(tmp_path):
    read = protobuf_reader()
    if read is None:
        pytest.skip("protobuf is not installed")
    split = entry(b"labels", field(3, number(8) + number(7), field(1, number(300), number(2))))
    lists = [
        entry(name.encode(), *(frame(row.tobytes()) for row in rows))
        for name, rows in features(3, seed=1).items()
    ]
    odd = field(2, lists[1]) + field(1, split) + field(2, lists[0]) + field(1, ID)
    payloads = [
        encode_example("é", [1, 300, 2**40], features(5)),
        encode_example("none", [2], features(0)),
        odd,
    ]
    write_payloads(tmp_path / "a.tfrecord", payloads)
    theirs = list(read(tmp_path / "a.tfrecord"))
    assert len(theirs) == 3 and theirs[2][1].tolist() == [7, 300, 2]
    for payload, (video_id, labels, rgb, audio) in zip(payloads, theirs, strict=True):
        video = parse_example(payload)
        assert video.id == video_id and video.labels.tolist() == labels.tolist()
        for name, frames in (("rgb", rgb), ("audio", audio)):
            assert video.features[name].tobytes() == frames.tobytes() and len(
                video.features[name]
            ) == len(frames)


def test_odd_but_lawful_forms():
    """Unpacked and split labels, fields out of order, unknown fields, the id of older releases, tags in longer form."""
    made = features(3)
    unknown = (
        field(9, b"zzz")
        + number(10 << 3)
        + number(300)
        + number(11 << 3 | 5)
        + bytes(4)
        + number(12 << 3 | 1)
        + bytes(8)
    )
    labels = entry(
        b"labels",
        field(
            3,
            number(1 << 3) + number(7),
            field(1, number(300), number(2)),
            number(1 << 3) + number(9),
        ),
    )
    rows = [frame(row.tobytes()) for row in made["rgb"]]
    rows[1] = b"\x8a\x00" + rows[1][1:]  # the same tag, written in two bytes
    lists = [
        entry(b"other", b"\xff"),
        entry(b"rgb", *rows),
        entry(b"audio", *(frame(row.tobytes()) for row in made["audio"])),
    ]
    first = field(2, *lists) + unknown
    video = parse_example(
        first
        + field(1, labels)
        + field(1, unknown, entry(b"video_id", field(1, field(1, b"wxyz"))))
    )
    assert video.id == b"wxyz" and video.labels.tolist() == [7, 300, 2, 9]
    assert all(np.array_equal(video.features[name], made[name]) for name in made)


def test_the_last_of_two_entries_counts():
    twice = [entry(b"rgb", frame(b"old")), entry(b"rgb", frame(b"new!"))]
    assert parse_example(message([ID], twice), ["rgb"]).features["rgb"].tobytes() == b"new!"


def test_no_labels_and_no_id():
    video = parse_example(message([], [entry(b"rgb"), entry(b"audio", b"")]))
    assert video.id == b"" and video.labels.tolist() == []
    assert {name: frames.shape for name, frames in video.features.items()} == {
        "rgb": (0, 0),
        "audio": (0, 0),
    }
    negative = number(2**64 - 5)
    assert parse_example(
        message([entry(b"labels", field(3, field(1, negative)))]), []
    ).labels.tolist() == [-5]


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "a video without id: there is no feature 'rgb'; features of frames: none"),
        (
            message([ID], [entry(b"audio", frame(b"x"))]),
            "video 'abcd': there is no feature 'rgb'; features of frames: audio",
        ),
        (
            message([ID], [entry(b"rgb", frame(b"x"))]),
            "video 'abcd': there is no feature 'audio'; features of frames: rgb",
        ),
        (
            message([ID], [entry(b"rgb", frame(b"xy"), frame(b"x"))]),
            "frame 1 of rgb has 1 values, the first one 2",
        ),
        (
            message([ID], [entry(b"rgb", frame(b""))]),
            "frame 0 of rgb has 0 values, the first one none",
        ),
        (
            message([ID], [entry(b"rgb", frame())]),
            "frame 0 of rgb holds 0 values of bytes, expected one",
        ),
        (
            message([ID], [entry(b"rgb", field(1))]),
            "frame 0 of rgb holds nothing, expected one value of bytes",
        ),
        (
            message([ID], [entry(b"rgb", frame(b"x", b"y"))]),
            "frame 0 of rgb holds 2 values of bytes",
        ),
        (
            message([ID], [entry(b"rgb", field(1, field(2, field(1, bytes(8)))))]),
            "frame 0 of rgb holds floats, expected one",
        ),
        (
            message([ID], [entry(b"rgb", frame(b"x"), field(1, field(3, field(1, b"\1"))))]),
            "frame 1 of rgb holds integers",
        ),
        (
            message([ID, entry(b"labels", field(1, field(1, b"x")))]),
            "video 'abcd': labels are bytes, expected integers",
        ),
        (
            message([ID, entry(b"labels", field(3, field(1, b"\xff\xff")))]),
            "video 'abcd': a number at byte",
        ),
        (
            message([entry(b"id", field(3, field(1, b"\1")))]),
            "the id is integers, expected one value of bytes",
        ),
        (
            message([entry(b"id", field(1, field(1, b"a"), field(1, b"b")))]),
            "the id is 2 values of bytes",
        ),
        (
            message([entry(b"id", field(1, field(1, b"a")) * 2)]),
            "the id's value stands there twice",
        ),
        (
            message([ID, entry(b"labels", field(4, field(1, b"\1")))]),
            "video 'abcd': the value of labels is no Feature",
        ),
        (
            message([ID, entry(b"labels", field(3, field(2, b"\1")))]),
            "video 'abcd': labels are no list of integers",
        ),
        (
            message([ID], [entry(b"rgb", frame(b"x"), field(7, frame(b"y")))]),
            "what follows frame 0 of rgb is no frame",
        ),
        (
            message([ID], [entry(b"rgb", field(1, field(1, field(2, b"y"))))]),
            "frame 0 of rgb is no list of bytes",
        ),
        (b"plain text, no message", "byte 13 of the record is no field of a SequenceExample"),
        (b"\x0a\x05abc", "byte 0 of the record is no field of a SequenceExample"),
        (b"\xff" * 12, "a number at byte 10 of the record does not end"),
        (field(1, b"\x0b"), "is no field of a SequenceExample"),
    ],
)
def test_what_is_wrong_in_an_example(payload, told):
    with pytest.raises(DecodeError, match=told):
        parse_example(payload)


def test_writing_refuses_what_would_not_be_read():
    made = features()
    for wrong, told in [
        ({"rgb": made["rgb"].astype(np.float32)}, "float32.*expected uint8"),
        ({"rgb": made["rgb"][0]}, "expected uint8"),
        ({"rgb": made["rgb"], "audio": made["audio"][:2]}, "as many frames each"),
        ({"rgb": np.zeros((3, 0), np.uint8)}, "of some values"),
        ({}, "got none"),
    ]:
        with pytest.raises(ValueError, match=told):
            encode_example("a", [], wrong)
    with pytest.raises(ValueError, match="class ids count from 0"):
        encode_example("a", [3, -1], made)


# --- nothing makes it fall over ------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_example_or_an_error(payload):
    with contextlib.suppress(DecodeError):
        parse_example(payload)


def most_memory(payload):
    tracemalloc.start()
    with contextlib.suppress(DecodeError):
        parse_example(payload)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return memory


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x1a\x00" * 200_000, id="empty fields"),
        pytest.param(field(1, b"\x0a\x00" * 200_000), id="entries without a name"),
        pytest.param(field(2, *(b"\x0a\x08\x0a\x06%06d" % i for i in range(25_000))), id="names"),
        pytest.param(
            message([ID], [entry(b"rgb", b"\x0a\x00" * 200_000)]), id="frames without a value"
        ),
        pytest.param(
            message([ID], [entry(b"rgb", frame(b"xx"), frame(b"x") * 25_000)]), id="small frames"
        ),
        pytest.param(
            message([ID, entry(b"labels", field(3, field(1, b"\1" * 200_000)))]), id="labels"
        ),
    ],
)
def test_a_record_cannot_ask_for_much(payload):
    memory = most_memory(payload)
    assert memory < 16 * 2**20, (
        f"{memory / 2**20:.0f} MB for a record of {len(payload) / 2**20:.0f} MB"
    )


def mutated(raw, rng, length_of_first):
    """A few changes: bits, bytes, parts cut out or doubled, whole numbers; sometimes with the checks made right again."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        place, size = rng.randrange(max(1, len(data))), rng.randint(1, 16)
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place : place + size] = rng.randbytes(size)
        elif kind == 2:
            del data[place : place + rng.choice((1, size, len(data)))]
        elif kind == 3:
            data[place:place] = data[place : place + size * 4]
        elif kind == 4:
            data[place:place] = bytes(rng.choice((0, 255, 10, 8, 127, 128)) for _ in range(size))
        elif kind == 5:
            data[place : place + 8] = struct.pack(
                "<Q", rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(data)))
            )
        elif (
            len(data) > 12
        ):  # the length of the first record says something else, and its check agrees
            length = struct.pack(
                "<Q",
                rng.choice(
                    (0, 1, len(data), len(data) - 16, 2**26, 2**40, 2**64 - 1, rng.randrange(5000))
                ),
            )
            data[:12] = length + struct.pack("<I", tfrecord.masked_crc(length))
    if rng.random() < 0.6 and len(data) > 16:  # past the checks, where the parser has to cope
        payload = bytes(data[12 : 12 + length_of_first])
        data[:] = b"".join(tfrecord.framed(payload)) + data[12 + length_of_first + 4 :]
    return bytes(data)


def survive(path, count, seed):
    """Read `count` mutated files in every way; returns how many could be read, how many not."""
    rng, good, bad = random.Random(seed), 0, 0
    seeds = [
        [encode_example(b"id%d" % n, [n, 300], features(n, 6, 3, n)) for n in (5, 0, 2)],
        [
            message(
                [ID, entry(b"labels", field(3, number(8) + b"\7"))],
                [entry(b"rgb", frame(b"ab"), frame(b"cd")), entry(b"audio")],
            )
        ],
    ]
    for number_ in range(count):
        payloads = seeds[number_ % 2]
        raw = mutated(
            b"".join(b"".join(tfrecord.framed(p)) for p in payloads), rng, len(payloads[0])
        )
        path.write_bytes(raw)
        offsets, _ = record_offsets(path)
        assert len(offsets) <= len(raw) // 16 + 1 and (np.diff(offsets) > 0).all()
        try:
            for _, payload in read_payloads(path):
                assert len(payload) <= len(raw)
                video = parse_example(payload)
                assert sum(frames.nbytes for frames in video.features.values()) <= len(raw)
            good += 1
        except DecodeError as error:
            assert len(str(error)) < 500
            bad += 1
    return good, bad


def test_mutated_shards(tmp_path):
    good, bad = survive(tmp_path / "a.tfrecord", 500, seed=1)
    assert good > 5 and bad > 250, "the changes are felt, and some are harmless"


@pytest.mark.slow
def test_many_mutated_shards(tmp_path):
    tracemalloc.start()
    good, bad = survive(tmp_path / "a.tfrecord", 20_000, seed=2)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert good + bad == 20_000 and good > 100 and bad > 10_000
    assert memory < 2**23, "files of a few hundred bytes never take megabytes"
