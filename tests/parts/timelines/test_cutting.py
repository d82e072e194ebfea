"""Streams are cut into windows: times, gaps, changes of size, audio, and what stays in memory."""

from collections.abc import Iterator

import numpy as np
import pytest

from paddlevideo.data.pipeline import StreamNeeds
from paddlevideo.media.audio_reader import NoAudioError
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError
from paddlevideo.timelines.cutting import Cutter, Part
from paddlevideo.timelines.frames import Audio, Frame, Gap, Item
from paddlevideo.timelines.held import HeldAudio
from paddlevideo.timelines.sharing import Grid
from tests.audio_clips import chirps, write_audio

FRAMES, AUDIO, BOTH = (
    StreamNeeds(True, False),
    StreamNeeds(False, True),
    StreamNeeds(True, True),
)


def image(number: int, size: tuple[int, int] = (2, 2)) -> np.ndarray:
    return np.full((*size, 3), number % 256, np.uint8)


def stream(num_frames: int, fps: float = 10.0, first: float = 0.0) -> Iterator[Frame]:
    for number in range(num_frames):
        yield Frame(first + number / fps, image(number))


def spans(parts) -> list[tuple[float, float]]:
    return [(round(part.start, 3), round(part.end, 3)) for part in parts]


def numbers(part: Part) -> list[int]:
    assert part.clip is not None
    return [int(frame[0, 0, 0]) for frame in part.clip.images]


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (40, 2.0, 1.0, [(0, 2), (1, 3), (2, 4)]),
        (45, 2.0, 1.0, [(0, 2), (1, 3), (2, 4), (3, 4.5)]),  # the rest is a shorter window
        (40, 2.0, 2.0, [(0, 2), (2, 4)]),
        (41, 2.0, 2.0, [(0, 2), (2, 4), (4, 4.1)]),
        (8, 2.0, 1.0, [(0, 0.8)]),  # shorter than a window
        (1, 2.0, 1.0, [(0, 0.1)]),
        (60, 1.0, 2.0, [(0, 1), (2, 3), (4, 5)]),  # parts that no window has
        (30, 0.1, 1.0, [(0, 0.1), (1, 1.1), (2, 2.1)]),
    ],
)
def test_windows_cover_a_stream(length, window, stride, expected):
    parts = list(Cutter(FRAMES, window, stride, fps=10.0).cut(stream(length)))
    assert spans(parts) == expected
    for part in parts:
        first, last = round(part.start * 10), round(part.end * 10)
        assert numbers(part) == list(range(first, last))
        assert part.clip.fps == 10.0 and part.clip.num_frames == last - first


def test_a_window_comes_with_the_frame_behind_it():
    seen = []

    def source():
        for frame in stream(25):
            seen.append(frame.time)
            yield frame

    parts = Cutter(FRAMES, 1.0, 0.5).cut(source())
    for end in (1.0, 1.5, 2.0):
        next(parts)
        assert seen[-1] == pytest.approx(end)


def test_a_variable_rate_keeps_the_times_of_the_file():
    times = [0.0, 0.1, 0.9, 1.0, 1.05, 1.1, 4.2, 4.3]
    source = [Frame(time, image(number)) for number, time in enumerate(times)]
    parts = list(Cutter(FRAMES, 1.0, 1.0).cut(source))
    assert spans(parts)[:4] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [numbers(part) for part in parts] == [[0, 1, 2], [3, 4, 5], [5], [5], [6, 7]]
    assert spans(parts)[-1] == (4.0, 4.4)  # the last frame is as long as the shortest before it


def test_a_single_frame_has_a_length():
    assert spans(Cutter(FRAMES, 1.0, 1.0).cut([Frame(3.0, image(0))])) == [(3.0, 3.04)]


@pytest.mark.parametrize("gap", [(1.5, 3.0), (1.5, 1.7), (2.0, 9.0)])
def test_a_gap_is_a_row_and_windows_go_on_behind_it(gap):
    before, behind = round(gap[0] * 10), list(stream(20, first=gap[1]))
    source = [*stream(before), Gap(*gap, "damaged"), *behind]
    parts = list(Cutter(FRAMES, 1.0, 1.0, fps=10.0).cut(source))
    (row,) = [part for part in parts if part.error]
    assert (row.start, row.end, row.error) == (*gap, "damaged")
    assert spans(parts)[:2] == [(0, 1), (1, gap[0])]
    ends = [(gap[1], gap[1] + 1), (gap[1] + 1, gap[1] + 2)]
    assert spans(parts)[-2:] == [(round(a, 3), round(b, 3)) for a, b in ends]


def test_gaps_at_the_ends_and_next_to_each_other():
    source = [Gap(0, 1, "a"), Gap(1, 2, "b"), *stream(10, first=2.0), Gap(3, 4, "c")]
    parts = list(Cutter(FRAMES, 1.0, 1.0, fps=10.0).cut(source))
    assert [part.error for part in parts] == ["a", "b", None, "c"]
    assert list(Cutter(FRAMES, 1.0, 1.0).cut([])) == []


def test_another_frame_size_begins_a_new_run():
    source: list[Item] = list(stream(15))
    source += [Frame(1.5 + n / 10, image(n, (4, 2))) for n in range(10)]
    parts = list(Cutter(FRAMES, 1.0, 1.0, fps=10.0).cut(source))
    assert spans(parts) == [(0, 1), (1, 1.5), (1.5, 2.5)]
    assert [part.clip.images[0].shape[0] for part in parts] == [2, 2, 4]


def test_memory_does_not_grow_with_the_length():
    def most_held(length: int) -> int:
        cutter, most = Cutter(FRAMES, 1.0, 0.25), 0
        for _ in cutter.cut(stream(length)):
            most = max(most, len(cutter._frames))
        return most

    assert most_held(2 * 3600 * 2) == most_held(50) <= 12


def test_sound_in_memory_does_not_grow_with_the_length():
    def most_held(seconds: int) -> int:
        cutter, most = Cutter(AUDIO, 1.0, 0.5), 0
        source = (Audio(n / 10, np.zeros(80, np.float32), 800) for n in range(seconds * 10))
        for _ in cutter.cut(source):
            most = max(most, cutter._audio._length)
        return most

    assert most_held(600) == most_held(10) <= 3 * 800


def test_frames_for_the_memory_are_limited(monkeypatch):
    monkeypatch.setattr("paddlevideo.timelines.cutting.HOLD_BYTES", 100)
    with pytest.raises(DecodeError, match=r"a window of 2 s holds 9 frames of 2 x 2 pixels"):
        list(Cutter(FRAMES, 2.0, 1.0).cut(stream(20)))


def test_windows_in_whole_frames_begin_at_multiples_of_a_step():
    grid = Grid(step=4, num_frames=10, stride=5.0, cost=1.0)
    rounded = [Frame(round(n / 30, 3), image(n)) for n in range(60)]  # as Matroska stores times
    parts = list(Cutter(FRAMES, 1.0, 1.0, fps=30.0, grid=grid).cut(rounded))
    assert [numbers(part)[0] for part in parts[:6]] == [0, 4, 8, 16, 20, 24]
    assert {len(numbers(part)) for part in parts[:-1]} == {10}
    assert numbers(parts[-1])[-1] == 59
    lost = [frame for frame in rounded if image(0)[0, 0, 0] != 1 and frame.time != 0.2]
    after = list(Cutter(FRAMES, 1.0, 1.0, fps=30.0, grid=grid).cut(lost))
    assert [numbers(part)[0] for part in after[2:6]] == [8, 16, 20, 24]  # not shifted


# --- audio ----------------------------------------------------------------------------------------


def sounds(wave: np.ndarray, rate: int, size: int = 500) -> Iterator[Audio]:
    for first in range(0, len(wave), size):
        yield Audio(first / rate, wave[first : first + size], rate)


@pytest.mark.parametrize("rate", [16000, 44100, 8000, 22050])
def test_the_audio_of_a_window_equals_that_of_the_file(tmp_path, rate):
    wave = chirps(4, rate)
    path = str(write_audio(tmp_path / "a.wav", wave, rate, "pcm_f32le"))
    parts = Cutter(AUDIO, 1.0, 0.7).cut(sounds(wave, rate))
    count = 0
    for part in parts:
        expected = read_waveform(path, 16000, part.start, part.end)
        assert part.clip is not None
        got = part.clip.read_waveform(16000, part.start, part.end, "pyav")
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
        count += 1
    assert count == 6


def test_frames_wait_for_their_audio_and_not_for_ever():
    def first_window(lag: float | None) -> float:
        seen = 0.0

        def source():
            nonlocal seen
            for frame in stream(60):
                seen = frame.time
                yield frame
                if lag is not None and frame.time >= lag:
                    yield Audio(frame.time - lag, np.zeros(80, np.float32), 800)

        next(Cutter(BOTH, 1.0, 1.0).cut(source()))
        return seen

    assert first_window(0.0) == pytest.approx(1.1)
    assert first_window(0.5) == pytest.approx(1.6)
    assert first_window(None) == pytest.approx(2.2)  # there is none: a second later


def test_held_audio_fills_holes_and_begins_anew_at_another_rate():
    held = HeldAudio()
    held.add(Audio(0.0, np.ones(100, np.float32), 100))
    held.add(Audio(1.5, np.ones(100, np.float32), 100))  # a hole of half a second
    held.add(Audio(2.0, np.full(100, 2, np.float32), 100))  # half of it overlaps
    np.testing.assert_array_equal(
        held._stored(0, None), np.repeat([1, 0, 1, 2], [100, 50, 100, 50])
    )
    assert held.end_sec == 3.0
    held.add(Audio(3.0, np.ones(10, np.float32), 200))
    assert held.rate == 200 and held.end_sec == 3.05
    held.add(Audio(90.0, np.ones(10, np.float32), 200))
    assert held._length == 10
    with pytest.raises(NoAudioError, match=r"no audio between 200\.000 s and 201\.000 s"):
        held.read(200, 200.0, 201.0, "pyav")
    with pytest.raises(NoAudioError, match="no audio"):
        HeldAudio().read(200, 0.0, 1.0, "pyav")
