"""Folders that are expensive to fill, made once for all processes of a test run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """The folder `name` of this test run, filled by `make(folder)` in the first process that asks.

    The processes of pytest-xdist share it; the others wait until it is complete. A test must not
    change it.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    complete = folder.with_name(f"{name}.complete")
    with FileLock(f"{folder}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was interrupted
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder
