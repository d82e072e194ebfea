"""The multigrid schedule against PaddleVideo's: SlowFast 8x8, 358 epochs, on 1 and 8 ranks."""

import json
import math
from itertools import pairwise

import pytest

from paddlevideo.solver.lr import CustomWarmupPiecewiseDecay
from paddlevideo.solver.multigrid import learning_rate, plan
from paddlevideo.solver.phases import evaluates, phase_at, saves, steps_per_epoch
from tests.parts.solver.slowfast_multigrid import BASELINE, RULE, section


@pytest.fixture(scope="module")
def golden(goldens):
    return json.loads((goldens / "paddlevideo" / "schedule_golden.json").read_text())


@pytest.fixture(scope="module")
def phases():
    return plan(section(), BASELINE, RULE, frames_multiple=4)


def test_clip_shapes_and_their_ends(golden, phases):
    ends = [end for *_, end in golden["schedule"]]
    assert [p.end for p in phases if p.end in ends] == ends
    assert phases[-1].end == golden["total_epochs"]
    firsts = [0, *ends[:-1]]
    for first, (_, (relative, frames, crop), end) in zip(firsts, golden["schedule"], strict=True):
        for epoch in (first, end - 1):
            phase = phase_at(phases, epoch)
            assert phase.batch_size == relative * BASELINE.batch_size
            assert (phase.num_frames, phase.crop_size) == (frames, crop)


def test_every_epoch(golden, phases):
    rate = learning_rate(section(), RULE, phases)
    for row in golden["epochs"]:
        epoch = row["epoch"] - 1
        phase = phase_at(phases, epoch)
        assert (phase.num_frames, phase.crop_size) == (row["frames"], row["crop"])
        assert phase.batch_size == row["batch"]
        assert [shape.batch_size for shape in phase.cycle] == row["short_batch_sizes"]
        assert phase.bn_splits == (row["splits"] if row["norm"] == "sub_batchnorm" else 1)
        # PaddleVideo computes the second number and does not use it; the paper draws from both.
        assert phase.stride == (row["sampling_rate"], row["long_cycle_sampling_rate"])
        assert rate(float(epoch)) == pytest.approx(row["lr_at_start"], rel=1e-12)


def test_learning_rate(golden, phases):
    rate = learning_rate(section(), RULE, phases)
    assert rate.steps == golden["lr_steps"] and rate.max_epoch == golden["lr_max_epoch"]
    assert rate.lrs == pytest.approx(golden["lr_lrs"], rel=1e-12)
    curve = golden["lr_curves"]["slowfast_multigrid.yaml (no rebuild)"]
    expected = CustomWarmupPiecewiseDecay(**curve["kwargs"], iter_step=True)
    epochs = [e / 10 for e in range(3580)]
    assert [rate(e) for e in epochs] == pytest.approx([expected(e) for e in epochs], rel=1e-12)


def test_evaluations_and_checkpoints(golden, phases):
    epochs = range(1, golden["total_epochs"] + 1)
    evaluated = [done for done in epochs if evaluates(phases, done, val_interval=20)]
    saved = [done for done in epochs if saves(phases, done, save_interval=10)]
    assert evaluated == golden["eval_epochs_1based"]
    assert saved == golden["save_epochs_1based"]


@pytest.mark.parametrize("world_size", [1, 8])
def test_steps_of_an_epoch(golden, phases, world_size):
    """PaddleVideo divides the clips by the mean batch size.

    Where too few clips are left for the next batch of the cycle it counts one step more than this
    package, which counts complete batches only.
    """
    total, total_paddlevideo, num_records = 0, 0, golden["N"]
    for row in golden["epochs"]:
        phase = phase_at(phases, row["epoch"] - 1)
        steps = steps_per_epoch(phase, num_records, world_size)
        expected = row[f"len_loader_world{world_size}"]
        sizes = [shape.batch_size for shape in phase.cycle]
        mean_size = sum(sizes) / len(sizes)
        assert expected == math.floor(math.ceil(num_records / world_size) / mean_size)
        assert expected - 1 <= steps <= expected
        cycles, rest = divmod(expected, len(sizes))
        used = (cycles * sum(sizes) + sum(sizes[:rest])) * world_size
        assert (used > num_records) == (steps < expected)
        total, total_paddlevideo = total + steps, total_paddlevideo + expected
    assert total_paddlevideo == {1: 2_047_722, 8: 255_818}[world_size]
    assert 0 <= total_paddlevideo - total <= len(golden["epochs"])


def test_numbers_of_pyslowfast(phases):
    """SLOWFAST_8x8_R50_stepwise_multigrid on 8 GPUs: crops, smallest short sides, group sizes."""
    table = {
        73: ((112, 158, 158), (128, 181, 181), (16, 8, 8)),
        110: ((112, 158, 158), (128, 181, 181), (16, 8, 8)),
        142: ((112, 158, 224), (128, 181, 256), (32, 16, 8)),
        158: ((112, 158, 224), (128, 181, 256), (32, 16, 8)),
    }
    assert [p.end for p in phases[:4]] == list(table)
    for phase in phases[:4]:
        crops, short_sides, group_sizes = table[phase.end]
        assert tuple(s.crop_size for s in phase.cycle) == crops
        assert tuple(s.jitter for s in phase.cycle) == tuple((low, 320) for low in short_sides)
        assert tuple(s.batch_size // phase.bn_splits for s in phase.cycle) == group_sizes
    assert [round(0.1 * p.lr_scale, 6) for p in phases] == [
        0.8, 0.4, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01, 0.008, 0.004, 0.002, 0.001, 0.001, 0.0001,
    ]  # fmt: skip
    assert all(a.end == b.first for a, b in pairwise(phases))
