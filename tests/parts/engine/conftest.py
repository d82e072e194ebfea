"""Fixtures of the engine tests."""

import pytest

from paddlevideo.engine.build import load_config


@pytest.fixture
def demo():
    """`demo(*overrides)`: the config of the PP-TSN demo."""
    return lambda *overrides: load_config("configs/demo/pptsn.yaml", list(overrides))
