"""Build protocol buffer messages field by field, and random frame features."""

import numpy as np


def random_features(
    num_frames: int = 4, rgb: int = 16, audio: int = 8, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return {"rgb": uint8 [num_frames, rgb], "audio": uint8 [num_frames, audio]}."""
    rng = np.random.default_rng(seed)
    return {
        "rgb": rng.integers(0, 256, (num_frames, rgb), np.uint8),
        "audio": rng.integers(0, 256, (num_frames, audio), np.uint8),
    }


def varint(value: int) -> bytes:
    """Encode a variable-length integer, as directly as its definition says."""
    if value < 128:
        return bytes([value])
    return bytes([value & 127 | 128]) + varint(value >> 7)


def field(number: int, *content: bytes) -> bytes:
    """Encode a length-delimited field."""
    data = b"".join(content)
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(name: bytes, *value: bytes) -> bytes:
    """Encode an entry of the context or of the feature lists."""
    return field(1, field(1, name), field(2, *value))


def frame(*values: bytes) -> bytes:
    """Encode a Feature of bytes in a feature list."""
    return field(1, field(1, *(field(1, value) for value in values)))


def sequence_example(context=(), lists=()) -> bytes:
    return field(1, *context) + field(2, *lists)


# The id of a video, an entry of the context.
ID = entry(b"id", field(1, field(1, b"abcd")))
