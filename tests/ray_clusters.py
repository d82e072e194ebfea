"""Clusters of several Ray nodes on this machine, in processes of their own, for slow tests.

Ray changes the process that imports it, so a helper process starts the nodes:

    python -m tests.ray_clusters FOLDER CPUS CPUS ...

It reads lines: `add CPUS`, `remove`, `kill_raylet`.
"""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

STORE_BYTES = 80 << 20  # object store of a node
ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}


class SmallCluster:
    """A running cluster.

    Args:
        helper: the process that started it.

    Attributes:
        address: HOST:PORT of the head.
        client: ray://HOST:PORT of it; "" without the package grpcio.
    """

    def __init__(self, helper: subprocess.Popen):
        self._helper = helper
        self.address, _, self.client = self._answer().partition(" ")

    def _answer(self) -> str:
        line = self._helper.stdout.readline()
        assert line.startswith("done "), f"the helper of the cluster says {line!r}"
        return line.removeprefix("done ").strip()

    def _do(self, words: str) -> None:
        self._helper.stdin.write(f"{words}\n")
        self._helper.stdin.flush()
        self._answer()

    def add(self, cpus: float) -> None:
        """Add a node."""
        self._do(f"add {cpus}")

    def remove(self) -> None:
        """Kill all processes of the last node at once."""
        self._do("remove")

    def kill_raylet(self) -> None:
        """kill -9 of the raylet of the last node; its other processes end by themselves."""
        self._do("kill_raylet")

    def kill_worker(self, name: str) -> bool:
        """kill -9 of a worker whose title contains `name`; False where there is none now."""
        psutil = pytest.importorskip("psutil")
        for process in psutil.Process(self._helper.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::") and name in title:
                    process.kill()
                    return True
        return False


@contextlib.contextmanager
def started(folder: Path, *cpus: float) -> Iterator[SmallCluster]:
    """A cluster with these CPUs per node; the first node is the head. All ends with the block.

    Args:
        folder: for sockets and logs; its path is short, as names of sockets are limited.
    """
    psutil = pytest.importorskip("psutil")
    if not importlib.util.find_spec("ray"):
        pytest.skip("no package ray")
    words = [sys.executable, "-m", "tests.ray_clusters", str(folder), *map(str, cpus)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (folder / "helper.txt").open("w") as errors:
        helper = subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, stderr=errors, **pipes
        )
    try:
        yield SmallCluster(helper)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = psutil.Process(helper.pid).children(recursive=True)
            helper.stdin.close()  # Ray removes its address then
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(30)
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(tree, timeout=20)
        helper.kill()
        helper.wait()
        helper.stdout.close()


def driver(*words: str, output: Path, script: Path | None = None) -> subprocess.Popen:
    """A command of the package, or a script, in a process of its own."""
    code = ["-c", "import sys; from paddlevideo.cli import main; sys.exit(main())"]
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *([str(script)] if script else code), *words],
            env={**os.environ, **ENVIRONMENT},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def serve(folder: str, cpus: list[str]) -> None:
    """The helper process."""
    import ray.cluster_utils

    head: dict = {
        "num_cpus": float(cpus[0]),
        "temp_dir": folder,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
    }
    client = ""
    if importlib.util.find_spec("grpc"):
        head["ray_client_server_port"] = free_port()
        client = f"ray://127.0.0.1:{head['ray_client_server_port']}"
    cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    nodes = []

    def add(number: str) -> None:
        nodes.append(cluster.add_node(num_cpus=float(number), object_store_memory=STORE_BYTES))

    for number in cpus[1:]:
        add(number)
    print(f"done {cluster.address} {client}", flush=True)
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "add":
            add(number)
        elif word == "remove":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            nodes.pop().kill_raylet(check_alive=True)
        print("done ", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
