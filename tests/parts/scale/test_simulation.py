"""The synthetic job that measures the engine."""

import argparse

import pytest

from paddlevideo.benchmarks import scale
from paddlevideo.benchmarks.flags import make_parser
from paddlevideo.scale.cluster import Cluster
from paddlevideo.scale.flags import Place
from paddlevideo.scale.simulation import crashed, line_of, memory, simulate, synthetic_items


def lines(folder) -> list[str]:
    files = sorted(folder.glob("part-*.jsonl"))
    return [line for file in files for line in file.read_text().splitlines()]


def test_the_job_has_a_result_for_each_item(double, tmp_path):
    cluster = Cluster("the double", double)
    steps = list(simulate(cluster, Place("ray"), tmp_path, 950, unit=10, every=400))
    assert [step.done for step in steps] == [400, 800, 950] and steps[0].memory > 1 << 20
    assert lines(tmp_path) == [line_of(item) for item in synthetic_items(950)]


def test_the_job_goes_on(double, tmp_path):
    cluster = Cluster("the double", double)
    assert next(simulate(cluster, Place("ray"), tmp_path, 950, unit=10, every=400)).done == 400
    (tmp_path / "part-00003.jsonl").unlink(missing_ok=True)
    (last,) = simulate(cluster, Place("ray"), tmp_path, 950, unit=10)
    assert 550 <= last.done <= 850  # of this run
    assert lines(tmp_path) == [line_of(item) for item in synthetic_items(950)]
    assert list(simulate(cluster, Place("ray"), tmp_path, 950)) == []


def parsed(*words) -> argparse.Namespace:
    return make_parser().parse_args(["scale", *map(str, words)])


def test_the_benchmark(double, tmp_path, monkeypatch, capsys):
    from paddlevideo.scale import cluster

    monkeypatch.setattr(scale, "connected", cluster.connected)
    (group,) = scale.groups(parsed("--items", 500, "--unit", 50), tmp_path)
    assert "500 synthetic items, first units of 50, 0 ms in each stage" in group.text()
    assert len(capsys.readouterr().out.splitlines()) >= 10
    with pytest.raises(ValueError, match="all results are there already"):
        list(scale.groups(parsed("--items", 500, "--out", tmp_path / "parts"), tmp_path))
    with pytest.raises(ValueError, match="this measures a cluster"):
        list(scale.groups(parsed("--on", "local"), tmp_path))


def test_an_item_that_ends_its_process():
    assert crashed("a") == '{"input_path": "a", "error": "crash"}'
    assert memory() > 1 << 20
