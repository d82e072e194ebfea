"""Fixtures of the engine tests."""

import logging

import pytest

from paddlevideo.engine.build import load_config


@pytest.fixture
def demo():
    """`demo(*overrides)`: the config of the PP-TSN demo with a network of 8 channels."""
    thin = "MODEL.backbone.base_channels=8"
    return lambda *overrides: load_config("configs/demo/pptsn.yaml", [thin, *overrides])


@pytest.fixture
def logged(caplog):
    """`logged()`: what was logged so far."""
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)
