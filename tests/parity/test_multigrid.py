"""The multigrid schedule against the reference's for 358 epochs of SlowFast 8x8 on Kinetics-400, on 1 and 8 ranks."""

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import pytest

from paddlevideo.solver.lr import CustomWarmupPiecewiseDecay
from paddlevideo.solver.multigrid import (
    Plain,
    evaluates,
    learning_rate,
    phase_at,
    plan,
    saves,
    short_cycle,
    steps_per_epoch,
)

SPEC = SimpleNamespace(
    LONG_CYCLE=True, SHORT_CYCLE=True, default_batch_size=0, default_temporal_size=0, default_crop_size=0, epoch_factor=1.5,
    bn_base_size=8, long_cycle_sampling_rate=0, short_cycle_factors=[0.5, 0.7071], follow_release=False,
    long_cycle_factors=[{"value": [0.25, 0.7071]}, {"value": [0.5, 0.7071]}, {"value": [0.5, 1]}, {"value": [1, 1]}],
)  # fmt: skip
RULE = CustomWarmupPiecewiseDecay(
    warmup_start_lr=0.01, warmup_epochs=34, step_base_lr=0.1, lrs=[1, 0.1, 0.01, 0.001], steps=[0, 94, 154, 196],
    max_epoch=239, iter_step=True,
)  # fmt: skip
PLAIN = Plain(
    epochs=239, batch_size=8, num_frames=32, crop_size=224, sampling_rate=2, jitter=(256, 320)
)


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "parity" / "paddlevideo" / "schedule_golden.json").read_text())


@pytest.fixture(scope="module")
def phases():
    return plan(SPEC, PLAIN, RULE, frames_multiple=4)


def test_stages(golden, phases):
    ends = [end for _, _, end in golden["schedule"]]
    assert [p.end for p in phases if p.end in ends] == ends and phases[-1].end == golden[
        "total_epochs"
    ]
    for (_, (relative, frames, crop), end), (_, _, first) in zip(
        golden["schedule"], [[0, 0, 0], *golden["schedule"]], strict=False
    ):
        for epoch in (first, end - 1):
            phase = phase_at(phases, epoch)
            assert (phase.batch_size, phase.num_frames, phase.crop_size) == (
                relative * PLAIN.batch_size,
                frames,
                crop,
            )


def test_every_epoch(golden, phases):
    rate = learning_rate(SPEC, RULE, phases)
    for row in golden["epochs"]:
        epoch = row["epoch"] - 1
        phase = phase_at(phases, epoch)
        assert (phase.num_frames, phase.crop_size, phase.batch_size) == (
            row["frames"],
            row["crop"],
            row["batch"],
        )
        assert [short_cycle(step, phase).batch_size for step in range(3)] == row[
            "short_batch_sizes"
        ]
        assert phase.bn_splits == (row["splits"] if row["norm"] == "sub_batchnorm" else 1)
        # What the reference computes and then does not use is the range that the method draws from.
        assert phase.stride == (row["sampling_rate"], row["long_cycle_sampling_rate"])
        assert rate(float(epoch)) == pytest.approx(row["lr_at_start"], rel=1e-12)


def test_the_learning_rate_s_steps(golden, phases):
    rate = learning_rate(SPEC, RULE, phases)
    assert rate.steps == golden["lr_steps"] and rate.max_epoch == golden["lr_max_epoch"]
    assert rate.lrs == pytest.approx(golden["lr_lrs"], rel=1e-12)
    curve = golden["lr_curves"]["slowfast_multigrid.yaml (no rebuild)"]
    reference = CustomWarmupPiecewiseDecay(**curve["kwargs"], iter_step=True)
    assert [rate(e / 10) for e in range(3580)] == pytest.approx(
        [reference(e / 10) for e in range(3580)], rel=1e-12
    )


def test_evaluations_and_checkpoints(golden, phases):
    epochs = range(1, golden["total_epochs"] + 1)
    assert [done for done in epochs if evaluates(phases, done, val_interval=20)] == golden[
        "eval_epochs_1based"
    ]
    assert [done for done in epochs if saves(phases, done, save_interval=10)] == golden[
        "save_epochs_1based"
    ]


@pytest.mark.parametrize("world_size", [1, 8])
def test_steps_of_an_epoch(golden, phases, world_size):
    """The reference divides the clips by the mean batch. Where the batch that would come next is larger than what is left, it
    counts a step that no whole batch fills; ours does not."""
    counts = {}
    for row in golden["epochs"]:
        phase = phase_at(phases, row["epoch"] - 1)
        ours, theirs = (
            steps_per_epoch(phase, golden["N"], world_size),
            row[f"len_loader_world{world_size}"],
        )
        sizes = [step.batch_size for step in phase.cycle]
        assert theirs == math.floor(math.ceil(golden["N"] / world_size) / (sum(sizes) / len(sizes)))
        assert theirs - 1 <= ours <= theirs
        used = sum(short_cycle(step, phase).batch_size for step in range(theirs)) * world_size
        assert (used > golden["N"]) == (ours < theirs)
        counts[row["epoch"]] = (ours, theirs)
    ours, theirs = (sum(pair[i] for pair in counts.values()) for i in (0, 1))
    assert theirs == {1: 2_047_722, 8: 255_818}[world_size] and 0 <= theirs - ours <= len(counts)


def test_table_of_the_original_code(phases):
    """PySlowFast's SLOWFAST_8x8_R50_stepwise_multigrid on 8 GPUs: crops, smallest short sides, clips per group."""
    table = {
        73: ((112, 158, 158), (128, 181, 181), (16, 8, 8)),
        110: ((112, 158, 158), (128, 181, 181), (16, 8, 8)),
        142: ((112, 158, 224), (128, 181, 256), (32, 16, 8)),
        158: ((112, 158, 224), (128, 181, 256), (32, 16, 8)),
    }
    assert [p.end for p in phases[:4]] == list(table)
    for phase in phases[:4]:
        crops, jitter, clips = table[phase.end]
        assert tuple(s.crop_size for s in phase.cycle) == crops
        assert tuple(s.jitter for s in phase.cycle) == tuple((low, 320) for low in jitter)
        assert tuple(s.batch_size // phase.bn_splits for s in phase.cycle) == clips
    assert [round(0.1 * p.lr_scale, 6) for p in phases] == [
        0.8, 0.4, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01, 0.008, 0.004, 0.002, 0.001, 0.001, 0.0001,
    ]  # fmt: skip
    assert all(a.end == b.first for a, b in pairwise(phases))
