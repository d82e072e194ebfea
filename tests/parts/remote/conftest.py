"""Remote files in memory and on a server on the loopback; no waiting between attempts."""

import logging

import pytest

from paddlevideo.remote import access
from paddlevideo.zoo import download
from tests.file_server import serve
from tests.remote_files import memory_files

pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(access, "WAITS", (0, 0))
    monkeypatch.setattr(download, "WAITS", (0, 0, 0))


@pytest.fixture
def memory():
    with memory_files() as files:
        yield files


@pytest.fixture
def server():
    pytest.importorskip("aiohttp")
    with serve() as state:
        yield state


@pytest.fixture
def logged(caplog):
    """`logged()`: what was logged so far."""
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)
