"""The training loop: one epoch, one step, what follows an epoch. No hooks; one path to debug."""

import contextlib
import time
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import paddle

from paddlevideo import dist, log, paddle_internals
from paddlevideo.data.failures import refuse
from paddlevideo.data.loader import Loaded
from paddlevideo.engine import amp
from paddlevideo.engine.best_validation import HardestClips, write_best_validation
from paddlevideo.engine.checkpoint import average_buffers
from paddlevideo.engine.epoch_log import EpochLog
from paddlevideo.engine.evaluate import Evaluation, evaluate, to_tensors
from paddlevideo.engine.loaders import on_error
from paddlevideo.engine.not_finite import FailedStep, NotFinite, keep_evidence, wrong_gradients
from paddlevideo.engine.phases import batch_shapes, order_of
from paddlevideo.engine.run import Run
from paddlevideo.engine.step_numbers import StepNumbers
from paddlevideo.engine.watch import Beats
from paddlevideo.models.layers import set_norm_splits
from paddlevideo.sample import Arrays, DecodeError
from paddlevideo.solver import ema
from paddlevideo.solver.phases import evaluates, phase_at, saves

logger = log.logger

# Steps with mixed precision that overflow one after the other before the run stops. The first few
# of a run do, until the scale of the loss is small enough.
MOST_SKIPPED = 40


# --- before the first epoch ---------------------------------------------------------------------


def keep_fitted_head(run: Run) -> None:
    """Validate and save a model whose classifier was fitted to frozen features, as epoch 0.

    It is the best model until an epoch is better. A resumed run has done this already.
    """
    state, progress = run.state, run.state.progress
    if run.cfg.FROZEN is None or progress.epoch or progress.step or progress.best is not None:
        return
    if run.data.valid:
        validate_and_keep_best(run, 0)
    if dist.is_main() and run.plan.num_epochs == 0:
        state.save_pair(run.folder / f"{run.cfg.model_name}_epoch_00000")
    save_latest(run)


# --- one epoch ----------------------------------------------------------------------------------


def train_epoch(run: Run) -> None:
    """Train the rest of the current epoch; on a stop signal, save the state and return early."""
    state, progress = run.state, run.state.progress
    epoch = progress.epoch
    enter_phase(run, epoch)
    run.network.train()
    epoch_log = EpochLog(run)
    for loaded in run.data.loader.epoch(epoch, progress.step):
        epoch_log.loaded()
        run.watch.beat()
        step = progress.step
        count_failures(run, loaded)

        # Forward, backward, and the optimizer where an accumulation ends.
        updates = (step + 1) % run.plan.accumulate == 0
        numbers = train_step(run, loaded, epoch, step, updates)

        # Log the numbers that were read, and stop if that was requested.
        epoch_log.step(epoch, numbers, clips=len(loaded.batch["label"]))
        if run.stop.agreed(progress.step // run.plan.accumulate, updates):
            epoch_log.add(epoch, read_numbers(run, epoch))
            epoch_log.close()
            save_latest(run)
            return
    epoch_log.add(epoch, read_numbers(run, epoch))
    state.optimizer.clear_grad()
    epoch_log.finish(epoch)


def train_step(run: Run, loaded: Loaded, epoch: int, step: int, updates: bool) -> list[StepNumbers]:
    """Run one batch forward and backward; with `updates`, also the optimizer step.

    Returns:
        the numbers of this step and of those before it that were not read yet; empty where the
        numbers are not due (step_numbers.py).

    Raises:
        NotFinite: the loss or a gradient is NaN or infinite.
    """
    cfg, state = run.cfg, run.state

    # Random numbers depend only on seed, epoch, step and rank: a resumed run draws the same.
    rng = np.random.default_rng((cfg.seed, epoch, step, dist.rank()))
    paddle.seed(int(rng.integers(2**31)))
    batch = make_batch(run, loaded, epoch, rng)

    # Ranks exchange gradients only where an optimizer step follows.
    exchange = dist.world_size() == 1 or updates
    with contextlib.nullcontext() if exchange else run.network.no_sync():
        with amp.autocast(cfg, state.model):
            inputs = {name: batch[name] for name in state.model.train_inputs if name in batch}
            losses = state.model.losses(run.network(inputs), batch)
        state.scaler.scale(losses["loss"] / run.plan.accumulate).backward()

    # A gradient scaler looks for infinity itself, and skips the step.
    norm = gradient_norm(run) if updates and not state.scaler.is_enable() else None
    run.numbers.add(step, loaded.batch["index"].tolist(), losses, norm)
    numbers = read_numbers(run, epoch, loaded) if run.numbers.due(step) else []

    # An accumulation that is incomplete at the end of an epoch is dropped, as in the reference.
    if updates:
        update_weights(run, epoch, step)
    return numbers


def gradient_norm(run: Run) -> paddle.Tensor | None:
    """The norm of all gradients, squared, on the device; None without gradients."""
    gradients = [p.grad for p in run.state.model.parameters() if p.grad is not None]
    return paddle_internals.squared_norm(gradients) if gradients else None


def read_numbers(run: Run, epoch: int, loaded: Loaded | None = None) -> list[StepNumbers]:
    """Read the numbers of the steps since the last reading.

    Args:
        loaded: the batch of the last of these steps, if its weights are not updated yet.

    Raises:
        NotFinite: a loss or a gradient is NaN or infinite; the first such step is named.
    """
    numbers = run.numbers.read()
    for one in numbers:
        if not one.finite:
            stop_run(run, one, epoch, loaded if one is numbers[-1] else None)
    return numbers


def stop_run(run: Run, numbers: StepNumbers, epoch: int, loaded: Loaded | None) -> NoReturn:
    """Keep what is known of a step that is not finite, and stop.

    Args:
        loaded: its batch; None where later steps have changed the weights already.

    Raises:
        NotFinite: always.
    """
    loss, names = numbers.losses["loss"], ()
    if np.isfinite(loss):
        names = wrong_gradients(run.state.model) if loaded else ("read after later steps",)
    failed = FailedStep(epoch + 1, numbers.step, loss, run.lr(epoch, numbers.step), names)
    records = run.data.loader.dataset.records
    files = [records[index].location for index in numbers.indices]
    weights = run.state.model_arrays() if loaded else None
    keep_evidence(run.folder, failed, files, weights, loaded.batch if loaded else None)


def make_batch(run: Run, loaded: Loaded, epoch: int, rng: np.random.Generator) -> dict[str, Any]:
    """The tensors of a training batch: inputs, labels, class weights; mixed where MIX says so."""
    batch = {
        "epoch": epoch,
        "label": run.upload(loaded.batch["label"]),
        **to_tensors(run.data.loader.dataset.pipeline, inputs_of(run, loaded), run.upload),
    }
    if run.class_weights is not None:
        batch["class_weights"] = run.class_weights
    if run.mix:
        batch = run.mix(batch, rng, run.upload if amp.on_gpu() else None)
    run.upload.queued()
    return batch


def inputs_of(run: Run, loaded: Loaded) -> Arrays:
    return {name: loaded.batch[name] for name in run.data.loader.dataset.pipeline.batch_specs}


def update_weights(run: Run, epoch: int, step: int) -> None:
    """The optimizer step, and the moving average of the weights."""
    state = run.state
    state.optimizer.set_lr(run.lr(epoch, step))
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if amp.num_skipped(state.scaler) > MOST_SKIPPED:
        raise NotFinite(
            f"gradients overflowed in {MOST_SKIPPED + 1} steps one after the other, up to epoch "
            f"{epoch + 1} step {step}, although each of them halved the scale of the loss. "
            "Checkpoints are kept; a lower learning rate or grad_clip is the usual fix, or train "
            "without amp"
        )
    state.optimizer.clear_grad()
    if state.average is not None:
        done = (run.plan.steps_before(epoch) + step + 1) // run.plan.accumulate
        ema.update(state.average, state.model, run.ema.decay_at(done))


def enter_phase(run: Run, epoch: int) -> None:
    """Set up loader and model for the phase of this epoch; nothing changes inside a phase."""
    phases = run.plan.phases
    number, phase = next((i, p) for i, p in enumerate(phases) if p.first <= epoch < p.end)
    run.data.loader.order = order_of(run.cfg, phase, run.data.records)
    if not phase.num_frames:  # plain training leaves the model as the config made it
        return
    set_norm_splits(run.state.model, phase.bn_splits)
    if epoch == phase.first:
        clips = [(size, clip) for size, clip in batch_shapes(phase) if clip]
        shapes = ", ".join(f"{size} x {clip.num_frames} x {clip.crop_size}" for size, clip in clips)
        logger.info(
            f"phase {number + 1} of {len(phases)}: clips x frames x crop {shapes}; "
            f"BN splits {phase.bn_splits}"
        )
        run.metrics.write(
            split="phase",
            epoch=epoch,
            iteration=run.plan.steps_before(epoch),
            seconds=run.seconds,
            end=phase.end,
            shapes=shapes,
            bn_splits=phase.bn_splits,
        )


def count_failures(run: Run, loaded: Loaded) -> None:
    """Count files that failed and files without audio; without `replace`, stop at a failed one."""
    run.data.missing_audio.add(loaded.batch)
    if run.data.loader.dataset.replace:
        run.data.failures.add(loaded)
    else:
        refuse(loaded, "on_error: replace")


# --- after an epoch -----------------------------------------------------------------------------


def finish_epoch(run: Run) -> None:
    """Validate if it is due, keep the best model, write the checkpoints of the epoch."""
    cfg, state, progress = run.cfg, run.state, run.state.progress
    done = progress.epoch + 1
    average_buffers(state.model, state.average)
    progress.epoch, progress.step, progress.sums = done, 0, {}

    # The statistics belong to the weights of this epoch, so they come before any evaluation.
    phases = run.plan.phases
    if cfg.PRECISEBN and evaluates(phases, done, cfg.PRECISEBN.preciseBN_interval):
        update_statistics(run, done)
    if run.data.valid and evaluates(phases, done, cfg.val_interval):
        validate_and_keep_best(run, done)

    # The numbering of PaddleVideo: epochs 1, 1 + save_interval, ... and the last.
    if dist.is_main() and (saves(phases, done, cfg.save_interval) or early_stop_due(run)):
        state.save_pair(run.folder / f"{cfg.model_name}_epoch_{done:05d}")
    save_latest(run)


def validate_and_keep_best(run: Run, done: int) -> None:
    """Validate after `done` epochs, and write the model if it is the best so far."""
    progress = run.state.progress
    hardest = HardestClips()
    with averaged(run):
        result = validate_epoch(run, done, hardest)
    score, loss = result.score, result.numbers["loss"]
    # Of two models with equal scores, the one with the lower loss is better.
    best = (
        progress.best is None
        or progress.best_loss is None
        or (score, -loss) > (progress.best, -progress.best_loss)
    )
    if best:
        progress.best, progress.best_loss = score, loss
    progress.stale = 0 if best else progress.stale + 1
    if best and dist.is_main():
        with averaged(run):
            run.state.save_pair(run.folder / f"{run.cfg.model_name}_best")
        records = run.data.records.records
        names = run.classes.names
        write_best_validation(run.folder, done, result, hardest.rows, names, records)
        # PaddleVideo's own line, which users search for.
        rounded = int(score * 10000) / 10000
        logger.info(f"Already save the best model ({result.headline[1]}){rounded}")


def validate_epoch(run: Run, done: int, hardest: HardestClips) -> Evaluation:
    """Evaluate after `done` epochs, and log and record the numbers.

    Raises:
        DecodeError: no validation file could be decoded.
    """
    assert run.data.valid is not None
    policy = on_error(run.cfg, "valid", "skip", ("skip", "fail"))
    label, collectors = f"valid {done}", (hardest, Beats(run.watch))
    result = evaluate(run.cfg, run.state.model, run.data.valid, policy, label, collectors)
    numbers = result.numbers
    if "loss" not in numbers:
        raise DecodeError(
            "not one validation file could be decoded, so nothing was validated; "
            f"first: {result.failures[0]}"
        )
    text = "  ".join(f"{k}: {v:.5f}" for k, v in numbers.items() if not k.startswith("num_"))
    logger.info(f"END epoch:{done:<3d} val {text}  videos: {numbers['num_samples']}")
    for failure in result.failures:
        logger.warning(f"counted as wrong: {failure}")
    steps = run.plan.steps_before(done)
    run.metrics.write(
        split="valid", epoch=done - 1, iteration=steps, seconds=run.seconds, **numbers
    )
    return result


def early_stop_due(run: Run) -> bool:
    """Whether EARLY_STOPPING ends the run here.

    It depends on saved state alone, so a resumed run decides the same.
    """
    stopping = run.cfg.EARLY_STOPPING
    if stopping is None or run.data.valid is None:
        return False
    return run.state.progress.stale >= stopping.patience


def averaged(run: Run) -> contextlib.AbstractContextManager:
    """Inside the block, the model has its averaged weights, if the run keeps an average."""
    average = run.state.average
    if average is None:
        return contextlib.nullcontext()
    return ema.averaged(run.state.model, average)


def update_statistics(run: Run, done: int) -> None:
    """Precise batch-norm statistics for the weights after `done` epochs.

    They come from clips of the phase of the last of these epochs. The teacher of a distillation
    keeps its own statistics.
    """
    cfg, model = run.cfg, run.state.model.evaluated
    assert cfg.PRECISEBN is not None
    # Seeded, because the forward pass may drop a pathway at random.
    rng = np.random.default_rng((cfg.seed, done, dist.rank()))
    paddle.seed(int(rng.integers(2**31)))
    loader = run.data.loader
    phase = phase_at(run.plan.phases, done - 1)
    order = order_of(cfg, phase, run.data.records, short_cycle=False)
    loader.order = replace(order, max_batches=min(len(order), cfg.PRECISEBN.num_iters_preciseBN))

    def forward(loaded: Loaded) -> None:
        run.watch.beat()
        count_failures(run, loaded)
        with amp.autocast(cfg, model):
            tensors = to_tensors(loader.dataset.pipeline, inputs_of(run, loaded), run.upload)
            run.upload.queued()
            model({name: tensors[name] for name in model.inputs})

    begin = time.perf_counter()
    if run.precise.update(model, forward, loader.epoch(done), loader.order):
        seconds = time.perf_counter() - begin
        logger.info(f"precise batch norm from {len(loader)} batches in {seconds:.1f} sec")


def save_latest(run: Run) -> None:
    """Write the state from which `--resume` goes on."""
    run.state.progress.seconds = run.seconds
    run.state.save(run.folder / f"{run.cfg.model_name}_latest.pdstate")
