"""Precise batch norm: statistics of all batches together, collected once for the same weights."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlevideo.engine.precise_bn import (
    PreciseBN,
    assign_statistics,
    batch_norms,
    collect_statistics,
)
from paddlevideo.models.layers import SubBatchNorm3D, set_norm_splits


def conv_and_norm():
    return nn.Sequential(nn.Conv3D(3, 5, 1), SubBatchNorm3D(5))


def batches(num_batches=3, num_clips=4, seed=0):
    """Batches whose mean and spread differ."""
    rng = np.random.default_rng(seed)
    shape = (num_clips, 3, 2, 4, 4)
    return [
        paddle.to_tensor((rng.standard_normal(shape) * (1 + k) + k).astype("float32"))
        for k in range(num_batches)
    ]


def pooled(model, data):
    """Mean and variance per channel of the norm's input, over all batches at once."""
    x = np.concatenate([model[0](batch).numpy().astype(np.float64) for batch in data])
    return np.stack([x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4))])


@pytest.mark.parametrize("splits", [1, 2])
def test_statistics_are_those_of_all_batches(splits):
    paddle.seed(0)
    model, data = conv_and_norm(), batches()
    set_norm_splits(model, splits)
    statistics = collect_statistics(model, model, data)
    assert list(statistics) == ["1"]
    np.testing.assert_allclose(statistics["1"], pooled(model, data), rtol=2e-6)
    assign_statistics(model, statistics)
    np.testing.assert_allclose(model[1]._variance.numpy(), statistics["1"][1], rtol=1e-6)
    assert model[1]._momentum == 0.9 and all(p.grad is None for p in model.parameters())


def test_finds_every_kind_of_batch_norm():
    model = nn.Sequential(
        nn.BatchNorm1D(2), nn.BatchNorm2D(2), SubBatchNorm3D(2), nn.BatchNorm(2), nn.LayerNorm(2)
    )
    assert list(batch_norms(model)) == ["0", "1", "2", "3"]


def test_skips_frozen_batch_norms():
    model = nn.Sequential(nn.BatchNorm2D(2), nn.BatchNorm2D(2, use_global_stats=True))
    assert list(batch_norms(model)) == ["0"]


def test_restores_the_momentum_after_an_error():
    def fail(batch):
        raise ValueError("wrong")

    model = conv_and_norm()
    with pytest.raises(ValueError, match="wrong"):
        collect_statistics(model, fail, batches())
    assert model[1]._momentum == 0.9
    with pytest.raises(ValueError, match="there is no batch to compute statistics from"):
        collect_statistics(model, model, [])


def test_collects_only_for_other_weights_or_data():
    paddle.seed(0)
    model, data, precise, runs = conv_and_norm(), batches(), PreciseBN(), []

    def run(batch):
        runs.append(1)
        return model(batch)

    assert precise.update(model, run, data, "a") and len(runs) == 3
    collected = model[1]._mean.numpy()
    model(data[0])  # training changes the statistics, not the weights
    assert not np.array_equal(model[1]._mean.numpy(), collected)
    assert not precise.update(model, run, data, "a") and len(runs) == 3
    np.testing.assert_array_equal(model[1]._mean.numpy(), collected)
    assert precise.update(model, run, data, "b") and len(runs) == 6, "other data"
    model[0].weight.set_value(model[0].weight * 2)
    assert precise.update(model, run, data, "b") and len(runs) == 9, "other weights"
