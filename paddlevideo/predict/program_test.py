"""Testing an exported program: the numbers and files of `main.py --test`, with any runtime."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np

from paddlevideo import dist, paddle_internals
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.config.shipped import typed
from paddlevideo.cores import num_cores
from paddlevideo.engine.build import build_pipeline
from paddlevideo.engine.checkpoint import read_checkpoint
from paddlevideo.engine.classes import load_records
from paddlevideo.engine.earlier_run import EXPORT_DIR
from paddlevideo.engine.evaluate import Evaluation, mean_scores
from paddlevideo.engine.load import check_num_classes
from paddlevideo.engine.test import check_out, check_replaced, test_name, test_records
from paddlevideo.engine.trained_clips import TrainedClips, clips_note
from paddlevideo.log import logger
from paddlevideo.predict.ahead import one_ahead
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.gpus import gpu_without_paddle
from paddlevideo.predict.predictor import clips_per_run
from paddlevideo.runtimes.base import Backend, Options
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.manifest import FILE, Manifest, exported_folder, read_manifest
from paddlevideo.runtimes.remote_folder import is_remote, local_model
from paddlevideo.sample import Arrays, Batch
from paddlevideo.weights import WeightsError, checksum


class ProgramScores:
    """Scores batches of a loader with a program; counts its videos and seconds.

    Args:
        pool: of one thread, which makes the inputs of the next run.
    """

    def __init__(
        self,
        feed: Feed,
        backend: Backend,
        manifest: Manifest,
        clips: int,
        pool: ThreadPoolExecutor,
    ):
        self._feed, self._backend, self._manifest = feed, backend, manifest
        self._clips, self._pool = clips, pool
        self.num_videos, self.seconds = 0, 0.0

    def __call__(self, batch: Batch) -> np.ndarray:
        """Logits of each video of a batch, averaged over its views: float64 [N, K]."""
        start = time.perf_counter()
        logits = mean_scores(
            self._backend.run,
            self._feed.batch_specs,
            batch,
            self._clips,
            self._manifest.view_average,
            self._clips,
            self._prepare,
        )
        self.seconds += time.perf_counter() - start
        self.num_videos += len(logits)
        return logits

    def _prepare(self, steps: Iterator[Arrays]) -> Iterator[Arrays]:
        return one_ahead(map(self._feed.arrays, steps), self._pool)


def run_program_test(
    cfg: Config,
    model: str,
    backend: str = "auto",
    out: str | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
    precision: str = "fp32",
    threads: int | None = None,
) -> Evaluation:
    """Test an exported program on DATASET.test; see `paddlevideo.test`."""
    check_out(out)
    _check_precision(precision)
    model = str(local_model(model)) if is_remote(model) else model
    manifest = _read_exported(model)
    check_num_classes(cfg, model, manifest.labels)
    lists, classes = load_records(cfg, ("test",), manifest.labels)
    if classes.num != manifest.num_classes:
        raise ConfigError([
            f"{model} has {manifest.num_classes} classes, and the config or its data has "
            f"{classes.num}; give the config that it was exported with"
        ])  # fmt: skip
    if note := clips_note(model, trained_clips(model, manifest), lists["test"].records):
        logger.warning(note)
    pipeline = build_pipeline(cfg, "test")
    if cfg.origin.data["PIPELINE"]["test"] != manifest.pipeline:
        logger.warning(
            f"PIPELINE.test of {cfg.origin.path} differs from the one that the model was exported "
            "with; the config's is used"
        )
    feed = Feed(pipeline, list(manifest.inputs))
    if dist.local_size() > 1:
        threads = threads or max(1, num_cores() // dist.local_size())
    device = "cpu" if cfg.use_gpu is False else "auto"
    if cfg.use_gpu and not dist.num_gpus():
        device = gpu_without_paddle(backend) or device
    clips = cfg.DATASET.views_per_step or clips_per_run(feed, backend, device)
    options = {"device": device, "precision": precision, "threads": threads, "max_batch": clips}
    with ThreadPoolExecutor(1, "inputs") as pool, paddle_internals.keep_num_threads():
        opened = open_backend(model, backend, **options)
        feed.connect(opened.inputs)
        if opened.clips_per_run and not cfg.DATASET.views_per_step:
            clips = opened.clips_per_run
        made_by = f"{test_name(cfg, manifest.weights)} {opened.name} {opened.precision}"
        if out:
            check_replaced(out, made_by, overwrite)
        logger.info(
            f"{opened.name}, {opened.precision}, {opened.num_threads} thread(s), "
            f"{clips} clip(s) per run"
        )
        score = ProgramScores(feed, opened, manifest, clips, pool)
        start = time.perf_counter()
        result = test_records(
            cfg, manifest, lists["test"].records, classes, made_by, out, names, score
        )
    _log_speed(score, time.perf_counter() - start)
    return result


def _read_exported(model: str) -> Manifest:
    """The manifest of an exported model.

    Raises:
        ConfigError: it has none, or its programs do more than a test needs.
    """
    folder = exported_folder(Path(model))
    manifest = read_manifest(folder if folder.is_dir() else folder.parent)
    if manifest is None:
        raise ConfigError([
            f"{model}: no {FILE}, which describes an exported model; give a folder that "
            f"`{typed('tools/export_model.py', 'export')}` wrote"
        ])  # fmt: skip
    if manifest.preprocess:
        raise ConfigError([
            f"{model}: its programs contain the preprocessing, to be embedded elsewhere; to test "
            "here, export the model without --with-preprocess to another folder"
        ])  # fmt: skip
    return manifest


def trained_clips(model: str, manifest: Manifest) -> TrainedClips | None:
    """The clips that an exported model was trained on; None where it is not in its run's folder.

    The weights of the run have them. One that cannot be read describes nothing.
    """
    folder = exported_folder(Path(model))
    folder = folder if folder.is_dir() else folder.parent
    if folder.name != EXPORT_DIR:
        return None
    epochs = sorted(folder.parent.glob("*_epoch_*.pdparams"), reverse=True)
    states = [*folder.parent.glob("*_latest.pdstate")]
    for path in [*folder.parent.glob("*_best.pdparams"), *epochs, *states]:
        with contextlib.suppress(WeightsError):
            arrays, _, clips, _ = read_checkpoint(path)
            if checksum(arrays) == manifest.weights:
                return clips
    return None


def _check_precision(precision: str) -> None:
    known = (*get_args(get_type_hints(Options)["precision"]), "auto")
    if precision not in known:
        raise ConfigError([f"--precision {precision}: expected {', '.join(known)}"])


def _log_speed(score: ProgramScores, seconds: float) -> None:
    logger.info(
        f"{score.num_videos} videos in {seconds:.1f} s, {score.num_videos / seconds:.3g} per "
        f"second, of which the network took {score.seconds / seconds:.0%}"
    )
