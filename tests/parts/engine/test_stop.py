"""The stop signal: every rank stops at the same step, never inside an accumulation."""

import os
import signal

import pytest

from paddlevideo import dist
from paddlevideo.engine import stop as stop_module
from paddlevideo.engine.stop import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_process_stops_at_the_next_boundary(number):
    before = signal.getsignal(number)
    with StopSignal(interval=10) as stop:
        os.kill(os.getpid(), number)
        assert not stop.agreed(3, at_boundary=False)
        assert stop.agreed(4, at_boundary=True) and stop.seen
    assert signal.getsignal(number) == before


def test_nohup_keeps_a_run_going(request):
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignal(interval=1) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.agreed(0, at_boundary=True)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_closed_terminal_sends_the_signal_more_than_once():
    with StopSignal(interval=1) as stop:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.agreed(0, at_boundary=True)


@pytest.mark.parametrize("launched", [True, False])
def test_the_end_of_the_launcher_stops_its_ranks(monkeypatch, launched):
    if launched:
        monkeypatch.setenv(stop_module.LAUNCHED, "log/backup_env.0.json")
    monkeypatch.setattr(os, "getppid", lambda: 4242)  # that of the tests may be 1
    stop = StopSignal(interval=1)
    assert not stop.agreed(0, at_boundary=True)
    monkeypatch.setattr(os, "getppid", lambda: 1)  # the parent has ended
    assert stop.agreed(1, at_boundary=True) == launched


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
