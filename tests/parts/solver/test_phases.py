"""Phases of a run: cost, steps, evaluations, checkpoints, and the text table."""

import pytest

from paddlevideo.solver.multigrid import learning_rate, plan
from paddlevideo.solver.phases import (
    BaselineRun,
    cost_reduction,
    evaluates,
    phase_at,
    plan_table,
    relative_cost,
    saves,
    steps_per_epoch,
    total_cost,
)
from tests.parts.solver.slowfast_multigrid import BASELINE, RULE, section, shape_of


@pytest.fixture(scope="module")
def phases():
    return plan(section(), BASELINE, RULE)


def test_a_run_without_multigrid_needs_no_sizes():
    (phase,) = plan(None, BaselineRun(epochs=100, batch_size=32))
    assert shape_of(7, phase) == (None, 32, None) and relative_cost(phase) == 1.0
    assert steps_per_epoch(phase, 1000, 2) == 1000 // 64
    assert plan_table([phase], lambda epoch: 0.1, 1000, 2).splitlines() == [
        "phase  epochs  frames x crop  stride  clips per rank at crop  BN splits  "
        "learning rate  cost   steps",
        "1      1-100   -              -       32                      1          "
        "0.1            1.000  15",
        "total: 100 epochs that cost as much as 100.0 plain ones; plain training has 100: "
        "1.00 times less work",
        "       1500 steps on 2 rank(s), 1000 records",
    ]


def test_cost_of_a_clip_relative_to_the_baseline(phases):
    costs = [relative_cost(phase) for phase in phases[:4]]
    assert costs == pytest.approx([0.093, 0.187, 0.214, 0.428], abs=5e-4)


def test_total_cost_counts_baseline_epochs(phases):
    assert total_cost(phases) == pytest.approx(69.7, abs=0.05)
    assert cost_reduction(phases) == pytest.approx(239 / total_cost(phases))


def test_an_epoch_uses_no_record_twice(phases):
    phase = phases[0]  # batches of 128, 64, 64 clips
    numbers = [127, 128, 191, 192, 255, 256, 256 + 128]
    assert [steps_per_epoch(phase, n) for n in numbers] == [0, 1, 1, 2, 2, 3, 4]
    assert steps_per_epoch(phase, 256 * 8, 8) == 3


def test_a_long_cycle_decides_when_to_evaluate(phases):
    assert [done for done in range(1, 111) if evaluates(phases, done)] == [23, 48, 73, 84, 97, 110]
    assert [done for done in range(340, 359) if evaluates(phases, done)] == [348, 358]


def test_a_short_cycle_evaluates_at_the_interval_and_at_the_end():
    phases = plan(section(LONG_CYCLE=False), BASELINE, RULE)
    assert [done for done in range(340, 359) if evaluates(phases, done, 10)] == [340, 350, 358]


def test_saves_at_the_interval_and_at_evaluations(phases):
    assert [done for done in range(60, 85) if saves(phases, done, 10)] == [61, 71, 73, 81, 84]
    assert saves(phases, 358, 10)


def test_every_epoch_belongs_to_one_phase(phases):
    assert phase_at(phases, 72) is phases[0] and phase_at(phases, 73) is phases[1]
    with pytest.raises(ValueError, match="epochs 0 to 357, but not epoch 358"):
        phase_at(phases, 358)


def test_the_table_keeps_its_text(phases):
    """A checkpoint holds a checksum of it."""
    rate = learning_rate(section(), RULE, phases)
    table = plan_table(phases, rate, 234_619, 8).splitlines()
    assert table[:3] == [
        "phase  epochs   frames x crop  stride  clips per rank at crop            BN splits  "
        "learning rate  cost   steps",
        "1      1-73     8 x 158        2 to 8  128 at 112, 64 at 158, 64 at 158  8          "
        "0.01 to 0.8    0.093  343",
        "2      74-110   16 x 158       2 to 4  64 at 112, 32 at 158, 32 at 158   4          "
        "0.4            0.187  687",
    ]
    assert table[-2:] == [
        "total: 358 epochs that cost as much as 69.7 plain ones; plain training has 239: "
        "3.43 times less work",
        "       255689 steps on 8 rank(s), 234619 records",
    ]
    assert len(table) == 1 + 14 + 2
    assert "steps" not in plan_table(phases, RULE)
