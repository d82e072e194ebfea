"""The average of a model's weights: its decay, updates, saving, and use in a model."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlevideo.config.registry import lookup
from paddlevideo.solver import ema


def network():
    paddle.seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1D(2))


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    for tensor in model.state_dict().values():
        tensor.set_value(rng.standard_normal(tensor.shape).astype("float32"))


def arrays(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def test_decay_with_and_without_warm_up():
    assert lookup("ema", "EMA").make is ema.Ema
    assert [ema.Ema(0.9).decay_at(step) for step in (1, 8, 1000)] == [2 / 11, 0.5, 0.9]
    assert ema.Ema(0.9, warm_up=False).decay_at(1) == 0.9


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_rejects_a_decay_outside_its_range(decay):
    with pytest.raises(ValueError, match=rf"decay is {decay}; it must be in \[0, 1\)"):
        ema.Ema(decay)


def test_averages_weights_and_running_statistics():
    model = network()
    average = ema.start(model)
    expected = arrays(model)
    for step in range(1, 4):
        randomize(model, step)
        ema.update(average, model, 0.9)
        expected = {name: 0.9 * expected[name] + 0.1 * a for name, a in arrays(model).items()}
    assert set(average) == {"0.weight", "0.bias", "1.weight", "1.bias", "1._mean", "1._variance"}
    for name, array in ema.arrays_of(average).items():
        np.testing.assert_allclose(array, expected[name], atol=1e-6, err_msg=name)


def test_copies_integers_and_averages_half_precision_in_float32():
    model = nn.Linear(2, 2).to(dtype="bfloat16")
    model.register_buffer("count", paddle.to_tensor([3]))
    average = ema.start(model)
    assert average["weight"].dtype == paddle.float32
    model.count.set_value(np.array([7]))
    ema.update(average, model, 0.5)
    assert average["count"].tolist() == [7] and average["weight"].dtype == paddle.float32


def test_the_model_has_the_average_inside_and_its_own_weights_after():
    model = network()
    average = ema.start(model)
    randomize(model, 1)
    own = arrays(model)
    with pytest.raises(KeyboardInterrupt), ema.averaged(model, average):
        for name, array in arrays(model).items():
            np.testing.assert_array_equal(array, average[name].numpy())
        raise KeyboardInterrupt
    for name, array in arrays(model).items():
        np.testing.assert_array_equal(array, own[name])


def test_a_saved_average_is_restored_exactly():
    model = network()
    average = ema.start(model)
    randomize(model, 1)
    again = ema.restored(model, ema.arrays_of(average))
    assert all((again[name].numpy() == average[name].numpy()).all() for name in average)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(3, 4)), r"0.bias is \[2\], expected \[4\]; .*; \.\.\."),
        (nn.Sequential(nn.Linear(3, 2)), r"1._mean is \[2\], expected none; "),
        (
            nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1D(2), nn.Linear(2, 1)),
            r"2.bias is missing, expected \[1\]; 2.weight is missing, expected \[2, 1\]$",
        ),
    ],
)
def test_rejects_the_average_of_another_model(model, message):
    saved = ema.arrays_of(ema.start(network()))
    with pytest.raises(ValueError, match=f"is of another model: {message}"):
        ema.restored(model, saved)
