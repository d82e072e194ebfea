"""What a config will do, as text: `main.py --check` prints it. Needs neither data nor a GPU."""

import numpy as np

from paddlevideo import dist
from paddlevideo.config.schema import Config
from paddlevideo.data.paths import SPLITS
from paddlevideo.engine.build import (
    build_metric,
    build_model,
    build_pipeline,
    configured_classes,
    parts_of,
)
from paddlevideo.engine.finetune import apply_finetune
from paddlevideo.engine.phases import clip_shapes, phases_of
from paddlevideo.engine.preflight import preflight
from paddlevideo.solver.phases import plan_table

# Stands in where the data decides the number of classes and no data is at hand.
UNKNOWN_CLASSES = 2


def describe(cfg: Config, multigrid: bool = False) -> str:
    """Check every pipeline against the model on made-up clips and say what will run.

    Raises:
        ConfigError: with all that does not fit.
    """
    num_classes = configured_classes(cfg)
    model = build_model(cfg, num_classes or UNKNOWN_CLASSES)
    splits = tuple(split for split in SPLITS if getattr(cfg.PIPELINE, split) is not None)
    recipe = cfg.OPTIMIZER.make() if cfg.OPTIMIZER is not None else None
    phases, schedule = phases_of(cfg, recipe and recipe.learning_rate, model, multigrid)
    shapes = preflight(cfg, model, splits, clip_shapes(phases))
    if num_classes:
        build_metric(cfg, num_classes, model.multi_label)
    changed = apply_finetune(cfg, model)
    size = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
    lines = [
        f"{cfg.origin.path}: no mistakes found",
        f"model      {cfg.model_name}: {cfg.MODEL.name} of {parts_of(cfg.MODEL)}, {size / 1e6:.2f} M parameters, "
        + (f"{num_classes} classes" if num_classes else "as many classes as the training data has"),
    ]
    lines += [f"finetune   {changed}"] if changed else []
    for split in splits:
        lines.append(f"{split:<10} {_pipeline_line(cfg, split, shapes[split])}")
    if cfg.OPTIMIZER is not None:
        epochs, factor = phases[-1].end, 1.0
        marks = sorted({0, epochs // 4, epochs // 2, 3 * epochs // 4, epochs - 1})
        if schedule.needs_epoch_size:  # it counts examples, and no data is read here
            marks = [0]
        rates = ", ".join(f"{schedule(float(e)):.3g} at epoch {e + 1}" for e in marks)
        lines.append(
            f"optimizer  {cfg.OPTIMIZER.name}, {epochs} epochs; {type(schedule).__name__}: lr {rates}"
        )
        if schedule.reference_batch_size:
            accumulated = (
                cfg.GRADIENT_ACCUMULATION.global_batch_size if cfg.GRADIENT_ACCUMULATION else None
            )
            factor = (
                accumulated or cfg.DATASET.batch_size * dist.world_size()
            ) / schedule.reference_batch_size
            lines.append(
                f"           times {factor:g}: written for a batch of {schedule.reference_batch_size}"
            )
        if multigrid:
            table = plan_table(
                phases, lambda epoch: factor * schedule(epoch), world_size=dist.world_size()
            )
            lines += ["multigrid  " + table.replace("\n", "\n           ")]
    lines += [f"note       {note}" for note in cfg.origin.notes]
    return "\n".join(lines)


def _pipeline_line(cfg: Config, split: str, shapes: dict[str, tuple[int, ...]]) -> str:
    data = cfg.DATASET
    batch = {
        "train": data.batch_size,
        "valid": data.valid_batch_size or data.batch_size,
        "test": data.test_batch_size,
    }[split]
    pipeline = build_pipeline(cfg, split)
    megabytes = batch * sum(a.nbytes for a in pipeline.synthetic().values()) / 2**20
    spelled = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    views = f", {pipeline.num_views} views a video" if pipeline.num_views > 1 else ""
    return (
        f"batch {batch} per rank of {spelled}{views}; {megabytes:.1f} MB a batch between processes"
    )
