"""The stop signal: every rank stops at the same step, never inside an accumulation."""

import os
import signal

import pytest

from paddlevideo.engine import watch
from paddlevideo.engine.watch import Clock, StopSignal


def test_one_process_stops_at_the_next_boundary():
    with StopSignal(interval=10) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.agreed(3, at_boundary=False)
        assert stop.agreed(4, at_boundary=True) and stop.seen
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("asked_here", [True, False])
def test_ranks_ask_each_other_at_intervals_and_between_epochs(monkeypatch, asked_here):
    asks = []
    monkeypatch.setattr(watch.dist, "world_size", lambda: 2)
    monkeypatch.setattr(watch.dist, "gather", lambda value: asks.append(value) or [value, True])
    stop = StopSignal(interval=5)
    stop.asked = asked_here
    assert not any(stop.agreed(step, True) for step in (1, 2, 3, 4)) and not asks
    assert stop.agreed(0, True)  # what the loop does after each epoch, however short it is
    assert asks == [asked_here]


def test_a_second_interrupt_ends_at_once():
    stop = StopSignal(1)
    stop._ask(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        stop._ask(signal.SIGINT, None)


def test_the_clock_tells_waiting_from_working(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 4.5, 6.0])
    monkeypatch.setattr(watch.time, "perf_counter", lambda: next(now))
    clock = Clock(steps_left=10)
    for clips in (8, 4):
        clock.loaded()
        clock.stepped(clips)
    assert list(clock.waits) == [1.0, 0.5] and list(clock.steps) == [4.0, 2.0]
    assert clock.cost == 3.0 and clock.eta == "0:00:24" and clock.total_wait == 1.5
    assert clock.speed == 2.0 and clock.clips == 12
