"""Small videos, made on the fly."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def pictures(num_frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """uint8 [num_frames, height, width, 3]: a drifting random texture; no two frames look alike."""
    rng = np.random.default_rng(seed)
    texture = cv2.resize(
        rng.integers(0, 256, (height // 8 + 4, width // 8 + 4, 3), np.uint8),
        (width * 2, height * 2),
    )
    frames = [
        np.roll(texture, (number * 2, number * 3), (0, 1))[:height, :width]
        for number in range(num_frames)
    ]
    for number, frame in enumerate(frames):
        frame[:8, :8] = number * 37 % 256
    return np.stack(frames)


def write_clip(
    path: Path,
    num_frames: int = 30,
    height: int = 48,
    width: int = 64,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    frames: np.ndarray | None = None,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    num_streams: int = 1,
    tone: float | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """Write a video file and return its path.

    Args:
        pts: time stamps of the frames in units of 1 / (fps * 1000) s; even steps from 0 where None.
        frames: uint8 [T, H, W, 3] RGB in place of `pictures`.
        rotation: display rotation (degrees, counter-clockwise).
        num_streams: video streams; the second one shows other pictures of twice the width.
        tone: a sine of this frequency (Hz) as an AAC stream.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(
        str(path), "w", format=container_format, options=container_options or {}
    ) as container:
        streams = []
        for number in range(num_streams):
            stream = container.add_stream(
                codec, rate=fps, options={"threads": "1"} | (options or {})
            )
            stream.height, stream.width, stream.pix_fmt = height, width * (number + 1), pixel_format
            # The old codecs count whole frames only.
            unit = 1 if codec in ("mpeg4", "mpeg2video", "mjpeg") else 1000
            stream.codec_context.time_base = Fraction(1, fps * unit)
            if rotation:
                stream.set_display_rotation(rotation)
            shown = (
                pictures(num_frames, height, stream.width, seed=number)
                if frames is None or number
                else frames
            )
            streams.append((stream, shown, unit))
        sound = container.add_stream("aac", rate=16000, layout="mono") if tone else None
        for stream, shown, unit in streams:
            for number, picture in enumerate(shown):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.time_base = Fraction(1, fps * unit)
                frame.pts = number * unit if pts is None else pts[number]
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if sound:
            time = np.arange(16000 * num_frames // fps) / 16000
            wave = (np.sin(2 * np.pi * tone * time) * 0.5).astype(np.float32)[None]
            chunk = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            chunk.sample_rate, chunk.pts = 16000, 0
            container.mux(sound.encode(chunk))
            container.mux(sound.encode(None))
    return path
