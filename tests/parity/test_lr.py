"""Learning-rate curves against the reference's.

The reference adds 1 / num_iters to its epoch at each iteration, ours divides once. At the reference's sums the numbers are
equal; at the true epochs they part by the rounding of the sum, which can also hold a step back by one iteration.
"""

import itertools
import json

import pytest

from paddlevideo.solver.lr import CustomWarmupCosineDecay, CustomWarmupPiecewiseDecay


@pytest.fixture(params=["slowfast.yaml", "pptsn.yaml", "slowfast_multigrid.yaml (no rebuild)"])
def curve(request, shared):
    curve = json.loads((shared / "parity" / "paddlevideo" / "schedule_golden.json").read_text())[
        "lr_curves"
    ][request.param]
    assert len(curve["lr"]) >= 20
    return curve


def rule_of(curve):
    rule_type = (
        CustomWarmupPiecewiseDecay if "steps" in curve["kwargs"] else CustomWarmupCosineDecay
    )
    return rule_type(**curve["kwargs"], iter_step=True)


def sums(curve):
    """The reference's epoch at each iteration."""
    last = max(map(int, curve["lr"]))
    return list(itertools.accumulate([1 / curve["num_iters"]] * last, initial=0.0))


def test_at_the_reference_s_own_epochs(curve):
    rule, epochs = rule_of(curve), sums(curve)
    for iteration, value in curve["lr"].items():
        assert rule(epochs[int(iteration)]) == pytest.approx(value, rel=1e-12), (
            f"iteration {iteration}"
        )


def test_at_the_true_epochs(curve):
    rule, epochs, late = rule_of(curve), sums(curve), []
    for iteration, value in curve["lr"].items():
        epoch = int(iteration) / curve["num_iters"]
        if epoch in curve["kwargs"].get("steps", ()) and epochs[int(iteration)] < epoch:
            late.append(iteration)
            assert rule(epoch) < value
        else:
            assert rule(epoch) == pytest.approx(value, rel=1e-9), f"iteration {iteration}"
    assert late in ([], ["2910"])
