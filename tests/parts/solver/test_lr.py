"""Learning-rate rules: their values, how they stretch, and the arguments that they reject."""

import math

import pytest

from paddlevideo.config.registry import known, lookup
from paddlevideo.solver.lr import (
    ConstantDecay,
    CosineAnnealingDecay,
    CustomWarmupCosineDecay,
    CustomWarmupPiecewiseDecay,
    ExampleDecay,
    LearningRateRule,
    PiecewiseDecay,
)

COSINE = {"max_epoch": 100, "warmup_epochs": 10, "warmup_start_lr": 0.005, "cosine_base_lr": 0.01}
STEPS = {
    "warmup_start_lr": 0.01,
    "warmup_epochs": 4,
    "step_base_lr": 0.1,
    "lrs": [1.0, 0.1, 0.01],
    "steps": [0, 10, 20],
    "max_epoch": 30,
}


def test_all_rules_take_the_common_arguments():
    for name in known("lr"):
        entry = lookup("lr", name)
        assert issubclass(entry.make, LearningRateRule)
        parameters = entry.parameters()
        assert parameters["iter_step"].default is False
        assert parameters["reference_batch_size"].default is None


# --- values -----------------------------------------------------------------------------------


def test_the_warm_up_ends_on_the_cosine():
    rule = CustomWarmupCosineDecay(**COSINE, iter_step=True)
    top = 0.005 * (1 + math.cos(math.pi * 0.1))
    assert rule(0.0) == 0.005
    assert rule(5.0) == pytest.approx((0.005 + top) / 2, rel=1e-12)
    assert rule(10.0) == top
    assert rule(10.0 - 1e-9) == pytest.approx(top, rel=1e-9)
    assert rule(100.0) == rule(150.0) == 0.0


def test_cosine_without_a_warm_up():
    assert CustomWarmupCosineDecay(**{**COSINE, "warmup_epochs": 0}, iter_step=True)(0.0) == 0.01


def test_piecewise_after_a_warm_up():
    rule = CustomWarmupPiecewiseDecay(**STEPS, iter_step=True)
    assert rule(0.0) == 0.01
    assert rule(2.0) == pytest.approx(0.055)
    rates = [rule(e) for e in (4.0, 9.999, 10.0, 25.0, 99.0)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])


def test_ignores_factors_beyond_the_steps():
    rule = CustomWarmupPiecewiseDecay(**STEPS)
    more = CustomWarmupPiecewiseDecay(**{**STEPS, "lrs": [*STEPS["lrs"], 7.0]})
    epochs = [float(e) for e in range(0, 60, 3)]
    assert [more(e) for e in epochs] == [rule(e) for e in epochs]


def test_without_iter_step_a_rate_holds_for_the_epoch():
    by_iteration, by_epoch = (
        CustomWarmupCosineDecay(**COSINE, iter_step=on) for on in (True, False)
    )
    assert by_epoch(3.7) == by_iteration(3.0) != by_iteration(3.7)


def test_piecewise_decay_changes_at_the_boundary():
    rule = PiecewiseDecay(boundaries=[40, 80], values=[0.01, 0.001, 0.0001])
    rates = [rule(e) for e in (0, 39.99, 40, 79.5, 80, 1000)]
    assert rates == [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]


def test_cosine_annealing_and_constant():
    rule = CosineAnnealingDecay(learning_rate=0.2, T_max=10, eta_min=0.1)
    assert [rule(0), rule(5), rule(10), rule(11)] == pytest.approx([0.2, 0.15, 0.1, 0.1])
    assert ConstantDecay(0.3)(7.5) == 0.3


def test_example_decay_needs_the_size_of_an_epoch():
    rule = ExampleDecay(1.0, decay_examples=150, gamma=0.5, iter_step=True)
    assert rule(0.0) == 1.0
    with pytest.raises(ValueError, match="ExampleDecay needs examples_per_epoch"):
        rule(0.5)
    assert rule.needs_epoch_size
    sized = rule.with_epoch_size(300)
    assert not sized.needs_epoch_size
    assert [sized(e) for e in (0, 0.49, 0.5, 1.0)] == [1, 1, 0.5, 0.25]


def test_example_decay_rounds_to_the_nearest_example():
    rule = ExampleDecay(1.0, 100, gamma=0.5, max_decays=2, examples_per_epoch=300, iter_step=True)
    assert [rule(e) for e in (1 / 3, 2 / 3, 1.0)] == [0.5, 0.25, 0.25]


# --- lengths ----------------------------------------------------------------------------------


def test_rules_with_max_epoch_fix_the_number_of_epochs():
    assert CustomWarmupCosineDecay(**COSINE).num_epochs == 100
    assert CustomWarmupPiecewiseDecay(**STEPS).num_epochs == 30
    for rule in (PiecewiseDecay([1], [1, 2]), CosineAnnealingDecay(0.1, 5), ConstantDecay(0.1)):
        assert rule.num_epochs is None and not rule.needs_epoch_size
        assert rule.with_epoch_size(7) is rule


def test_stretching_keeps_the_warm_up():
    cosine = CustomWarmupCosineDecay(**COSINE).stretched(1.5)
    assert (cosine.max_epoch, cosine.warmup_epochs) == (150, 10)
    steps = CustomWarmupPiecewiseDecay(**STEPS).stretched(1.25)
    assert (steps.steps, steps.max_epoch, steps.warmup_epochs) == ([0, 12, 25], 37, 4)
    assert PiecewiseDecay([40, 81], [1, 2, 3]).stretched(1.5).boundaries == [60, 121]
    assert CosineAnnealingDecay(0.1, 5).stretched(1.5).T_max == 7
    for rule in (ConstantDecay(0.1), ExampleDecay(0.1, 10)):
        assert rule.stretched(2.0) is rule


# --- rejected arguments -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PiecewiseDecay([40, 80], [0.1, 0.01]), "2 boundaries need 3 values, there are 2"),
        (
            lambda: PiecewiseDecay([80, 40], [0.1, 0.01, 0.001]),
            r"boundaries must increase, but boundaries is \[80, 40\]",
        ),
        (
            lambda: CustomWarmupPiecewiseDecay(**{**STEPS, "steps": [0, 5, 10, 20]}),
            r"must begin with 0, and lrs .* must have a factor for each step",
        ),
        (
            lambda: CustomWarmupPiecewiseDecay(**{**STEPS, "steps": [1, 10, 20]}),
            r"steps \[1, 10, 20\] must begin with 0",
        ),
        (
            lambda: CustomWarmupPiecewiseDecay(**{**STEPS, "max_epoch": 5}),
            "max_epoch is 5; it must be at least 20",
        ),
        (
            lambda: CustomWarmupCosineDecay(**{**COSINE, "max_epoch": 0}),
            "max_epoch is 0; it must be at least 1",
        ),
        (
            lambda: CustomWarmupCosineDecay(**{**COSINE, "cosine_base_lr": -1}),
            "cosine_base_lr is -1; it must be at least 0",
        ),
        (lambda: CosineAnnealingDecay(0.1, 0), "T_max is 0"),
        (lambda: ExampleDecay(0.1, 0), "decay_examples is 0"),
        (lambda: ExampleDecay(0.1, 1, max_decays=-1), "max_decays is -1"),
        (lambda: ExampleDecay(0.1, 1, examples_per_epoch=0), "examples_per_epoch is 0"),
        (lambda: PiecewiseDecay([1], [0.1, 0.01])(-0.5), "requested at epoch -0.5"),
    ],
)
def test_rejects_invalid_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
