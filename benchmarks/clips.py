"""Videos to measure with: a folder that is given, or clips made up for it."""

from pathlib import Path

import cv2
import numpy as np

from paddlevideo.curate.synthetic_media import FPS, encode, synthesize_audio
from paddlevideo.data.paths import find_videos
from paddlevideo.sample import Record

AT_LEAST = 16  # records of one pass; fewer would not keep two workers busy


def records_of(
    videos: Path | None, folder: Path, count: int, size: tuple[int, int], num_frames: int, gop: int
) -> list[Record]:
    """The videos below `videos`, or `count` made-up ones in `folder`; all of them several times where they are few.

    Args:
        size: width, height of the made-up ones (px), even numbers.
        num_frames, gop: of a made-up one; from one key frame to the next (frames).

    Raises:
        ValueError: no video in the folder that was given, or none to make.
    """
    if count < 1:
        raise ValueError(f"--clips {count}: at least 1 is needed")
    if videos is not None:
        found = sorted(map(str, find_videos(videos)))
        if not found:
            raise ValueError(f"--videos {videos}: no video in this folder")
    else:
        found = [str(folder / f"{number:04}.mp4") for number in range(count)]
        for number, path in enumerate(found):
            write_clip(Path(path), size, num_frames, gop, seed=number)
    return [Record(path, 0, path) for path in found] * -(-AT_LEAST // len(found))


def write_clip(path: Path, size: tuple[int, int], num_frames: int, gop: int, seed: int) -> None:
    """A window that wanders over a fine texture, with a little sound: H.264 of about 1 Mbit/s at 340x256."""
    rng = np.random.default_rng(seed)
    width, height = size
    ground = rng.integers(0, 256, (height * 2, width * 2, 3), np.uint8)
    ground = cv2.normalize(cv2.GaussianBlur(ground, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    turns = np.arange(num_frames) / 40 + rng.uniform(0, 6)
    places = np.stack(
        [(1 + np.sin(turns * 1.3)) * (height - 1) / 2, (1 + np.cos(turns)) * (width - 1) / 2], 1
    ).astype(int)
    frames = np.stack([ground[y : y + height, x : x + width] for y, x in places])
    options = {"preset": "veryfast", "crf": "23", "g": str(gop), "bf": "2"}
    encode(path, frames, synthesize_audio("hum", rng, num_frames / FPS), "libx264", "aac", options)
