"""Learning-rate rules: where they start, bend and end, and what they refuse."""

import math

import pytest

from paddlevideo.config.registry import known, lookup
from paddlevideo.solver.lr import (
    ConstantDecay,
    CosineAnnealingDecay,
    CustomWarmupCosineDecay,
    CustomWarmupPiecewiseDecay,
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


def test_all_take_the_common_arguments():
    for name in known("lr"):
        parameters = lookup("lr", name).parameters()
        assert parameters["iter_step"].default is False
        assert parameters["reference_batch_size"].default is None


def test_warm_up_meets_the_cosine():
    rule = CustomWarmupCosineDecay(**COSINE, iter_step=True)
    top = 0.005 * (1 + math.cos(math.pi * 0.1))
    assert rule(0.0) == 0.005
    assert rule(5.0) == pytest.approx((0.005 + top) / 2, rel=1e-12)
    assert rule(10.0) == top
    assert rule(10.0 - 1e-9) == pytest.approx(top, rel=1e-9)
    assert rule(100.0) == rule(150.0) == 0.0


def test_without_warm_up():
    assert CustomWarmupCosineDecay(**{**COSINE, "warmup_epochs": 0}, iter_step=True)(0.0) == 0.01


def test_piecewise_after_a_warm_up():
    rule = CustomWarmupPiecewiseDecay(**STEPS, iter_step=True)
    assert rule(0.0) == 0.01
    assert rule(2.0) == pytest.approx(0.055)
    assert [rule(e) for e in (4.0, 9.999, 10.0, 25.0, 99.0)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001, 0.001]
    )


def test_by_epoch_holds_the_value_of_its_beginning():
    by_iteration, by_epoch = (
        CustomWarmupCosineDecay(**COSINE, iter_step=on) for on in (True, False)
    )
    assert by_epoch(3.7) == by_iteration(3.0) != by_iteration(3.7)


def test_piecewise_decay_changes_at_the_boundary():
    rule = PiecewiseDecay(boundaries=[40, 80], values=[0.01, 0.001, 0.0001])
    assert [rule(e) for e in (0, 39.99, 40, 79.5, 80, 1000)] == [
        0.01,
        0.01,
        0.001,
        0.001,
        0.0001,
        0.0001,
    ]


def test_cosine_annealing_and_constant():
    rule = CosineAnnealingDecay(learning_rate=0.2, T_max=10, eta_min=0.1)
    assert [rule(0), rule(5), rule(10), rule(11)] == pytest.approx([0.2, 0.15, 0.1, 0.1])
    assert ConstantDecay(0.3)(7.5) == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PiecewiseDecay([40, 80], [0.1, 0.01]), "2 boundaries need 3 values, there are 2"),
        (
            lambda: PiecewiseDecay([80, 40], [0.1, 0.01, 0.001]),
            r"boundaries must rise, and is \[80, 40\]",
        ),
        (
            lambda: CustomWarmupPiecewiseDecay(**{**STEPS, "steps": [0, 5, 10, 20]}),
            r"must begin with 0 and have a factor each",
        ),
        (
            lambda: CustomWarmupPiecewiseDecay(**{**STEPS, "steps": [1, 10, 20]}),
            "must begin with 0",
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
            "cosine_base_lr is -1",
        ),
        (lambda: CosineAnnealingDecay(0.1, 0), "T_max is 0"),
        (lambda: PiecewiseDecay([1], [0.1, 0.01])(-0.5), "asked for epoch -0.5"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_factors_beyond_the_steps_are_never_reached():
    more = CustomWarmupPiecewiseDecay(**{**STEPS, "lrs": [*STEPS["lrs"], 7.0]})
    assert [more(float(e)) for e in range(0, 60, 3)] == [
        CustomWarmupPiecewiseDecay(**STEPS)(float(e)) for e in range(0, 60, 3)
    ]
