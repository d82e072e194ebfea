"""The names of the tests do not depend on the time, the hash seed, or the folder of a run.

Processes that share the tests must find the same names, or none of them starts.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def names(root: Path, folder: Path, variables: dict[str, str]) -> set[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--rootdir={root}", str(root / "tests")],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if "::" in line]
    return {f"tests/{line.partition('tests/')[2]}" for line in lines}


@pytest.mark.slow
def test_each_process_finds_the_same_tests(root, tmp_path):
    here = names(root, root, {"PYTHONHASHSEED": "1", "TZ": "UTC"})
    there = names(root, tmp_path, {"PYTHONHASHSEED": "2", "TZ": "Asia/Kolkata"})
    assert len(here) > 5000
    assert here == there
