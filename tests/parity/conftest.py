"""The folder of reference numbers, and the convolutions that are compared with them."""

from pathlib import Path

import pytest

from paddlevideo.models import onednn
from tests.parity import fill


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Return the folder of the numbers that the references computed; its README describes them."""
    return Path(__file__).resolve().parent / "goldens"


@pytest.fixture(scope="module", autouse=True)
def weights_of_this_file_only():
    """Forget the weights of a test file after it; those of a network take 100 MB."""
    yield
    fill.scaled.cache_clear()


@pytest.fixture(autouse=True)
def convolutions_of_a_run():
    """Compute convolutions as main.py does on a CPU: with oneDNN, where its library is."""
    with onednn.use(True):
        yield
