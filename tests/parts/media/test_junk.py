"""Bytes that are no packets in the middle of a stream: FFmpeg says "try again", and all is read."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import av
import av.error
import numpy as np
import pytest

from paddlevideo.curate.resize import WriteResized
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.packets import demux
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import Record
from paddlevideo.timelines.files import video_frames
from paddlevideo.timelines.frames import Audio, Frame
from tests.clips import add_junk, write_clip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A transport stream, and the same with junk in it."""
    folder = tmp_path_factory.mktemp("junk")
    clean = write_clip(folder / "clean.ts", 80, tone=440.0)
    return clean, add_junk(clean, folder / "junk.ts")


def test_ffmpeg_says_try_again(files):
    with av.open(str(files[1])) as container, pytest.raises(av.error.BlockingIOError):
        list(container.demux())


def clip(path: Path) -> np.ndarray:
    with VideoDecoder().open(Record(str(path))) as video:
        return video.read(np.arange(video.num_frames))


def waveform(path: Path) -> np.ndarray:
    return read_waveform(str(path), 16000)


def timeline(path: Path) -> np.ndarray:
    items = list(video_frames(path, audio=True))
    assert {type(item) for item in items} == {Audio, Frame}, "no gap"
    return np.stack([item.image for item in items if isinstance(item, Frame)])


def resized(path: Path) -> np.ndarray:
    copy = path.with_name(f"{path.stem}-small.mp4")
    WriteResized(24)(str(path), str(copy))
    return clip(copy)


@pytest.mark.parametrize("read", [clip, waveform, timeline, resized])
def test_all_is_read(files, read: Callable[[Path], np.ndarray]):
    clean, junk = map(read, files)
    assert len(clean) >= 80
    np.testing.assert_array_equal(junk, clean)


class Camera:
    """Has no frame at first, as cameras of macOS."""

    def __init__(self):
        self.num_asked = 0

    def demux(self, *_):
        self.num_asked += 1
        if self.num_asked < 4:
            raise av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        yield SimpleNamespace(size=8)
        yield SimpleNamespace(size=0)


def test_a_camera_is_asked_again_until_it_has_a_frame():
    camera = Camera()
    assert [packet.size for packet in demux(camera)] == [8] and camera.num_asked == 4


def test_reading_ends_where_it_shall_not_go_on():
    camera, answers = Camera(), [True, False]
    assert list(demux(camera, go_on=lambda: answers.pop(0))) == [] and camera.num_asked == 2
