"""The folder of reference numbers, and the convolutions that are compared with them."""

from pathlib import Path

import pytest

from paddlevideo.models import onednn


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Return the folder of the numbers that the references computed; its README describes them."""
    return Path(__file__).resolve().parent / "goldens"


@pytest.fixture(autouse=True)
def convolutions_of_a_run():
    """Compute convolutions as main.py does on a CPU: with oneDNN, where its library is."""
    with onednn.use(True):
        yield
