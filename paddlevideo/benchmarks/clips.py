"""The videos of benchmarks: those of a folder, or synthetic ones."""

from pathlib import Path

import cv2
import numpy as np

from paddlevideo.curate.synthetic_media import FPS, encode, synthesize_audio
from paddlevideo.data.paths import find_videos
from paddlevideo.sample import Record

MIN_RECORDS = 16  # of one pass; fewer do not keep two workers busy


def records_of(
    videos: Path | None, folder: Path, count: int, size: tuple[int, int], num_frames: int, gop: int
) -> list[Record]:
    """The records of one pass. A small number of videos is repeated.

    Args:
        videos: a folder of videos; None to make synthetic ones.
        folder: where to write synthetic videos.
        count: number of synthetic videos.
        size: width and height of a synthetic video (pixels, even).
        num_frames: of a synthetic video.
        gop: from one key frame to the next of a synthetic video (frames).

    Raises:
        ValueError: there is no video in the folder.
    """
    if videos is not None:
        paths = sorted(map(str, find_videos(videos)))
        if not paths:
            raise ValueError(f"--videos {videos}: no video in this folder")
    else:
        paths = [str(folder / f"{number:04}.mp4") for number in range(count)]
        for number, path in enumerate(paths):
            write_clip(Path(path), size, num_frames, gop, seed=number)
    return [Record(path, 0, path) for path in paths] * -(-MIN_RECORDS // len(paths))


def write_clip(
    path: Path, size: tuple[int, int], num_frames: int, gop: int, seed: int, b_frames: int = 2
) -> None:
    """Write a synthetic video: a window moves over a fine texture, with a hum as audio.

    It is H.264 with about 1 Mbit/s at 340x256.

    Args:
        size: width and height (pixels, even).
        gop: from one key frame to the next (frames).
        b_frames: between two others, at most.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    texture = rng.integers(0, 256, (height * 2, width * 2, 3), np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 3)
    texture = cv2.normalize(texture, texture, 0, 255, cv2.NORM_MINMAX)
    angles = np.arange(num_frames) / 40 + rng.uniform(0, 6)
    top = ((1 + np.sin(angles * 1.3)) * (height - 1) / 2).astype(int)
    left = ((1 + np.cos(angles)) * (width - 1) / 2).astype(int)
    corners = zip(top, left, strict=True)
    frames = np.stack([texture[y : y + height, x : x + width] for y, x in corners])
    options = {"preset": "veryfast", "crf": "23", "g": str(gop), "bf": str(b_frames)}
    encode(path, frames, synthesize_audio("hum", rng, num_frames / FPS), "libx264", "aac", options)
