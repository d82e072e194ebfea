"""The training loop: one loop, no hooks; every paragraph opens with a comment that says what comes next."""

import contextlib
import time
from dataclasses import replace

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.config.schema import Config
from paddlevideo.data.failures import refuse
from paddlevideo.data.loader import Loaded
from paddlevideo.engine import amp
from paddlevideo.engine.best_validation import NUM_HARDEST, write_best_validation
from paddlevideo.engine.checkpoint import TrainState, average_buffers
from paddlevideo.engine.evaluate import Evaluation, evaluate, to_tensors
from paddlevideo.engine.loaders import on_error
from paddlevideo.engine.phases import batch_shapes, order_of
from paddlevideo.engine.run import Run, start
from paddlevideo.engine.steps import distill, supervised
from paddlevideo.engine.watch import Clock, keep_evidence
from paddlevideo.models import onednn
from paddlevideo.models.layers import set_norm_splits
from paddlevideo.sample import DecodeError
from paddlevideo.solver import ema
from paddlevideo.solver.phases import evaluates, phase_at, saves

logger = log.logger


def train(
    cfg: Config,
    validate: bool = True,
    weights: str | None = None,
    resume: str | None = None,
    multigrid: bool = False,
) -> TrainState:
    """Train as the config says; checkpoints, logs and metrics go to `cfg.folder`.

    Args:
        validate: evaluate DATASET.valid every `val_interval` epochs and keep the best model.
        weights: a weight file to start from.
        resume: "auto" or the path of a `.pdstate` to go on from.
        multigrid: change clips, batches and learning rate as the MULTIGRID section says.
    """
    onednn.use(cfg.onednn)
    run = start(cfg, validate, weights, resume, multigrid)
    try:
        with run.stop:
            while (
                run.state.progress.epoch < run.num_epochs
                and not run.stop.seen
                and not early_stop_due(run)
            ):
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
        logger.info(
            f"asked to stop: saved after epoch {where.epoch + 1} step {where.step}; go on with --resume auto"
        )
    else:
        run.state.finished = True
        done = run.state.progress.epoch
        if done < run.num_epochs:
            best = f"{run.state.progress.best:.5f}, {run.state.progress.stale} validations ago"
            logger.info(
                f"stopped early after {done} of {run.num_epochs} epochs: no better validation than {best}"
            )
        logger.info(f"training {cfg.model_name} finished")
    return run.state


# --- one epoch -----------------------------------------------------------------------------------------------------


def train_epoch(run: Run) -> None:
    """Run the rest of the current epoch; returns early, with the state saved, where a stop was asked for."""
    cfg, state = run.cfg, run.state
    progress, epoch = state.progress, state.progress.epoch
    enter_phase(run, epoch)
    run.network.train()
    clock = Clock(run.steps_before(run.num_epochs) - run.steps_before(epoch) - progress.step)
    bar = log.progress(
        total=run.num_steps,
        label=f"epoch {epoch + 1}/{run.num_epochs}",
        start=progress.step,
        show=dist.is_main(),
    )
    for loaded in run.loader.epoch(epoch, progress.step):
        clock.loaded()
        step = progress.step
        admit(run, loaded)

        # Random numbers belong to the step: a resumed run draws what the first one drew.
        rng = np.random.default_rng((cfg.seed, epoch, step, dist.rank()))
        paddle.seed(int(rng.integers(2**31)))
        batch = {
            "epoch": epoch,
            "label": paddle.to_tensor(loaded.batch["label"]),
            **to_tensors(run.loader.dataset.pipeline, inputs_of(run, loaded)),
        }
        if run.class_weights is not None:
            batch["class_weights"] = run.class_weights
        if run.mix:
            batch = run.mix(batch, rng)

        # Forward and backward; ranks exchange gradients only where an optimizer step follows.
        rate = run.lr(epoch, step)
        ends = (step + 1) % run.accumulate == 0
        quiet = (
            run.network.no_sync()
            if dist.world_size() > 1 and not ends
            else contextlib.nullcontext()
        )
        with quiet:
            with amp.autocast(cfg, state.model):
                learn = distill if hasattr(state.model, "student") else supervised
                values = learn(run.network, state.model, batch)
            loss = values["loss"].item()
            if not np.isfinite(loss):
                files = [
                    run.loader.dataset.records[i].place for i in loaded.batch["index"].tolist()
                ]
                facts = {"epoch": epoch + 1, "step": step, "loss": loss, "lr": rate}
                keep_evidence(run.folder, facts, files, state.model_arrays(), loaded.batch)
            state.scaler.scale(values["loss"] / run.accumulate).backward()

        # The optimizer; what an epoch's last batches leave over of an accumulation is dropped, as in the reference.
        if ends:
            state.optimizer.set_lr(rate)
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.clear_grad()
            if state.average is not None:
                done = (run.steps_before(epoch) + step + 1) // run.accumulate
                ema.update(state.average, state.model, run.ema.decay_at(done))

        # Sums for the end of the epoch, one line every log_interval steps.
        numbers = {"loss": loss, **{k: float(v) for k, v in values.items() if k != "loss"}}
        clips = len(loaded.batch["label"])
        for key, value in {**numbers, "clips": 1.0}.items():
            progress.sums[key] = progress.sums.get(key, 0.0) + value * clips
        progress.step += 1
        clock.stepped(clips)
        bar.update()
        if step % cfg.log_interval == 0:
            report_step(run, epoch, step, rate, numbers, clock)
        if run.stop.agreed(progress.step // run.accumulate, ends):
            bar.close()
            save_latest(run)
            return
    bar.close()
    state.optimizer.clear_grad()
    report_epoch(run, epoch, clock)


def enter_phase(run: Run, epoch: int) -> None:
    """Give loader and model what the phase of this epoch asks for; within a phase nothing changes."""
    number, phase = next(
        (i, phase) for i, phase in enumerate(run.phases) if phase.first <= epoch < phase.end
    )
    run.loader.order = order_of(run.cfg, phase, run.records)
    if phase.num_frames:  # a plan's; a plain run leaves the model as the config made it
        set_norm_splits(run.state.model, phase.bn_splits)
        if epoch == phase.first:
            shapes = ", ".join(
                f"{size} x {clip.num_frames} x {clip.crop_size}"
                for size, clip in batch_shapes(phase)
                if clip
            )
            logger.info(
                f"phase {number + 1} of {len(run.phases)}: clips x frames x crop {shapes}; BN splits {phase.bn_splits}"
            )
            first = {
                "split": "phase",
                "epoch": epoch,
                "iteration": run.steps_before(epoch),
                "seconds": run.seconds,
            }
            run.metrics.write(**first, end=phase.end, shapes=shapes, bn_splits=phase.bn_splits)


def admit(run: Run, loaded: Loaded) -> None:
    """Count the files of a batch that failed, or stop at them, as the config says; and those without sound."""
    run.missing.add(loaded.batch)
    if run.loader.dataset.replace:
        run.failures.add(loaded)
    else:
        refuse(loaded, "on_error: replace")


def inputs_of(run: Run, loaded: Loaded) -> dict[str, np.ndarray]:
    return {name: loaded.batch[name] for name in run.loader.dataset.pipeline.batch_specs}


def finish_epoch(run: Run) -> None:
    """Validate where it is due, keep what is best, write the checkpoints of the epoch."""
    cfg, state = run.cfg, run.state
    progress = state.progress
    done = progress.epoch + 1
    average_buffers(state.model, state.average)
    progress.epoch, progress.step, progress.sums = done, 0, {}
    # The statistics belong to the weights of this epoch, so they come before whatever evaluates or keeps them.
    if cfg.PRECISEBN and evaluates(run.phases, done, cfg.PRECISEBN.preciseBN_interval):
        update_statistics(run, done)

    best = False
    if run.valid and evaluates(run.phases, done, cfg.val_interval):
        with averaged(run):
            result = validate_epoch(run, done)
        score, loss = result.score, result.numbers["loss"]
        # Of equal scores the lower loss is the better model.
        if (
            progress.best is None
            or progress.best_loss is None
            or (score, -loss) > (progress.best, -progress.best_loss)
        ):
            best, progress.best, progress.best_loss = True, score, loss
        progress.stale = 0 if best else progress.stale + 1

    if dist.is_main():
        if best and progress.best is not None:
            with averaged(run):
                state.save_pair(run.folder / f"{cfg.model_name}_best")
            write_best_validation(run.folder, done, result, run.classes.names, run.records.records)
            logger.info(
                f"Already save the best model ({result.headline[1]}){int(progress.best * 10000) / 10000}"
            )
        # The numbering of PaddleVideo: epochs 1, 1 + save_interval, ... and the last.
        if saves(run.phases, done, cfg.save_interval) or early_stop_due(run):
            state.save_pair(run.folder / f"{cfg.model_name}_epoch_{done:05d}")
    save_latest(run)


def early_stop_due(run: Run) -> bool:
    """Whether EARLY_STOPPING ends the run here; told by its state, so that a resumed run knows it too."""
    stopping = run.cfg.EARLY_STOPPING
    return (
        stopping is not None
        and run.valid is not None
        and run.state.progress.stale >= stopping.patience
    )


def averaged(run: Run) -> contextlib.AbstractContextManager:
    """Inside, the model has the average of its weights, where the run keeps one."""
    average = run.state.average
    return contextlib.nullcontext() if average is None else ema.averaged(run.state.model, average)


def update_statistics(run: Run, done: int) -> None:
    """Precise batch-norm statistics for the weights after `done` epochs, from clips of the phase that ends there."""
    cfg, model = (
        run.cfg,
        getattr(run.state.model, "student", run.state.model),
    )  # a teacher keeps what it has
    assert cfg.PRECISEBN is not None
    paddle.seed(
        int(np.random.default_rng((cfg.seed, done, dist.rank())).integers(2**31))
    )  # a pathway may be dropped at random
    order = order_of(cfg, phase_at(run.phases, done - 1), run.records, short_cycle=False)
    run.loader.order = replace(
        order, max_batches=min(len(order), cfg.PRECISEBN.num_iters_preciseBN)
    )

    def forward(loaded: Loaded) -> None:
        admit(run, loaded)
        with amp.autocast(cfg, model):
            tensors = to_tensors(run.loader.dataset.pipeline, inputs_of(run, loaded))
            model({name: tensors[name] for name in model.inputs})

    begin = time.perf_counter()
    if run.precise.update(model, forward, run.loader.epoch(done), run.loader.order):
        logger.info(
            f"precise batch norm from {len(run.loader)} batches in {time.perf_counter() - begin:.1f} sec"
        )


def validate_epoch(run: Run, done: int) -> Evaluation:
    """Evaluate after `done` epochs, say and record the numbers."""
    assert run.valid is not None
    skip = on_error(run.cfg, "valid", "skip", ("skip", "fail")) == "skip"
    result = evaluate(
        run.cfg,
        run.state.model,
        run.valid,
        run.classes.num,
        skip,
        f"valid {done}",
        num_hardest=NUM_HARDEST,
    )
    if "loss" not in result.numbers:
        raise DecodeError(
            f"not one validation file could be decoded, so nothing was validated; first: {result.failures[0]}"
        )
    spelled = "  ".join(
        f"{k}: {v:.5f}" for k, v in result.numbers.items() if not k.startswith("num_")
    )
    logger.info(f"END epoch:{done:<3d} val {spelled}  videos: {result.numbers['num_samples']}")
    for failure in result.failures:
        logger.warning(f"counted as wrong: {failure}")
    run.metrics.write(
        split="valid",
        epoch=done - 1,
        iteration=run.steps_before(done),
        seconds=run.seconds,
        **result.numbers,
    )
    return result


def save_latest(run: Run) -> None:
    run.state.progress.seconds = run.seconds
    run.state.save(run.folder / f"{run.cfg.model_name}_latest.pdstate")


# --- what is said -------------------------------------------------------------------------------------------------


def report_step(
    run: Run, epoch: int, step: int, rate: float, numbers: dict[str, float], clock: Clock
) -> None:
    """One line of the log and one row of the metrics: the step's numbers, costs over the last steps."""
    reader = sum(clock.waits) / len(clock.waits)
    spelled = " ".join(f"{k}: {v:.5f}" for k, v in numbers.items() if k != "loss")
    logger.info(
        f"epoch:[{epoch + 1:>3d}/{run.num_epochs:<3d}] train step:{step:<4d} loss: {numbers['loss']:.5f} lr: {rate:.6f} "
        f"{spelled} batch_cost: {clock.cost:.5f} sec, reader_cost: {reader:.5f} sec, data: {100 * reader / clock.cost:.0f}%, "
        f"ips: {clock.speed:.5f} instance/sec, eta: {clock.eta}"
    )
    run.metrics.write(
        split="train", epoch=epoch, step=step, iteration=run.steps_before(epoch) + step, lr=rate, **numbers,
        batch_cost=clock.cost, reader_cost=reader, seconds=run.seconds,
    )  # fmt: skip


def report_epoch(run: Run, epoch: int, clock: Clock) -> None:
    """The epoch's averages over all ranks, and the files that failed on any of them."""
    progress = run.state.progress
    sums = dist.sum_over_ranks({k: np.float64(v) for k, v in progress.sums.items()})
    averages = {k: float(v / sums["clips"]) for k, v in sums.items() if k != "clips"}
    count = max(clock.count, 1)
    logger.info(
        f"END epoch:{epoch + 1:<3d} train " + " ".join(f"{k}_avg: {v:.5f}" for k, v in averages.items())
        + f" avg_batch_cost: {clock.total / count:.5f} sec, avg_reader_cost: {clock.total_wait / count:.5f} sec, "
        f"batch_cost_sum: {clock.total:.5f} sec, avg_ips: {clock.clips / max(clock.total, 1e-9):.5f} instance/sec."
    )  # fmt: skip
    run.metrics.write(
        split="epoch",
        epoch=epoch,
        iteration=run.steps_before(epoch + 1),
        seconds=run.seconds,
        **averages,
    )
    failed = {path for part in dist.gather(sorted(run.failures.files)) for path in part}
    if failed:
        logger.warning(
            f"{len(failed)} of {run.failures.num_records} files have failed so far; each is named above or in a rank's log"
        )
    run.failures.check(len(failed))  # each rank has only held its own against the limit
    run.missing.indices.update(*dist.gather(sorted(run.missing.indices)))
    if str(run.missing):
        logger.warning(str(run.missing))
