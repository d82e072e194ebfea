"""Cores: the affinity of the process, and the limit of its container."""

import pytest

from paddlevideo import cores
from paddlevideo.cores import cpu_quota, num_cores


def test_reads_cpu_quotas_of_containers(tmp_path):
    assert cpu_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("250000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpu_quota(tmp_path) == 0.5


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 6), (2.5, 2), (0.5, 1), (6.0, 6), (100.0, 6)]
)
def test_counts_what_affinity_and_container_allow(monkeypatch, quota, expected):
    """A container that may use two cores of a large machine sees all of them."""
    monkeypatch.setattr(cores, "cores", lambda: list(range(6)))
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert num_cores() == expected
