"""Optimizers: one step against the formula; exact continuation under other automatic names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import ParamAttr, nn
from paddle.regularizer import L2Decay

from paddlevideo.config.registry import lookup
from paddlevideo.solver.lr import ConstantDecay
from paddlevideo.solver.optimizer import (
    SGD,
    Adam,
    AdamW,
    Momentum,
    optimizer_state,
    restore_optimizer_state,
)

RATE = ConstantDecay(0.1)
CLIP = lookup("grad_clip", "ClipGradByGlobalNorm").make(0.5)
RECIPES = {
    "momentum": Momentum(
        RATE, use_nesterov=True, weight_decay=lookup("regularizer", "L2").make(0.01), grad_clip=CLIP
    ),
    "sgd": SGD(RATE, weight_decay=0.01),
    "adam": Adam(RATE, weight_decay=lookup("regularizer", "L1").make(0.01)),
    "adamw": AdamW(RATE, no_weight_decay_name="bias", grad_clip=CLIP),
}


def network():
    paddle.seed(3)
    return nn.Sequential(
        nn.Linear(4, 8, weight_attr=ParamAttr(learning_rate=5.0)),
        nn.BatchNorm1D(8),
        nn.ReLU(),
        nn.Linear(8, 3, bias_attr=ParamAttr(regularizer=L2Decay(0.0))),
    )


def train(model, optimizer, steps):
    for step in steps:
        optimizer.set_lr(0.1 / (step + 1.3))
        x = np.random.default_rng(step).standard_normal((5, 4)).astype("float32")
        (model(paddle.to_tensor(x)) ** 2).mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def one_step(recipe, value=2.0, gradient=0.5, **attr):
    """A single weight after one step."""
    weight = paddle.create_parameter(
        [1], "float32", attr=ParamAttr(initializer=nn.initializer.Constant(value), **attr)
    )
    optimizer = recipe.build([("fc.weight", weight)])
    (weight * gradient).sum().backward()
    optimizer.step()
    return weight.item()


# --- one step ---------------------------------------------------------------------------------


def test_momentum_matches_the_formula():
    gradient = 0.5 + 0.01 * 2
    assert one_step(Momentum(RATE, weight_decay=0.01)) == pytest.approx(2 - 0.1 * gradient)
    assert one_step(Momentum(RATE, weight_decay=0.01, use_nesterov=True)) == pytest.approx(
        2 - 0.1 * 1.9 * gradient
    )


def test_a_parameter_s_own_factor_and_regularizer_take_precedence():
    recipe = SGD(RATE, weight_decay=0.01)
    assert one_step(recipe, learning_rate=5.0) == pytest.approx(2 - 0.5 * 0.52)
    assert one_step(recipe, regularizer=L2Decay(0.0)) == pytest.approx(2 - 0.1 * 0.5)


@pytest.mark.parametrize("name", ["ClipGradByGlobalNorm", "ClipGradByNorm", "ClipGradByValue"])
def test_clips_gradients_before_the_weight_decay(name):
    recipe = SGD(RATE, weight_decay=0.01, grad_clip=lookup("grad_clip", name).make(0.2))
    assert one_step(recipe, gradient=3.0) == pytest.approx(2 - 0.1 * (0.2 + 0.02))


def test_adamw_does_not_decay_excluded_parameters():
    step = 0.1  # Adam's first step equals the learning rate for any gradient
    decayed, by_name = AdamW(RATE, weight_decay=0.5), {"no_weight_decay_name": "weight"}
    assert one_step(decayed) == pytest.approx(2 * (1 - 0.1 * 0.5) - step)
    assert one_step(AdamW(RATE, weight_decay=0.5, **by_name)) == pytest.approx(2 - step)
    assert one_step(decayed, regularizer=L2Decay(0.0)) == pytest.approx(2 - step)


def test_rejects_no_weight_decay_name_without_names_or_without_a_match():
    with pytest.raises(ValueError, match=r"build from model.named_parameters\(\)"):
        AdamW(RATE, no_weight_decay_name="bias").build(network().parameters())
    with pytest.raises(ValueError, match="no parameter name contains 'nrom'"):
        AdamW(RATE, no_weight_decay_name="bias nrom").build(network().named_parameters())


@pytest.mark.parametrize("after_a_step", [False, True])
def test_set_lr_is_exact_before_and_after_the_first_step(after_a_step):
    value = 0.0123456789012345
    weight = paddle.create_parameter(
        [1], "float32", attr=ParamAttr(initializer=nn.initializer.Constant(0.0))
    )
    optimizer = SGD(RATE).build([weight])
    if after_a_step:
        weight.sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        weight.set_value(np.zeros(1, np.float32))
    optimizer.set_lr(value)
    weight.sum().backward()
    optimizer.step()
    assert -weight.numpy()[0] == np.float32(value)


# --- state ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("used", [False, True], ids=["before the first step", "after other steps"])
def test_continues_exactly_in_a_second_model(name, used):
    recipe, models = RECIPES[name], [network(), network(), network()]
    optimizers = [recipe.build(m.named_parameters()) for m in models]
    straight = train(models[0], optimizers[0], range(5))
    half = train(models[1], optimizers[1], range(3))
    state = optimizer_state(optimizers[1], models[1])
    if used:
        train(models[2], optimizers[2], range(7, 9))
    models[2].set_state_dict(half)
    restore_optimizer_state(optimizers[2], models[2], state)
    assert_same(train(models[2], optimizers[2], range(3, 5)), straight)


SECOND_HALF = """
import sys
import numpy as np
from paddle import nn
sys.path.insert(0, sys.argv[1])
import test_optimizer as t
unrelated = [nn.Linear(2, 2) for _ in range(3)]  # advances Paddle's name counters
for name in sys.argv[2:]:
    model = t.network()
    optimizer = t.RECIPES[name].build(model.named_parameters())
    half = np.load(f"{name}.half.npz")
    model.set_state_dict({k: half[k] for k in half.files})
    state = np.load(f"{name}.state.npz")
    t.restore_optimizer_state(optimizer, model, {k: state[k] for k in state.files})
    np.savez(f"{name}.end.npz", **t.train(model, optimizer, range(3, 5)))
"""


def test_continues_exactly_in_another_process(tmp_path, root):
    straight = {}
    for name in ("momentum", "adamw"):
        model = network()
        optimizer = RECIPES[name].build(model.named_parameters())
        np.savez(tmp_path / f"{name}.half.npz", **train(model, optimizer, range(3)))
        np.savez(tmp_path / f"{name}.state.npz", **optimizer_state(optimizer, model))
        straight[name] = train(model, optimizer, range(3, 5))
    words = ["-W", "ignore", "-c", SECOND_HALF, str(Path(__file__).parent), *straight]
    env = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, *words], check=True, cwd=tmp_path, env=env)
    for name, expected in straight.items():
        assert_same(dict(np.load(tmp_path / f"{name}.end.npz")), expected)


def test_state_is_named_after_the_model_s_parameters():
    model = network()
    state = optimizer_state(RECIPES["momentum"].build(model.named_parameters()), model)
    assert sorted(state) == [
        f"{layer}.{kind}.velocity" for layer in "013" for kind in ("bias", "weight")
    ]
    # Before the first step the state is complete and zero.
    assert not any(array.any() for array in state.values())
    state = optimizer_state(RECIPES["adamw"].build(model.named_parameters()), model)
    slots = {name.removeprefix("0.weight.") for name in state if name.startswith("0.weight.")}
    assert slots == {"moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"}


def test_state_is_a_copy():
    model = network()
    optimizer = RECIPES["momentum"].build(model.named_parameters())
    train(model, optimizer, range(1))
    state = optimizer_state(optimizer, model)
    kept = {name: array.copy() for name, array in state.items()}
    train(model, optimizer, range(1, 2))
    assert_same(state, kept)


@pytest.mark.parametrize("name", RECIPES)
def test_state_includes_master_weights(name):
    def half_precision():
        model = nn.Linear(4, 3).to(dtype="bfloat16")
        return model, RECIPES[name].build(model.named_parameters(), multi_precision=True)

    (model, optimizer), (other, other_optimizer) = half_precision(), half_precision()
    rng = np.random.default_rng(0)
    state = {
        k: rng.standard_normal(v.shape).astype(v.dtype)
        for k, v in optimizer_state(optimizer, model).items()
    }
    assert {"weight.master_weight", "bias.master_weight"} <= set(state)
    assert all(array.dtype == np.float32 for array in state.values())
    restore_optimizer_state(other_optimizer, other, state)
    assert_same(optimizer_state(other_optimizer, other), state)


def test_rejects_a_state_that_does_not_fit():
    model = network()
    optimizer = RECIPES["momentum"].build(model.named_parameters())
    train(model, optimizer, range(1))
    state = optimizer_state(optimizer, model)
    foreign = optimizer_state(Adam(RATE).build(model.parameters()), model)
    with pytest.raises(
        ValueError, match=r"lacks 0.bias.velocity, .* and 1 more; has unknown 0.bias.beta1_pow_acc"
    ):
        restore_optimizer_state(optimizer, model, foreign)
    with pytest.raises(
        ValueError, match="lacks 3.bias.velocity. Resume with the model and OPTIMIZER that saved it"
    ):
        restore_optimizer_state(
            optimizer, model, {k: v for k, v in state.items() if k != "3.bias.velocity"}
        )
    with pytest.raises(
        ValueError, match=r"has 3.bias.velocity as float64 \[2\], expected float32 \[3\]"
    ):
        restore_optimizer_state(optimizer, model, {**state, "3.bias.velocity": np.zeros(2)})
    with pytest.raises(ValueError, match="holds 6 parameters that are not in the model"):
        optimizer_state(optimizer, network())
    assert_same(optimizer_state(optimizer, model), state)  # unchanged
