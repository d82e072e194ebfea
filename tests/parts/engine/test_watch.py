"""What a rank reports to its monitor; with a real monitor next to this process."""

import faulthandler
import json
import os
import signal
import subprocess
from typing import Any

import pytest

from paddlevideo import dist
from paddlevideo.engine import watch
from paddlevideo.engine.watch import STACKS, Beats, Watch, describe

pytestmark = pytest.mark.skipif(not STACKS, reason="needs signals of Unix")


class Recorder:
    """A monitor that keeps what it gets, and answers `text`."""

    def __init__(self, text: str = ""):
        self.sent: list[dict[str, Any]] = []
        self.text, self.made = text, 0

    def install(self, monkeypatch):
        monkeypatch.setattr(Watch, "_start", self.start)
        monkeypatch.setattr(Watch, "_send", lambda watch, **message: self.sent.append(message))
        monkeypatch.setattr(Watch, "_answer", lambda watch, *a: {"port": 5, "text": self.text})
        monkeypatch.setattr(Watch, "_end", lambda watch: None)
        return self

    def start(self, token: str, bind: str = "") -> None:
        self.made += 1


def ranks(monkeypatch, rank: int, world: int = 2, gathered: Any = None) -> None:
    """Let this process be a rank; `gathered` is what a gather returns."""
    monkeypatch.setattr(dist, "rank", lambda: rank)
    monkeypatch.setattr(dist, "world_size", lambda: world)
    monkeypatch.setattr(dist, "gather", lambda value: gathered or [value] * world)


def test_a_short_run_has_no_monitor(monkeypatch):
    recorder = Recorder().install(monkeypatch)
    with Watch(minutes=30) as one:
        one.beat()
    assert recorder.made == 0
    with Watch(minutes=0) as one:
        assert one._timer is None, "no limit, no monitor"


def test_steps_are_reported_once_a_second(monkeypatch):
    recorder = Recorder().install(monkeypatch)
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    with Watch() as one:
        for now[0] in (100.0, 100.5, 100.9, 101.1, 105.0):
            one.beat()
        one.rest()
        one.beat()  # at once, although the last one was just reported
    kinds = [message["kind"] for message in recorder.sent]
    assert kinds == ["beat", "beat", "beat", "rest", "beat", "bye"]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], []),  # a FROZEN head is fitted, or a list is read
        ([Watch.rest], ["rest"]),
        ([Watch.beat], ["beat", "beat"]),
        ([Watch.beat, Watch.rest], ["beat", "rest"]),  # the model is exported
        ([Watch.rest, Watch.beat], ["rest", "beat", "beat"]),
    ],
)
def test_a_late_monitor_counts_between_the_first_step_and_the_rest_only(
    monkeypatch, calls, expected
):
    recorder = Recorder().install(monkeypatch)
    with Watch(minutes=30) as one:
        for call in calls:
            call(one)
        one._start_late()
    assert recorder.made == 1
    assert [message["kind"] for message in recorder.sent] == [*expected, "bye"]


def test_every_record_and_the_end_of_an_evaluation_are_steps(monkeypatch):
    count = []
    monkeypatch.setattr(Watch, "beat", lambda watch: count.append(1))
    beats = Beats(Watch())
    beats.add(None)
    beats.add_failure(None, 0, "")
    beats.merge([beats.state()])
    assert len(count) == 3


ERRORS = [
    (ValueError("a.yaml:1: wrong"), "a.yaml:1: wrong"),
    (FileNotFoundError(2, "No such file or directory", "a.list"), "a.list: No such file"),
    (RuntimeError("out of memory"), "RuntimeError: out of memory"),
    (KeyboardInterrupt(), "KeyboardInterrupt: "),
]


@pytest.mark.parametrize(("error", "text"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_is_reported(monkeypatch, error, text):
    recorder = Recorder().install(monkeypatch)
    with pytest.raises(type(error)) as caught, Watch():
        raise error
    assert caught.value is error
    (message,) = recorder.sent
    assert message["kind"] == "error" and message["text"].startswith(text)
    assert describe(ValueError("x" * 9)) == "x" * 9


def test_a_long_error_is_shortened(monkeypatch):
    recorder = Recorder().install(monkeypatch)
    with pytest.raises(ValueError, match="xxx"), Watch():
        raise ValueError("x" * 10_000)
    assert len(recorder.sent[0]["text"]) == watch.MAX_TEXT


def test_a_lost_connection_becomes_the_cause(monkeypatch):
    ranks(monkeypatch, 0)
    Recorder("rank 1 of 2 on b (process 7) failed: a.list: gone").install(monkeypatch)
    message = r"rank 1 of 2 on b .* failed: a.list: gone; rank 0 of 2 ends with it; continue with"
    with pytest.raises(dist.LostRank, match=message) as caught, Watch():
        raise dist.LostRank("gloo")
    assert str(caught.value.__cause__) == "gloo"


def test_a_lost_connection_without_known_cause_stays(monkeypatch):
    ranks(monkeypatch, 0)
    Recorder("").install(monkeypatch)
    with pytest.raises(dist.LostRank, match="^gloo$"), Watch():
        raise dist.LostRank("gloo")


def test_the_monitor_of_another_rank_joins_that_of_rank_0(monkeypatch):
    address = {"host": "10.0.0.1", "port": 5, "token": "t", "name": "rank 0 of 2 on a"}
    ranks(monkeypatch, 1, gathered=[address, {}])
    recorder = Recorder().install(monkeypatch)
    with Watch():
        assert recorder.made == 1
    assert recorder.sent == [{"kind": "join", **address}, {"kind": "bye"}]
    ranks(monkeypatch, 1, gathered=[{}, {}])  # rank 0 has no monitor
    recorder.sent.clear()
    with Watch():
        pass
    assert recorder.sent == [{"kind": "bye"}]


def test_rank_0_gives_its_address(monkeypatch):
    given = []
    monkeypatch.setenv("PADDLE_CURRENT_ENDPOINT", "10.0.0.1:6070")
    ranks(monkeypatch, 0)
    monkeypatch.setattr(dist, "gather", lambda value: given.append(value) or [value, {}])
    Recorder().install(monkeypatch)
    with Watch():
        pass
    (address,) = given
    assert address["host"] == "10.0.0.1" and address["port"] == 5 and len(address["token"]) == 32
    assert address["name"].startswith("rank 0 of 2 on ")


# --- with a real monitor --------------------------------------------------------------------------


def test_the_monitor_ends_with_the_watch(monkeypatch, tmp_path):
    monkeypatch.setattr(watch, "LATE", 0.0)
    with Watch(minutes=30, folder=tmp_path) as one:
        one._timer.join()
        process = one._process
        assert process.poll() is None
        one.beat()
    assert process.returncode == 0
    assert not faulthandler.unregister(STACKS), "the signal is free again"


def test_a_real_hub_gets_a_port(monkeypatch):
    ranks(monkeypatch, 0)
    given = []
    monkeypatch.setattr(dist, "gather", lambda value: given.append(value) or [value, {}])
    with Watch() as one:
        process = one._process
    assert given[0]["port"] > 0 and given[0]["host"] == "127.0.0.1"
    assert process.returncode == 0


def test_a_killed_monitor_ends_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(watch, "LATE", 0.0)
    with Watch(minutes=30, folder=tmp_path) as one:
        one._timer.join()
        os.kill(one._process.pid, signal.SIGKILL)
        one._process.wait()
        for _ in range(3):
            one._next = 0.0
            one.beat()


def test_a_machine_that_starts_no_process_goes_on(monkeypatch, tmp_path, caplog):
    def refuse(*args, **kwargs):
        raise OSError(11, "Resource temporarily unavailable")

    ranks(monkeypatch, 0)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with Watch(minutes=30, folder=tmp_path) as one:
        one.beat()
    assert "no process can be started that notices a hang" in caplog.text
    assert json.dumps(one._answer("port", 0.1)) == "{}"
