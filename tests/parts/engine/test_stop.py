"""The stop signal: every rank stops at the same step, never inside an accumulation."""

import os
import signal

import pytest

from paddlevideo import dist
from paddlevideo.engine.stop import StopSignal


def test_one_process_stops_at_the_next_boundary():
    with StopSignal(interval=10) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.agreed(3, at_boundary=False)
        assert stop.agreed(4, at_boundary=True) and stop.seen
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("asked_here", [True, False])
def test_ranks_ask_each_other_at_intervals_and_between_epochs(monkeypatch, asked_here):
    asks = []
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "gather", lambda value: asks.append(value) or [value, True])
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
