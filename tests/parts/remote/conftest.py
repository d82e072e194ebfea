"""What was logged; all tests here need the extra `remote`."""

import logging

import pytest


@pytest.fixture(scope="session", autouse=True)
def extra():
    pytest.importorskip("fsspec")


@pytest.fixture
def logged(caplog):
    """`logged()`: what was logged so far."""
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)
