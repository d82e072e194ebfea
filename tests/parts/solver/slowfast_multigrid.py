"""PaddleVideo's multigrid run of SlowFast 8x8: MULTIGRID section, baseline and learning rate."""

from typing import Any

from paddlevideo.config.schema import Multigrid
from paddlevideo.solver.lr import CustomWarmupPiecewiseDecay
from paddlevideo.solver.phases import BaselineRun, Phase, StepShape

HALF = 0.7071
BASELINE = BaselineRun(
    epochs=239, batch_size=8, num_frames=32, crop_size=224, sampling_rate=2, jitter=(256, 320)
)
RULE = CustomWarmupPiecewiseDecay(
    warmup_start_lr=0.01,
    warmup_epochs=34,
    step_base_lr=0.1,
    lrs=[1, 0.1, 0.01, 0.001],
    steps=[0, 94, 154, 196],
    max_epoch=239,
    iter_step=True,
)


def section(**changes: Any) -> Multigrid:
    """The MULTIGRID section of slowfast_multigrid.yaml, with changed keys."""
    keys = {
        "LONG_CYCLE": True,
        "SHORT_CYCLE": True,
        "epoch_factor": 1.5,
        "bn_base_size": 8,
        "long_cycle_factors": [
            {"value": [0.25, HALF]},
            {"value": [0.5, HALF]},
            {"value": [0.5, 1]},
            {"value": [1, 1]},
        ],
        "short_cycle_factors": [0.5, HALF],
        "EVAL_FREQ": 3,
    }
    return Multigrid(**{**keys, **changes})


def shape_of(step: int, phase: Phase) -> StepShape:
    """What a step, counted from 0 in its epoch, trains on."""
    return phase.cycle[step % len(phase.cycle)]
