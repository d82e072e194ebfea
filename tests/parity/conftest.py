"""The folder of reference numbers."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Return the folder of the numbers that the references computed; its README describes them."""
    return Path(__file__).resolve().parent / "goldens"
