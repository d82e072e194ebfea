"""Broken and hostile requests, made from a good file; for the benchmark of the service."""

import base64
import json
import os
import secrets
import struct
from collections.abc import Callable

import numpy as np

Request = tuple[bytes, dict[str, str]]  # body, headers


def multipart(data: bytes, name: str, **fields: str) -> Request:
    """A form with a file."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    safe = os.path.basename(name).replace('"', "").encode("ascii", "replace").decode()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'
    end = f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return b"".join([*parts, head.encode(), b"\r\n", data, end]), headers


def hostile_request(data: bytes, number: int, rng: np.random.Generator) -> Request:
    """A request of the kind `number` modulo the number of kinds.

    Args:
        data: a good file.
    """
    kind = KINDS[number % len(KINDS)]
    made = kind(data, rng)
    return made if isinstance(made, tuple) else multipart(made, "clip.mp4")


# --- files ----------------------------------------------------------------------------------------


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def _flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """A hundredth of the bytes are others."""
    changed = bytearray(data)
    for place in rng.integers(0, len(data), max(1, len(data) // 100)):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def _holes(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(data)))
    return data[:start] + bytes(min(4096, len(data) - start)) + data[start + 4096 :]


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(min(len(data), 200_000))


def _empty(data: bytes, rng: np.random.Generator) -> bytes:
    return b""


def _huge_box(data: bytes, rng: np.random.Generator) -> bytes:
    """A box of an mp4 that claims 4 GB."""
    return data[:32] + struct.pack(">I", 0xFFFFFFF0) + b"moov" + data[32:]


def _playlist(data: bytes, rng: np.random.Generator) -> bytes:
    return b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile:/etc/passwd\n#EXT-X-ENDLIST\n"


def _concat(data: bytes, rng: np.random.Generator) -> bytes:
    lines = "".join(f"file {number}-upload.mp4\n" for number in range(1000))
    return b"ffconcat version 1.0\n" + lines.encode()


def _huge_image(data: bytes, rng: np.random.Generator) -> bytes:
    """The header of a PNG of 3.6 billion pixels."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
    return head + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0) + rng.bytes(1000)


# --- requests -------------------------------------------------------------------------------------


def _form_without_end(data: bytes, rng: np.random.Generator) -> Request:
    body, headers = multipart(data, "clip.mp4")
    return body[: len(body) // 2], headers


def _wrong_field(data: bytes, rng: np.random.Generator) -> Request:
    return multipart(data, "clip.mp4", topk="-1")


def _no_json(data: bytes, rng: np.random.Generator) -> Request:
    return b"[" * 100_000, {"Content-Type": "application/json"}


def _half_base64(data: bytes, rng: np.random.Generator) -> Request:
    text = base64.b64encode(data).decode()[: len(data) // 2 // 4 * 4]
    return json.dumps({"video": text}).encode(), {"Content-Type": "application/json"}


def _local_address(data: bytes, rng: np.random.Generator) -> Request:
    url = "http://169.254.169.254/latest/meta-data/"
    return json.dumps({"video": url}).encode(), {"Content-Type": "application/json"}


def _lying_length(data: bytes, rng: np.random.Generator) -> Request:
    """A length of 1 TB for a short body."""
    body, headers = multipart(data, "clip.mp4")
    return body, {**headers, "Content-Length": str(1 << 40)}


KINDS: tuple[Callable[[bytes, np.random.Generator], bytes | Request], ...] = (
    *(_cut, _flipped, _holes, _noise, _empty, _huge_box, _playlist, _concat, _huge_image),
    *(_form_without_end, _wrong_field, _no_json, _half_base64, _local_address, _lying_length),
)
