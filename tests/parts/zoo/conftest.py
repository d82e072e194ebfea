"""A server on the loopback, an empty cache, and no waiting between attempts."""

import logging

import pytest

from paddlevideo.zoo import cache, download
from tests.file_server import serve


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as state:
        yield state


@pytest.fixture(autouse=True)
def online(monkeypatch, tmp_path):
    """Downloads are on, from no mirror, into a cache in the folder of the test."""
    for name in (cache.OFFLINE, cache.MIRROR):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "WAITS", (0, 0, 0))
    monkeypatch.setattr(cache, "POLL", 0.01)


@pytest.fixture
def logged(caplog):
    """`logged()`: what was logged so far."""
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)
