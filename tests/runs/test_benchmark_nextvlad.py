"""NeXtVLAD's benchmark on a tiny network: both ways give the same losses, and are told with their memory."""

import numpy as np
import paddle
import pytest

from benchmarks import nextvlad
from paddlevideo.models import vlad


def test_compares_two_ways():
    groups = list(nextvlad.run(batch_size=3, num_frames=6, threads=1, rounds=2, small=True))
    assert [group.title.split(",")[1].strip() for group in groups] == [
        "training step",
        "training step",
        "evaluation",
    ]
    for group in groups:
        assert [row.name for row in group.rows] == list(nextvlad.WAYS)
        assert all(
            row.ratio > 0 and " CPU-s (ratio " in row.note and " GB at most" in row.note
            for row in group.rows
        )


@pytest.mark.parametrize(("width", "clusters"), [(8, 8), (4, 8)])
def test_the_baseline_computes_the_same(width, clusters):
    rng = np.random.default_rng(0)
    shapes = ([2, 5 * 4, clusters], [2, 5 * 4, width], [clusters, width])
    arrays = [paddle.to_tensor(rng.standard_normal(shape).astype("float32")) for shape in shapes]
    np.testing.assert_allclose(
        nextvlad.aggregate_by_frame(*arrays).numpy(),
        vlad.aggregate(*arrays).numpy(),
        rtol=0,
        atol=1e-4,
    )


def test_the_baselines_layers_compute_the_same():
    stream = vlad.Stream(16, 8, 4, 2, vlad.CONVENTIONS["paddlecv"])
    x = paddle.randn([40, 16])
    for one, other in zip(nextvlad.project_by_layers(stream, x), stream.project(x), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=1e-5)
