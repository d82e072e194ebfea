"""Cached frames equal decoded ones, each video is decoded once, and the folder has a limit."""

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from paddlevideo import files
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.clip_transforms import JitterScale
from paddlevideo.data.crops import MultiScaleCrop
from paddlevideo.data.frame_cache import FrameCache
from paddlevideo.data.span_sampling import SpanSampler
from paddlevideo.data.transforms import Image2Array, RandomFlip, Scale
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.remote import access
from paddlevideo.sample import DecodeError, Record
from tests.clips import write_clip


@dataclass(frozen=True)
class CountingDecoder:
    """A `VideoDecoder` that counts the videos it opens."""

    opened: list = field(default_factory=list, compare=False, repr=False)

    @contextmanager
    def open(self, record):
        self.opened.append(record.path)
        with VideoDecoder().open(record) as clip:
            yield clip


SCALE = Scale(32, fixed_ratio=False)


def cache(tmp_path, gigabytes=1.0, transform=SCALE, decode=None):
    return FrameCache(decode or CountingDecoder(), transform, str(tmp_path / "cache"), gigabytes)


def record(path, **options):
    return Record(str(path), 3, **options)


def sizes(tmp_path):
    return [path.stat().st_size for path in (tmp_path / "cache").glob("*")]


@pytest.mark.parametrize("part", [{}, {"start_sec": 0.2, "end_sec": 0.9}])
def test_samples_equal_those_without_a_cache(tmp_path, part):
    transforms = [SCALE, MultiScaleCrop(24), RandomFlip(), Image2Array()]
    frames, decode = SpanSampler(6), CountingDecoder()
    plain = ClipPipeline(VideoDecoder(), frames, transforms)
    cached = ClipPipeline(decode, frames, transforms, cache=cache(tmp_path, decode=decode))
    video = record(write_clip(tmp_path / "a.mp4"), **part)
    for seed in range(4):
        expected = plain(video, np.random.default_rng(seed))
        sample = cached(video, np.random.default_rng(seed))
        assert expected.keys() == sample.keys() and sample["label"] == 3
        np.testing.assert_array_equal(sample["frames"], expected["frames"])
        assert type(sample["frames"]) is np.ndarray
    assert len(decode.opened) == 1


def test_knows_the_number_of_frames_and_their_rate(tmp_path):
    stored = cache(tmp_path)
    video = record(write_clip(tmp_path / "a.mp4", 20, fps=10))
    for _ in range(2):
        with stored.open(video) as clip:
            assert (clip.num_frames, clip.fps, clip.times()) == (20, 10.0, None)


def test_a_changed_video_is_decoded_again(tmp_path):
    stored, path = cache(tmp_path), tmp_path / "a.mp4"
    write_clip(path, 20)
    with stored.open(record(path)) as clip:
        assert clip.num_frames == 20
    write_clip(path, 12)
    with stored.open(record(path)) as clip:
        assert clip.num_frames == 12


def test_another_part_transform_or_decoder_has_its_own_frames(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    variants = [
        (cache(tmp_path), record(path)),
        (cache(tmp_path), record(path, end_sec=0.5)),
        (cache(tmp_path, transform=Scale(24, fixed_ratio=False)), record(path)),
        (cache(tmp_path, decode=VideoDecoder(backend="cv2")), record(path)),
    ]
    for number, (stored, video) in enumerate(variants, 1):
        with stored.open(video):
            pass
        assert len(sizes(tmp_path)) == number


@pytest.mark.parametrize("keep", [0, 60, 200, -1])
def test_a_damaged_file_is_written_again(tmp_path, keep):
    decode = CountingDecoder()
    stored, video = cache(tmp_path, decode=decode), record(write_clip(tmp_path / "a.mp4"))
    with stored.open(video) as clip:
        frames = clip.read(range(30))
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:keep])
    for _ in range(2):
        with stored.open(video) as clip:
            np.testing.assert_array_equal(clip.read(range(30)), frames)
            assert clip.fps == 25.0
    assert len(decode.opened) == 2 and file.read_bytes() == content


def test_a_full_cache_decodes_each_time(tmp_path):
    decode = CountingDecoder()
    stored = cache(tmp_path, gigabytes=200e3 / 1e9, decode=decode)  # a clip has 30 * 32 * 42 * 3 B
    videos = [record(write_clip(tmp_path / f"{name}.mp4")) for name in "ab"]
    for video in videos * 2:
        with stored.open(video) as clip:
            assert clip.read([0]).shape == (1, 32, 42, 3)
    assert [os.path.basename(path) for path in decode.opened] == ["a.mp4", "b.mp4", "b.mp4"]
    assert sum(sizes(tmp_path)) <= 200e3


def test_frames_of_earlier_runs_make_room(tmp_path):
    paths = [write_clip(tmp_path / f"{name}.mp4") for name in "abc"]
    first = cache(tmp_path, gigabytes=300e3 / 1e9)
    for age, path in enumerate(paths[:2]):
        before = set((tmp_path / "cache").glob("*"))
        with first.open(record(path)):
            pass
        (file,) = set((tmp_path / "cache").glob("*")) - before
        os.utime(file, (1000 + age, 1000 + age))
    decode = CountingDecoder()
    second = cache(tmp_path, gigabytes=300e3 / 1e9, decode=decode)
    for path in (paths[2], paths[1], paths[2], paths[0]):
        with second.open(record(path)):
            pass
    # c took the place of a, the one that was unused for longest; then nothing old is left.
    assert [os.path.basename(path) for path in decode.opened] == ["c.mp4", "a.mp4"]
    assert len(sizes(tmp_path)) == 2


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    decode = CountingDecoder()
    stored, video = cache(tmp_path, decode=decode), record(write_clip(tmp_path / "a.mp4"))
    for _ in range(3):
        with stored.open(video) as clip:
            assert clip.num_frames == 30
    assert len(decode.opened) == 3
    assert caplog.text.count("videos are decoded in each epoch") == 1


def test_default_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLEVIDEO_CACHE", str(tmp_path / "own"))
    assert FrameCache(VideoDecoder(), SCALE, None, 1).folder == tmp_path / "own" / "frames"
    monkeypatch.setattr("paddlevideo.data.frame_cache.cache_folder", lambda: None)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    folder = FrameCache(VideoDecoder(), SCALE, None, 1).folder
    assert folder.parent.parent == tmp_path / "temporary" and folder.name == "frames"


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_default_folder_of_a_user_without_a_name(tmp_path, monkeypatch, error):
    def unknown():
        raise error("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("paddlevideo.data.frame_cache.cache_folder", lambda: None)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("getpass.getuser", unknown)
    folder = tmp_path / f"paddlevideo-{os.getuid()}" / "frames"
    assert FrameCache(VideoDecoder(), SCALE, None, 1).folder == folder


def test_a_video_that_fails_stores_nothing(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    for path in (tmp_path / "bad.mp4", tmp_path / "missing.mp4"):
        with pytest.raises(DecodeError), cache(tmp_path).open(record(path)):
            pass
    assert sizes(tmp_path) == []


@pytest.mark.parametrize(
    ("transform", "name"),
    [(None, "none"), (RandomFlip(), "RandomFlip"), (JitterScale(20, 40), "J")],
)
def test_needs_a_first_transform_that_resizes(tmp_path, transform, name):
    with pytest.raises(ValueError, match=f"first transform, which is {name}.*must resize"):
        cache(tmp_path, transform=transform)


def test_has_no_audio(tmp_path):
    with pytest.raises(ValueError, match="audio needs them"):
        ClipPipeline(VideoDecoder(), SpanSampler(4), [SCALE], audio=object(), cache=cache(tmp_path))


def test_a_file_that_another_process_removes_is_no_error(tmp_path, caplog):
    stored, video = cache(tmp_path), record(write_clip(tmp_path / "a.mp4"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "gone.npy").symlink_to(tmp_path / "none")  # its state cannot be asked for
    with stored.open(video):
        pass
    assert caplog.text == "" and len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_what_killed_processes_left_is_removed(tmp_path):
    (tmp_path / "cache").mkdir()
    left = tmp_path / "cache" / f".a.npy.{files.machine()}-99999999-0.tmp"
    left.write_bytes(b"half")
    with cache(tmp_path).open(record(write_clip(tmp_path / "a.mp4"))):
        pass
    assert not left.exists() and len(sizes(tmp_path)) == 1


def test_frames_of_another_user_are_read(tmp_path, monkeypatch):
    decode = CountingDecoder()
    stored, video = cache(tmp_path, decode=decode), record(write_clip(tmp_path / "a.mp4"))

    def denied(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", denied)
    for _ in range(2):
        with stored.open(video) as clip:
            assert clip.num_frames == 30
    assert len(decode.opened) == 1


def test_a_remote_video_without_a_version_is_not_stored(tmp_path, server):
    content = write_clip(tmp_path / "a.mp4").read_bytes()
    server.files |= {"/a.mp4": content}
    for etag, count in (('"v1"', 1), (None, 0)):
        server.etag = etag
        access.forget(f"{server.url}/a.mp4")
        folder = tmp_path / str(count)
        for _ in range(2):
            with cache(folder).open(Record(f"{server.url}/a.mp4")) as clip:
                assert clip.num_frames == 30
        assert len(sizes(folder)) == count
