"""What a run logs before its first epoch."""

import numpy as np
import paddle

from paddlevideo import dist
from paddlevideo.engine import amp
from paddlevideo.engine.classes import Classes
from paddlevideo.engine.run import Run
from paddlevideo.engine.schedule import schedule_notes
from paddlevideo.log import LINES, logger
from paddlevideo.models import onednn
from paddlevideo.plain_text import readable


def announce(run: Run) -> None:
    """Log what will be trained on what."""
    cfg, model, classes = run.cfg, run.state.model, run.classes
    for note in cfg.origin.notes:
        logger.info(note)
    for note in schedule_notes(cfg, run.plan.phases, run.plan.schedule, run.data.valid is not None):
        logger.warning(note)
    if cfg.EARLY_STOPPING and run.data.valid is None:
        logger.warning("EARLY_STOPPING has no effect: nothing is validated without --validate")
    if classes.num == 1 and not model.multi_label:
        logger.warning(
            "there is only one class, so every prediction will be right; "
            "add videos of another class"
        )
    if run.class_weights is not None:
        logger.info(f"class weights: {class_weights_text(classes, run.class_weights.numpy())}")
    if cfg.amp and not amp.on_gpu():
        logger.info(
            "AMP on a CPU rounds to bfloat16 and computes in float32: "
            "the numbers of mixed precision, not its speed"
        )
    if cfg.onednn and not amp.on_gpu() and onednn.missing():
        logger.info(f"using Paddle's own, slower convolutions: oneDNN {onednn.missing()}")
    names = f" ({first_names(classes, 6)})" if classes.names else ""
    logger.info(
        f"{len(run.data.records.records)} training and {run.data.num_valid} validation records, "
        f"{classes.num} classes{names}"
    )
    size = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
    logger.info(
        f"{cfg.model_name}: {size / 1e6:.2f} M parameters on {paddle.get_device()}, "
        f"{dist.world_size()} rank(s), {run.num_steps} steps of {cfg.DATASET.batch_size} clips an "
        f"epoch, {run.plan.num_epochs} epochs, output in {run.folder}"
    )
    if run.plan.table:
        logger.info(f"multigrid plan:\n{run.plan.table}", extra=LINES)
    elif cfg.MULTIGRID is not None:
        logger.info("plain training: --multigrid would follow the MULTIGRID section")


def class_weights_text(classes: Classes, weights: np.ndarray, limit: int = 12) -> str:
    """The factors of the first classes as text: a 1.5, b 0.5, ..."""
    names = [classes.name(number) for number in range(classes.num)]
    parts = [f"{k} {v:.3g}" for k, v in zip(names[:limit], weights, strict=False)]
    return ", ".join([*parts, *(["..."] if len(names) > limit else [])])


def first_names(classes: Classes, limit: int) -> str:
    """The names of the first classes as text: a, b, ..."""
    names = [readable(name) for name in (classes.names or ())[:limit]]
    return ", ".join([*names, *(["..."] if classes.num > limit else [])])
