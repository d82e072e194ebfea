"""Learning-rate curves against PaddleVideo's.

PaddleVideo adds 1 / num_iters to its epoch at each iteration; this package divides once. At
PaddleVideo's sums the rates are equal. At the exact epochs they differ by the rounding error of
the sum, which can also delay a step by one iteration.
"""

import itertools
import json

import pytest

from paddlevideo.solver.lr import CustomWarmupCosineDecay, CustomWarmupPiecewiseDecay


@pytest.fixture(params=["slowfast.yaml", "pptsn.yaml", "slowfast_multigrid.yaml (no rebuild)"])
def curve(request, goldens):
    path = goldens / "paddlevideo" / "schedule_golden.json"
    curve = json.loads(path.read_text())["lr_curves"][request.param]
    assert len(curve["lr"]) >= 20
    return curve


def rule_of(curve):
    has_steps = "steps" in curve["kwargs"]
    rule_type = CustomWarmupPiecewiseDecay if has_steps else CustomWarmupCosineDecay
    return rule_type(**curve["kwargs"], iter_step=True)


def summed_epochs(curve):
    """PaddleVideo's epoch at each iteration."""
    last = max(map(int, curve["lr"]))
    return list(itertools.accumulate([1 / curve["num_iters"]] * last, initial=0.0))


def test_rates_at_paddlevideo_s_epochs(curve):
    rule, epochs = rule_of(curve), summed_epochs(curve)
    for iteration, value in curve["lr"].items():
        rate = rule(epochs[int(iteration)])
        assert rate == pytest.approx(value, rel=1e-12), f"iteration {iteration}"


def test_rates_at_the_exact_epochs(curve):
    rule, epochs, delayed = rule_of(curve), summed_epochs(curve), []
    for iteration, value in curve["lr"].items():
        epoch = int(iteration) / curve["num_iters"]
        if epoch in curve["kwargs"].get("steps", ()) and epochs[int(iteration)] < epoch:
            delayed.append(iteration)
            assert rule(epoch) < value
        else:
            assert rule(epoch) == pytest.approx(value, rel=1e-9), f"iteration {iteration}"
    assert delayed in ([], ["2910"])
