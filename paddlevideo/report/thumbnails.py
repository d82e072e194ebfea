"""Thumbnails of clips for a page: three frames next to each other, as one JPEG inside the HTML."""

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.sample import DecodeError, Record

NUM_FRAMES = 3
HEIGHT = 84  # pixels
MAX_WIDTH = 160  # pixels of one frame
JPEG_QUALITY = 72
RECORD_KEYS = ("num_frames", "start_sec", "end_sec", "frame_pattern")


def thumbnail(row: Mapping[str, Any], path: str) -> bytes:
    """Return a JPEG of NUM_FRAMES frames, evenly spaced over the clip.

    Args:
        row: a clip of valid_best.json, which holds the fields of its record.
        path: where its file is.

    Raises:
        DecodeError: it has no frames, or they cannot be decoded.
    """
    if row.get("offset") is not None:
        raise DecodeError("features have no frames")
    known = {key: row[key] for key in RECORD_KEYS if row.get(key) is not None}
    record = Record(path, **known)
    decoder = FrameDecoder() if record.frame_pattern else VideoDecoder()
    with decoder.open(record) as clip:
        indices = ((np.arange(NUM_FRAMES) + 0.5) * clip.num_frames / NUM_FRAMES).astype(np.int64)
        frames = clip.read(indices, each=shrink)
    strip = cv2.cvtColor(np.hstack(list(frames)), cv2.COLOR_RGB2BGR)
    success, jpeg = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not success:
        raise DecodeError("its frames cannot be encoded as JPEG")
    return jpeg.tobytes()


def shrink(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> [HEIGHT, w, 3] with the same aspect ratio, at most MAX_WIDTH wide."""
    height, width = frame.shape[:2]
    width = min(MAX_WIDTH, max(8, round(width * HEIGHT / height)))
    return cv2.resize(frame, (width, HEIGHT), interpolation=cv2.INTER_AREA)


def data_url(jpeg: bytes) -> str:
    """Return the `src` of an <img> that contains the image itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
