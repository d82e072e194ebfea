"""Commands whose cluster is a double of Ray in this process."""

import contextlib
import sys

import pytest

from paddlevideo.scale import cluster as module
from paddlevideo.scale import features, predict
from paddlevideo.scale.cluster import Cluster
from tests.ray_double import FakeRay, Rounds


@pytest.fixture
def double(monkeypatch, tmp_path):
    """The double that `--on ray` connects to, once for each connection."""
    ray = FakeRay(Rounds())
    ray.connections = 0

    @contextlib.contextmanager
    def connected(on):
        assert on == "ray"
        ray.connections += 1
        yield Cluster("the double", ray)

    for place in (module, predict, features):
        monkeypatch.setattr(place, "connected", connected)
    monkeypatch.setattr(Cluster, "here", lambda self: None)
    monkeypatch.setitem(sys.modules, "ray", ray)  # workers read the model from the object store
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    return ray
