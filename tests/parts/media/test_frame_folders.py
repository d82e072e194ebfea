"""FrameDecoder: folders of numbered frame files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlevideo.media.decode import FrameDecoder
from paddlevideo.sample import DecodeError, Record
from tests.clips import random_frames


def record(path, **fields) -> Record:
    return Record(str(path), **fields)


def write_frames(
    folder: Path, num_frames: int, pattern: str = "img_{:05}.png", start: int = 1
) -> np.ndarray:
    """Write random frames into a folder and return them: uint8 [T, H, W, 3] RGB."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = random_frames(num_frames)
    for number, frame in enumerate(frames):
        file = folder / pattern.format(number + start)
        cv2.imwrite(str(file), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return frames


def test_reads_a_folder_of_frames(tmp_path):
    frames = write_frames(tmp_path / "a b", 6)
    item = record(tmp_path / "a b", frame_pattern="img_{:05}.png")
    with FrameDecoder().open(item) as clip:  # counted
        assert (clip.num_frames, clip.fps) == (6, 0.0)
        with pytest.raises(DecodeError, match="no times and therefore no audio; use video files"):
            clip.times()
        assert np.array_equal(clip.read([5, 0, 0]), frames[[5, 0, 0]])
    longer = record(item.path, frame_pattern=item.frame_pattern, num_frames=9)
    with FrameDecoder().open(longer) as clip:
        assert clip.num_frames == 9
        reason = r"img_00008.png: No such file or directory \(9 frames expected\)"
        with pytest.raises(DecodeError, match=reason):
            clip.read([2, 7])
    (tmp_path / "a b" / "img_00003.png").write_bytes(b"no image")
    (tmp_path / "a b" / "img_00004.png").write_bytes(b"")
    with FrameDecoder().open(item) as clip:
        for number in (2, 3):
            reason = f"img_0000{number + 1}.png: not an image, or damaged"
            with pytest.raises(DecodeError, match=reason):
                clip.read([number])


def test_jpeg_frames_equal_those_of_pillow(tmp_path):
    from PIL import Image

    write_frames(tmp_path, 2, "img_{:05}.jpg")
    expected = [
        np.asarray(Image.open(tmp_path / f"img_0000{n}.jpg").convert("RGB")) for n in (1, 2)
    ]
    with FrameDecoder().open(record(tmp_path, frame_pattern="img_{:05}.jpg")) as clip:
        found = clip.read([0, 1])
    # OpenCV and Pillow bring their own builds of libjpeg, which may round differently; the frames
    # differ by 20 on average.
    assert found.shape == np.shape(expected)
    assert np.abs(found.astype(int) - np.stack(expected)).max() <= 4


def test_names_the_problem_of_a_folder(tmp_path):
    pattern = "img_{:05}.jpg"
    (tmp_path / "file").write_text("")
    cases = {
        "no such folder": record(tmp_path / "x", frame_pattern=pattern),
        "a file, not a folder": record(tmp_path / "file", frame_pattern=pattern),
        "no frames in it": record(tmp_path, frame_pattern=pattern),
        "need a frame rate": record(tmp_path, frame_pattern=pattern, start_sec=1.0),
        "no frame_pattern": record(tmp_path),
    }
    for message, item in cases.items():
        with pytest.raises(DecodeError, match=message), FrameDecoder().open(item):
            pass
