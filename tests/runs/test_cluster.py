"""Clusters of two and three nodes on the loopback: hangs, deaths, restarts, the same numbers."""

import os
import signal
import time
from pathlib import Path

import pytest

from paddlevideo.engine.checkpoint import read_model
from paddlevideo.weights import checksum
from tests.runs.nodes import Node, free_port, wait_for, words_of_node
from tests.runs.test_multigrid import OVERRIDES, tiny  # noqa: F401, a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(root, tmp_path, small):
    """`cluster(nodes, *arguments)`: a training on that many nodes; `one=` starts a single node."""
    own = small().origin.path
    (tmp_path / "out").mkdir()
    started: list[Node] = []

    def start(
        nodes: int,
        *arguments,
        port=None,
        one=None,
        ranks=1,
        each=None,
        script="main.py",
        config=own,
    ) -> list[Node]:
        port = port or free_port()
        begun = []
        for number in range(nodes) if one is None else (one,):
            words = words_of_node(number, nodes, port, tmp_path, ranks, script, "-c", config)
            words += ["-o", "DATASET.batch_size=2", *arguments, *(each or {}).get(number, ())]
            begun.append(Node(root, tmp_path, number, words, ranks))
        started.extend(begun)
        return begun

    yield start
    for node in started:
        node.kill()


def digest(folder: Path) -> str:
    return checksum(read_model(folder / "ppTSN_latest.pdstate")[0])


# --- deaths and hangs -----------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_other_node_with_the_cause(cluster, tmp_path, victim):
    nodes = cluster(2, "-o", "epochs=500")
    wait_for(nodes, tmp_path / "out/log.txt", "epoch:[  2/")
    (process,) = nodes[victim].ranks()
    os.kill(process, signal.SIGKILL)
    killed = time.monotonic()
    assert all(node.wait() != 0 for node in nodes)
    assert time.monotonic() - killed < 60, "within a minute"
    cause = f"error: rank {victim} of 2 on "
    for node in nodes:
        assert f"{cause}" in node.text(0), node.text(0)[-3000:]
        assert "ended without a message: it was killed" in node.text(0)


def test_an_error_of_a_rank_is_the_message_of_the_other_node(cluster, tmp_path):
    """Node 1 lacks a file that its rank needs."""
    missing = tmp_path / "missing.list"
    each = {1: ["-o", f"DATASET.train.file_path={missing}"]}
    nodes = cluster(2, each=each)
    assert all(node.wait() != 0 for node in nodes)
    assert "error: rank 1 of 2 on " in nodes[0].text(0), nodes[0].text(0)[-3000:]
    assert "missing.list" in nodes[0].text(0) and "ends with it" in nodes[0].text(0)
    assert "missing.list" in nodes[1].text(0)
    assert "Traceback (most recent call last)" not in nodes[0].text(0) + nodes[1].text(0)


def test_a_node_with_another_config_is_named_on_all(cluster, tmp_path):
    nodes = cluster(3, each={2: ["-o", "DATASET.batch_size=3"]})
    assert all(node.wait() != 0 for node in nodes)
    for node in nodes:
        assert "DATASET.batch_size is 3 (rank 0: 2)" in node.text(0), node.text(0)[-3000:]
        assert "rank 2 on " in node.text(0)
    assert not list((tmp_path / "out").iterdir()), "before any work"


HANGING = """
import ctypes, sys, time
from paddlevideo import dist
from paddlevideo.commands.train import main
from paddlevideo.engine import train

real = train.train_step

def step(run, loaded, epoch, step, updates):
    if dist.rank() == 1 and step == 1:
        {wait}
    return real(run, loaded, epoch, step, updates)

train.train_step = step
sys.exit(main())
"""
# The second one keeps Python's lock; the signal that asks for its stack ends each sleep of C.
WAITS = ["time.sleep(1000)", "while True: ctypes.PyDLL(None).sleep(1000)"]


@pytest.mark.parametrize("wait", WAITS)
def test_a_hang_ends_the_run_with_all_stacks(cluster, tmp_path, wait, root, monkeypatch):
    (tmp_path / "hanging.py").write_text(HANGING.format(wait=wait))
    monkeypatch.setenv("PYTHONPATH", str(root))
    nodes = cluster(2, "-o", "hang_minutes=0.05", script=str(tmp_path / "hanging.py"))
    assert all(node.wait() != 0 for node in nodes)
    texts = []
    for rank, node in enumerate(nodes):
        assert "took no step for 0.05 minutes (hang_minutes)" in node.text(0), node.text(0)[-3000:]
        texts.append((tmp_path / f"out/stacks.rank{rank}.txt").read_text())
        assert texts[rank].startswith(f"rank {rank} of 2 on ") and "in train_epoch" in texts[rank]
    assert "hanging.py" in texts[1] and "in step" in texts[1], "where rank 1 hangs"
    assert "in train_step" in texts[0], "rank 0 waits for it"


# --- restarts -------------------------------------------------------------------------------------


def test_a_killed_node_is_replaced_and_the_run_goes_on(cluster, tmp_path):
    """All processes of node 1 are killed; both nodes run the same command again."""
    arguments = ["--resume", "-o", "epochs=4"]
    nodes, port = cluster(2, *arguments, "-o", f"output_dir={tmp_path}/calm"), free_port()
    assert [node.wait() for node in nodes] == [0, 0], nodes[0].text()[-3000:]
    nodes = cluster(2, *arguments, port=port)
    wait_for(nodes, tmp_path / "out/log.txt", "END epoch:2")
    nodes[1].kill()
    (replaced,) = cluster(2, *arguments, port=port, one=1)  # before node 0 has noticed
    assert nodes[0].wait() != 0
    (again,) = cluster(2, *arguments, port=port, one=0)
    assert [again.wait(), replaced.wait()] == [0, 0], again.text()[-3000:]
    assert "resumed from" in (tmp_path / "out/log.txt").read_text()
    assert digest(tmp_path / "out") == digest(tmp_path / "calm")


def test_nodes_without_a_shared_disk_resume(cluster, tmp_path):
    own = {i: ["-o", f"output_dir={tmp_path}/disk{i}"] for i in (0, 1)}
    shared = cluster(2, "-o", "epochs=2")
    assert [node.wait() for node in shared] == [0, 0], shared[0].text()[-3000:]
    nodes = cluster(2, "-o", "epochs=1", each=own)
    assert [node.wait() for node in nodes] == [0, 0], nodes[0].text()[-3000:]
    assert not (tmp_path / "disk1/ppTSN_latest.pdstate").exists()
    nodes = cluster(2, "-o", "epochs=2", "--resume", each=own)
    assert [node.wait() for node in nodes] == [0, 0], nodes[0].text()[-3000:]
    assert "did not have the state of rank 0" in (tmp_path / "disk1/log.rank1.txt").read_text()
    assert digest(tmp_path / "disk0") == digest(tmp_path / "out")


# --- the same numbers -----------------------------------------------------------------------------

PRECISE = ["-o", "PRECISEBN={preciseBN_interval: 1, num_iters_preciseBN: 2}"]


def same_on_one_node(cluster, tmp_path: Path, *arguments: str, **more) -> None:
    """Two nodes of one rank give the same weights as one node of two ranks."""
    arguments = ("--validate", *arguments)
    nodes = cluster(2, *arguments, "-o", f"output_dir={tmp_path}/two", **more)
    assert [node.wait() for node in nodes] == [0, 0], nodes[0].text()[-3000:]
    (node,) = cluster(1, *arguments, "-o", f"output_dir={tmp_path}/one", ranks=2, **more)
    assert node.wait() == 0, node.text()[-3000:]
    (two,), (one,) = ((tmp_path / name).glob("*.pdstate") for name in ("two", "one"))
    assert checksum(read_model(two)[0]) == checksum(read_model(one)[0])


@pytest.mark.parametrize("arguments", [[], PRECISE], ids=["plain", "precise batch norm"])
def test_two_nodes_train_as_two_ranks_of_one(cluster, tmp_path, arguments):
    same_on_one_node(cluster, tmp_path, *arguments)


def test_two_nodes_follow_a_multigrid_plan_as_one(cluster, tmp_path, tiny):  # noqa: F811
    """With precise batch norm, which the demo config has."""
    overrides = [*OVERRIDES, "DATASET.min_epoch_clips=64"]
    flags = [word for override in overrides for word in ("-o", override)]
    config = tiny(tmp_path / "out").origin.path
    same_on_one_node(cluster, tmp_path, "--multigrid", *flags, config=config)
    assert "multigrid plan" in (tmp_path / "two/log.txt").read_text()
