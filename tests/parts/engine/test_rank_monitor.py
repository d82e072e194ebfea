"""Monitors of ranks that are small scripts: deaths, errors, hangs, lost machines."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddlevideo.engine import rank_monitor
from paddlevideo.engine.rank_monitor import Facts, Line, Monitor
from paddlevideo.engine.watch import STACKS
from tests.process_state import is_alive

pytestmark = pytest.mark.skipif(not STACKS, reason="needs signals of Unix")
slow = pytest.mark.slow  # these wait
LIMIT = 30  # seconds; a rank that lives longer was forgotten
TOKEN = "a token"

# Starts its monitor, then does what it reads: messages for the monitor, or a word.
RANK = """
import ctypes, faulthandler, json, os, subprocess, sys, tempfile, time
script, facts, stacks = sys.argv[1], json.loads(sys.argv[2]), tempfile.TemporaryFile()
faulthandler.register(facts["signal"], stacks, all_threads=True)
facts.update(pid=os.getpid(), stacks=stacks.fileno())
monitor = subprocess.Popen(
    [sys.executable, "-I", "-S", script, json.dumps(facts)], stdin=subprocess.PIPE,
    stdout=subprocess.PIPE, start_new_session=True, pass_fds=[stacks.fileno()], bufsize=0,
)
print(monitor.pid, flush=True)
def take_orders():
    for line in sys.stdin:
        if line == "read\\n":
            print(monitor.stdout.readline().decode(), end="", flush=True)
        elif line == "hold\\n":  # a library that waits, and keeps the lock of Python
            ctypes.PyDLL(None).sleep(100)
        elif line == "exit\\n":
            monitor.stdin.close()
            sys.exit(monitor.wait())
        else:
            monitor.stdin.write(line.encode())
exec(compile("take_orders()", sys.argv[3], "exec"))
"""


class Rank:
    """A process with a monitor."""

    def __init__(self, folder: Path, rank: int, world: int, code_name: str, facts: dict):
        self.rank, self.errors = rank, folder / f"errors.{rank}.txt"
        values = {
            "rank": rank,
            "world": world,
            "host": f"node{rank}",
            "pid": 0,
            "bind": "127.0.0.1",
            "token": TOKEN if world > 1 and rank == 0 else "",
            "limit": 0.0,
            "folder": str(folder),
            "signal": STACKS,
            "stacks": 0,
            "grace": 0.1,
            **facts,
        }
        script = str(Path(rank_monitor.__file__))
        command = [sys.executable, "-I", "-S", "-c", RANK, script, json.dumps(values), code_name]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.monitor = 0

    def __str__(self):
        return f"rank {self.rank} of 2 on node{self.rank} (process {self.process.pid})"

    def say(self, word: str = "", **message) -> None:
        print(word or json.dumps(message), file=self.process.stdin, flush=True)

    def read(self) -> dict:
        """The next message of the monitor."""
        self.say("read")
        return json.loads(self.process.stdout.readline())

    def wait(self) -> int:
        return self.process.wait(LIMIT)

    def text(self) -> str:
        """What the monitor printed; it ends after its rank."""
        deadline = time.monotonic() + LIMIT
        while is_alive(self.monitor) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.errors.read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path):
    """`start(world)`: that many ranks, whose monitors are connected."""
    started = []

    def run(world: int = 2, code_name: str = "rank.py", **facts) -> list[Rank]:
        ranks = [Rank(tmp_path, i, world, code_name, facts) for i in range(world)]
        started.extend(ranks)
        for rank in ranks:
            rank.monitor = int(rank.process.stdout.readline())
        if world > 1:
            port = ranks[0].read()["port"]
            address = {"host": "127.0.0.1", "port": port, "token": TOKEN, "name": str(ranks[0])}
            for rank in ranks[1:]:
                rank.say(kind="join", **address)
                assert rank.read() == {"kind": "joined"}
        return ranks

    yield run
    for rank in started:
        rank.end()


def stop(process: int, number: int = signal.SIGKILL) -> None:
    os.kill(process, number)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_other_which_prints_the_cause(start, victim):
    ranks = start()
    stop(ranks[victim].process.pid)
    other = ranks[1 - victim]
    assert other.wait() == -signal.SIGKILL
    cause = f"error: {ranks[victim]} ended without a message: it was killed"
    assert ranks[victim].text().startswith(cause) and other.text().startswith(cause)
    assert f"; rank {other.rank} ends with it; continue with --resume" in other.text()
    assert "ends with it" not in ranks[victim].text()


def test_an_aborted_rank_is_explained(start):
    """A library that aborts the process, as gloo does in a backward pass."""
    ranks = start()
    stop(ranks[1].process.pid, signal.SIGABRT)
    assert ranks[0].wait() == -signal.SIGKILL
    assert f"error: {ranks[1]} ended without a message" in ranks[0].text()


def test_the_first_of_many_deaths_is_the_cause(start):
    ranks = start(grace=LIMIT)
    stop(ranks[1].process.pid)
    deadline = time.monotonic() + LIMIT
    while "error:" not in ranks[1].errors.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    stop(ranks[0].process.pid, signal.SIGABRT)  # because its connection was lost
    assert ranks[0].text().startswith(f"error: {ranks[1]} ended without a message")


@pytest.mark.parametrize("failed", [0, 1])
def test_an_error_of_a_rank_is_the_message_of_the_others(start, failed):
    ranks = start()
    ranks[failed].say(kind="error", text="a.list:3: no such video")
    ranks[failed].say("exit")
    other = ranks[1 - failed]
    assert ranks[failed].wait() == 0, "the rank ends by itself"
    assert other.wait() == -signal.SIGKILL
    assert f"error: {ranks[failed]} failed: a.list:3: no such video" in other.text()
    assert ranks[failed].text() == "", "it prints its own error"


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_lost_another_gets_the_cause(start, lost):
    ranks = start()
    ranks[lost].say(kind="lost")
    stop(ranks[1 - lost].process.pid)
    assert ranks[lost].read()["text"].startswith(f"{ranks[1 - lost]} ended without a message")
    ranks[lost].say("exit")
    assert ranks[lost].wait() == 0 and ranks[lost].text() == "", "the rank prints it"


def test_a_rank_that_lost_an_unknown_one_gets_no_cause(start):
    (rank,) = start(1, verdict=0.2)
    rank.say(kind="lost")
    assert rank.read() == {"kind": "cause", "text": ""}


@pytest.mark.parametrize(
    ("hung", "holds"),
    [pytest.param(0, False, marks=slow), pytest.param(1, False, marks=slow), (1, True)],
)
def test_a_hang_writes_the_stacks_of_all_ranks(start, tmp_path, hung, holds):
    ranks = start(limit=0.4, verdict=0.5)
    ranks[hung].say(kind="beat")  # the other one never began to count
    if holds:
        ranks[hung].say("hold")
    assert [rank.wait() for rank in ranks] == [-signal.SIGKILL] * 2
    for rank in ranks:
        stacks = (tmp_path / f"stacks.rank{rank.rank}.txt").read_text()
        assert stacks.startswith(f"{rank}, no step since ")
        assert 'File "<string>", line' in stacks and "take_orders" in stacks
    text = f"error: {ranks[hung]} took no step for 0.00666667 minutes (hang_minutes)"
    assert text in ranks[hung].text() and text in ranks[1 - hung].text()
    assert f"{tmp_path}/stacks.rank<number>.txt" in ranks[0].text()


@slow
def test_a_run_of_one_process_that_hangs_ends(start, tmp_path):
    (rank,) = start(1, limit=0.3, verdict=0.2)
    rank.say(kind="beat")
    assert rank.wait() == -signal.SIGKILL
    name = f"the run on node0 (process {rank.process.pid})"
    assert rank.text().startswith(f"error: {name} took no step for ")
    assert rank.text().count("error:") == 1
    assert (tmp_path / "stacks.rank0.txt").exists()


def still_alive(rank: Rank, seconds: float = 1.0) -> bool:
    time.sleep(seconds)
    return rank.process.poll() is None


def test_steps_and_rest_are_no_hang(monkeypatch):
    """The seconds are passed in; the test below waits for real ones."""
    facts = Facts(0, 1, "node0", os.getppid(), "", "", 1.5, ".", STACKS, 0)
    monitor, hangs = Monitor(facts), []
    monkeypatch.setattr(monitor, "_hang", lambda: hangs.append(monitor.silent))

    def say(kind: str) -> None:
        monitor.rank_line = Line(lambda size: json.dumps({"kind": kind}).encode() + b"\n", print)
        monitor._from_rank(0)

    monitor._tick(100)
    assert not hangs, "before the first step there is no limit"
    for _ in range(8):
        say("beat")
        monitor._tick(1)
    say("rest")
    monitor._tick(100)
    assert not hangs
    say("beat")
    monitor._tick(1)
    monitor._tick(1)
    assert hangs == [2]


@slow
def test_a_suspended_run_is_no_hang(start):
    (rank,) = start(1, limit=1.5)
    rank.say(kind="beat")
    stop(rank.process.pid, signal.SIGSTOP)
    assert still_alive(rank, 2.0)
    stop(rank.process.pid, signal.SIGCONT)
    rank.say(kind="rest")
    assert still_alive(rank, 2.0)


def test_a_run_in_a_debugger_is_no_hang(start, tmp_path):
    debuggers = ("/lib/pdb.py", "/lib/bdb.py", "/site/debugpy/server.py")
    ranks = []
    for number, name in enumerate(debuggers):
        folder = str(tmp_path / f"{number}")
        ranks += start(1, code_name=name, limit=0.3, verdict=0.1, folder=folder)
        ranks[-1].say(kind="beat")
    deadline = time.monotonic() + LIMIT
    while len(list(tmp_path.glob("*/stacks*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.6)  # a hang would end a rank 0.1 s after its stacks are written
    assert len(list(tmp_path.glob("*/stacks*"))) == 3
    ended = {n: r.process.poll() for n, r in zip(debuggers, ranks, strict=True)}
    assert ended == dict.fromkeys(debuggers)


def test_a_run_that_ends_is_silent_and_others_go_on(start):
    ranks = start()
    for rank in ranks:  # also where rank 0 is the first to end
        rank.say(kind="bye")
        rank.say("exit")
        assert rank.wait() == 0 and rank.text() == ""


@pytest.mark.parametrize("node", [0, 1])
def test_a_machine_that_is_gone_ends_the_others(start, node):
    ranks = start()
    stop(ranks[node].monitor)  # with its rank, as all processes of a node
    stop(ranks[node].process.pid)
    other = ranks[1 - node]
    assert other.wait() == -signal.SIGKILL
    assert f"error: {ranks[node]} is gone: its machine was lost" in other.text()


def test_a_silent_connection_is_a_lost_machine():
    """The seconds are passed in; the test below waits for real ones."""
    facts = Facts(0, 2, "node0", os.getppid(), "", TOKEN, 0, ".", STACKS, 0, alive=1, silent=4)
    monitor = Monitor(facts)
    here, there = socket.socketpair()
    with here, there:
        line = monitor._add(here)
        line.name, line.known = "rank 1", True
        monitor.clock = 4
        monitor._tick(0)
        assert json.loads(there.recv(1000)) == {"kind": "alive"}, "it sends signs of life, too"
        there.sendall(b'{"kind": "alive"}\n')
        monitor._from_monitor(here)
        monitor.clock = 8
        monitor._tick(0)
        assert monitor.cause is None and here in monitor.lines
        monitor.clock = 8.1
        monitor._tick(0)
    assert monitor.cause["text"] == "rank 1 gave no sign of life for 4 s"
    assert not monitor.lines and monitor.kill_at == 8.1 + facts.grace


@slow
@pytest.mark.parametrize("node", [0, 1])
def test_a_machine_without_power_ends_the_others(start, node):
    ranks = start(alive=0.1, silent=4.0)
    time.sleep(5)
    assert [rank.process.poll() for rank in ranks] == [None, None], "signs of life are sent"
    stop(ranks[node].monitor, signal.SIGSTOP)  # its connection stays open
    other = ranks[1 - node]
    try:
        assert other.wait() == -signal.SIGKILL
        assert f"error: {ranks[node]} gave no sign of life for 4 s" in other.text()
    finally:
        stop(ranks[node].monitor, signal.SIGCONT)


STRANGERS = {
    "no hello": b'{"kind": "cause", "rank": 1, "text": "no", "stacks": false}\n',
    "no token": b'{"kind": "hello", "name": "x", "token": ""}\n{"kind": "cause"}\n',
    "a browser": b"GET / HTTP/1.1\r\n\r\n",
    "no line": b"\xff" * 70_000,
    "deep lists": b"[" * 60_000 + b"\n",
    "a text": b'"hello"\n',
}


def test_a_stranger_ends_nothing(start):
    (rank,) = start(1, token=TOKEN)
    port = rank.read()["port"]
    for data in STRANGERS.values():
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as stranger:
            stranger.sendall(data)
    assert still_alive(rank, 0.6), "a cause would end it after 0.1 s"
    rank.say(kind="bye")
    rank.say("exit")
    assert rank.wait() == 0 and rank.text() == ""


def test_a_stranger_that_is_silent_gets_nothing(start):
    (rank,) = start(1, token=TOKEN, alive=0.05, silent=0.4)
    port = rank.read()["port"]
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as stranger:
        assert stranger.recv(100) == b"", "it is not told of a cause, and its connection is closed"
    assert still_alive(rank, 0)


def test_a_monitor_without_connection_says_so_and_goes_on(start):
    (rank,) = start(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    rank.say(kind="join", host="127.0.0.1", port=port, token=TOKEN, name="rank 0")
    assert rank.read() == {"kind": "joined"}, "the run does not wait"
    rank.say(kind="bye")
    rank.say("exit")
    assert rank.wait() == 0
    assert f"no connection to the monitor of rank 0 at 127.0.0.1:{port} " in rank.text()
