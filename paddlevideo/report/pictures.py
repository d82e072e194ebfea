"""Small pictures of clips for a page: three frames side by side, as a JPEG inside the page."""

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.sample import DecodeError, Record

FRAMES = 3
HEIGHT = 84  # pixels
WIDEST = 160  # pixels of a frame
QUALITY = 72


def strip_of(row: Mapping[str, Any], path: str) -> bytes:
    """A JPEG of FRAMES frames, evenly spread over the clip.

    Args:
        row: a clip of valid_best.json: the parts of its record.
        path: where its file is.

    Raises:
        DecodeError: it has no pictures, or none that can be decoded.
    """
    if row.get("offset") is not None:
        raise DecodeError("features have no pictures")
    keys = ("num_frames", "start_sec", "end_sec", "frame_pattern")
    record = Record(path, **{key: row[key] for key in keys if row.get(key) is not None})
    decoder = FrameDecoder() if record.frame_pattern else VideoDecoder()
    with decoder.open(record) as clip:
        numbers = ((np.arange(FRAMES) + 0.5) * clip.num_frames / FRAMES).astype(np.int64)
        frames = clip.read(numbers, each=small)
    done, jpeg = cv2.imencode(
        ".jpg",
        cv2.cvtColor(np.hstack(list(frames)), cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
    )
    if not done:
        raise DecodeError("its pictures cannot be made a JPEG")
    return jpeg.tobytes()


def small(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> [HEIGHT, w, 3] of the same form, at most WIDEST wide."""
    height, width = frame.shape[:2]
    width = min(WIDEST, max(8, round(width * HEIGHT / height)))
    return cv2.resize(frame, (width, HEIGHT), interpolation=cv2.INTER_AREA)


def source(jpeg: bytes) -> str:
    """What an <img> of a page takes, the picture itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
