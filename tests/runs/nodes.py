"""Nodes of a cluster on this machine: one launcher of Paddle per node, all on the loopback."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from paddlevideo import dist

LIMIT = 280  # seconds; a run that takes longer hangs


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def words_of_node(
    node: int, nodes: int, port: int, folder: Path, ranks: int, *more: str
) -> list[str]:
    """The words of docs/cluster.md after `python`, for a node on this machine."""
    launcher = ["-m", "paddle.distributed.launch", f"--master=127.0.0.1:{port}"]
    launcher += [f"--nnodes={nodes}", f"--rank={node}", f"--nproc_per_node={ranks}"]
    return ["-B", *launcher, f"--log_dir={folder / f'log{node}'}", *more]


class Node:
    """The launcher of a node and its processes; it prints to `node<number>.txt` in `folder`.

    Args:
        ranks: the node has as many cores, so that each rank computes with one thread.
    """

    def __init__(self, root: Path, folder: Path, number: int, words: Sequence[str], ranks: int = 1):
        self.console = folder / f"node{number}.txt"
        self.logs = folder / f"log{number}"
        env = {**os.environ, "PADDLE_DISTRI_BACKEND": "gloo", "OMP_NUM_THREADS": "1"}
        env[dist.INTERFACE] = "lo"  # the name of this machine may have no address
        with self.console.open("ab") as console:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=root,
                env=env,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            own = {cores[(number + i) % len(cores)] for i in range(ranks)}
            os.sched_setaffinity(self.process.pid, own)

    def wait(self) -> int:
        """The exit code of the launcher."""
        return self.process.wait(LIMIT)

    def text(self, rank: int | None = None) -> str:
        """What the launcher printed, or the log of a rank of this node (counted on the node)."""
        path = self.console if rank is None else self.logs / f"workerlog.{rank}"
        return path.read_text(errors="replace") if path.exists() else ""

    def processes(self) -> list[int]:
        """The launcher and everything below it, as monitors and loader workers."""
        found, parents = [self.process.pid], {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(stat[1])
        for parent in found:
            found += [child for child, above in parents.items() if above == parent]
        return found

    def ranks(self) -> list[int]:
        """The processes of the ranks, in order."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                values = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                rank = [v for v in values if v.startswith(b"PADDLE_TRAINER_ID=")]
                if rank and b"-I" not in words and b"main.py" in words:
                    found.setdefault(int(rank[0].partition(b"=")[2]), process)
        return [found[rank] for rank in sorted(found)]

    def kill(self) -> None:
        """Kill -9 of all processes of the node at once, the monitors too."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


def wait_for(nodes: Sequence[Node], path: Path, text: str, times: int = 1) -> None:
    """Wait until a file contains a text that often, while all nodes are running."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and all(node.process.poll() is None for node in nodes):
        if path.exists() and path.read_text(errors="replace").count(text) >= times:
            return
        time.sleep(0.05)
    logs = "\n".join(node.text()[-2000:] for node in nodes)
    raise AssertionError(f"no {text!r} in {path}:\n{logs}")
