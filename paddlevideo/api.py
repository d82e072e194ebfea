"""The calls for notebooks and commands: train and test, inside a session.

import paddlevideo

cfg = paddlevideo.load_config("configs/demo/pptsn.yaml", ["epochs=3"])
state = paddlevideo.train(cfg)
paddlevideo.test(cfg, "output/demo_pptsn/ppTSN_best.pdparams")
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from paddlevideo import dist, log
from paddlevideo.config.schema import Config
from paddlevideo.engine.announce import announce
from paddlevideo.engine.checkpoint import TrainState
from paddlevideo.engine.describe import describe
from paddlevideo.engine.earlier_run import EXPORT_DIR, check_folder, check_going_on
from paddlevideo.engine.evaluate import Evaluation
from paddlevideo.engine.run import Options, Run, prepare
from paddlevideo.engine.run_lock import RunLock, output_folder
from paddlevideo.engine.same_ranks import check_ranks
from paddlevideo.engine.test import run_test
from paddlevideo.engine.train import early_stop_due, finish_epoch, keep_fitted_head, train_epoch
from paddlevideo.engine.watch import Watch
from paddlevideo.exporting.export import export_finished
from paddlevideo.exporting.export_folder import remove_export
from paddlevideo.models import onednn
from paddlevideo.predict.program_test import run_program_test
from paddlevideo.report.run_report import report_finished

logger = log.logger

_session_turn = threading.RLock()  # device, seed, ranks and log belong to the process


@contextlib.contextmanager
def session(cfg: Config, folder: str | Path | None = None) -> Iterator[str]:
    """Set up device, ranks, compute threads, determinism, oneDNN and logging from the config.

    `train` and `test` open a session themselves. Afterwards logging and oneDNN are as before; the
    device, the ranks and the number of compute threads belong to the process and stay. So one
    thread at a time may have a session; others may predict meanwhile.

    Args:
        folder: where log.txt is written; None logs to the console alone.

    Yields:
        the device: "cpu" or "gpu:0".

    Raises:
        ValueError: the launcher assigned a GPU that this machine does not have.
        RuntimeError: another thread of this process has a session.
    """
    with _turn():
        yield from _session(cfg, folder)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    if not _session_turn.acquire(blocking=False):
        raise RuntimeError(
            "another thread of this process trains or tests, and device, seed and log belong to "
            "the process; wait until it has ended, or use another process"
        )
    try:
        yield
    finally:
        _session_turn.release()


@contextlib.contextmanager
def watched(
    cfg: Config, minutes: float = 0.0, folder: str | Path = ".", **flags: object
) -> Iterator[Watch]:
    """Watch this rank for a block; several ranks connect first, and compare what they run.

    Args:
        minutes: without a step after which the run hangs; 0 for no limit.
        folder: where the stacks of a run that hangs are written.
        flags: what was asked for, which must be the same on all ranks.

    Raises:
        RanksDiffer: ranks have different configs, flags or code.
        LostRank: another rank failed; the message has the cause.
    """
    with _turn():
        if dist.world_size() > 1:
            with log.session(), dist.explained_loss_of_ranks():
                dist.choose_device(cfg.use_gpu)
                dist.init_ranks()
        with Watch(minutes, folder) as watch:
            with log.session(), dist.explained_loss_of_ranks():
                check_ranks(cfg, flags)
            yield watch


def _session(cfg: Config, folder: str | Path | None) -> Iterator[str]:
    logging = log.session(folder, dist.rank())
    with logging, onednn.use(cfg.onednn), dist.explained_loss_of_ranks():
        device, note = dist.choose_device(cfg.use_gpu)
        if cfg.deterministic:
            dist.make_deterministic()
        dist.init_ranks()
        threads = dist.use_threads()
        logger.info(
            f"{device}, {threads} compute thread(s), rank {dist.rank()} of {dist.world_size()}, "
            f"seed {cfg.seed}"
        )
        if note:
            logger.warning(note)
        yield device


def train(
    cfg: Config,
    validate: bool = True,
    weights: str | None = None,
    resume: str | None = None,
    multigrid: bool = False,
    overwrite: bool = False,
) -> TrainState:
    """Train as the config says; checkpoints, logs and metrics go to `cfg.folder`.

    When training finishes, it writes a report and, with `export: true`, the exported model to
    `inference/` in that folder.

    Args:
        validate: evaluate DATASET.valid every `val_interval` epochs and keep the best model.
        weights: a weight file to start from.
        resume: "auto", or the path of a `.pdstate` to go on from.
        multigrid: change clips, batches and learning rate as the MULTIGRID section says.
        overwrite: remove the files of the run that is in `cfg.folder`, once everything is ready.

    Raises:
        ConfigError, DatasetError, WeightsError: something is missing or does not fit.
        FolderHoldsRun: `cfg.folder` holds another run; nothing was written.
        FolderInUse: another run writes to `cfg.folder`.
        OSError: `cfg.folder` cannot be written, or was removed during the run.
        NotFinite: the loss became NaN or infinite.
        RanksDiffer, LostRank: of several ranks, some have another config or code, or one failed.
        ExportError: the training is complete, but its export failed.
    """
    options = Options(validate, weights, resume, multigrid, overwrite)
    with (
        watched(cfg, cfg.hang_minutes, cfg.folder, **asked(options)) as watch,
        free_folder(cfg, options) as (lock, log_size),
        session(cfg, cfg.folder) as device,
    ):
        if device == "cpu":
            dist.keep_freed_memory()
        run = prepare(cfg, options, watch)
        if overwrite:
            remove_log_and_export(cfg, log_size)
        announce(run)
        state, stop = run.state, run.stop
        try:
            with stop:
                watch.beat()
                keep_fitted_head(run)
                while not (stop.seen or is_done(run)):
                    train_epoch(run)
                    end_epoch(run, lock)
        finally:
            watch.rest()
            run.metrics.close()
            run.data.close()
        state.finished = not stop.seen
        log_end(run)
        if state.finished and dist.is_main():
            report_finished(cfg.folder)
            if cfg.export:
                export_finished(cfg, state.progress)
    return state


def end_epoch(run: Run, lock: RunLock | None) -> None:
    """Validate and save, unless a stop was requested, which has saved the state."""
    if lock:
        lock.is_kept()  # before anything is written over another run's files
    if not run.stop.seen:
        finish_epoch(run)
        run.stop.agreed(0, True)
    if lock:
        lock.check()  # after the state is saved


def asked(options: Options) -> dict[str, object]:
    """What was asked for of a training; paths may differ between machines."""
    values = {**vars(options), "weights": options.weights is not None}
    return {**values, "resume": options.resume is not None}


@contextlib.contextmanager
def free_folder(cfg: Config, options: Options) -> Iterator[tuple[RunLock | None, int]]:
    """Hold the output folder of a training; see `output_folder`, and `check_folder` for errors.

    Yields:
        the lock, and the bytes of the log that an earlier run left.
    """
    with output_folder(cfg.folder) as lock:
        if lock:
            resume = options.resume or ("auto" if cfg.resume_epoch else None)
            check_folder(Path(cfg.folder), cfg.model_name, resume, options.overwrite)
            if options.resume == "auto":
                check_going_on(Path(cfg.folder), cfg.model_name)
        log_file = log.file_of(cfg.folder, dist.rank())
        yield lock, log_file.stat().st_size if log_file.exists() else 0


def remove_log_and_export(cfg: Config, log_size: int) -> None:
    """Remove what an earlier run logged and exported; `prepare` has removed its other files.

    Args:
        log_size: bytes of the log that the earlier run wrote.
    """
    log.drop_earlier_lines(log.file_of(cfg.folder, dist.rank()), log_size)
    if dist.is_main():
        remove_export(Path(cfg.folder) / EXPORT_DIR)


def is_done(run: Run) -> bool:
    """Whether all epochs are trained, or EARLY_STOPPING ends the run."""
    return run.state.progress.epoch >= run.plan.num_epochs or early_stop_due(run)


def log_end(run: Run) -> None:
    """Log how a training ended."""
    progress, name = run.state.progress, run.cfg.model_name
    if not run.state.finished:
        logger.info(
            f"asked to stop: saved after epoch {progress.epoch + 1} step {progress.step}; "
            "continue with --resume auto"
        )
        return
    if progress.epoch < run.plan.num_epochs:
        logger.info(
            f"stopped early after {progress.epoch} of {run.plan.num_epochs} epochs: no improvement "
            f"over {progress.best:.5f} in the last {progress.stale} validations"
        )
    logger.info(f"training {name} finished")


def test_program(
    cfg: Config,
    model: str,
    backend: str = "auto",
    out: str | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
    precision: str = "fp32",
    threads: int | None = None,
) -> Evaluation:
    """`test` for an exported program, which a runtime runs.

    Args:
        model: an exported folder, or that of the run; or a program in it.
        backend: auto, paddle, tensorrt, onnxruntime or openvino; see runtimes/choose.py.
        precision: see `runtimes.base.Options`.
        threads: compute threads on a CPU; None for all cores, shared by the ranks.

    Raises:
        BackendError, ManifestError: the runtime is not available, or does not fit the program.
        ConfigError, DatasetError, DecodeError, OSError: as in `test`.
    """
    with watched(cfg), session(cfg):
        return run_program_test(cfg, model, backend, out, names, overwrite, precision, threads)


def test(
    cfg: Config,
    weights: str,
    out: str | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Test a weight file on DATASET.test, log the numbers and write per-video scores to `out`.

    Args:
        weights: `.pdparams`, `.safetensors` or `.pdstate`.
        out: a `.json` or `.npz` file; None writes no file.
        names: which numbers to log (top_k_accuracy, mean_class_accuracy), None for all.
        overwrite: replace an `out` of another test; the same test may always be repeated.

    Raises:
        ConfigError, DatasetError, WeightsError: something is missing or does not fit.
        DecodeError: a file failed and `on_error: skip` is not set, or every file did.
        OSError: `out` cannot be written; raised before the work.
    """
    with watched(cfg), session(cfg):
        return run_test(cfg, weights, out, names, overwrite)


def check(cfg: Config, multigrid: bool = False) -> str:
    """Check config and pipelines without data, and return the plan of a training as text.

    Raises:
        ConfigError: something does not fit; the message lists every problem.
    """
    with session(cfg):
        return describe(cfg, multigrid)
