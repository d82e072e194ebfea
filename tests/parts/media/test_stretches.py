"""Files whose time stamps go back: frames in order, rising times, and audio of the same stretch."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from paddlevideo.data.audio_clips import ClipAudio
from paddlevideo.media.clock import read_stretches
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.packets import Packet, Stretch, find_stretches, stretch_of, stretch_starts
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import Record
from tests.clips import random_frames, write_clip
from tests.flash_clips import cut_transport_stream, flash_and_beep, join_flv, write_flash

B_FRAMES = {"bf": "2", "g": "12"}


def part(path: Path, num_frames: int, seed: int, **settings) -> Path:
    frames = random_frames(num_frames, 48, 64, seed=seed)
    settings = {"options": B_FRAMES} | settings
    return write_clip(path, num_frames, 48, 64, frames=frames, **settings)


def shifted(path: Path, seconds: float) -> bytes:
    """Return the bytes of a transport stream with later time stamps."""
    target = path.with_suffix(".shifted.ts")
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                copy.mux(packet)
    return target.read_bytes()


def join_streams(folder: Path, name: str) -> tuple[Path, list[int]]:
    """Write a file of joined parts; return it and the numbers of frames of the parts."""
    suffix = {"vob": ".mpg", "flv": ".flv"}.get(name.split()[0], ".ts")
    settings = {"codec": "mpeg2video"} if suffix == ".mpg" else {}
    first = part(folder / f"a{suffix}", 25, 0, **settings)
    second = part(folder / f"b{suffix}", 30, 1, **settings)
    target = folder / f"joined{suffix}"
    sizes = [25, 30]
    if suffix == ".flv":
        join_flv(first, second, target, int(name.split()[1]))
    elif name == "between":
        # The time stamps of the second part are between those of the first.
        target.write_bytes(first.read_bytes() + shifted(second, 0.013))
    elif name == "three parts":
        target.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
        sizes = [25, 30, 25]
    elif name == "earlier":
        target.write_bytes(shifted(first, 100.0) + second.read_bytes())
    else:
        target.write_bytes(first.read_bytes() + second.read_bytes())
    return target, sizes


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


NAMES = ["same", "between", "three parts", "earlier", "flv 13", "flv 0", "flv 500", "vob"]


@pytest.mark.parametrize("name", NAMES)
def test_frames_keep_the_order_of_decoding(tmp_path, name):
    path, sizes = join_streams(tmp_path, name)
    expected = frames_of(path)
    assert len(expected) == sum(sizes)
    with VideoDecoder().open(Record(str(path))) as clip:
        assert clip.num_frames == len(expected)
        assert np.array_equal(clip.read(np.arange(len(expected))), expected)
        for number in np.random.default_rng(0).permutation(len(expected))[:6]:
            assert np.array_equal(clip.read([number])[0], expected[number]), number
        times = clip.times()
        assert clip.jumps == np.cumsum(sizes)[:-1].tolist()
        assert np.abs(times - np.arange(len(times)) / 25).max() < 1e-3
    # A part of the clip knows the jumps inside it, counted from its own first frame.
    with VideoDecoder().open(Record(str(path), start_sec=0.4, end_sec=1.6)) as clip:
        assert clip.num_frames == 30 and clip.jumps == [15]
        assert np.array_equal(clip.read([14, 15]), expected[[24, 25]])


def test_a_file_whose_time_stamps_rise_has_no_jumps(tmp_path):
    for name in ("a.mp4", "a.mkv", "a.ts", "a.flv", "a.mpg", "a.avi"):
        codec = {".mpg": "mpeg2video", ".avi": "mpeg4"}.get(name[1:], "libx264")
        path = part(tmp_path / name, 25, 0, codec=codec)
        with VideoDecoder().open(Record(str(path))) as clip:
            assert clip.jumps == [] and clip.num_frames == 25, name
        assert len(read_stretches(str(path))) == 1


def join_flashes(folder: Path, name: str) -> tuple[Path, float]:
    """Write two joined parts with audio; return the file and the time of the second flash (s)."""
    suffix = {"flv": ".flv", "vob": ".mpg"}.get(name, ".ts")
    codec, audio = ("mpeg2video", "mp2") if suffix == ".mpg" else ("libx264", "aac")
    settings = {"codec": codec, "audio": audio, "options": {"bf": "2"}}
    # The first part is dark and silent to its end.
    first = write_flash(folder / f"a{suffix}", at=9.0, seconds=1.4, **settings)
    second = write_flash(folder / f"b{suffix}", at=1.0, seconds=2.0, **settings)
    target, at = folder / f"joined{suffix}", 1.4 + 1.0
    if name == "flv":
        join_flv(first, second, target, 0)
    elif name == "cut":
        cut = cut_transport_stream(second, folder / "c.ts", 0.3)
        # The second part has no key frame before its second second.
        target.write_bytes(first.read_bytes() + cut.read_bytes())
        return target, 0.0
    else:
        target.write_bytes(first.read_bytes() + second.read_bytes())
    return target, at


@pytest.mark.parametrize("name", ["ts", "vob", "flv", "cut"])
def test_audio_is_that_of_the_same_stretch(tmp_path, name):
    path, at = join_flashes(tmp_path, name)
    flash, beep = flash_and_beep(path)
    assert abs(flash - beep) < 0.01
    if at:
        # MPEG program streams do not store the time stamp of every frame.
        assert abs(flash - at) < (0.1 if name == "vob" else 1e-3)
        # A part that begins in the second stretch is decoded alike.
        complete = read_waveform(str(path), 16000)
        part = read_waveform(str(path), 16000, 2.0, 3.0)
        assert np.array_equal(part, complete[32000:48000])


def test_the_audio_of_a_clip_belongs_to_its_frames(tmp_path):
    path, at = join_flashes(tmp_path, "ts")
    with VideoDecoder().open(Record(str(path))) as clip:
        times = clip.times()
    first = round(at * 25)
    numbers = np.array([[first - 8, first - 4], [first, first + 4]])
    rng = np.random.default_rng(0)
    audio = ClipAudio(num_rows=8)(Record(str(path)), times, numbers, 25.0, rng)["audio"]
    before, after = audio.reshape(2, -1).max(axis=1)
    assert after > before + 1


# --- packets --------------------------------------------------------------------------------------


def packets(*stamps: tuple[int, int, bool]) -> list[Packet]:
    return [
        Packet(pts, dts, 100 * number, is_key, True, False)
        for number, (pts, dts, is_key) in enumerate(stamps)
    ]


@pytest.mark.parametrize("num_frames", [1, 2, 3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_video_of_few_frames_is_one_stretch(tmp_path, suffix, num_frames):
    """The decoder returns all of its frames at the end, and those have no time base."""
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    (stretch,) = read_stretches(str(write_clip(tmp_path / f"a{suffix}", num_frames, codec=codec)))
    assert (stretch.first_frame, stretch.second) == (0, 0)


def test_a_stretch_begins_where_time_goes_back():
    rising = packets((0, 0, True), (3, 1, False), (1, 2, False), (2, 3, False), (4, 4, True))
    # B-frames go back between key frames; that is no new stretch.
    assert stretch_starts("mpegts", rising) == [0]
    key = packets((5, 5, True), (6, 6, False), (5, 7, True), (6, 8, False))
    assert stretch_starts("matroska,webm", key) == [0, 2]
    # Cut between key frames: only the time of decoding shows it.
    cut = packets((5, 5, True), (6, 6, False), (2, 2, False), (3, 3, False))
    assert stretch_starts("mpegts", cut) == [0, 2]
    assert stretch_starts("matroska,webm", cut) == [0]
    # FFmpeg takes a clock that was set back by more than a minute for one that ran over.
    over = 2**33
    ahead = packets((9, 9, True), (10, 10, False), (over, over, True), (over + 1, over + 1, False))
    assert stretch_starts("mpegts", ahead) == [0, 2]


def test_times_go_on_after_a_jump():
    second = packets((50, 50, True), (60, 60, False), (0, 0, True), (10, 10, False))
    base = Fraction(1, 100)
    found = find_stretches([50, 60, 0, 10], second, [0, 2], base, 25.0)
    assert found is not None
    times, stretches = found
    assert np.allclose(times, [0, 0.1, 0.2, 0.3])
    assert stretches == [
        Stretch(0, Fraction(1, 2), Fraction(0), 0),
        Stretch(2, Fraction(0), Fraction(1, 5), 200),
    ]
    # Unknown stamps at the beginning are filled in; elsewhere times are unknown.
    found = find_stretches(
        [None, 60, 70], packets((60, 60, True), (70, 70, False)), [0], base, 10.0
    )
    assert found is not None and found[1][0].stamp == Fraction(1, 2)
    assert find_stretches([50, None, 70], second, [0, 2], base, 10.0) is None
    assert find_stretches([50, 50], second[:2], [0], base, 10.0) is None


def test_audio_packets_follow_the_position_in_the_file():
    stretches = [Stretch(0, Fraction(0), Fraction(0), 0), Stretch(9, Fraction(0), Fraction(9), 900)]
    assert stretch_of(stretches, 0, 899, goes_back=False) == 0
    assert stretch_of(stretches, 0, 900, goes_back=False) == 1
    assert stretch_of(stretches, 0, None, goes_back=True) == 0
    # The audio goes back shortly before the video does.
    assert stretch_of(stretches, 0, 880, goes_back=True) == 1
    assert stretch_of(stretches, 0, 20, goes_back=True) == 0
    # Before the first frame is decoded, a file without video has no stretches.
    assert stretch_of([], 0, 20, goes_back=True) == stretch_of([], 0, 20, goes_back=False) == 0
