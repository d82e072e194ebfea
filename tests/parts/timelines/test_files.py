"""A file as a source: frames and their times, damage, audio, and wrong files."""

from pathlib import Path

import numpy as np
import pytest

from paddlevideo.media.audio_reader import NoAudioError
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError, Record
from paddlevideo.timelines.files import video_frames
from paddlevideo.timelines.frames import Frame, Gap, Sound
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip


def frames_of(source) -> list[Frame]:
    return [item for item in source if isinstance(item, Frame)]


def gaps_of(source) -> list[Gap]:
    return [item for item in source if isinstance(item, Gap)]


def same_as_a_clip(path: Path) -> None:
    """The frames and times are those of the decoder of training and prediction."""
    frames = frames_of(video_frames(path))
    with VideoDecoder().open(Record(str(path))) as clip:
        assert len(frames) == clip.num_frames
        np.testing.assert_allclose([f.time for f in frames], clip.times(), rtol=0, atol=1e-9)
        images = clip.read(np.arange(clip.num_frames))
    np.testing.assert_array_equal(np.stack([f.image for f in frames]), images)


VFR = [0, 1000, 2000, 9000, 9500, 30000, 31000, 32000, 33000, 34000]  # of 1/25000 s


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {}),
        ("b.mkv", {"fps": 30}),
        ("vfr.mp4", {"pts": VFR, "num_frames": 10}),
        ("b_frames.mp4", {"options": {"bf": "2", "g": "12"}}),
        ("rotated.mov", {"rotation": 90}),
        ("avi.avi", {"codec": "mpeg4"}),
        ("late.mp4", {"pts": [40000 + 1000 * n for n in range(30)]}),
        ("ts.ts", {"options": {"bf": "2"}}),
    ],
)
def test_frames_and_times_are_those_of_prediction(tmp_path, name, settings):
    path = write_clip(tmp_path / name, **{"num_frames": 30, **settings})
    same_as_a_clip(path)
    assert gaps_of(video_frames(path)) == []


def test_a_constant_rate_is_told_from_a_variable_one(tmp_path):
    constant = video_frames(write_clip(tmp_path / "a.mp4", 50, fps=25))
    assert constant.fps == 25 and constant.constant_rate and constant.seconds == pytest.approx(2.0)
    variable = video_frames(write_clip(tmp_path / "v.mp4", 10, pts=VFR))
    assert not variable.constant_rate


def zeros(path: Path, first: float, last: float) -> Path:
    """Overwrite a part of a file, given in shares of its size."""
    data = bytearray(path.read_bytes())
    start, end = int(len(data) * first), int(len(data) * last)
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_decoding_goes_on_behind_a_broken_stretch(tmp_path, name):
    path = write_clip(tmp_path / name, 150, options={"g": "10", "bf": "0"})
    whole = [frame.time for frame in frames_of(video_frames(path))]
    items = list(video_frames(zeros(path, 0.4, 0.6)))
    times = [item.time for item in items if isinstance(item, Frame)]
    assert times[0] == 0 and times[-1] == pytest.approx(whole[-1]) and times == sorted(times)
    assert len(times) < len(whole) - 10
    gaps = [item for item in items if isinstance(item, Gap)]
    assert gaps and all("damaged" in gap.reason for gap in gaps)
    # Each gap is between two frames, and no frame is inside one.
    for gap in gaps:
        assert gap.start < gap.end
        assert not any(gap.start - 1e-6 <= time < gap.end - 1e-6 for time in times)
    starts = [item.time if isinstance(item, Frame) else item.start for item in items]
    assert starts == sorted(starts)


def test_a_file_that_is_cut_short_ends_with_a_gap(tmp_path):
    path = write_clip(
        tmp_path / "a.mp4", 100, options={"g": "10"}, container_options={"movflags": "faststart"}
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    *items, last = video_frames(path)
    assert isinstance(last, Gap) and last.end == pytest.approx(4.0)
    assert "the file is cut short: it lists 100 frames and holds" in last.reason
    assert 10 < len(items) < 100 and last.start == pytest.approx(items[-1].time + 0.04)


def test_audio_comes_with_its_frames(tmp_path):
    wave = chirps(3, 44100)
    path = write_audio(tmp_path / "a.mkv", wave, 44100, video={"num_frames": 75})
    items = list(video_frames(path, audio=True))
    heard = 0.0
    for item in items:
        if isinstance(item, Sound):
            assert item.rate == 44100 and item.time == pytest.approx(heard)
            heard = item.time + len(item.samples) / item.rate
        else:
            assert heard > item.time or heard > 2.9
    samples = np.concatenate([item.samples for item in items if isinstance(item, Sound)])
    np.testing.assert_array_equal(samples, read_waveform(str(path), 44100))
    assert len(frames_of(items)) == 75
    alone = list(video_frames(path, frames=False, audio=True))
    assert {type(item) for item in alone} == {Sound}
    assert np.array_equal(np.concatenate([item.samples for item in alone]), samples)


def test_files_without_audio(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 10)
    assert len(list(video_frames(path, audio=True))) == 10
    with pytest.raises(NoAudioError, match="no audio stream in it"):
        video_frames(path, frames=False, audio=True)
    sound = write_audio(tmp_path / "a.wav", chirps(1))
    assert len(list(video_frames(sound, frames=False, audio=True))) >= 1
    with pytest.raises(DecodeError, match="no video stream in it"):
        video_frames(sound)


def test_wrong_files(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video " * 99, encoding="utf-8")
    for name, message in (
        ("empty.mp4", "the file is empty"),
        ("text.mp4", "format|video"),
        ("none.mp4", "no such file"),
    ):
        with pytest.raises(DecodeError, match=message):
            video_frames(tmp_path / name)
    path = write_clip(tmp_path / "a.mp4", 5)
    with pytest.raises(DecodeError, match=r"there is no video stream 3; the file has 1"):
        video_frames(path, video_stream=3)
    with pytest.raises(ValueError, match="neither frames nor audio"):
        video_frames(path, frames=False)


def test_the_second_stream(tmp_path):
    path = write_clip(tmp_path / "a.mkv", 10, num_streams=2)
    assert frames_of(video_frames(path, video_stream=1))[0].image.shape == (48, 128, 3)
    assert frames_of(video_frames(path))[0].image.shape == (48, 64, 3)
