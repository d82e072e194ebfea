"""Time stamps of a live source become seconds that only rise."""

import pytest

from paddlevideo.timelines.live_clock import LiveClock


def play(clock: LiveClock, stamps, arrivals) -> list[float]:
    return [round(clock.frame(s, a), 6) for s, a in zip(stamps, arrivals, strict=True)]


def test_frames_keep_the_distances_of_their_time_stamps():
    clock = LiveClock()
    assert play(clock, [50.0, 50.04, 50.5], [9.0, 9.3, 9.31]) == [0.0, 0.04, 0.5]


def test_a_new_connection_goes_on_by_the_time_that_has_passed():
    clock = LiveClock()
    play(clock, [50.0, 50.1], [9.0, 9.1])
    clock.connect()
    assert play(clock, [3.0, 3.1], [12.1, 12.2]) == [3.1, 3.2]


@pytest.mark.parametrize("stamp", [0.0, 50.1, 49.0, 90_000.0], ids=["zero", "same", "back", "far"])
def test_time_stamps_that_jump_are_another_clock(stamp):
    clock = LiveClock()
    play(clock, [50.0, 50.1], [9.0, 9.1])
    assert play(clock, [stamp, stamp + 0.1], [9.3, 9.4]) == [0.3, 0.4]


def test_a_pause_of_the_source_is_no_jump():
    clock = LiveClock()
    play(clock, [50.0, 50.1], [9.0, 9.1])
    assert play(clock, [70.1], [29.1]) == [20.1]


def test_time_stamps_behind_33_bits_go_on():
    clock = LiveClock()
    wrap = 2**33 / 90_000
    assert play(clock, [wrap - 0.1, 0.0, 0.1], [1.0, 1.1, 1.2]) == [0.0, 0.1, 0.2]


def test_frames_without_time_stamps_are_where_they_arrived():
    clock = LiveClock()
    assert play(clock, [None, None, None], [9.0, 9.5, 9.5]) == [0.0, 0.5, 0.501]


def test_a_burst_without_pauses_still_rises():
    clock = LiveClock()
    times = play(clock, [5.0, 5.0, 5.0, 4.0], [9.0] * 4)
    assert times == sorted(set(times))


def test_lag_is_measured_from_the_earliest_frame():
    clock = LiveClock()
    lags = []
    for stamp, arrival in [(0.0, 0.0), (1.0, 0.1), (2.0, 0.2), (3.0, 1.2), (4.0, 5.2), (9.0, 5.3)]:
        clock.frame(stamp, arrival)
        lags.append(round(clock.lag, 6))
    assert lags == [0.0, 0.0, 0.0, 0.0, 3.0, 0.0], "a source that was late may catch up"


def test_lag_is_forgotten_with_the_connection():
    clock = LiveClock()
    play(clock, [0.0, 1.0], [0.0, 9.0])
    assert clock.lag == 8.0
    clock.connect()
    clock.frame(0.0, 20.0)
    assert clock.lag == 0.0


def test_audio_is_on_the_clock_of_the_frames():
    clock = LiveClock()
    assert clock.sound(50.0) is None, "no frame yet"
    clock.frame(50.0, 9.0)
    assert clock.sound(50.2) == pytest.approx(0.2)
    assert clock.sound(None) is None
    assert clock.sound(3.0) is None, "of another clock"
    clock.connect()
    assert clock.sound(50.2) is None


def test_the_timeline_goes_on_while_nothing_comes():
    clock = LiveClock()
    assert clock.at(7.0) == 0.0
    play(clock, [50.0, 51.0], [9.0, 10.0])
    assert clock.at(12.5) == 3.5 and clock.at(9.0) == 1.0
