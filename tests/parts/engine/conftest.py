"""Fixtures of the engine tests."""

import logging

import pytest

from paddlevideo.engine.build import load_config


@pytest.fixture
def demo():
    """`demo(*overrides)`: the config of the PP-TSN demo."""
    return lambda *overrides: load_config("configs/demo/pptsn.yaml", list(overrides))


@pytest.fixture
def logged(caplog):
    """`logged()`: what was logged so far."""
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)
