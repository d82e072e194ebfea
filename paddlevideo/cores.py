"""The CPU cores that this process may use. Only the standard library is imported."""

import os
from pathlib import Path


def num_cores() -> int:
    """The number of CPU cores that this process may use, by its affinity and its container."""
    number = len(cores())
    quota = cpu_quota()
    return number if quota is None else max(1, min(number, int(quota)))


def cores() -> list[int]:
    """The numbers of the cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPU limit of the container (cores), None if there is none. Reads cgroup v2, then v1."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return round(int(quota) / int(period), 2) if quota.isdecimal() and int(period) else None
