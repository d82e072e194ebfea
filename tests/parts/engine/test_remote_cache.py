"""The cache of remote videos in a config."""

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.loaders import remote_cache
from paddlevideo.remote import CacheSettings


def test_a_config_names_the_cache(small, tmp_path):
    assert remote_cache(small()) is None
    cfg = small(f"DATASET.cache_dir={tmp_path}/c", "DATASET.cache_gb=0.5")
    assert remote_cache(cfg) == CacheSettings(f"{tmp_path}/c", 0.5)


def test_a_limit_that_is_too_small(small, tmp_path):
    cfg = small(f"DATASET.cache_dir={tmp_path}/c", "DATASET.cache_gb=0.001")
    text = r"config.yaml: DATASET.cache_gb is 0.001, expected at least 0.017"
    with pytest.raises(ConfigError, match=text):
        remote_cache(cfg)


def test_a_limit_that_is_no_number(small):
    with pytest.raises(ConfigError, match="cache_gb"):
        small("DATASET.cache_gb=much")
