"""NeXtVLAD's benchmark on a tiny network: both variants compute the same."""

import numpy as np
import paddle
import pytest

from paddlevideo.benchmarks import nextvlad
from paddlevideo.models import vlad


@pytest.mark.slow
def test_compares_both_variants_in_time_and_memory(monkeypatch):
    monkeypatch.setattr("paddlevideo.benchmarks.measure.PAUSE", 0.0)
    groups = list(nextvlad.run(batch_size=3, num_frames=6, threads=1, rounds=2, small=True))
    titles = [group.title.split(",")[1].strip() for group in groups]
    assert titles == ["training step", "training step", "evaluation"]
    for group in groups:
        assert [row.name for row in group.rows] == list(nextvlad.VARIANTS)
        for row in group.rows:
            assert row.ratio > 0
            assert " CPU-s (ratio " in row.note and " GB at most" in row.note


@pytest.mark.parametrize(("width", "clusters"), [(8, 8), (4, 8)])
def test_aggregation_by_frame_computes_the_same(width, clusters):
    rng = np.random.default_rng(0)
    shapes = ([2, 5 * 4, clusters], [2, 5 * 4, width], [clusters, width])
    arrays = [paddle.to_tensor(rng.standard_normal(shape).astype("float32")) for shape in shapes]
    np.testing.assert_allclose(
        nextvlad.aggregate_by_frame(*arrays).numpy(),
        vlad.aggregate(*arrays).numpy(),
        rtol=0,
        atol=1e-4,
    )


def test_projection_by_layers_computes_the_same():
    stream = vlad.Stream(16, 8, 4, 2, vlad.CONVENTIONS["paddlecv"])
    x = paddle.randn([40, 16])
    for one, other in zip(nextvlad.project_by_layers(stream, x), stream.project(x), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=1e-5)
