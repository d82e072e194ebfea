"""The benchmark of ranks runs on tiny sizes; the tests do not check speeds."""

import pytest

from paddlevideo.benchmarks import ranks
from paddlevideo.benchmarks.ranks import environment, free_ports
from tests.scripts import load_script

TOOL = "tools/benchmark.py"


def test_each_rank_has_the_variables_of_the_launcher():
    ports = free_ports(3)
    assert len(set(ports)) == 3
    first, second = (environment(rank, ports) for rank in (0, 1))
    assert first["PADDLE_MASTER"] == second["PADDLE_MASTER"] == f"127.0.0.1:{ports[0]}"
    assert first["PADDLE_TRAINERS_NUM"] == second["PADDLE_LOCAL_SIZE"] == "2"
    assert [one["PADDLE_TRAINER_ID"] for one in (first, second)] == ["0", "1"]
    endpoints = first["PADDLE_TRAINER_ENDPOINTS"].split(",")
    assert [one["PADDLE_CURRENT_ENDPOINT"] for one in (first, second)] == endpoints


@pytest.mark.slow
def test_two_ranks_are_compared_with_one(small, monkeypatch, capsys):
    monkeypatch.setattr("paddlevideo.benchmarks.measure.PAUSE", 0.0)
    tool = load_script(monkeypatch, TOOL)
    words = ["-c", small().origin.path, "-o", "MODEL.head.num_classes=3", "-b", "2", "-r", "1"]
    monkeypatch.setattr("sys.argv", [TOOL, "ranks", *words])
    code = tool.main()
    printed = capsys.readouterr().out
    assert code == 0 and "2 clips and 1 thread(s) a rank (1 rounds)" in printed
    one, two = (line for line in printed.splitlines() if " rank(s) " in line)
    # The same batch on each rank: the mean of the gradients is that of one rank.
    assert one.partition("last loss")[2] == two.partition("last loss")[2] != ""


def test_a_single_rank_connects_to_nobody(small, monkeypatch):
    monkeypatch.setattr(ranks.paddle, "DataParallel", lambda model: pytest.fail("no other rank"))
    threads = []
    monkeypatch.setattr(ranks.dist, "use_threads", threads.append)
    jobs = ranks.jobs(small().origin.path, ["MODEL.head.num_classes=3"], 2, 1)
    assert jobs["step"]() > 0 and threads == [1]
