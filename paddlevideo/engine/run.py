"""Everything a training run needs, built once from its config, and restored on a resume."""

import shlex
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from paddlevideo import dist, files, log
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.class_names import check_order, read_class_names
from paddlevideo.data.datasets import RecordList
from paddlevideo.data.failures import FailureCount, MissingAudio
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.engine import amp, best_validation, frozen
from paddlevideo.engine.architecture import architecture_note
from paddlevideo.engine.build import build_metric, build_model, build_pipeline
from paddlevideo.engine.checkpoint import Progress, TrainState, find_resume, read_checkpoint
from paddlevideo.engine.class_weights import class_weights, training_records
from paddlevideo.engine.classes import Classes, load_records
from paddlevideo.engine.earlier_run import RUN_FILES, remove_run
from paddlevideo.engine.finetune import apply_finetune
from paddlevideo.engine.frozen import check_frozen, fit_head
from paddlevideo.engine.loaders import eval_loader, fitted_loader, on_error, remote_cache
from paddlevideo.engine.phases import batch_shapes, clip_shapes, order_of, phases_of
from paddlevideo.engine.plan import Plan, make_plan
from paddlevideo.engine.precise_bn import PreciseBN
from paddlevideo.engine.preflight import preflight
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.engine.runfile import write_run_file
from paddlevideo.engine.same_ranks import check_lists, common_state
from paddlevideo.engine.start_weights import load_weights, random_start_text
from paddlevideo.engine.step_numbers import WaitingNumbers
from paddlevideo.engine.stop import StopSignal
from paddlevideo.engine.trained_clips import TrainedClips
from paddlevideo.engine.upload import Upload
from paddlevideo.engine.watch import Watch
from paddlevideo.models.base import Recognizer
from paddlevideo.models.layers import SubBatchNorm3D
from paddlevideo.models.vlad import UnbiasedNorm
from paddlevideo.solver import ema
from paddlevideo.solver.phases import Phase

logger = log.logger


@dataclass(frozen=True)
class Options:
    """What was requested for a training run, besides its config.

    Args:
        validate: evaluate DATASET.valid every `val_interval` epochs and keep the best model.
        weights: a weight file to start from.
        resume: "auto", or the path of a `.pdstate` or its folder.
        multigrid: follow the MULTIGRID section.
        overwrite: replace the run that is in the output folder.
    """

    validate: bool = True
    weights: str | None = None
    resume: str | None = None
    multigrid: bool = False
    overwrite: bool = False


@dataclass
class Data:
    """The data of a run on this rank; `valid` is None without validation."""

    records: RecordList
    loader: Loader
    valid: Loader | None
    num_valid: int
    failures: FailureCount
    missing_audio: MissingAudio

    def close(self) -> None:
        for loader in filter(None, (self.loader, self.valid)):
            loader.close()


@dataclass
class Run:
    """A training run. Only `state` changes while it runs.

    Args:
        network: what a step calls: the model, or its data-parallel form.
        mix: the batch mixer, or None.
        ema: updates the moving average of the weights, or None.
        class_weights: factors on the loss of each class [K], or None.
        upload: makes the tensors of batches.
        numbers: the losses of the last steps, which were not read yet.
        watch: gets the steps.
        began: `time.perf_counter()` when the run began (s), as if it had not been interrupted.
    """

    cfg: Config
    options: Options
    folder: Path
    classes: Classes
    state: TrainState
    network: Any
    plan: Plan
    data: Data
    mix: Any
    ema: Any
    class_weights: paddle.Tensor | None
    upload: Upload
    numbers: WaitingNumbers
    metrics: log.Metrics
    stop: StopSignal
    precise: PreciseBN
    watch: Watch
    began: float

    @property
    def seconds(self) -> float:
        """Time of the run so far, including the time before a resume."""
        return round(time.perf_counter() - self.began, 3)

    @property
    def num_steps(self) -> int:
        """Steps of the current epoch."""
        return len(self.data.loader)

    def lr(self, epoch: int, step: int) -> float:
        return self.plan.lr(epoch, step, self.num_steps)


# --- building -----------------------------------------------------------------------------------


def prepare(cfg: Config, options: Options, watch: Watch | None = None) -> Run:
    """Build a run that reports to `watch`, log what it is, and restore the state of a resumed run.

    Raises:
        ConfigError, DatasetError, WeightsError: something is missing or does not fit.
    """
    if cfg.OPTIMIZER is None:
        raise ConfigError([f"{cfg.origin.path}: OPTIMIZER is missing; training needs one"])
    lists, classes = load_lists(cfg, options.validate)
    records = lists["train"].records

    paddle.seed(cfg.seed)
    model = build_model(cfg, classes.num)
    recipe = cfg.OPTIMIZER.make()
    phases, schedule = phases_of(cfg, recipe.learning_rate, model, options.multigrid)
    check_fit(cfg, options, model, phases)
    folder = Path(cfg.folder)
    resume = common_state(folder, cfg.model_name, options.resume)
    saved = find_resume(folder, cfg.model_name, resume) if resume else None
    pretrained, earlier_clips = first_weights(cfg, model, options.weights, classes, saved)
    if cfg.FROZEN and not (saved or cfg.resume_epoch):
        fit_head(cfg, model, records, classes)
    factors = class_weights(cfg, records, classes.num, classes.names, model.multi_label)

    network, state = trainable(cfg, model, recipe, classes)
    data = load_data(cfg, lists, classes.num, phases)
    plan = make_plan(cfg, phases, schedule, lists["train"], options.multigrid)
    clips = TrainedClips.of(records)
    state.train_clips = clips.with_earlier(earlier_clips) if clips else None
    state.fingerprint = settings_text(cfg, len(records), plan)

    resumed = restore(cfg, state, folder, resume, plan.num_epochs)
    remove_leftovers(cfg, folder, resumed)
    if options.overwrite and dist.is_main():
        remove_run(folder, cfg.model_name, keep=options.weights)
    if not (pretrained or resumed):
        logger.info(random_start_text(cfg, state.model))
    write_run_file(cfg, folder, classes, run_flags(options))
    progress = state.progress
    return Run(
        cfg=cfg,
        options=options,
        folder=folder,
        classes=classes,
        state=state,
        network=network,
        plan=plan,
        data=data,
        mix=cfg.MIX.make() if cfg.MIX else None,
        ema=cfg.EMA.make() if cfg.EMA else None,
        class_weights=None if factors is None else paddle.to_tensor(factors),
        upload=Upload(),
        numbers=WaitingNumbers(cfg.log_interval if amp.on_gpu() else 1),
        metrics=metrics_of(folder, progress if resumed else None),
        stop=StopSignal(cfg.log_interval),
        precise=PreciseBN(),
        watch=watch or Watch(),
        began=time.perf_counter() - progress.seconds,
    )


def load_lists(cfg: Config, validate: bool) -> tuple[dict[str, RecordList], Classes]:
    """The records of a training, which are the same on all ranks, and its classes."""
    lists, classes = load_records(cfg, ("train", "valid") if validate else ("train",))
    check_lists(cfg, lists)
    return {**lists, "train": training_records(cfg, lists["train"])}, classes


def metrics_of(folder: Path, progress: Progress | None) -> log.Metrics:
    """The numbers of the run; of a resumed run, those before its progress are kept."""
    return log.Metrics(
        folder, dist.is_main(), (progress.epoch, progress.step) if progress else None
    )


def check_fit(cfg: Config, options: Options, model: Recognizer, phases: list[Phase]) -> None:
    """Try pipelines and metric against the model before the first epoch.

    Raises:
        ConfigError: something does not fit.
    """
    splits = ["train"]
    splits += ["valid"] if options.validate else []
    splits += ["valid"] if cfg.FROZEN and not options.validate else []
    splits += ["test"] if cfg.export else []  # an export contains PIPELINE.test
    preflight(cfg, model, splits, clip_shapes(phases))
    build_metric(cfg, model.num_classes, model.multi_label)
    if cfg.FROZEN:
        check_frozen(cfg, model)


def trainable(
    cfg: Config, model: Recognizer, recipe: Any, classes: Classes
) -> tuple[Any, TrainState]:
    """Return (what a step calls, the state of training), ready for the precision and the ranks.

    Raises:
        ConfigError: `sync_bn` without GPUs.
    """
    multi_precision = cfg.amp and cfg.amp_level == "O2"
    optimizer = recipe.build(model.named_parameters(), multi_precision=multi_precision)
    prepared: Any
    prepared, optimizer, scaler = amp.prepare(cfg, model, optimizer)
    if cfg.sync_bn and not amp.on_gpu():
        raise ConfigError([
            f"{cfg.origin.path}: sync_bn needs GPUs; Paddle has no such kernel for a CPU"
        ])  # fmt: skip
    if cfg.sync_bn and dist.world_size() > 1:
        check_sync_bn(cfg, model)
        prepared = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(prepared)
    network = paddle.DataParallel(prepared) if dist.world_size() > 1 else prepared
    average = ema.start(prepared) if cfg.EMA else None
    return network, TrainState(prepared, optimizer, scaler, Progress(), classes.names, "", average)


def check_sync_bn(cfg: Config, model: Recognizer) -> None:
    """Check that batch norms over all GPUs compute what those of the model do.

    Raises:
        ConfigError: one of them differs from a plain batch norm.
    """
    for name, layer in model.named_sublayers():
        if isinstance(layer, UnbiasedNorm) or (
            isinstance(layer, SubBatchNorm3D) and layer.splits > 1
        ):
            raise ConfigError([
                f"{cfg.origin.path}: sync_bn would replace {name}, which is no plain batch norm "
                f"({type(layer).__name__}); train without it"
            ])  # fmt: skip


def load_data(
    cfg: Config, lists: dict[str, RecordList], num_classes: int, phases: list[Phase]
) -> Data:
    """The loaders of this rank, and the counters of what cannot be loaded."""
    assert cfg.DATASET.train is not None  # load_records has used it
    train = lists["train"]
    replaces = on_error(cfg, "train", "replace", ("replace", "fail")) == "replace"
    pipeline = build_pipeline(cfg, "train")
    drawn = train.records * train.repeats if train.repeats > 1 else train.records
    dataset = ClipDataset(drawn, pipeline, cfg.seed, replaces, num_classes, remote_cache(cfg))
    shapes = [shape for phase in phases for shape in batch_shapes(phase)]
    order = order_of(cfg, phases[0], train)
    loader = fitted_loader(dataset, order, cfg.DATASET.num_workers, cfg.DATASET.prefetch, shapes)
    valid = lists.get("valid")
    return Data(
        records=train,
        loader=loader,
        valid=eval_loader(cfg, "valid", valid.records, num_classes) if valid else None,
        num_valid=len(valid.records) if valid else 0,
        failures=FailureCount(cfg.DATASET.train.args.get("max_failures", 0.01), len(train.records)),
        missing_audio=MissingAudio(drawn),
    )


def settings_text(cfg: Config, num_records: int, plan: Plan) -> str:
    """The settings that must be the same when a run is resumed, as text."""
    data = cfg.DATASET
    parts = [
        f"seed {cfg.seed}",
        f"{num_records} records",
        f"batch {data.batch_size} x {dist.world_size()} ranks x {plan.accumulate}",
        f"{plan.steps[0]} steps an epoch",
        f"AMP {cfg.amp_level}" if cfg.amp else "no AMP",
    ]
    if plan.table:
        parts.append(f"multigrid plan {zlib.crc32(plan.table.encode()):08x}")
    if data.sampling != "shuffled":
        parts.append(data.sampling)
    if data.min_epoch_clips:
        parts.append(f"{data.min_epoch_clips} clips an epoch")
    if cfg.FINETUNE.freeze:
        parts.append(f"frozen {' '.join(cfg.FINETUNE.freeze)}")
    return ", ".join(parts)


def first_weights(
    cfg: Config, model: Recognizer, weights: str | None, classes: Classes, saved: Path | None
) -> tuple[bool, TrainedClips | None]:
    """Load the weights that training starts from, freeze what stays fixed, and log the result.

    Args:
        weights: a weight file to start from.
        saved: the state that will be restored afterwards.

    Returns:
        whether a file was loaded, and the clips that `weights` were trained on.
    """
    clips = None
    accounts = load_pretrained(cfg, model, classes.names, weights or str(saved or ""))
    for account in accounts:
        logger.info(account)
    if weights:
        arrays, names, clips, architecture = read_checkpoint(weights)
        if note := architecture_note(model, weights, architecture, training=True):
            logger.warning(note)
        if cfg.FINETUNE.class_names:
            given = read_class_names(cfg.FINETUNE.class_names)
            check_order("FINETUNE.class_names", given, weights, names)
            names = given
        for line in load_weights(model, arrays, weights, names, classes.names):
            logger.info(line)
    elif cfg.FINETUNE.class_names:
        logger.warning(
            "FINETUNE.class_names has no effect without -w: it names the classes of that file"
        )
    changes = apply_finetune(cfg, model)
    if changes:
        logger.info(changes)
    return bool(accounts or weights), clips


def run_flags(options: Options) -> str:
    """The flags of main.py that repeat a run, for run.yaml."""
    flags = "--validate " if options.validate else ""
    flags += "--multigrid " if options.multigrid else ""
    return flags + (f"-w {shlex.quote(options.weights)} " if options.weights else "")


def restore(
    cfg: Config, state: TrainState, folder: Path, resume: str | None, num_epochs: int
) -> bool:
    """Restore the state to resume from, if any; return whether there was one."""
    if resume:
        path = find_resume(folder, cfg.model_name, resume)
        if path is None:
            logger.info(f"nothing to resume in {folder}: starting from the beginning")
            return False
        state.restore(path)
        done = state.progress
        logger.info(f"resumed from {path}: {done.epoch} epochs and {done.step} steps are done")
        if done.epoch >= num_epochs:
            logger.info(
                f"all {num_epochs} epochs are done already; "
                "-o epochs=... with a larger number would go on"
            )
        return True
    if cfg.resume_epoch:
        stem = folder / f"{cfg.model_name}_epoch_{cfg.resume_epoch:05d}"
        state.restore_pair(stem)
        logger.info(f"resumed from {stem}.pdparams: epoch {state.progress.epoch + 1}")
        return True
    return False


def remove_leftovers(cfg: Config, folder: Path, resumed: bool) -> None:
    """Remove temporary files of a killed run, and the best validation of an earlier run."""
    if not dist.is_main():
        return
    files.remove_leftovers(folder, own=(f"{cfg.model_name}_", frozen.FILE, *RUN_FILES))
    if not resumed:
        (folder / best_validation.FILE).unlink(missing_ok=True)
    if not cfg.FROZEN:
        (folder / frozen.FILE).unlink(missing_ok=True)
