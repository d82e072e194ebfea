"""A file as a source: frames and their times, damage, audio, and wrong files."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.media.audio_reader import NoAudioError
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError, Record
from paddlevideo.timelines.files import _Clock, _Losses, video_frames
from paddlevideo.timelines.frames import Audio, Frame, Gap
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


@pytest.mark.parametrize("options", [{"g": "10", "bf": "0"}, {"g": "40", "bf": "3"}])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_decoding_goes_on_behind_a_broken_stretch(tmp_path, name, options):
    path = write_clip(tmp_path / name, 150, options=options)
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


class Stamped:
    """A decoded frame, of which a clock needs only the time stamp."""

    def __init__(self, pts: int | None):
        self.pts = pts


class AnyStream:
    """A stream of 10 frames per second with time stamps in hundredths of a second."""

    time_base, average_rate, guessed_rate, base_rate = Fraction(1, 100), 10, 10, 10


def seconds_of(*pts: int | None, starts: tuple[int, ...] = ()) -> list[float]:
    """The times of frames; `starts`: numbers of the frames with which a stretch begins."""
    packets = _Losses(AnyStream(), "matroska")
    clock, times = _Clock(AnyStream(), False, packets), []
    for number, stamp in enumerate(pts):
        packets.stretch += number in starts
        times.append(round(clock.time_of(Stamped(stamp)), 6))
    return times


@pytest.mark.parametrize(
    ("pts", "starts", "expected"),
    [
        ((50, 60, 70), (), [0, 0.1, 0.2]),
        # Damage: a frame comes too late, and the frames behind it keep their times.
        ((0, 10, 80, 30, 90, 100), (), [0, 0.1, 0.8, 0.801, 0.9, 1.0]),
        ((0, 80, 30, 40, 90), (), [0, 0.8, 0.801, 0.802, 0.9]),
        # A stretch begins.
        ((40, 50, 10, 20), (2,), [0, 0.1, 0.2, 0.3]),
        ((0, 10, 0, 10, 0, 10), (2, 4), [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ((0, 10, 5, 15), (2,), [0, 0.1, 0.2, 0.3]),
        # Frames without time stamps, or with the same ones, are one frame apart.
        ((None, None, None), (), [0, 0.1, 0.2]),
        ((0, 0, 0, 0), (), [0, 0.1, 0.2, 0.3]),
        ((0, 10, 10, 20), (), [0, 0.1, 0.2, 0.3]),
        # The clock ran over its 33 bits, and FFmpeg adds them.
        ((0, 10, 2**33, 2**33 + 10), (2,), [0, 0.1, 0.2, 0.3]),
    ],
)
def test_times_where_time_stamps_go_back(pts, starts, expected):
    assert seconds_of(*pts, starts=starts) == expected


def test_a_clock_that_was_set_back_for_good_goes_on():
    times = seconds_of(*range(1000, 1100, 10), *range(0, 400, 10))
    assert times == sorted(set(times)), "rising"
    np.testing.assert_allclose(np.diff(times[-20:]), 0.1)
    assert times[-1] < 5.0


def test_packets_lost_before_a_stretch_are_not_in_it():
    packets = _Losses(AnyStream(), "mpegts")
    clock = _Clock(AnyStream(), False, packets)
    clock.time_of(Stamped(900))
    packets._last_stamp = 1000
    packets.add("damaged")
    assert packets.seconds(clock) == [1.0]
    clock.time_of(Stamped(1000))
    packets.stretch += 1
    assert clock.time_of(Stamped(10)) == pytest.approx(1.1)
    assert packets.seconds(clock) == [] and not list(packets.between(1.1, 1.2, clock))


def test_joined_files_have_no_gap_between_them(tmp_path):
    parts = [
        write_clip(tmp_path / f"{n}.ts", 25, container_format="mpegts", options={"bf": "2"})
        for n in range(2)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    items = list(video_frames(joined))
    assert not [item for item in items if isinstance(item, Gap)]
    np.testing.assert_allclose([item.time for item in items], np.arange(50) / 25, atol=1e-3)


def test_audio_alone_has_a_gap_where_it_cannot_be_decoded(tmp_path):
    path = write_audio(tmp_path / "a.mkv", chirps(6), codec="aac")
    items = list(video_frames(zeros(path, 0.4, 0.6), frames=False, audio=True))
    gaps = [item for item in items if isinstance(item, Gap)]
    assert gaps and all("damaged" in gap.reason for gap in gaps)
    assert 0.5 < sum(gap.end - gap.start for gap in gaps) < 4.0
    assert end_of(items[-1]) == pytest.approx(6.0, abs=0.1)
    for before, after in itertools.pairwise(items):
        start = after.start if isinstance(after, Gap) else after.time
        assert start == pytest.approx(end_of(before), abs=1e-6)


@pytest.mark.parametrize("seconds", [40.0, 100.0])
def test_audio_goes_on_behind_a_long_hole(tmp_path, seconds):
    path = write_audio(tmp_path / "a.mkv", chirps(3), gap=(1.0, seconds))
    items = list(video_frames(path, frames=False, audio=True))
    lost = [item for item in items if isinstance(item, Gap)]
    assert sum(gap.end - gap.start for gap in lost) == pytest.approx(seconds, abs=0.1)
    assert end_of(items[-1]) == pytest.approx(3.0 + seconds, abs=0.1)
    video = write_audio(tmp_path / "v.mkv", chirps(3), gap=(1.0, seconds), video={"num_frames": 9})
    silent = [item for item in video_frames(video, audio=True) if isinstance(item, Audio)]
    assert end_of(silent[-1]) == pytest.approx(3.0 + seconds, abs=0.1)
    assert max(len(item.samples) for item in silent) <= 30 * 16000


def end_of(item) -> float:
    return item.end if isinstance(item, Gap) else item.time + len(item.samples) / item.rate


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
        if isinstance(item, Audio):
            assert item.rate == 44100 and item.time == pytest.approx(heard)
            heard = item.time + len(item.samples) / item.rate
        else:
            assert heard > item.time or heard > 2.9
    samples = np.concatenate([item.samples for item in items if isinstance(item, Audio)])
    np.testing.assert_array_equal(samples, read_waveform(str(path), 44100))
    assert len(frames_of(items)) == 75
    alone = list(video_frames(path, frames=False, audio=True))
    assert {type(item) for item in alone} == {Audio}
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
