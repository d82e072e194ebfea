"""Rounds of units on a cluster that loses workers and nodes; Ray is replaced by a double."""

from collections import Counter

import pytest

from paddlevideo.scale import engine as module
from paddlevideo.scale.cluster import Cluster
from paddlevideo.scale.engine import TRIAL_UNITS, Engine, Progress
from paddlevideo.scale.flags import Place
from paddlevideo.scale.run_each import RunOnCluster
from paddlevideo.scale.stages import EachItem, Stage, crash
from tests.ray_double import FakeRay, RayError, Rounds


@pytest.fixture
def connect(monkeypatch):
    """`connect(fault)`: (cluster, its Ray)."""
    monkeypatch.setattr(Cluster, "here", lambda self: None)
    monkeypatch.setattr(module, "MIN_ROUND", 4)
    monkeypatch.setattr(module, "UNITS_PER_WORKER", 1)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(module, "STALL_SECONDS", -1.0)

    def make(fault=None, nodes=2):
        ray = FakeRay(Rounds(fault), nodes)
        return Cluster("test cluster", ray), ray

    return make


def double(number: int) -> int:
    return 2 * number


def run(cluster, count=23, unit=3) -> list:
    engine = Engine(cluster, [Stage("work", EachItem(double), crash)], show=False)
    return list(engine.run(enumerate(range(count)), unit, count))


EXPECTED = [(number, 2 * number) for number in range(23)]


def test_each_item_has_one_result(connect):
    cluster, ray = connect()
    assert sorted(run(cluster)) == EXPECTED
    assert ray.rounds.sizes == [4, 4] and ray.killed == 2  # 8 units in rounds of 4


@pytest.mark.parametrize(
    "fault",
    [
        {0: (2, RayError("the owner died"))},
        {0: (0, RayError("the conductor died")), 1: (1, RayError("again"))},
        {1: (3, RayError("a late one"))},
        {0: (1, "twice"), 1: (2, "twice")},
    ],
)
def test_lost_workers_lose_and_double_nothing(connect, fault):
    cluster, _ = connect(fault)
    results = run(cluster)
    assert sorted(results) == EXPECTED and max(Counter(results).values()) == 1


def test_only_what_is_left_runs_again(connect):
    cluster, ray = connect({0: (3, RayError("lost"))})
    run(cluster)
    assert ray.rounds.sizes == [4, 1, 4]


def test_a_round_that_does_not_move_after_a_lost_node_is_planned_again(connect, caplog):
    cluster, ray = connect({0: (1, "stall")})
    engine = Engine(cluster, [Stage("work", EachItem(double), crash)], show=False)
    results = []
    for result in engine.run(enumerate(range(23)), 3, 23):
        results.append(result)
        ray.num_nodes = 1
    assert sorted(results) == EXPECTED
    messages = " ".join(record.message for record in caplog.records)
    assert "1 node(s) lost, 1 left; what ran there runs again" in messages
    assert "does not move on with fewer nodes; planning it again" in messages


def test_a_job_waits_for_a_node_that_comes_back(connect, monkeypatch, caplog):
    cluster, ray = connect({0: (1, RayError("lost"))})
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        ray.num_nodes = 2

    monkeypatch.setattr(module.time, "sleep", sleep)
    engine = Engine(cluster, [Stage("work", EachItem(double), crash)], show=False)
    results = []
    for result in engine.run(enumerate(range(23)), 3, 23):
        if not results:
            ray.num_nodes = 0
        results.append(result)
    assert sorted(results) == EXPECTED and len(waited) == 1
    assert "waiting for nodes: a worker for work asks for 1 CPU" in caplog.text


def test_a_job_without_nodes_ends(connect, monkeypatch):
    cluster, ray = connect({0: (1, RayError("lost"))})
    monkeypatch.setattr(module, "NODE_SECONDS", -1.0)
    engine = Engine(cluster, [Stage("work", EachItem(double), crash)], show=False)
    job = engine.run(enumerate(range(23)), 3, 23)
    next(job)
    ray.num_nodes = 0
    with pytest.raises(OSError, match="too few nodes are left: .*the cluster has no node.*again"):
        list(job)


def test_workers_that_end_again_and_again_end_the_job(connect):
    lost = RayError("first line\nthe node ran out of memory")
    cluster, _ = connect(dict.fromkeys(range(9), (0, lost)))
    with pytest.raises(OSError, match="ended 3 times without a result .*out of memory.*continues"):
        run(cluster)


def test_an_exception_of_an_item_is_raised(connect):
    cluster, _ = connect()
    engine = Engine(cluster, [Stage("work", EachItem(int), crash)], show=False)
    with pytest.raises(ValueError, match="invalid literal"):
        list(engine.run(enumerate(["1", "x"]), 1))


def test_items_are_read_round_by_round(connect):
    cluster, _ = connect()
    read = 0

    def items():
        nonlocal read
        for read in range(100):
            yield read, read

    engine = Engine(cluster, [Stage("work", EachItem(double), crash)], show=False)
    next(engine.run(items(), 2))
    assert read <= 8  # 4 units of 2 items, of 100


def sizes(ray: FakeRay) -> list[list[int]]:
    """The items of each unit, in each round."""
    items = iter(ray.rounds.items)
    return [[next(items) for _ in range(number)] for number in ray.rounds.sizes]


def run_long(cluster, count: int, unit: int, max_unit: int) -> FakeRay:
    engine = Engine(cluster, [Stage("work", EachItem(double), crash)], show=False)
    results = list(engine.run(enumerate(range(count)), unit, count, max_unit))
    assert sorted(results) == [(number, 2 * number) for number in range(count)]
    return cluster.ray


TRIAL = 4 * TRIAL_UNITS  # units of the first round: 4 workers


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        (0.0, 50),  # as many as are allowed
        (0.04, 50),  # 2 s / 0.04 s
        (0.05, 40),
        (0.3, 6),
        (0.5, 4),  # the size of the first round
        (1.0, 2),  # fewer than that
        (60.0, 1),
    ],
)
def test_a_unit_takes_seconds(connect, seconds, size):
    cluster, ray = connect()
    ray.rounds.item_seconds = lambda unit: seconds
    first, *others = sizes(run_long(cluster, 1600, 4, 1000))
    assert first == [4] * TRIAL
    counts = Counter(number for units in others for number in units)
    assert counts.most_common(1)[0][0] == size and max(counts) == size


def test_many_workers_get_longer_units(connect, monkeypatch):
    """4 workers with units of 2 s would ask for 2 units per second."""
    monkeypatch.setattr(module, "UNITS_PER_SECOND", 0.5)
    cluster, ray = connect()
    ray.rounds.item_seconds = lambda unit: 1.0
    assert max(sizes(run_long(cluster, 1600, 2, 1000))[1]) == 8  # 4 workers / 0.5 per second


def test_what_workers_import_does_not_count(connect):
    """The first unit of each of 4 workers takes a second more."""
    cluster, ray = connect()
    ray.rounds.item_seconds = lambda unit: 0.26 if unit < 4 else 0.01
    assert sizes(run_long(cluster, 16_000, 4, 200))[1][-1] == 200


def test_the_size_follows_the_items(connect):
    """Later items are slower: the next round has smaller units."""
    cluster, ray = connect()
    ray.rounds.item_seconds = lambda unit: 0.01 if unit < TRIAL else 0.1
    _, second, third, *_ = sizes(run_long(cluster, 6400, 4, 100))
    assert set(second) == {100} and set(third) == {20}


@pytest.mark.parametrize(
    ("count", "unit", "max_unit", "expected"),
    [
        (100, 16, 1000, 3),  # 8 units for each of 4 workers
        (7, 16, 1000, 1),
        (1600, 16, 63, 16),  # larger ones would save less than a round costs
        (1600, 16, 16, 16),
        (1600, 16, 1, 1),  # large results
        (1600, 16, 0, 16),  # as the caller says
    ],
)
def test_short_jobs_have_no_trial(connect, count, unit, max_unit, expected):
    ray = run_long(connect()[0], count, unit, max_unit)
    assert ray.rounds.sizes[0] <= 4 and ray.rounds.items[-1] == expected  # rounds of 4 units


def test_a_round_has_a_limit_in_bytes(connect, monkeypatch):
    monkeypatch.setattr(module, "ROUND_BYTES", 150)
    cluster, ray = connect()
    items = [(number, "x" * 100) for number in range(9)]
    engine = Engine(cluster, [Stage("work", EachItem(len), crash)], show=False)
    assert sorted(engine.run(items, 1)) == [(number, 100) for number in range(9)]
    assert ray.rounds.sizes == [2, 2, 2, 2, 1]


def test_a_job_that_can_never_run_is_an_error_before_it_starts(connect):
    cluster, ray = connect()
    with pytest.raises(ValueError, match="asks for 3 CPUs, and no node has that"):
        Engine(cluster, [Stage("work", EachItem(double), crash, num_cpus=3)])
    assert ray.rounds.sizes == []


def test_run_each_on_a_cluster(connect):
    cluster, _ = connect()
    run_each = RunOnCluster(cluster, Place("ray"))
    assert dict(run_each(double, range(50), None, "files", False)) == {
        number: 2 * number for number in range(50)
    }
    assert list(run_each(double, [])) == []


def test_the_plan_is_one_line(connect, caplog):
    caplog.set_level("INFO", logger="paddlevideo")
    Engine(connect()[0], [Stage("work", EachItem(double), crash)])
    assert "test cluster: work: 1 to 4 workers of 1 CPU; the cluster has 2 nodes" in caplog.text


def test_progress_counts_failures(caplog):
    caplog.set_level("INFO", logger="paddlevideo")
    with Progress("videos", 3, is_failed=bool) as progress:
        progress.add([""])
        progress.add(["damaged", "missing"])
        assert progress.text().startswith("3 of 3 videos, ")
    assert caplog.records[-1].message.endswith(" per second, 2 failed")


def test_progress_names_no_failures_that_it_does_not_know(connect, caplog):
    """The results of data preparation are judged by its callers."""
    caplog.set_level("INFO", logger="paddlevideo")
    list(RunOnCluster(connect()[0], Place("ray"))(double, range(3), None, "files"))
    assert "3 of 3 files, " in caplog.text and "failed" not in caplog.text
    assert Progress("videos", None, show=False).text().startswith("0 videos, ")
