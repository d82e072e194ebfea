"""The process next to a rank that notices a hang or a death, and explains it.

`watch.py` starts it as a script: it imports nothing but the standard library, and it works while
the rank waits inside a library, with or without Python's lock. The monitors of a run are connected
to that of rank 0. What ends a run is one cause: the first that reaches rank 0's monitor. Every
monitor then gives its rank a moment to end by itself, prints the cause where the rank could not,
and kills the rank. Messages are lines of JSON:

| from -> to         | kind                                                                        |
| ---                | ---                                                                         |
| rank -> monitor    | join (address of rank 0's monitor), beat, rest, error, lost, bye            |
| monitor -> rank    | port, joined, cause                                                         |
| monitor -> monitor | hello, alive, cause, bye                                                    |
"""

import contextlib
import json
import os
import re
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICK = 0.2  # seconds between two looks at the rank
MAX_LINE = 1 << 16  # bytes of a message
DEBUGGER = re.compile(r'(/[pb]db\.py"|pydevd|debugpy)')

Message = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a monitor knows of its rank.

    Args:
        rank, world: number of the rank, and of all ranks.
        host, pid: where the rank runs.
        bind: address where rank 0's monitor listens; "" for all addresses.
        token: what a monitor must send to be listened to; "" without other ranks.
        limit: seconds without a step after which the rank hangs; 0 for no limit.
        folder: where stacks are written.
        signal: number of the signal on which the rank writes its stacks.
        stacks: descriptor of the file that gets them.
        alive, silent: seconds between two signs of life of a monitor, and without one after which
            its machine counts as gone.
        grace: seconds in which a rank may end by itself after another one has failed.
        verdict: seconds to wait for the cause that rank 0's monitor has chosen.
    """

    rank: int
    world: int
    host: str
    pid: int
    bind: str
    token: str
    limit: float
    folder: str
    signal: int
    stacks: int
    alive: float = 5.0
    silent: float = 45.0
    grace: float = 10.0
    verdict: float = 3.0

    def __str__(self):
        if self.world == 1:
            return f"the run on {self.host} (process {self.pid})"
        return f"rank {self.rank} of {self.world} on {self.host} (process {self.pid})"


class Line:
    """A connection that carries messages."""

    def __init__(self, read: Callable[[int], bytes], write: Callable[[bytes], Any]):
        self._read, self._write, self._rest = read, write, b""
        self.name, self.known, self.said_bye, self.seen = "", False, False, 0.0

    def receive(self) -> tuple[list[Message], bool]:
        """The messages that have arrived, and whether the connection is still open."""
        try:
            data = self._read(MAX_LINE)
        except OSError:
            data = b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
                messages += [message] if isinstance(message, dict) else []
        return messages, bool(data) and len(self._rest) < MAX_LINE

    def send(self, **message) -> None:
        """Send a message; a lost connection is noticed where it is read."""
        with contextlib.suppress(OSError):
            self._write(json.dumps(message).encode() + b"\n")


class Monitor:
    """Watches one rank; `run` returns when the rank has ended."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.selector = selectors.DefaultSelector()
        self.lines: dict[socket.socket, Line] = {}  # to other monitors
        self.rank_line = Line(lambda size: os.read(0, size), lambda data: os.write(1, data))
        self.clock = 0.0  # seconds that this process was running; a suspended machine has none
        self.silent, self.counting = 0.0, False  # seconds since the last step of the rank
        self.cause: Message | None = None
        self.own: Message | None = None  # waits for the decision of rank 0's monitor
        self.own_until = self.kill_at = self.asked_until = self.alive_at = float("inf")
        self.said, self.ended = "", False  # why the rank ends: error, lost, bye, kill
        self.stacks_written = False

    # --- the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        """Watch until the rank has ended and its end is explained."""
        self.selector.register(0, selectors.EVENT_READ, self._from_rank)
        with contextlib.suppress(AttributeError, OSError):  # other systems: the parent is looked at
            self.selector.register(
                os.pidfd_open(self.facts.pid), selectors.EVENT_READ, self._rank_ended
            )
        if self.facts.rank == 0 and self.facts.token:
            self._listen()
        before = time.monotonic()
        while not self._finished():
            for key, _ in self.selector.select(TICK):
                key.data(key.fileobj)
            now = time.monotonic()
            elapsed, before = min(now - before, 1.0), now
            self.clock += elapsed
            self._tick(elapsed)
        self._leave()

    def _finished(self) -> bool:
        return self.ended and self.own is None and bool(self.said or self.cause)

    def _tick(self, elapsed: float) -> None:
        if not self.ended and os.getppid() != self.facts.pid:
            self._rank_ended(None)
        if self.counting and self.facts.limit and not self.ended and not self._is_stopped():
            self.silent += elapsed
            if self.silent > self.facts.limit and self.cause is None and self.own is None:
                self._hang()
        if self.clock >= self.own_until and self.own:
            self._adopt(self.own)
        if self.clock >= self.asked_until:
            self._answer()
        if self.clock >= self.kill_at and not self.ended and self.cause:
            self.said, self.kill_at = "kill", float("inf")
            self._explain()
            self._kill()
        if self.clock >= self.alive_at:
            self.alive_at = self.clock + self.facts.alive
            self._send(kind="alive")
        for connection, line in list(self.lines.items()):
            if self.clock - line.seen > self.facts.silent:
                self._lost(connection, f"gave no sign of life for {self.facts.silent:g} s")

    # --- the rank -------------------------------------------------------------------------------

    def _from_rank(self, _) -> None:
        messages, is_open = self.rank_line.receive()
        for message in messages:
            kind = message.get("kind")
            if kind == "beat":
                self.silent, self.counting = 0.0, True
            elif kind == "rest":
                self.counting = False
            elif kind == "join":
                self._join(message)
            elif kind == "error":
                self.said, self.ended = kind, True
                self._report(f"{self.facts} failed: {message['text']}")
            elif kind == "lost":
                self.said, self.asked_until = kind, self.clock + self.facts.verdict
                if self.cause:
                    self._answer()
            elif kind == "bye":
                self.said, self.ended = kind, True
                self._send(kind="bye")
        if not is_open:
            self.selector.unregister(0)
            self.ended = self.ended or bool(self.said)

    def _answer(self) -> None:
        self.asked_until, self.ended = float("inf"), True
        self.rank_line.send(kind="cause", text=self.cause["text"] if self.cause else "")

    def _rank_ended(self, descriptor: Any) -> None:
        """Explain a rank that ended without a message."""
        if descriptor is not None:
            self.selector.unregister(descriptor)
        noticed, self.ended = self.ended, True
        if noticed or self.said:
            return
        if self.cause:
            self._explain()
        else:
            self._report(
                f"{self.facts} ended without a message: it was killed (kill -9, or by the system "
                "for lack of memory), or a library crashed; see its log, workerlog.<number> of "
                "the launcher"
            )

    def _is_stopped(self) -> bool:
        """Whether the rank is suspended, as by Ctrl-Z."""
        try:
            text = Path(f"/proc/{self.facts.pid}/stat").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return False
        return text.rpartition(")")[2].split()[0] in ("T", "t")

    def _kill(self) -> None:
        if os.getppid() == self.facts.pid:  # its number still belongs to it
            os.kill(self.facts.pid, signal.SIGKILL)

    # --- hangs ----------------------------------------------------------------------------------

    def _hang(self) -> None:
        if DEBUGGER.search(self._write_stacks()):
            self.silent, self.stacks_written = 0.0, False
            return
        self._report(
            f"{self.facts} took no step for {self.facts.limit / 60:g} minutes (hang_minutes); the "
            f"stacks of the ranks are in {self.facts.folder}/stacks.rank<number>.txt",
            stacks=True,
        )

    def _write_stacks(self) -> str:
        """Let the rank write the stacks of its threads, put them into the folder, return them."""
        self.stacks_written = True
        descriptor, size, until = self.facts.stacks, 0, time.monotonic() + 3
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.facts.pid, self.facts.signal)
        while time.monotonic() < until and not (size and size == os.fstat(descriptor).st_size):
            size = os.fstat(descriptor).st_size
            time.sleep(0.1)
        text = os.pread(descriptor, 1 << 24, 0).decode("utf-8", "replace")
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        head = f"{self.facts}, no step since {self.silent:.0f} s, {when}\n\n"
        path = Path(self.facts.folder) / f"stacks.rank{self.facts.rank}.txt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(head + (text or "the process wrote no stacks\n"), encoding="utf-8")
        except OSError:  # a full disk, or a shared one that hangs
            print(head + text, file=sys.stderr, flush=True)
        return text

    # --- causes ---------------------------------------------------------------------------------

    def _report(self, text: str, stacks: bool = False) -> None:
        """Report why this rank ends; rank 0's monitor decides which cause was the first."""
        if self.cause or self.own:
            return
        cause = {"rank": self.facts.rank, "text": text, "stacks": stacks}
        if self.facts.rank == 0 or not self.lines:
            self._adopt(cause)
            return
        self.own, self.own_until = cause, self.clock + self.facts.verdict
        self._send(kind="cause", **cause)

    def _adopt(self, cause: Mapping[str, Any]) -> None:
        """End the rank for this cause; on rank 0 also the others."""
        if self.cause:
            return
        self.cause = {"rank": cause["rank"], "text": str(cause["text"]), "stacks": cause["stacks"]}
        self.own = None
        if self.facts.rank == 0:
            self._send(kind="cause", **self.cause)
        if self.asked_until < float("inf"):
            self._answer()
        if self.ended:
            if not self.said:
                self._explain()
            return
        if self.cause["stacks"] and not self.stacks_written:
            self._write_stacks()
        # The others need a moment to write their stacks, too: a rank that is gone ends them.
        wait = self.facts.verdict if self.cause["stacks"] else self.facts.grace
        self.kill_at = self.clock + wait

    def _explain(self) -> None:
        """Print the cause, for a rank that could not."""
        assert self.cause is not None
        text = self.cause["text"]
        if self.cause["rank"] != self.facts.rank:
            text += f"; rank {self.facts.rank} ends with it"
        print(f"error: {text}; continue with --resume", file=sys.stderr, flush=True)

    # --- other monitors -------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            server = socket.create_server((self.facts.bind, 0), backlog=1024)
        except OSError:  # an address of another network, or a name that is not known here
            server = socket.create_server(("", 0), backlog=1024)

        def accept(_: Any) -> None:
            with contextlib.suppress(OSError):  # gone already
                self._add(server.accept()[0])

        self.selector.register(server, selectors.EVENT_READ, accept)
        self.rank_line.send(kind="port", port=server.getsockname()[1])

    def _join(self, address: Message) -> None:
        try:
            connection = socket.create_connection((address["host"], address["port"]), timeout=10)
        except OSError as error:
            lost = f"no connection to the monitor of rank 0 at {address['host']}:{address['port']}"
            effect = "this log will not have the cause if another rank fails"
            print(f"{self.facts}: {lost} ({error}): {effect}", file=sys.stderr, flush=True)
            self.rank_line.send(kind="joined")
            return
        line = self._add(connection)
        line.name, line.known = address["name"], True
        line.send(kind="hello", name=str(self.facts), token=address["token"])

    def _add(self, connection: socket.socket) -> Line:
        connection.settimeout(5)
        line = Line(connection.recv, connection.sendall)
        line.seen, self.lines[connection] = self.clock, line
        self.alive_at = min(self.alive_at, self.clock + self.facts.alive)
        self.selector.register(connection, selectors.EVENT_READ, self._from_monitor)
        return line

    def _send(self, **message) -> None:
        """Send a message to the other monitors, and none to a stranger that has connected."""
        for line in self.lines.values():
            if line.known:
                line.send(**message)

    def _from_monitor(self, connection: Any) -> None:
        line = self.lines[connection]
        messages, is_open = line.receive()
        line.seen = self.clock
        for message in messages:
            kind = message.get("kind")
            if kind == "hello" and message.get("token") == self.facts.token:
                line.name, line.known = str(message["name"]), True
                line.send(kind="hello")
                if self.cause:
                    line.send(kind="cause", **self.cause)
            elif kind == "hello" and line.known:  # the answer of rank 0's monitor
                self.rank_line.send(kind="joined")
            elif not line.known:
                is_open = False
            elif kind == "bye":
                line.said_bye = True
            elif kind == "cause":
                self._adopt(message)
        if not is_open:
            self._lost(connection, "is gone: its machine was lost, or all its processes killed")

    def _lost(self, connection: socket.socket, how: str) -> None:
        line = self.lines.pop(connection)
        self.selector.unregister(connection)
        connection.close()
        if line.known and not line.said_bye and self.said in ("", "lost") and not self.own:
            self._report(f"{line.name} {how}")
        elif self.own:  # rank 0's monitor has ended and decides no more
            self.own_until = min(self.own_until, self.clock)

    def _leave(self) -> None:
        """Close the connections; rank 0's monitor waits until the others have read the cause."""
        for connection in self.lines:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        until = time.monotonic() + 1.0 if self.cause and self.facts.rank == 0 else 0.0
        while self.lines and time.monotonic() < until:
            for connection, line in list(self.lines.items()):
                connection.settimeout(0.05)
                try:
                    is_open = bool(connection.recv(MAX_LINE))
                except TimeoutError:
                    continue
                except OSError:
                    is_open = False
                if not is_open or line.said_bye:
                    del self.lines[connection]


def main() -> None:
    """Watch the rank whose facts are the argument, as JSON."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # meant for the rank; the monitor ends after it
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    Monitor(Facts(**json.loads(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
