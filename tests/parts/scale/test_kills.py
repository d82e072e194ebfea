"""kill -9 of workers, raylets, nodes and the driver: the results are those of a quiet run.

PADDLEVIDEO_TRIALS=20 repeats each kind twenty times.
"""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from paddlevideo.scale.simulation import line_of, synthetic_items
from tests.ray_clusters import SmallCluster, driver, started

pytestmark = pytest.mark.slow

TRIALS = int(os.environ.get("PADDLEVIDEO_TRIALS", "1"))
# A first round of small units that measures, and one of larger units: 120 and 1480 items.
COUNT, UNIT, ITEM_MS = 1600, 5, 20
PARTS = (5, 1, 8, 11)  # of 16, written before something dies; 1 is in the first round
SECONDS = 600  # until a job that does not end is a failure


def start(cluster: SmallCluster, folder: Path):
    """The driver of a job, or of one that continues."""
    words = ["benchmark", "scale", "--on", cluster.address, "--items", str(COUNT)]
    words += ["--unit", str(UNIT), "--item_ms", str(ITEM_MS), "--num_cpus", "1"]
    return driver(*words, "--out", str(folder / "out"), output=folder / "log.txt")


def wait_for_parts(folder: Path, process, count: int) -> None:
    """Wait until the job has written so many parts."""
    end = time.monotonic() + SECONDS
    while len(list((folder / "out").glob("part-*.jsonl"))) < count:
        assert process.poll() is None and time.monotonic() < end, log(folder)
        time.sleep(0.05)


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text(errors="replace")[-4000:]


def kill_worker(cluster, process) -> None:
    end = time.monotonic() + 60
    while not cluster.kill_worker("MapWorker") and time.monotonic() < end:
        time.sleep(0.05)


def kill_conductor(cluster, process) -> None:
    assert cluster.kill_worker("Conductor")


def kill_raylet(cluster, process) -> None:
    cluster.kill_raylet()
    cluster.add(1)


def replace_node(cluster, process) -> None:
    cluster.remove()
    time.sleep(1)
    cluster.add(1)


def lose_node(cluster, process) -> None:
    cluster.remove()


def kill_driver(cluster, process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)


KINDS = (kill_worker, kill_conductor, kill_raylet, replace_node, lose_node, kill_driver)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("kill", KINDS)
def test_nothing_is_lost_or_doubled(kill, trial, tmp_path):
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as sockets,
        started(Path(sockets), 2, 1, 1) as cluster,
    ):
        process = start(cluster, tmp_path)
        try:
            wait_for_parts(tmp_path, process, PARTS[trial % len(PARTS)])
            kill(cluster, process)
            if kill is kill_driver:
                process = start(cluster, tmp_path)
            assert process.wait(SECONDS) == 0, log(tmp_path)
        finally:
            process.kill()
            process.wait()
    files = sorted((tmp_path / "out").glob("part-*.jsonl"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert lines == [line_of(item) for item in synthetic_items(COUNT)], log(tmp_path)
