"""A predictor of a published model, by its name."""

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.predict.predictor import Predictor
from paddlevideo.weights import WeightsError
from paddlevideo.zoo import cache, table
from tests.file_server import serve
from tests.named_models import publish
from tests.parts.conftest import NAMES


@pytest.fixture
def published(exported, monkeypatch, tmp_path):
    with serve() as server:
        server.files["/tiny.pdparams"] = exported.weights.read_bytes()
        row = {"file": "tiny.pdparams", "config": str(exported.config), "classes": 3}
        publish(monkeypatch, server, tmp_path / "home", {"tiny": row})
        yield server
    table._by_stem.cache_clear()


def results(exported, *args, **more):
    predictor = Predictor(*args, device="cpu", threads=1, **more)
    return [(r.class_ids, r.scores, r.label_names) for r in predictor.predict(exported.videos)]


def test_a_name_predicts_as_its_files_do(exported, published):
    expected = results(exported, config=exported.config, weights=exported.weights)
    assert expected[0][2][0] in NAMES
    assert results(exported, "tiny") == expected
    assert results(exported, weights="tiny") == expected
    assert results(exported, "tiny", config=exported.config) == expected
    assert len(published.asked) == 1


def test_mistakes(published, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="weights are for a Predictor without model"):
        Predictor(tmp_path, weights="tiny")
    with pytest.raises(ConfigError, match=r"tini: there is no .*; did you mean the model tiny\?"):
        Predictor("tini")
    monkeypatch.setenv(cache.OFFLINE, "1")
    with pytest.raises(WeightsError, match="tiny is not in the cache, and PADDLEVIDEO_OFFLINE"):
        Predictor("tiny")
