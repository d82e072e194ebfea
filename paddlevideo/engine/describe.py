"""What a config will do, as text: `main.py --check` prints it. Needs neither data nor a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle

from paddlevideo import dist
from paddlevideo.config.schema import Config
from paddlevideo.data.paths import SPLITS
from paddlevideo.engine.build import build_metric, build_model
from paddlevideo.engine.classes import configured_classes
from paddlevideo.engine.component_tree import parts_text
from paddlevideo.engine.finetune import apply_finetune
from paddlevideo.engine.phases import clip_shapes, phases_of
from paddlevideo.engine.preflight import SampleSize, preflight
from paddlevideo.engine.schedule import schedule_notes
from paddlevideo.models.base import Recognizer
from paddlevideo.solver.phases import Phase, plan_table

# Used where the data decides the number of classes.
UNKNOWN_CLASSES = 2
INDENT = " " * 11  # width of the first column


def describe(cfg: Config, multigrid: bool = False) -> str:
    """Check every pipeline against the model on synthetic clips and describe what will run.

    Raises:
        ConfigError: with everything that does not fit.
    """
    num_classes = configured_classes(cfg)
    with paddle.LazyGuard():  # without initial weights, which take most of the time
        model = build_model(cfg, num_classes or UNKNOWN_CLASSES)
    splits = [split for split in SPLITS if getattr(cfg.PIPELINE, split) is not None]
    recipe = cfg.OPTIMIZER.make() if cfg.OPTIMIZER is not None else None
    phases, schedule = phases_of(cfg, recipe and recipe.learning_rate, model, multigrid)
    sizes = preflight(cfg, model, splits, clip_shapes(phases))
    if num_classes:
        build_metric(cfg, num_classes, model.multi_label)
    finetune = apply_finetune(cfg, model)
    lines = [f"{cfg.origin.path}: no mistakes found", _model_line(cfg, model, num_classes)]
    lines += [f"finetune   {finetune}"] if finetune else []
    lines += [f"{split:<10} {_pipeline_text(cfg, split, sizes[split])}" for split in splits]
    if cfg.OPTIMIZER is not None:
        lines += _schedule_lines(cfg, phases, schedule, multigrid)
    notes = schedule_notes(cfg, phases, schedule, cfg.DATASET.valid is not None)
    lines += [f"note       {note}" for note in (*notes, *cfg.origin.notes)]
    return "\n".join(lines)


def _model_line(cfg: Config, model: Recognizer, num_classes: int | None) -> str:
    size = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
    classes = f"{num_classes} classes" if num_classes else "as many classes as the training data"
    parts = f"{cfg.MODEL.name} of {parts_text(cfg.MODEL)}"
    return f"model      {cfg.model_name}: {parts}, {size / 1e6:.2f} M parameters, {classes}"


def _pipeline_text(cfg: Config, split: str, size: SampleSize) -> str:
    data = cfg.DATASET
    batch_sizes = {
        "train": data.batch_size,
        "valid": data.valid_batch_size or data.batch_size,
        "test": data.test_batch_size,
    }
    batch = batch_sizes[split]
    inputs = ", ".join(f"{name} {list(shape)}" for name, shape in size.shapes.items())
    views = f", {size.num_views} views a video" if size.num_views > 1 else ""
    megabytes = f"{batch * size.num_bytes / 2**20:.1f} MB a batch between processes"
    return f"batch {batch} per rank of {inputs}{views}; {megabytes}"


def _schedule_lines(
    cfg: Config, phases: Sequence[Phase], schedule: Any, multigrid: bool
) -> list[str]:
    """Optimizer, learning rates at some epochs, and the table of a multigrid plan."""
    assert cfg.OPTIMIZER is not None
    epochs, scale = phases[-1].end, 1.0
    marks = sorted({0, epochs // 4, epochs // 2, 3 * epochs // 4, max(0, epochs - 1)})
    if schedule.needs_epoch_size:  # it counts examples, and no data is read here
        marks = [0]
    rates = ", ".join(f"{schedule(float(e)):.3g} at epoch {e + 1}" for e in marks)
    name = type(schedule).__name__
    lines = [f"optimizer  {cfg.OPTIMIZER.name}, {epochs} epochs; {name}: lr {rates}"]
    reference = schedule.reference_batch_size
    if reference:
        batch = cfg.DATASET.batch_size * dist.world_size()
        if cfg.GRADIENT_ACCUMULATION and cfg.GRADIENT_ACCUMULATION.global_batch_size:
            batch = cfg.GRADIENT_ACCUMULATION.global_batch_size
        scale = batch / reference
        lines.append(f"{INDENT}times {scale:g}: written for a batch of {reference}")
    if multigrid:
        table = plan_table(
            phases, lambda epoch: scale * schedule(epoch), world_size=dist.world_size()
        )
        lines.append("multigrid  " + table.replace("\n", f"\n{INDENT}"))
    return lines
