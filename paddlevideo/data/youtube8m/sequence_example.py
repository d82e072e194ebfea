"""Parse and encode the frame-level SequenceExamples of YouTube-8M without TensorFlow.

A SequenceExample is a protocol buffer message:

    SequenceExample {1: context {1: {1: name, 2: Feature}...},
                     2: feature_lists {1: {1: name, 2: {1: Feature...}}...}}
    Feature         {1: {1: bytes...}, or 2: {1: float...}, or 3: {1: int64...}}

The parser works on byte ranges (begin, end) of the payload and copies nothing for messages in the
usual form. Error messages name the byte within the payload.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paddlevideo.sample import DecodeError

# Fields per message, frames of a feature list included. The limit bounds the time and the memory
# that a damaged record can request.
MAX_FIELDS = 20_000
# Releases before 2018 use the second name.
ID_NAMES = (b"id", b"video_id")
# The value types of a Feature, by field number.
BYTES, FLOAT, INT64 = 1, 2, 3
KINDS = {BYTES: "bytes", FLOAT: "floats", INT64: "integers"}
# Wire types of protocol buffers.
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5

# (begin, end) of a part of the payload (bytes).
Range = tuple[int, int]


@dataclass(frozen=True)
class FrameExample:
    """The frame features of one video.

    Args:
        id: b"" where the record has none.
        labels: int64 [L] class ids; empty where the record has none, as in a test split.
        features: name -> uint8 [T, D]; D is 0 where T is 0. The arrays may be read-only views into
            the payload.
    """

    id: bytes
    labels: np.ndarray
    features: dict[str, np.ndarray]


def printable_id(video_id: bytes) -> str:
    """Return how messages name a video."""
    if not video_id:
        return "a video without id"
    return f"video {video_id[:64].decode('utf-8', 'backslashreplace')!r}"


# --- parse -------------------------------------------------------------------------------------


def parse_example(payload: bytes, names: Sequence[str] = ("rgb", "audio")) -> FrameExample:
    """Parse the SequenceExample of one video; ignore feature lists with other names.

    Raises:
        DecodeError: not a SequenceExample, a missing feature, values of another type, or frames of
            different sizes. The message names the video id where it is known.
    """
    context, lists = _sequence_example(payload)
    video_id = next(
        (_single_bytes(payload, *context[name]) for name in ID_NAMES if name in context), b""
    )
    labels = np.zeros(0, np.int64)
    features = {}
    try:
        if b"labels" in context:
            labels = _integers(payload, *context[b"labels"])
        for name in names:
            if name.encode() not in lists:
                known = [key.decode("utf-8", "replace") for key in list(lists)[:8]]
                raise DecodeError(
                    f"feature {name!r} is missing; frame features: {', '.join(known) or 'none'}"
                )
            features[name] = _frames(payload, *lists[name.encode()], name)
    except DecodeError as error:
        raise DecodeError(f"{printable_id(video_id)}: {error}") from None
    return FrameExample(video_id, labels, features)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a variable-length integer; return (value, byte after it)."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise DecodeError(f"the integer that ends at byte {at} of the record is incomplete")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, wire type, begin, end) of each field of a message.

    The range of a length-delimited field is its content, that of a number its encoded bytes.
    """
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        tag, begin = _varint(data, at, end)
        wire_type = tag & 7
        if wire_type == LENGTH_DELIMITED:
            length, begin = _varint(data, begin, end)
            stop = begin + length
        elif wire_type == VARINT:
            stop = _varint(data, begin, end)[1]
        else:
            stop = begin + {FIXED64: 8, FIXED32: 4}.get(wire_type, end)
        if stop > end or tag < 8:
            raise DecodeError(f"byte {at} of the record is not a field of a SequenceExample")
        yield tag >> 3, wire_type, begin, stop
        at = stop
    raise DecodeError(f"more than {MAX_FIELDS} entries in one part of the record")


def _value_list(data: bytes, at: int, end: int, what: str) -> tuple[int, int, int]:
    """Find the one list of a Feature; return (its field number, begin, end), 0 if it is empty."""
    found = (0, end, end)
    for number, wire_type, begin, stop in _fields(data, at, end):
        if wire_type != LENGTH_DELIMITED or number not in KINDS:
            raise DecodeError(f"{what} is not a Feature")
        if found[0]:
            raise DecodeError(f"{what} has two values")
        found = number, begin, stop
    return found


def _bytes_ranges(data: bytes, at: int, end: int, what: str) -> list[Range]:
    """Find the values of a BytesList."""
    ranges = []
    for number, wire_type, begin, stop in _fields(data, at, end):
        if wire_type != LENGTH_DELIMITED or number != 1:
            raise DecodeError(f"{what} is not a list of bytes")
        ranges.append((begin, stop))
    return ranges


def _sequence_example(data: bytes) -> tuple[dict[bytes, Range], dict[bytes, Range]]:
    """Find the values of the context and of the feature lists, by name.

    If a name occurs twice, the last value wins.
    """
    context: dict[bytes, Range] = {}
    lists: dict[bytes, Range] = {}
    for number, wire_type, begin, stop in _fields(data, 0, len(data)):
        if number not in (1, 2) or wire_type != LENGTH_DELIMITED:
            continue
        entries = context if number == 1 else lists
        for entry, entry_type, start, end in _fields(data, begin, stop):
            if entry == 1 and entry_type == LENGTH_DELIMITED:
                name, value = _map_entry(data, start, end)
                entries[name] = value
    return context, lists


def _map_entry(data: bytes, at: int, end: int) -> tuple[bytes, Range]:
    """Read one entry of a map; return (name, range of its value)."""
    name, value = b"", (end, end)
    for number, wire_type, begin, stop in _fields(data, at, end):
        if number == 1 and wire_type == LENGTH_DELIMITED:
            name = data[begin:stop]
        elif number == 2 and wire_type == LENGTH_DELIMITED:
            value = begin, stop
    return name, value


def _single_range(data: bytes, at: int, end: int, what: str) -> Range:
    """Find the value of a Feature that holds one bytes value; messages call the Feature `what`."""
    kind, begin, stop = _value_list(data, at, end, what)
    values = _bytes_ranges(data, begin, stop, what) if kind == BYTES else []
    if len(values) != 1:
        came = f"{len(values)} bytes values" if kind == BYTES else KINDS.get(kind, "nothing")
        raise DecodeError(f"{what}: expected one bytes value, got {came}")
    return values[0]


def _single_bytes(data: bytes, at: int, end: int) -> bytes:
    """Return the id, a Feature that holds one bytes value."""
    begin, stop = _single_range(data, at, end, "the id")
    return data[begin:stop]


def _integers(data: bytes, at: int, end: int) -> np.ndarray:
    """Return the labels, a Feature of integers, packed or not: int64 [L]."""
    kind, begin, stop = _value_list(data, at, end, "field 'labels'")
    if kind not in (0, INT64):
        raise DecodeError(f"labels are {KINDS[kind]}, expected integers")
    values = array("Q")
    for number, wire_type, first, last in _fields(data, begin, stop):
        if number != 1 or wire_type not in (VARINT, LENGTH_DELIMITED):
            raise DecodeError("labels are not a list of integers")
        while first < last:
            value, first = _varint(data, first, last)
            values.append(value)
            if len(values) > MAX_FIELDS:
                raise DecodeError(f"more than {MAX_FIELDS} labels")
    return np.array(values, np.uint64).view(np.int64)


def _frame(data: bytes, at: int, end: int, name: str, number: int) -> Range:
    """Find the bytes of frame `number` in its Feature."""
    return _single_range(data, at, end, f"frame {number} of {name}")


def _frames(data: bytes, at: int, end: int, name: str) -> np.ndarray:
    """Return the frames of a FeatureList: uint8 [T, D]."""
    first = next(_fields(data, at, end), None)
    if first is None:
        return np.zeros((0, 0), np.uint8)
    # In the usual form all frames have equal headers, so the list is a table: return a view of it.
    if first[:2] == (1, LENGTH_DELIMITED):
        begin, stop = _frame(data, first[2], first[3], name, 0)
        header_size, stride = begin - at, first[3] - at
        count, rest = divmod(end - at, stride)
        if stop == first[3] and stop > begin and not rest:
            table = np.frombuffer(data, np.uint8, end - at, at).reshape(count, stride)
            if table[:, :header_size].tobytes() == data[at:begin] * count:
                return table[:, header_size:]
    return _frames_one_by_one(data, at, end, name)


def _frames_one_by_one(data: bytes, at: int, end: int, name: str) -> np.ndarray:
    """Return the frames of a FeatureList in any form of protocol buffers: uint8 [T, D]."""
    values, count, width = bytearray(), 0, 0
    for number, wire_type, first, last in _fields(data, at, end):
        if number != 1 or wire_type != LENGTH_DELIMITED:
            raise DecodeError(f"the field after frame {count - 1} of {name} is not a frame")
        begin, stop = _frame(data, first, last, name, count)
        width = width or stop - begin
        if stop - begin != width or not width:
            raise DecodeError(
                f"frame {count} of {name} has {stop - begin} values, the first frame has {width}"
            )
        values += data[begin:stop]
        count += 1
    return np.frombuffer(values, np.uint8).reshape(count, width)


# --- encode ------------------------------------------------------------------------------------


def encode_example(
    video_id: bytes | str, labels: Sequence[int] | np.ndarray, features: Mapping[str, np.ndarray]
) -> bytes:
    """Encode a video as a SequenceExample, in the form that YouTube-8M uses.

    Args:
        labels: class ids; the record of a video without labels has no label field.
        features: name -> uint8 [T, D], with the same T for all features.

    Raises:
        ValueError: another dtype or shape, different T, or a label below 0.
    """
    arrays = {name: np.asarray(frames) for name, frames in features.items()}
    _check_features(arrays)
    if any(int(label) < 0 for label in labels):
        raise ValueError(f"labels {list(labels)}: class ids start at 0")
    name = video_id.encode() if isinstance(video_id, str) else bytes(video_id)
    context = _entry(b"id", _field(BYTES, _field(1, name)))
    if len(labels):
        packed = b"".join(_encode_varint(int(label)) for label in labels)
        context += _entry(b"labels", _field(INT64, _field(1, packed)))
    lists = b"".join(_entry(key.encode(), _encode_frames(rows)) for key, rows in arrays.items())
    return _field(1, context) + _field(2, lists)


def _check_features(arrays: Mapping[str, np.ndarray]) -> None:
    """Check dtypes and shapes.

    Raises:
        ValueError: another dtype or shape than uint8 [T, D], or different T.
    """
    given = [f"{name} {rows.dtype} {list(rows.shape)}" for name, rows in arrays.items()]
    if any(rows.dtype != np.uint8 or rows.ndim != 2 for rows in arrays.values()):
        raise ValueError(f"features are {', '.join(given)}; expected uint8 [T, D] for each")
    no_values = any(rows.shape[1] == 0 < len(rows) for rows in arrays.values())
    if no_values or len({len(rows) for rows in arrays.values()}) != 1:
        raise ValueError(
            f"features are {', '.join(given) or 'missing'}; expected at least one feature, "
            "the same number of frames in each, and at least one value per frame"
        )


def _encode_frames(frames: np.ndarray) -> bytes:
    count, width = frames.shape
    row = _field(1, _field(BYTES, _field(1, bytes(width))))
    table = np.tile(np.frombuffer(row, np.uint8), (count, 1))
    table[:, len(row) - width :] = frames
    return table.tobytes()


def _entry(name: bytes, value: bytes) -> bytes:
    return _field(1, _field(1, name) + _field(2, value))


def _field(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | 2) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
