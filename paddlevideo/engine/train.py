"""The training loop: one loop, no hooks; every paragraph opens with a comment that says what comes next."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.data.loader import ClipDataset, FailureCount, Loader, TrainOrder, refuse
from paddlevideo.engine import amp
from paddlevideo.engine.build import Classes, build_model, build_pipeline, load_pretrained, load_records, preflight
from paddlevideo.engine.checkpoint import Progress, TrainState, average_buffers, find_resume, read_model
from paddlevideo.engine.runfile import write_run_file
from paddlevideo.engine.steps import supervised
from paddlevideo.engine.test import Evaluation, eval_loader, evaluate, fitted_loader, on_error, to_tensors
from paddlevideo.engine.watch import Clock, StopSignal, keep_evidence
from paddlevideo.sample import DecodeError
from paddlevideo.schema import Config, ConfigError
from paddlevideo.weights import load_into

logger = log.logger


@dataclass
class Run:
    """What a training run is made of; built once, then only `state` changes."""

    cfg: Config
    folder: Path
    state: TrainState
    loader: Loader
    valid: Loader | None
    classes: Classes
    failures: FailureCount
    network: paddle.nn.Layer  # what the step calls: the model, or its data-parallel form
    mix: Any  # the batch mixer, or None
    accumulate: int  # batches per optimizer step
    schedule: Any  # fractional epoch -> learning rate
    lr_scale: float
    metrics: log.Metrics
    stop: StopSignal

    @property
    def num_steps(self) -> int:
        return len(self.loader)

    def lr(self, epoch: int, step: int) -> float:
        return self.lr_scale * self.schedule(epoch + step / self.num_steps if self.schedule.iter_step else epoch)


def train(cfg: Config, validate: bool = True, weights: str | None = None, resume: str | None = None) -> TrainState:
    """Train as the config says; checkpoints, logs and metrics go to `cfg.folder`.

    Args:
        validate: evaluate DATASET.valid every `val_interval` epochs and keep the best model.
        weights: a weight file to start from.
        resume: "auto" or the path of a `.pdstate` to go on from.
    """
    run = start(cfg, validate, weights, resume)
    try:
        with run.stop:
            while run.state.progress.epoch < cfg.epochs and not run.stop.seen:
                train_epoch(run)
                if not run.stop.seen:
                    finish_epoch(run)
                    run.stop.agreed(0, True)
    finally:
        run.metrics.close()
        for loader in filter(None, (run.loader, run.valid)):
            loader.close()
    if run.stop.seen:
        where = run.state.progress
        logger.info(f"asked to stop: saved after epoch {where.epoch + 1} step {where.step}; go on with --resume auto")
    else:
        logger.info(f"training {cfg.model_name} finished")
    return run.state


# --- setting up --------------------------------------------------------------------------------------------------


def start(cfg: Config, validate: bool, weights: str | None, resume: str | None) -> Run:
    """Build everything a run needs, say what it is, and restore what is to be resumed."""
    if cfg.OPTIMIZER is None:
        raise ConfigError([f"{cfg.origin.path}: OPTIMIZER is missing; training needs one"])
    folder = Path(cfg.folder)
    lists, classes = load_records(cfg, ("train", "valid") if validate else ("train",))
    records = lists["train"].records

    # The model, its first weights, and a try of the pipelines on made-up data.
    paddle.seed(cfg.seed)
    model = build_model(cfg, classes.num)
    preflight(cfg, model, ("train", "valid") if validate else ("train",))
    for account in load_pretrained(cfg, model):
        logger.info(account)
    if weights:
        logger.info(load_into(model, read_model(weights)[0], weights))

    # Optimizer, precision, and the form that runs on many ranks.
    recipe = cfg.OPTIMIZER.make()
    optimizer = recipe.build(model.named_parameters(), multi_precision=cfg.amp and cfg.amp_level == "O2")
    model, optimizer, scaler = amp.prepare(cfg, model, optimizer)
    if cfg.sync_bn and not amp.on_gpu():
        raise ConfigError([f"{cfg.origin.path}: sync_bn needs GPUs; Paddle has no such kernel for a CPU"])
    if cfg.sync_bn and dist.world_size() > 1:
        model = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    network = paddle.DataParallel(model) if dist.world_size() > 1 else model

    if cfg.amp and not amp.on_gpu():
        logger.info("AMP on a CPU rounds to bfloat16 and computes in float32: the numbers of mixed precision, not its speed")

    # Data, and how batches, ranks and the learning rate belong together.
    order = TrainOrder(len(records), cfg.DATASET.batch_size, cfg.seed, dist.rank(), dist.world_size(), cfg.max_iters)
    replace = on_error(cfg, "train", "replace", ("replace", "fail")) == "replace"
    dataset = ClipDataset(records, build_pipeline(cfg, "train"), cfg.seed, replace)
    loader = fitted_loader(dataset, order, cfg.DATASET.num_workers, cfg.DATASET.prefetch, cfg.DATASET.batch_size)
    accumulate = accumulation(cfg, len(order))
    global_batch = cfg.DATASET.batch_size * dist.world_size() * accumulate
    lr_scale = linear_scale(recipe.learning_rate.reference_batch_size, global_batch)
    assert cfg.DATASET.train is not None  # load_records has used it
    limit = cfg.DATASET.train.args.get("max_failures", 0.01)

    fingerprint = (
        f"seed {cfg.seed}, {len(records)} records, batch {cfg.DATASET.batch_size} x {dist.world_size()} ranks x {accumulate}, "
        f"{len(order)} steps an epoch, {'AMP ' + cfg.amp_level if cfg.amp else 'no AMP'}"
    )
    state = TrainState(model, optimizer, scaler, Progress(), classes.names, fingerprint)
    resumed = restore(cfg, state, folder, resume)
    if dist.is_main():
        for leftover in folder.glob(f".{cfg.model_name}_*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink()
    write_run_file(cfg, folder, classes)
    run = Run(
        cfg=cfg, folder=folder, state=state, loader=loader, classes=classes, network=network, accumulate=accumulate,
        valid=eval_loader(cfg, "valid", lists["valid"].records) if validate else None,
        failures=FailureCount(limit, len(records)),
        mix=cfg.MIX.make() if cfg.MIX else None,
        schedule=recipe.learning_rate,
        lr_scale=lr_scale,
        metrics=log.Metrics(folder, dist.is_main(), (state.progress.epoch, state.progress.step) if resumed else None),
        stop=StopSignal(cfg.log_interval),
    )  # fmt: skip
    announce(run, model, len(lists["valid"].records) if validate else 0)
    return run


def accumulation(cfg: Config, num_steps: int) -> int:
    """Batches per optimizer step, from GRADIENT_ACCUMULATION.global_batch_size.

    Raises:
        ConfigError: it is no multiple of ranks x batch size, or an epoch is too short for one step.
    """
    if cfg.GRADIENT_ACCUMULATION is None:
        return 1
    wanted, batch = cfg.GRADIENT_ACCUMULATION.global_batch_size, cfg.DATASET.batch_size * dist.world_size()
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
        logger.info(f"learning rate as written, for a global batch of {global_batch} (reference_batch_size would scale it)")
        return 1.0
    logger.info(f"learning rate x {global_batch / reference:g}: global batch {global_batch}, written for {reference}")
    return global_batch / reference


def restore(cfg: Config, state: TrainState, folder: Path, resume: str | None) -> bool:
    """Put back what is to be resumed; True where there was something."""
    if resume:
        path = find_resume(folder, cfg.model_name, resume)
        if path is None:
            logger.info(f"nothing to resume in {folder}: starting from the beginning")
            return False
        state.restore(path)
        logger.info(f"resumed from {path}: {state.progress.epoch} epochs and {state.progress.step} steps are done")
        if state.progress.epoch >= cfg.epochs:
            logger.info(f"all {cfg.epochs} epochs are done already; -o epochs=... with a larger number would go on")
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
    names = f" ({', '.join(run.classes.names[:6])}{', ...' if run.classes.num > 6 else ''})" if run.classes.names else ""
    logger.info(f"{run.failures.num_records} training and {num_valid} validation records, {run.classes.num} classes{names}")
    size = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
    logger.info(
        f"{cfg.model_name}: {size / 1e6:.2f} M parameters on {paddle.get_device()}, {dist.world_size()} rank(s), "
        f"{run.num_steps} steps of {cfg.DATASET.batch_size} clips an epoch, {cfg.epochs} epochs, output in {run.folder}"
    )


# --- one epoch -----------------------------------------------------------------------------------------------------


def train_epoch(run: Run) -> None:
    """Run the rest of the current epoch; returns early, with the state saved, where a stop was asked for."""
    cfg, state = run.cfg, run.state
    progress, epoch = state.progress, state.progress.epoch
    run.network.train()
    clock = Clock(run.num_steps * (cfg.epochs - epoch) - progress.step, cfg.DATASET.batch_size)
    bar = log.progress(total=run.num_steps, label=f"epoch {epoch + 1}/{cfg.epochs}", start=progress.step, show=dist.is_main())
    for loaded in run.loader.epoch(epoch, progress.step):
        clock.loaded()
        step = progress.step
        if run.loader.dataset.replace:
            run.failures.add(loaded)
        else:
            refuse(loaded, "on_error: replace")

        # Random numbers belong to the step: a resumed run draws what the first one drew.
        rng = np.random.default_rng((cfg.seed, epoch, step, dist.rank()))
        paddle.seed(int(rng.integers(2**31)))
        batch = {
            "label": paddle.to_tensor(loaded.batch["label"]),
            **to_tensors(run.loader.dataset.pipeline, inputs_of(run, loaded)),
        }
        if run.mix:
            batch = run.mix(batch, rng)

        # Forward and backward; ranks exchange gradients only where an optimizer step follows.
        rate = run.lr(epoch, step)
        ends = (step + 1) % run.accumulate == 0
        quiet = run.network.no_sync() if dist.world_size() > 1 and not ends else contextlib.nullcontext()
        with quiet:
            with amp.autocast(cfg, state.model):
                values = supervised(run.network, state.model, batch)
            loss = values["loss"].item()
            if not np.isfinite(loss):
                files = [run.loader.dataset.records[i].path for i in loaded.batch["index"].tolist()]
                facts = {"epoch": epoch + 1, "step": step, "loss": loss, "lr": rate}
                keep_evidence(run.folder, facts, files, state.model_arrays(), loaded.batch)
            state.scaler.scale(values["loss"] / run.accumulate).backward()

        # The optimizer; what an epoch's last batches leave over of an accumulation is dropped, as in the reference.
        if ends:
            state.optimizer.set_lr(rate)
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.clear_grad()

        # Sums for the end of the epoch, one line every log_interval steps.
        numbers = {"loss": loss, **{k: float(v) for k, v in values.items() if k != "loss"}}
        for key, value in numbers.items():
            progress.sums[key] = progress.sums.get(key, 0.0) + value
        progress.step += 1
        clock.stepped()
        bar.update()
        if step % cfg.log_interval == 0:
            report_step(run, epoch, step, rate, numbers, clock)
        if run.stop.agreed(progress.step // run.accumulate, ends):
            bar.close()
            state.save(latest_path(run))
            return
    bar.close()
    state.optimizer.clear_grad()
    report_epoch(run, epoch, clock)


def inputs_of(run: Run, loaded) -> dict[str, np.ndarray]:
    return {name: loaded.batch[name] for name in run.loader.dataset.pipeline.travels}


def finish_epoch(run: Run) -> None:
    """Validate where it is due, keep what is best, write the checkpoints of the epoch."""
    cfg, state = run.cfg, run.state
    progress = state.progress
    done = progress.epoch + 1
    average_buffers(state.model)
    progress.epoch, progress.step, progress.sums = done, 0, {}

    best = False
    if run.valid and (done % cfg.val_interval == 0 or done == cfg.epochs):
        result = validate_epoch(run, done)
        score, loss = result.numbers["top1"], result.numbers["loss"]
        # Of equal accuracies the lower loss is the better model.
        if progress.best is None or progress.best_loss is None or (score, -loss) > (progress.best, -progress.best_loss):
            best, progress.best, progress.best_loss = True, score, loss

    if dist.is_main():
        if best and progress.best is not None:
            state.save_pair(run.folder / f"{cfg.model_name}_best")
            logger.info(f"Already save the best model (top1 acc){int(progress.best * 10000) / 10000}")
        # The numbering of PaddleVideo: epochs 1, 1 + save_interval, ... and the last.
        if (done - 1) % cfg.save_interval == 0 or done == cfg.epochs:
            state.save_pair(run.folder / f"{cfg.model_name}_epoch_{done:05d}")
    state.save(latest_path(run))


def validate_epoch(run: Run, done: int) -> Evaluation:
    """Evaluate after `done` epochs, say and record the numbers."""
    assert run.valid is not None
    skip = on_error(run.cfg, "valid", "skip", ("skip", "fail")) == "skip"
    result = evaluate(run.cfg, run.state.model, run.valid, run.classes.num, skip, f"valid {done}")
    if "loss" not in result.numbers:
        raise DecodeError(f"not one validation file could be decoded, so nothing was validated; first: {result.failures[0]}")
    spelled = "  ".join(f"{k}: {v:.5f}" for k, v in result.numbers.items() if not k.startswith("num_"))
    logger.info(f"END epoch:{done:<3d} val {spelled}  videos: {result.numbers['num_samples']}")
    for failure in result.failures:
        logger.warning(f"counted as wrong: {failure}")
    run.metrics.write(split="valid", epoch=done - 1, iteration=done * run.num_steps, **result.numbers)
    return result


def latest_path(run: Run) -> Path:
    return run.folder / f"{run.cfg.model_name}_latest.pdstate"


# --- what is said -------------------------------------------------------------------------------------------------


def report_step(run: Run, epoch: int, step: int, rate: float, numbers: dict[str, float], clock: Clock) -> None:
    """One line of the log and one row of the metrics: the step's numbers, costs over the last steps."""
    reader = sum(clock.waits) / len(clock.waits)
    spelled = " ".join(f"{k}: {v:.5f}" for k, v in numbers.items() if k != "loss")
    logger.info(
        f"epoch:[{epoch + 1:>3d}/{run.cfg.epochs:<3d}] train step:{step:<4d} loss: {numbers['loss']:.5f} lr: {rate:.6f} "
        f"{spelled} batch_cost: {clock.cost:.5f} sec, reader_cost: {reader:.5f} sec, data: {100 * reader / clock.cost:.0f}%, "
        f"ips: {clock.batch_size / clock.cost:.5f} instance/sec, eta: {clock.eta}"
    )
    run.metrics.write(
        split="train", epoch=epoch, step=step, iteration=epoch * run.num_steps + step, lr=rate, **numbers,
        batch_cost=clock.cost, reader_cost=reader,
    )  # fmt: skip


def report_epoch(run: Run, epoch: int, clock: Clock) -> None:
    """The epoch's averages over all ranks, and the files that failed on any of them."""
    progress = run.state.progress
    sums = dist.sum_over_ranks({k: np.float64(v) for k, v in {**progress.sums, "steps": progress.step}.items()})
    averages = {k: float(v / sums["steps"]) for k, v in sums.items() if k != "steps"}
    count = max(clock.count, 1)
    logger.info(
        f"END epoch:{epoch + 1:<3d} train " + " ".join(f"{k}_avg: {v:.5f}" for k, v in averages.items())
        + f" avg_batch_cost: {clock.total / count:.5f} sec, avg_reader_cost: {clock.total_wait / count:.5f} sec, "
        f"batch_cost_sum: {clock.total:.5f} sec, avg_ips: {clock.batch_size * count / max(clock.total, 1e-9):.5f} instance/sec."
    )  # fmt: skip
    run.metrics.write(split="epoch", epoch=epoch, iteration=(epoch + 1) * run.num_steps, **averages)
    failed = {path for part in dist.gather(sorted(run.failures.files)) for path in part}
    if failed:
        logger.warning(
            f"{len(failed)} of {run.failures.num_records} files have failed so far; each is named above or in a rank's log"
        )
    run.failures.check(len(failed))  # each rank has only held its own against the limit
