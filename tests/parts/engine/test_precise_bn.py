"""Precise batch norm: statistics of all batches together, collected once for the same weights."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlevideo.engine.precise_bn import PreciseBN, assign, collect, norms_of
from paddlevideo.models.layers import SubBatchNorm3D, set_norm_splits


def batches(count=3, clips=4, seed=0):
    rng = np.random.default_rng(seed)
    return [
        paddle.to_tensor((rng.standard_normal((clips, 3, 2, 4, 4)) * (1 + k) + k).astype("float32"))
        for k in range(count)
    ]


def pooled(model, data):
    """Mean and variance per channel of what reaches the norm, over all batches at once."""
    x = np.concatenate([model[0](batch).numpy().astype(np.float64) for batch in data])
    return np.stack([x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4))])


@pytest.mark.parametrize("splits", [1, 2])
def test_statistics_are_those_of_all_batches(splits):
    paddle.seed(0)
    model, data = nn.Sequential(nn.Conv3D(3, 5, 1), SubBatchNorm3D(5)), batches()
    set_norm_splits(model, splits)
    found = collect(model, model, data)
    assert list(found) == ["1"]
    np.testing.assert_allclose(found["1"], pooled(model, data), rtol=2e-6)
    assign(model, found)
    np.testing.assert_allclose(model[1]._variance.numpy(), found["1"][1], rtol=1e-6)
    assert model[1]._momentum == 0.9 and all(p.grad is None for p in model.parameters())


def test_layers_of_every_kind_are_found():
    model = nn.Sequential(
        nn.BatchNorm1D(2), nn.BatchNorm2D(2), SubBatchNorm3D(2), nn.BatchNorm(2), nn.LayerNorm(2)
    )
    assert list(norms_of(model)) == ["0", "1", "2", "3"]


def test_momentum_comes_back_after_an_error():
    model = nn.Sequential(nn.Conv3D(3, 5, 1), SubBatchNorm3D(5))
    with pytest.raises(ValueError, match="wrong"):
        collect(model, lambda batch: (_ for _ in ()).throw(ValueError("wrong")), batches())
    assert model[1]._momentum == 0.9
    with pytest.raises(ValueError, match="there was no batch"):
        collect(model, model, [])


def test_nothing_is_run_twice_for_the_same_weights():
    paddle.seed(0)
    model, data, precise, runs = (
        nn.Sequential(nn.Conv3D(3, 5, 1), SubBatchNorm3D(5)),
        batches(),
        PreciseBN(),
        [],
    )

    def run(batch):
        runs.append(1)
        return model(batch)

    assert precise.update(model, run, data, "a") and len(runs) == 3
    known = model[1]._mean.numpy()
    model(data[0])  # training moves the statistics, not the weights
    assert not np.array_equal(model[1]._mean.numpy(), known)
    assert not precise.update(model, run, data, "a") and len(runs) == 3
    np.testing.assert_array_equal(model[1]._mean.numpy(), known)
    assert precise.update(model, run, data, "b") and len(runs) == 6, "other data"
    model[0].weight.set_value(model[0].weight * 2)
    assert precise.update(model, run, data, "b") and len(runs) == 9, "other weights"
