"""Connections to Ray: which cluster, what they ask for, and what they leave in the process."""

import logging
import os
import signal
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

import paddlevideo
from paddlevideo.cores import num_cores
from paddlevideo.scale import cluster as module
from paddlevideo.scale.cluster import connected
from paddlevideo.scale.resources import Node


class Ray(ModuleType):
    """The module `ray`, with the calls that it got."""

    def __init__(self, running: bool, is_connected: bool = False):
        super().__init__("ray")
        self.running, self.connected, self.calls = running, is_connected, []

    def is_initialized(self):
        return self.connected

    def init(self, **options):
        signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        self.calls.append(options)
        if options["address"] != "local" and not self.running:
            raise ConnectionError("Could not find any running Ray instance.\nmore lines")
        self.connected = True

    def shutdown(self):
        self.connected = False
        self.calls.append("shutdown")

    def nodes(self):
        resources = {"CPU": 2.0, "memory": 1e9}
        return [
            {"NodeID": "a", "Alive": True, "Resources": resources},
            {"NodeID": "b", "Alive": False, "Resources": {}},
        ]


@pytest.fixture
def use(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))

    def use(*args) -> Ray:
        ray = Ray(*args)
        data = ModuleType("ray.data")
        ray.data = data
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.data", data)
        return ray

    return use


def write_address(folder: Path, text: str) -> None:
    (folder / "ray").mkdir(exist_ok=True)
    (folder / "ray" / "ray_current_cluster").write_text(text)


def test_a_running_ray_is_used_and_stays(use, tmp_path):
    ray = use(True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        write_address(tmp_path, f"{address}\n")
        with connected("ray") as cluster:
            assert cluster.name == "Ray on this machine" and not cluster.is_client
            assert cluster.nodes() == [Node(2)] and cluster.node_ids() == {"a"}
    assert [call["address"] for call in ray.calls[:-1]] == [address]
    assert ray.calls[-1] == "shutdown"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("text", [None, "127.0.0.1:PORT", "", "no address", "127.0.0.1:99999999"])
def test_what_a_killed_ray_left_is_no_running_ray(use, tmp_path, text):
    ray = use(True)
    if text is not None:
        write_address(tmp_path, text.replace("PORT", str(closed_port())))
    with connected("ray"):
        assert [call["address"] for call in ray.calls] == ["local"]


def test_ray_address_names_a_cluster(use, reached, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    use(True)
    with connected("ray") as cluster:
        assert cluster.name == "Ray at head:6379"


def test_ray_is_started_where_none_runs(use, monkeypatch):
    monkeypatch.setattr(module, "STORE_BYTES", 1 << 27)
    ray = use(False)
    with connected("ray") as cluster:
        assert cluster.name == "Ray, started on this machine"
    started = ray.calls[0]
    assert started["address"] == "local" and started["num_cpus"] == num_cores()
    assert started["object_store_memory"] == 1 << 27 and not started["include_dashboard"]


def test_ray_address_local_starts_one(use, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    ray = use(True)
    with connected("ray"):
        assert [call["address"] for call in ray.calls] == ["local"]


@pytest.fixture
def reached(monkeypatch):
    """The addresses that were tried; all of them answer."""
    reached = []
    monkeypatch.setattr(module, "reach", reached.append)
    return reached


@pytest.mark.parametrize("address", ["head:6379", "ray://head:10001"])
def test_an_address(use, reached, address):
    ray = use(True)
    with connected(address) as cluster:
        assert cluster.is_client == address.startswith("ray://")
        assert (cluster.is_client and cluster.here() == "DEFAULT") or not cluster.is_client
    options = ray.calls[0]
    assert options["address"] == address and not options["log_to_driver"]
    modules = options["runtime_env"]["py_modules"]
    assert modules == [str(Path(paddlevideo.__file__).parent)]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nothing_at_an_address(use, scheme):
    ray = use(True)
    address = f"{scheme}127.0.0.1:{closed_port()}"
    message = f"--on {address}: no Ray cluster answers there .*refused.*check the address"
    with pytest.raises(OSError, match=message), connected(address):
        pass
    assert ray.calls == []


def test_no_cluster_at_an_address(use, reached):
    use(False)
    message = "--on head:1: no Ray cluster answers there"
    with pytest.raises(OSError, match=message) as error, connected("head:1"):
        pass
    assert "any running Ray instance." in str(error.value)
    assert "more lines" not in str(error.value) and "10001 for ray://HOST:PORT" in str(error.value)


def test_another_version_is_named(use, reached, monkeypatch):
    ray = use(True)

    def init(**options):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n")

    monkeypatch.setattr(ray, "init", init)
    message = "--on head:1: no Ray .*mismatch: The cluster was started with: Ray: 2.9.0.; check"
    with pytest.raises(OSError, match=message), connected("head:1"):
        pass


def test_a_connection_of_the_caller_is_left_alone(use):
    ray = use(True, True)
    with pytest.raises(ValueError, match="this program is connected to Ray"), connected("ray"):
        pass
    assert ray.calls == []


@pytest.mark.parametrize("fails", [False, True])
def test_the_process_is_as_before(use, fails):
    """Also after an error in the block."""
    ray, handler = use(True), signal.getsignal(signal.SIGTERM)
    level, variables = logging.getLogger("ray").level, dict(os.environ)
    try:
        with connected("ray"):
            assert signal.getsignal(signal.SIGTERM) != handler
            if fails:
                raise KeyError("x")
    except KeyError:
        pass
    assert signal.getsignal(signal.SIGTERM) == handler
    assert logging.getLogger("ray").level == level and dict(os.environ) == variables
    assert ray.calls[-1] == "shutdown"


def test_variables_of_the_user_win(use, monkeypatch):
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "mine")
    use(True)
    with connected("ray"):
        assert os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] == "mine"
    assert os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] == "mine"
