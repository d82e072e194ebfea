"""TFRecord files: records are written and read, and damage is reported with file and byte."""

import random
import re
import struct
import tracemalloc

import google_crc32c
import numpy as np
import pytest

from paddlevideo.data.youtube8m import tfrecord
from paddlevideo.data.youtube8m.sequence_example import encode_example, parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads, record_offsets, write_payloads
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


def masked(data: bytes) -> bytes:
    """The masked CRC-32C of `data`, computed apart from the code under test."""
    crc = google_crc32c.value(data)
    rotated = (crc >> 15) | (crc << 17)
    return struct.pack("<I", (rotated + 0xA282EAD8) % 2**32)


def test_reads_the_records_that_were_written(tmp_path):
    path, payloads = tmp_path / "a.tfrecord", [b"", b"a", bytes(1000), "ü".encode()]
    assert write_payloads(path, iter(payloads)) == 4
    length = struct.pack("<Q", 1)
    second_record = path.read_bytes()[16:33]
    assert second_record == length + masked(length) + b"a" + masked(b"a")
    assert google_crc32c.value(b"123456789") == 0xE3069283, "the check value of CRC-32C"
    assert [payload for _, payload in read_payloads(path)] == payloads
    offsets, problem = record_offsets(path)
    assert offsets.tolist() == [0, 16, 33, 1049] and not problem
    assert [offset for offset, _ in read_payloads(path)] == offsets.tolist()


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(b"")
    assert list(read_payloads(tmp_path / "a.tfrecord")) == []
    assert record_offsets(tmp_path / "a.tfrecord")[0].tolist() == []


TRUNCATED = "byte 66: the record extends {} bytes past the end of the file: truncated"
BAD_LENGTH = "byte 66: the record length fails its CRC check; the records after it cannot be found"
BAD_PAYLOAD = "byte 66: the payload fails its CRC-32C check: the file changed after it was written"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:70], "byte 66: the file ends 4 bytes into a record header: truncated"),
        (lambda raw: raw[:90], TRUNCATED.format(42)),
        (lambda raw: raw[:-1], TRUNCATED.format(1)),
        (lambda raw: raw[:66] + b"\x01" + raw[67:], BAD_LENGTH),
        (lambda raw: raw[:74] + b"\x01" + raw[75:], BAD_LENGTH),
        (lambda raw: raw[:80] + b"\x01" + raw[81:], BAD_PAYLOAD),
        (lambda raw: raw[:-1] + b"\x01", BAD_PAYLOAD),
        (lambda raw: raw + bytes(7), "byte 132: the file ends 7 bytes into a record header"),
    ],
)
def test_reports_damage_with_file_and_byte(tmp_path, damage, message):
    path = tmp_path / "a.tfrecord"
    write_payloads(path, [b"x" * 50, b"y" * 34 + bytes(16)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DecodeError, match=rf"^{re.escape(str(path))}: {message}"):
        list(read_payloads(path))


def test_counts_a_damaged_header_as_the_last_record(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_payloads(path, [b"x" * 50] * 5)
    raw = bytearray(path.read_bytes())
    raw[2 * 66] ^= 1
    path.write_bytes(raw)
    offsets, problem = record_offsets(path)
    assert offsets.tolist() == [0, 66, 132]
    assert problem.startswith("byte 132: the record length fails its CRC check")


def test_rejects_payloads_over_the_limit(tmp_path):
    length = struct.pack("<Q", 1 << 40)
    (tmp_path / "a.tfrecord").write_bytes(length + masked(length) + bytes(100))
    message = "byte 0: the record has 1099511627776 bytes, the limit is 16777216"
    with pytest.raises(DecodeError, match=message):
        list(read_payloads(tmp_path / "a.tfrecord"))
    message = "a record of 16777217 bytes is over the limit of 16777216: use fewer frames"
    with pytest.raises(ValueError, match=message):
        write_payloads(tmp_path / "b.tfrecord", [bytes(tfrecord.MAX_PAYLOAD + 1)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tfrecord"], "no partial file is left"


def test_can_read_without_the_crc_check(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_payloads(path, [b"x" * 50])
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    assert [payload for _, payload in read_payloads(path, check=False)] == [b"x" * 50]


# --- random changes ------------------------------------------------------------------------------


def mutated(raw: bytes, rng: random.Random, first_length: int) -> bytes:
    """Change a file in a few random places, and sometimes make its CRCs correct again.

    Args:
        raw: a file of records.
        first_length: payload length of its first record.
    """
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        mutate_once(data, rng)
    # With correct CRCs, the payload reaches the parser.
    if rng.random() < 0.6 and len(data) > 16:
        payload = bytes(data[12 : 12 + first_length])
        data[:] = b"".join(tfrecord.framed(payload)) + data[12 + first_length + 4 :]
    return bytes(data)


def mutate_once(data: bytearray, rng: random.Random) -> None:
    """Flip a bit, overwrite, delete, repeat or insert bytes, or write a large integer."""
    at, size = rng.randrange(max(1, len(data))), rng.randint(1, 16)
    kind = rng.randrange(7)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + size] = rng.randbytes(size)
    elif kind == 2:
        del data[at : at + rng.choice((1, size, len(data)))]
    elif kind == 3:
        data[at:at] = data[at : at + size * 4]
    elif kind == 4:
        data[at:at] = bytes(rng.choice((0, 255, 10, 8, 127, 128)) for _ in range(size))
    elif kind == 5:
        integers = (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(data))
        data[at : at + 8] = struct.pack("<Q", rng.choice(integers))
    elif len(data) > 12:
        # Another length of the first record, with a correct CRC.
        lengths = (0, 1, len(data), len(data) - 16, 2**26, 2**40, 2**64 - 1, rng.randrange(5000))
        length = struct.pack("<Q", rng.choice(lengths))
        data[:12] = length + masked(length)


def read_mutated_files(path, count: int, seed: int) -> tuple[int, int]:
    """Read `count` mutated files; return how many were readable and how many were not."""
    rng, readable, unreadable = random.Random(seed), 0, 0
    features = [random_features(n, 6, 3, n) for n in range(6)]
    unpacked_labels = entry(b"labels", field(3, varint(8) + b"\7"))
    lists = [entry(b"rgb", frame(b"ab"), frame(b"cd")), entry(b"audio")]
    originals = [
        [encode_example(b"id%d" % n, [n, 300], features[n]) for n in (5, 0, 2)],
        [sequence_example([ID, unpacked_labels], lists)],
    ]
    for number in range(count):
        payloads = originals[number % 2]
        intact = b"".join(b"".join(tfrecord.framed(payload)) for payload in payloads)
        raw = mutated(intact, rng, len(payloads[0]))
        path.write_bytes(raw)
        offsets, _ = record_offsets(path)
        assert len(offsets) <= len(raw) // 16 + 1 and (np.diff(offsets) > 0).all()
        try:
            for _, payload in read_payloads(path):
                assert len(payload) <= len(raw)
                video = parse_example(payload)
                assert sum(frames.nbytes for frames in video.features.values()) <= len(raw)
            readable += 1
        except DecodeError as error:
            assert len(str(error)) < 500
            unreadable += 1
    return readable, unreadable


def test_mutated_files_are_read_or_rejected(tmp_path):
    readable, unreadable = read_mutated_files(tmp_path / "a.tfrecord", 500, seed=1)
    assert readable > 5 and unreadable > 250, "some changes are harmless, most are not"


@pytest.mark.slow
def test_many_mutated_files_take_little_memory(tmp_path):
    tracemalloc.start()
    readable, unreadable = read_mutated_files(tmp_path / "a.tfrecord", 20_000, seed=2)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert readable + unreadable == 20_000 and readable > 100 and unreadable > 10_000
    assert memory < 2**23, "files of a few hundred bytes never need megabytes"
