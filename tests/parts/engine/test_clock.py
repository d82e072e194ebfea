"""The clock of an epoch separates waiting for data from working."""

from paddlevideo.engine import clock as clock_module
from paddlevideo.engine.clock import Clock


def test_clock_separates_waiting_from_working(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 4.5, 6.0])
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: next(now))
    clock = Clock(steps_left=10)
    for clips in (8, 4):
        clock.loaded()
        clock.stepped(clips)
    assert list(clock.waits) == [1.0, 0.5] and list(clock.steps) == [4.0, 2.0]
    assert clock.cost == 3.0 and clock.eta == "0:00:24" and clock.total_wait == 1.5
    assert clock.speed == 2.0 and clock.clips == 12
