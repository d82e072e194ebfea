"""Connect to Ray: to a cluster, to a Ray that runs on this machine, or to one started here."""

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlevideo.cores import num_cores
from paddlevideo.log import logger
from paddlevideo.scale.flags import RAY
from paddlevideo.scale.resources import Node

EXTRA = "pip install 'paddlevideo[ray]'"
# Ray reports lost workers and nodes in long lines; engine.py says what happened in its own words.
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_USAGE_STATS_ENABLED": "0"}
CONNECT_SECONDS = 10.0  # to wait for the answer of a cluster
STORE_BYTES: int | None = None  # object store of a Ray that is started here; None: Ray's default


@dataclass(frozen=True)
class Cluster:
    """A connection to Ray.

    Args:
        name: for people.
        ray: the module.
        is_client: whether the driver is outside of the cluster (ray://).
    """

    name: str
    ray: Any
    is_client: bool = False

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        return [Node.of(node["Resources"]) for node in self.ray.nodes() if node["Alive"]]

    def node_ids(self) -> set[str]:
        return {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}

    def free_cpus(self) -> float:
        return self.ray.available_resources().get("CPU", 0.0)

    def here(self) -> Any:
        """Scheduling of an actor that lives as long as this program: on the node of the driver."""
        if self.is_client:  # the driver is outside of the cluster
            return "DEFAULT"
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self.ray.get_runtime_context().get_node_id()
        return NodeAffinitySchedulingStrategy(node, soft=True)


def import_ray() -> Any:
    """The module `ray`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(f"--on needs Ray Data ({error}): {EXTRA}") from error
    return ray


@contextlib.contextmanager
def connected(on: str) -> Iterator[Cluster]:
    """Connect for a block. A Ray that was started for it is stopped at its end; others stay.

    Args:
        on: `ray`, `ray://HOST:PORT` or `HOST:PORT`.

    Raises:
        ValueError: Ray is not installed, or this program has a connection already.
        OSError: there is no cluster at the address.
    """
    with _kept_process(), _variables(QUIET):
        ray = import_ray()  # it reads the first variable
        if ray.is_initialized():
            raise ValueError("this program is connected to Ray; close that with ray.shutdown()")
        name = _start(ray) if on == RAY else _attach(ray, on)
        try:
            yield Cluster(name, ray, on.startswith("ray://"))
        finally:
            ray.shutdown()


def _start(ray: Any) -> str:
    """Attach to a Ray on this machine, else start one; returns its name."""
    given = os.environ.get("RAY_ADDRESS", "")
    if given not in ("", "auto", "local"):
        return _attach(ray, given)
    if given != "local" and (address := running_here()):
        _attach(ray, address)
        return "Ray on this machine"
    logger.info("starting Ray on this machine ...")
    ray.init(
        address="local",
        num_cpus=num_cores(),
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        **_options(),
    )
    return "Ray, started on this machine"


def running_here() -> str:
    """The address of the Ray that `ray start` started on this machine; "" where none answers.

    Ray leaves the file with the address when it is killed.
    """
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        text = Path(folder, "ray", "ray_current_cluster").read_text(encoding="ascii").strip()
        reach(text)
    except (OSError, ValueError):
        return ""
    return text


def reach(address: str) -> None:
    """Connect to an address and close, because Ray itself tries for minutes.

    Raises:
        OSError: nothing answers.
        ValueError: it is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not 0 < int(port) < 1 << 16:
        raise ValueError(f"{port} is no port")
    socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _attach(ray: Any, address: str) -> str:
    """Connect to a cluster; returns its name.

    Raises:
        OSError: there is none, or it has another version of Ray or Python.
    """
    try:
        reach(address)
        ray.init(address=address, **_options())
    except (OSError, RuntimeError, ValueError) as error:
        text = str(error).strip()
        # Another version of Ray or Python is an error of several lines.
        is_version = isinstance(error, RuntimeError)
        first = " ".join(text.split()) if is_version else text.partition("\n")[0]
        raise OSError(
            f"--on {address}: no Ray cluster answers there ({first}); check the address and the "
            "port: 6379 for HOST:PORT on a node of the cluster, 10001 for ray://HOST:PORT"
        ) from error
    return f"Ray at {address}"


def _options() -> dict[str, Any]:
    """What every connection has; the workers get the code of this program."""
    folder = Path(__file__).resolve().parents[1]
    env = {"py_modules": [str(folder)], "excludes": ["**/__pycache__"]}
    return {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": env}


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for a block, where the user has not set them."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _kept_process() -> Iterator[None]:
    """Give back the handler of SIGTERM, which Ray replaces, and the level of its log."""
    is_main = threading.current_thread() is threading.main_thread()
    before, ray_log = signal.getsignal(signal.SIGTERM), logging.getLogger("ray")
    level = ray_log.level
    ray_log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray_log.setLevel(level)
        if is_main and before is not None:  # None: it is not one of Python's
            signal.signal(signal.SIGTERM, before)
