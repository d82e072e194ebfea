"""Everything a training run needs, built once from its config; where there is something to resume, restored."""

import shlex
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import RecordList
from paddlevideo.data.failures import FailureCount, MissingAudio
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.engine import amp, best_validation
from paddlevideo.engine.build import (
    Classes,
    build_metric,
    build_model,
    build_pipeline,
    load_pretrained,
    load_records,
)
from paddlevideo.engine.checkpoint import Progress, TrainState, find_resume, read_model
from paddlevideo.engine.finetune import (
    apply_finetune,
    class_weights,
    load_weights,
    training_records,
)
from paddlevideo.engine.loaders import eval_loader, fitted_loader, on_error
from paddlevideo.engine.phases import batch_shapes, clip_shapes, order_of, phases_of
from paddlevideo.engine.precise_bn import PreciseBN
from paddlevideo.engine.preflight import preflight
from paddlevideo.engine.runfile import write_run_file
from paddlevideo.engine.watch import StopSignal
from paddlevideo.models import onednn
from paddlevideo.solver import ema
from paddlevideo.solver.phases import Phase, plan_table

logger = log.logger


@dataclass
class Run:
    """What a training run is made of; built once, then only `state` changes."""

    cfg: Config
    folder: Path
    state: TrainState
    records: RecordList
    loader: Loader
    valid: Loader | None
    classes: Classes
    failures: FailureCount
    missing: MissingAudio
    network: paddle.nn.Layer  # what the step calls: the model, or its data-parallel form
    mix: Any  # the batch mixer, or None
    ema: Any  # how the average of the weights moves, or None
    class_weights: paddle.Tensor | None  # factors on the loss of each class [K]
    accumulate: int  # batches per optimizer step
    phases: list[Phase]  # one for plain training
    steps: list[int]  # of an epoch of each phase
    schedule: Any  # fractional epoch -> learning rate
    lr_scale: float
    metrics: log.Metrics
    stop: StopSignal
    precise: PreciseBN
    began: (
        float  # seconds on the clock when the run would have begun, had it never been interrupted
    )

    @property
    def seconds(self) -> float:
        """That the run has taken so far, those before a resume included."""
        return round(time.perf_counter() - self.began, 3)

    @property
    def num_epochs(self) -> int:
        return self.phases[-1].end

    @property
    def num_steps(self) -> int:
        """Of the present epoch."""
        return len(self.loader)

    def steps_before(self, epoch: int) -> int:
        """Steps of all epochs before this one, counted from 0."""
        parts = zip(self.phases, self.steps, strict=True)
        return sum(
            steps * min(max(epoch - phase.first, 0), phase.num_epochs) for phase, steps in parts
        )

    def lr(self, epoch: int, step: int) -> float:
        return self.lr_scale * self.schedule(
            epoch + step / self.num_steps if self.schedule.iter_step else epoch
        )


def start(
    cfg: Config, validate: bool, weights: str | None, resume: str | None, multigrid: bool = False
) -> Run:
    """Build everything a run needs, say what it is, and restore what is to be resumed."""
    if cfg.OPTIMIZER is None:
        raise ConfigError([f"{cfg.origin.path}: OPTIMIZER is missing; training needs one"])
    folder = Path(cfg.folder)
    lists, classes = load_records(cfg, ("train", "valid") if validate else ("train",))
    lists["train"] = training_records(cfg, lists["train"])
    records = lists["train"].records

    # The model, its first weights, and a try of the pipelines on made-up data.
    paddle.seed(cfg.seed)
    model = build_model(cfg, classes.num)
    recipe = cfg.OPTIMIZER.make()
    phases, schedule = phases_of(cfg, recipe.learning_rate, model, multigrid)
    splits = (
        "train",
        *(["valid"] if validate else []),
        *(["test"] if cfg.export else []),
    )  # an export carries PIPELINE.test
    preflight(cfg, model, splits, clip_shapes(phases))
    build_metric(
        cfg, classes.num, getattr(model, "multi_label", False)
    )  # what does not fit is told before the first epoch
    learnt = first_weights(cfg, model, weights, classes)
    factors = class_weights(
        cfg, records, classes.num, classes.names, getattr(model, "multi_label", False)
    )

    # Optimizer, precision, and the form that runs on many ranks.
    optimizer = recipe.build(
        model.named_parameters(), multi_precision=cfg.amp and cfg.amp_level == "O2"
    )
    model, optimizer, scaler = amp.prepare(cfg, model, optimizer)
    if cfg.sync_bn and not amp.on_gpu():
        raise ConfigError(
            [f"{cfg.origin.path}: sync_bn needs GPUs; Paddle has no such kernel for a CPU"]
        )
    if cfg.sync_bn and dist.world_size() > 1:
        model = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    network = paddle.DataParallel(model) if dist.world_size() > 1 else model

    # Data, and how batches, ranks and the learning rate belong together.
    orders = [order_of(cfg, phase, lists["train"]) for phase in phases]
    replaces = on_error(cfg, "train", "replace", ("replace", "fail")) == "replace"
    dataset = ClipDataset(records, build_pipeline(cfg, "train"), cfg.seed, replaces, classes.num)
    shapes = [shape for phase in phases for shape in batch_shapes(phase)]
    loader = fitted_loader(
        dataset, orders[0], cfg.DATASET.num_workers, cfg.DATASET.prefetch, shapes
    )
    accumulate = accumulation(cfg, len(orders[0]))
    schedule = schedule.with_epoch_size(
        len(orders[0]) * cfg.DATASET.batch_size * dist.world_size()
    )
    # The rates of a plan are those of the plain batch, whatever the batch of a phase.
    lr_scale = linear_scale(
        schedule.reference_batch_size, cfg.DATASET.batch_size * dist.world_size() * accumulate
    )
    table = (
        plan_table(phases, lambda epoch: lr_scale * schedule(epoch), len(records), dist.world_size())
        if multigrid
        else ""
    )
    assert cfg.DATASET.train is not None  # load_records has used it
    limit = cfg.DATASET.train.args.get("max_failures", 0.01)
    fingerprint = settings_of(cfg, len(records), len(orders[0]), accumulate, table)
    average = ema.start(model) if cfg.EMA else None
    state = TrainState(model, optimizer, scaler, Progress(), classes.names, fingerprint, average)
    resumed = restore(cfg, state, folder, resume, phases[-1].end)
    if dist.is_main():
        for leftover in folder.glob(
            f".{cfg.model_name}_*.tmp"
        ):  # of a run that was killed while it wrote
            leftover.unlink()
        if not resumed:
            (folder / best_validation.FILE).unlink(missing_ok=True)  # of an earlier run
    if not (learnt or resumed):
        logger.info(from_nothing(cfg))
    write_run_file(
        cfg,
        folder,
        classes,
        "--multigrid " * multigrid + (f"-w {shlex.quote(weights)} " if weights else ""),
    )
    run = Run(
        cfg=cfg, folder=folder, state=state, records=lists["train"], loader=loader, classes=classes,
        network=network, accumulate=accumulate,
        valid=eval_loader(cfg, "valid", lists["valid"].records, classes.num) if validate else None,
        failures=FailureCount(limit, len(records)),
        missing=MissingAudio(records),
        mix=cfg.MIX.make() if cfg.MIX else None,
        ema=cfg.EMA.make() if cfg.EMA else None,
        class_weights=None if factors is None else paddle.to_tensor(factors),
        phases=phases,
        steps=[len(order) for order in orders],
        schedule=schedule,
        lr_scale=lr_scale,
        metrics=log.Metrics(folder, dist.is_main(), (state.progress.epoch, state.progress.step) if resumed else None),
        stop=StopSignal(cfg.log_interval),
        precise=PreciseBN(),
        began=time.perf_counter() - state.progress.seconds,
    )  # fmt: skip
    announce(run, model, len(lists["valid"].records) if validate else 0)
    if multigrid:
        logger.info(f"multigrid plan:\n{table}")
    elif cfg.MULTIGRID is not None:
        logger.info("plain training: --multigrid would follow the MULTIGRID section")
    return run


def settings_of(cfg: Config, num_records: int, num_steps: int, accumulate: int, table: str) -> str:
    """What must be the same when a run is resumed, in words; `table`: of the multigrid plan, "" where there is none."""
    return (
        f"seed {cfg.seed}, {num_records} records, batch {cfg.DATASET.batch_size} x {dist.world_size()} ranks x {accumulate}, "
        f"{num_steps} steps an epoch, {'AMP ' + cfg.amp_level if cfg.amp else 'no AMP'}"
        + (f", multigrid plan {zlib.crc32(table.encode()):08x}" if table else "")
        + (f", {cfg.DATASET.sampling}" if cfg.DATASET.sampling != "shuffled" else "")
        + (f", frozen {' '.join(cfg.FINETUNE.freeze)}" if cfg.FINETUNE.freeze else "")
    )


def first_weights(
    cfg: Config, model: paddle.nn.Layer, weights: str | None, classes: Classes
) -> bool:
    """Give the model what it starts from, freeze what is to stay so, and say what became of every tensor.

    Returns:
        whether there was a file to start from.
    """
    accounts = load_pretrained(cfg, model, classes.names)
    for account in accounts:
        logger.info(account)
    if weights:
        arrays, names = read_model(weights)
        names = read_class_names(cfg.FINETUNE.class_names) if cfg.FINETUNE.class_names else names
        for line in load_weights(model, arrays, weights, names, classes.names):
            logger.info(line)
    elif cfg.FINETUNE.class_names:
        logger.warning(
            "FINETUNE.class_names has no effect without -w: it names the classes of that file"
        )
    changed = apply_finetune(cfg, model)
    if changed:
        logger.info(changed)
    return bool(accounts or weights)


def from_nothing(cfg: Config) -> str:
    """That a run starts from random weights, and how it would start from others."""
    part = cfg.MODEL.args.get("backbone")
    takes = part is not None and "pretrained" in lookup(part.kind, part.name).parameters()
    backbone = ", those of a backbone with -o MODEL.backbone.pretrained=FILE" * takes
    return (
        f"starting from random weights; those of a trained model are taken with -w FILE{backbone}"
    )


def accumulation(cfg: Config, num_steps: int) -> int:
    """Batches per optimizer step, from GRADIENT_ACCUMULATION.global_batch_size.

    Raises:
        ConfigError: it is no multiple of ranks x batch size, or an epoch is too short for one step.
    """
    if cfg.GRADIENT_ACCUMULATION is None:
        return 1
    wanted, batch = (
        cfg.GRADIENT_ACCUMULATION.global_batch_size,
        cfg.DATASET.batch_size * dist.world_size(),
    )
    if wanted % batch or wanted < batch:
        raise ConfigError([
            f"{cfg.origin.path}: GRADIENT_ACCUMULATION.global_batch_size is {wanted}, expected a multiple of "
            f"{batch} (batch_size {cfg.DATASET.batch_size} x {dist.world_size()} ranks)"
        ])  # fmt: skip
    if wanted // batch > num_steps:
        raise ConfigError([
            f"{cfg.origin.path}: GRADIENT_ACCUMULATION.global_batch_size {wanted} needs {wanted // batch} batches, "
            f"an epoch has {num_steps}; make it smaller"
        ])  # fmt: skip
    return wanted // batch


def linear_scale(reference: int | None, global_batch: int) -> float:
    """Factor on the learning rate: real global batch / `reference_batch_size` of the schedule, 1 where that is not given."""
    if reference is None:
        logger.info(
            f"learning rate as written, for a global batch of {global_batch} (reference_batch_size would scale it)"
        )
        return 1.0
    logger.info(
        f"learning rate x {global_batch / reference:g}: global batch {global_batch}, written for {reference}"
    )
    return global_batch / reference


def restore(
    cfg: Config, state: TrainState, folder: Path, resume: str | None, num_epochs: int
) -> bool:
    """Put back what is to be resumed; True where there was something."""
    if resume:
        path = find_resume(folder, cfg.model_name, resume)
        if path is None:
            logger.info(f"nothing to resume in {folder}: starting from the beginning")
            return False
        state.restore(path)
        logger.info(
            f"resumed from {path}: {state.progress.epoch} epochs and {state.progress.step} steps are done"
        )
        if state.progress.epoch >= num_epochs:
            logger.info(
                f"all {num_epochs} epochs are done already; -o epochs=... with a larger number would go on"
            )
        return True
    if cfg.resume_epoch:
        stem = folder / f"{cfg.model_name}_epoch_{cfg.resume_epoch:05d}"
        state.restore_pair(stem)
        logger.info(f"resumed from {stem}.pdparams: epoch {state.progress.epoch + 1}")
        return True
    return False


def announce(run: Run, model: paddle.nn.Layer, num_valid: int) -> None:
    """Say what will be trained on what."""
    cfg = run.cfg
    for note in cfg.origin.notes:
        logger.info(note)
    if cfg.EARLY_STOPPING and run.valid is None:
        logger.warning("EARLY_STOPPING has no effect: nothing is validated without --validate")
    if run.classes.num == 1 and not getattr(model, "multi_label", False):
        logger.warning(
            "there is one class, and nothing to tell it from: every answer will be right; add videos of another"
        )
    if run.class_weights is not None:
        names = [run.classes.name(number) for number in range(run.classes.num)]
        spelled = ", ".join(
            f"{k} {v:.3g}" for k, v in zip(names[:12], run.class_weights.numpy(), strict=False)
        )
        logger.info(f"class weights: {spelled}{', ...' if len(names) > 12 else ''}")
    if cfg.amp and not amp.on_gpu():
        logger.info(
            "AMP on a CPU rounds to bfloat16 and computes in float32: the numbers of mixed precision, not its speed"
        )
    if cfg.onednn and not amp.on_gpu() and onednn.missing():
        logger.info(f"convolutions are Paddle's own, which are slower: oneDNN {onednn.missing()}")
    names = (
        f" ({', '.join(run.classes.names[:6])}{', ...' if run.classes.num > 6 else ''})"
        if run.classes.names
        else ""
    )
    logger.info(
        f"{run.failures.num_records} training and {num_valid} validation records, {run.classes.num} classes{names}"
    )
    size = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
    logger.info(
        f"{cfg.model_name}: {size / 1e6:.2f} M parameters on {paddle.get_device()}, {dist.world_size()} rank(s), "
        f"{run.num_steps} steps of {cfg.DATASET.batch_size} clips an epoch, {run.num_epochs} epochs, output in {run.folder}"
    )
