"""Remote videos and weights in a config."""

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model
from paddlevideo.engine.loaders import remote_cache
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.remote import AccessError, CacheSettings
from paddlevideo.weights import WeightsError, checksum, state_arrays, write_arrays
from tests.remote_files import memory_files


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


def test_pretrained_weights_by_url(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "home"))
    first, second = build_model(small(), 3), build_model(small(), 3)
    write_arrays(tmp_path / "b.pdparams", state_arrays(first.backbone))
    key = "MODEL.backbone.pretrained"
    with memory_files() as memory:
        url = memory.put("b.pdparams", (tmp_path / "b.pdparams").read_bytes())
        load_pretrained(small(f"{key}={url}"), second)
        assert checksum(state_arrays(second.backbone)) == checksum(state_arrays(first.backbone))
        text = f"{key.replace('.', '[.]')}: {memory.url}/no.pdparams: no such file"
        with pytest.raises(WeightsError, match=text):
            load_pretrained(small(f"{key}={memory.url}/no.pdparams"), second)
    with pytest.raises(AccessError, match="fsspec has no package for bos://"):
        load_pretrained(small(f"{key}=bos://b/a.pdparams"), second)
