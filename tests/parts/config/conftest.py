"""A writer of config files for the tests of this folder."""

from functools import partial

import pytest

import paddlevideo.engine.build  # noqa: F401, registers the components that configs name
from tests.config_files import write_config


@pytest.fixture
def write(tmp_path):
    """`write(text, name="a.yaml")`: write a config file into the test's folder."""
    return partial(write_config, tmp_path)
