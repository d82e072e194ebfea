"""The contract of a clip: number of frames, frame rate, times and reads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from paddlevideo.media.clip import ArrayClip, Canvas, Clip, VideoClip
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.predict.inputs import FrameFolderClip
from paddlevideo.sample import DecodeError, Record
from tests.clips import random_frames, write_clip


class MemoryReader:
    """Frames in memory as a reader; frame `damaged` cannot be decoded."""

    fps = 25.0

    def __init__(self, frames: np.ndarray, damaged: int = -1):
        self._frames, self._damaged = frames, damaged
        self.num_frames = len(frames)

    def times(self) -> np.ndarray:
        return np.arange(self.num_frames) / self.fps

    def fill(self, canvas: Canvas) -> None:
        for number in canvas.wanted:
            if number != self._damaged:
                canvas.put(number, self._frames[number])


def test_every_clip_reads_frames_and_answers_for_its_times():
    frames = random_frames(6)
    clips: list[tuple[Clip, float, np.ndarray | None]] = [
        (VideoClip(MemoryReader(frames)), 25.0, np.arange(6) / 25),
        (ArrayClip(frames, 30.0), 30.0, None),
        (FrameFolderClip(VideoClip(MemoryReader(frames))), 0.0, None),
    ]
    for clip, fps, times in clips:
        assert (clip.num_frames, clip.fps) == (6, fps)
        assert np.array_equal(clip.read([5, 0, 0]), frames[[5, 0, 0]])
        small = clip.read(np.array([4, 1]), lambda frame: frame[::2, ::2])
        assert np.array_equal(small, frames[[4, 1], ::2, ::2])
        clip_times = clip.times()
        assert clip_times is None if times is None else np.array_equal(clip_times, times)


def test_rejects_a_video_without_frames():
    with pytest.raises(DecodeError, match="^no frames in it$"):
        VideoClip(MemoryReader(random_frames(1)[:0]))


def test_reports_a_damaged_frame_by_its_number_in_the_file():
    clip = VideoClip(MemoryReader(random_frames(6), damaged=4), start_sec=0.08)
    assert len(clip.read([0, 1, 3])) == 3
    with pytest.raises(DecodeError, match="^frame 4 of 6 cannot be decoded: it is damaged$"):
        clip.read([1, 2])


def test_rejects_a_video_that_changes_its_size():
    canvas = Canvas(np.array([0, 1]))
    canvas.put(0, np.zeros((48, 64, 3), np.uint8))
    reason = "^the video changes its size, from 64x48 to 128x96 at frame 1$"
    with pytest.raises(DecodeError, match=reason):
        canvas.put(1, np.zeros((96, 128, 3), np.uint8))


def test_cuts_a_part_of_a_video_by_time(tmp_path):
    # Time counts from the first frame, which is at 4 s here.
    path = write_clip(tmp_path / "a.mp4", pts=[100_000 + 1000 * i for i in range(30)])
    with VideoDecoder().open(Record(str(path))) as clip:
        expected = clip.read(np.arange(30))
    with VideoDecoder().open(Record(str(path), start_sec=0.4, end_sec=0.6)) as clip:
        assert clip.num_frames == 5
        assert np.array_equal(clip.read([0, 4]), expected[[10, 14]])
        assert np.allclose(clip.times(), np.arange(10, 15) / 25)
    with VideoDecoder().open(Record(str(path), end_sec=99.0)) as clip:
        assert clip.num_frames == 30
    for start, end in ((0.5, 0.5), (0.41, 0.42), (5.0, None), (2.0, 1.0)):
        with (
            pytest.raises(DecodeError, match=span_text(start, end)),
            VideoDecoder().open(Record(str(path), start_sec=start, end_sec=end)),
        ):
            pass


def span_text(start, end) -> str:
    end_text = "the end" if end is None else f"{end} s"
    return f"^no frame between {start} s and {end_text}; the last frame is at 1.160 s$"


def test_checks_indices(tmp_path):
    with VideoDecoder().open(Record(str(write_clip(tmp_path / "a.mp4")))) as clip:
        for indices in ([30], [-1]):
            with pytest.raises(IndexError, match="requested from a clip of 30 frames"):
                clip.read(indices)
        for indices in ([], [0.5], [[1]]):
            with pytest.raises(ValueError, match="must be integers"):
                clip.read(indices)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_threads_share_an_open_clip(tmp_path, name):
    write_clip(tmp_path / name, 40)
    reads = [[number, (number * 7) % 40, 39 - number] for number in range(24)]
    with VideoDecoder().open(Record(str(tmp_path / name))) as clip:
        alone = [clip.read(numbers) for numbers in reads]
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(clip.read, reads))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    assert len({array.tobytes() for array in alone}) == len(reads)
