"""Exports a trained model to a folder: programs, weights, `model.yaml`, and `golden.npz`.

All files are written to a temporary folder and compared with the model first. Only then do they
replace an earlier export.
"""

import errno
import importlib.util
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo.config.schema import Config
from paddlevideo.config.shipped import typed
from paddlevideo.data.pipeline import SYNTHETIC_SIZE
from paddlevideo.engine.build import build_pipeline
from paddlevideo.engine.checkpoint import Progress
from paddlevideo.engine.earlier_run import EXPORT_DIR
from paddlevideo.engine.load import trained_model
from paddlevideo.engine.preflight import batch_of_one, preflight
from paddlevideo.engine.runfile import versions
from paddlevideo.exporting import program
from paddlevideo.exporting.export_folder import (
    check_foreign_files,
    check_name,
    check_same_model,
    earlier_export,
    publish,
)
from paddlevideo.exporting.golden import Differences, golden_inputs, verify
from paddlevideo.exporting.preprocess import video_inputs, video_probabilities
from paddlevideo.exporting.program import ExportError, Job
from paddlevideo.exporting.triton import check_repository, write_repository
from paddlevideo.files import remove_leftovers, temporary_name
from paddlevideo.log import error_text, logger
from paddlevideo.models.base import Recognizer
from paddlevideo.remote import exists, is_url, join_path, path_name, put_folder, shown
from paddlevideo.runtimes.choose import available_readers, readers
from paddlevideo.runtimes.engines import FOLDER as ENGINES
from paddlevideo.runtimes.golden import FILE as GOLDEN
from paddlevideo.runtimes.manifest import FILE as DESCRIPTION
from paddlevideo.runtimes.manifest import PROGRAM_FILES, Manifest
from paddlevideo.sample import Arrays, InputSpec
from paddlevideo.weights import checksum, state_arrays

FORMATS = tuple(PROGRAM_FILES)
WORKSPACE = "export"
SAME = 1e-5  # of the range of the logits: sums in another order
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # errors of writing


def export(
    cfg: Config,
    weights: str | Path,
    output_dir: str | Path | None = None,
    formats: Iterable[str] = ("pdmodel",),
    name: str | None = None,
    overwrite: bool = False,
    verify_programs: bool = True,
    with_preprocess: bool = False,
    batch: int | None = None,
    triton: str | Path | None = None,
) -> Path:
    """Export a model as programs without its Python code; a folder may get more formats later.

    Args:
        weights: a `.pdparams`, `.safetensors` or `.pdstate` file.
        output_dir: `inference/<model_name>` by default, to which further formats of the same model
            may be added; or a URL, where an export is replaced as a whole.
        formats: pdmodel (`.pdmodel`, `.pdiparams`, `.pdiparams.info`), pir (`.json`, `.pdiparams`),
            onnx (`.onnx`), or all that this machine can write; a warning names the others.
        name: stem of the files, without a folder; `model_name` by default.
        overwrite: replace another model, or files of other programs, in the folder.
        verify_programs: run the programs in every runtime of this machine before publishing them.
        with_preprocess: write programs from uint8 frames of all views to probabilities.
        batch: of these, the number of videos in one run; None for any.
        triton: also write the ONNX program to this model repository of Triton Inference Server.

    Raises:
        ConfigError, WeightsError: the config or the weights are wrong, or do not fit each other.
        ExportError: a program could not be written, differs from the model, or would replace
            another model; the folder is unchanged.
    """
    name = check_name(name or cfg.model_name)
    check_repository(triton, name, overwrite)
    if is_url(output_dir or ""):
        with _stored(str(output_dir), overwrite) as local:
            options = (formats, name, True, verify_programs, with_preprocess, batch, triton)
            return export(cfg, weights, local, *options)
    _check_batch(batch, with_preprocess)
    formats = _known_formats(formats, verify_programs, bool(triton))
    folder = Path(output_dir or f"inference/{cfg.model_name}")
    earlier = earlier_export(folder, name, overwrite)
    with _on_cpu():
        model, classes = trained_model(cfg, weights)
        task = _task(cfg, model, with_preprocess, batch)
    manifest = _describe(cfg, model, name, task, classes.names)
    check_same_model(folder, None if overwrite else earlier, manifest)
    with _workspace(folder) as work:
        config, source = cfg.origin.data, cfg.origin.path
        job = Job.of(config, source, classes.num, weights, task.inputs, work / name)
        job = replace(job, preprocess=with_preprocess, frame_logits=task.frame_logits)
        _write_programs(formats, job)
        differences = _write_golden(work / name, formats, task, verify_programs)
        if earlier is None and not overwrite:
            check_foreign_files(work, folder)
        written = publish(work, folder, earlier, replace(manifest, differences=differences))
    logger.info(f"exported {name} to {folder}: {', '.join(written)}")
    if triton:
        write_repository(Path(triton), folder / f"{name}.onnx", task.golden, classes.names)
    return folder


@contextmanager
def _stored(url: str, overwrite: bool) -> Iterator[Path]:
    """A local folder, whose files are stored at a URL when the block ends without an error.

    Raises:
        ExportError: there is an export already.
    """
    if exists(join_path(url, DESCRIPTION)) and not overwrite:
        raise ExportError(f"{shown(url)} contains a model; give another URL, or --overwrite")
    with tempfile.TemporaryDirectory(prefix="paddlevideo-") as folder:
        local = Path(folder, path_name(url))
        yield local
        # The description comes last: a reader never finds it without the files that it names.
        put_folder(local, url, last=[DESCRIPTION])
        logger.info(f"stored the export at {shown(url)}")


def _check_batch(batch: int | None, with_preprocess: bool) -> None:
    """Check a fixed batch.

    Raises:
        ExportError: it is not positive, or the programs are for `predict`.
    """
    if batch is not None and (batch < 1 or not with_preprocess):
        raise ExportError(
            f"batch is {batch}; expected 1 or more videos, and --with-preprocess: predict runs "
            "other programs with any number of clips"
        )


@dataclass(frozen=True)
class Task:
    """What a program takes and returns.

    Args:
        inputs: by name, with None for free sizes.
        golden: fixed inputs [n, ...].
        output: logits or probabilities.
        expected: the output of the model for the golden inputs, [n, K].
        frame_logits: see `Manifest`.
    """

    inputs: dict[str, InputSpec]
    golden: Arrays
    output: str
    expected: np.ndarray
    frame_logits: bool = False


def _task(cfg: Config, model: Recognizer, with_preprocess: bool, batch: int | None) -> Task:
    """What the program of a model takes and returns.

    Raises:
        ConfigError: the pipeline does not give what the model takes.
        ExportError: preprocessing cannot become a part of the program.
    """
    inputs, sample = program_inputs(cfg, model)
    if with_preprocess:
        inputs, golden = video_inputs(cfg, model, inputs, batch)
        return Task(inputs, golden, "probabilities", video_probabilities(cfg, model, golden))
    golden = golden_inputs(sample)
    with paddle.no_grad():
        tensors = {key: paddle.to_tensor(array) for key, array in golden.items()}
        expected = model(tensors).numpy()
        return Task(inputs, golden, "logits", expected, averages_frames(model, tensors))


def averages_frames(model: Recognizer, tensors: Mapping[str, paddle.Tensor]) -> bool:
    """Whether the logits of clips are the means of those of their frames, each alone."""
    if not model.has_frame_logits:
        return False
    logits, of_frames = (output.numpy() for output in model.with_frame_logits(tensors))
    return bool(np.allclose(of_frames.mean(axis=1), logits, rtol=0, atol=SAME * np.ptp(logits)))


def export_finished(cfg: Config, progress: Progress) -> Path:
    """Export the result of a training run that has just ended to `inference/` in its folder.

    This is the best model, or the last one of a run without validation. An earlier export there
    belongs to the same run, and is replaced.

    Raises:
        ExportError: the export failed; the message explains that the training is complete, and how
            to export later.
    """
    which = "best" if progress.best is not None else f"epoch_{progress.epoch:05d}"
    weights = f"{cfg.folder}/{cfg.model_name}_{which}.pdparams"
    try:
        return export(cfg, weights, Path(cfg.folder, EXPORT_DIR), overwrite=True)
    except Exception as error:  # the training is complete, whatever the error is
        raise ExportError(
            f"the training is done, and its checkpoints are in {cfg.folder}; "
            f"the export failed: {error_text(error)}\n"
            f"fix that, then run: {typed('tools/export_model.py', 'export')} -p {weights}"
        ) from error


def program_inputs(cfg: Config, model: Recognizer) -> tuple[dict[str, InputSpec], Arrays]:
    """Find out which inputs the exported program takes.

    Returns:
        the inputs, by name, with None for free sizes (the batch, and sizes that PIPELINE.test does
        not fix), and one synthetic sample of them.

    Raises:
        ConfigError: the pipeline does not give what the model takes.
    """
    preflight(cfg, model, ("test",))
    pipeline = build_pipeline(cfg, "test")
    # Sizes that differ between a wide and a tall clip depend on the video.
    height, width = SYNTHETIC_SIZE
    wide = batch_of_one(pipeline, pipeline.synthetic((height, width)))
    tall = batch_of_one(pipeline, pipeline.synthetic((width, height)))
    inputs = {}
    for name, spec in model.inputs.items():
        sizes = zip(wide[name].shape[1:], tall[name].shape[1:], strict=True)
        shape = (None, *(size if size == other else None for size, other in sizes))
        inputs[name] = replace(spec, shape=shape)
    return inputs, {name: wide[name][0] for name in inputs}


def _write_golden(
    stem: Path, formats: Sequence[str], task: Task, verified: bool
) -> dict[str, Differences]:
    """Write golden.npz next to the programs and, if wanted, verify them with it.

    Returns:
        {file name: {runtime: difference}}.

    Raises:
        ExportError: a program returns other values than the model.
    """
    arrays: dict[str, Any] = {**task.golden, task.output: task.expected}
    np.savez_compressed(stem.with_name(GOLDEN), **arrays)
    programs = [stem.with_name(stem.name + PROGRAM_FILES[kind][0]) for kind in formats]
    if not verified:
        logger.warning(f"not verified: {', '.join(path.name for path in programs)}")
        return {}
    try:
        return verify(programs, task.inputs, task.golden, task.expected, task.output)
    finally:
        shutil.rmtree(stem.with_name(ENGINES), ignore_errors=True)  # they were for two clips


def _describe(
    cfg: Config,
    model: Recognizer,
    name: str,
    task: Task,
    labels: list[str] | None,
) -> Manifest:
    """The manifest of a model, without the files of its programs."""
    return Manifest(
        name=name,
        inputs=task.inputs,
        num_classes=task.expected.shape[1],
        labels=labels,
        views=build_pipeline(cfg, "test").num_views,
        top_k=cfg.INFERENCE.top_k,
        weights=checksum(state_arrays(model)),
        config=dict(cfg.origin.data),
        versions=versions(),
        view_average=model.view_average,
        multi_label=model.multi_label,
        modalities=model.modalities,
        preprocess=task.output == "probabilities",
        frame_logits=task.frame_logits,
    )


def _known_formats(
    formats: Iterable[str], verified: bool = True, triton: bool = False
) -> tuple[str, ...]:
    """The formats to write, in the order of `FORMATS`; Triton needs onnx.

    Raises:
        ExportError: a format is unknown, or this machine cannot write or check one that is named.
    """
    given = [formats] if isinstance(formats, str) else list(formats)
    unknown = [f for f in given if f not in (*FORMATS, "all")]
    if unknown or not given:
        raise ExportError(
            f"format is {', '.join(unknown) or 'missing'}; expected {', '.join(FORMATS)} or all"
        )
    missing = missing_for_onnx(verified)
    given += ["onnx"] if triton else []
    if missing and "onnx" in given:
        raise ExportError(missing)
    if missing and "all" in given:
        logger.warning(f"format all without onnx: {missing}")
    known = [f for f in FORMATS if f in given or "all" in given]
    return tuple(f for f in known if f != "onnx" or not missing)


def missing_for_onnx(verified: bool = True) -> str:
    """What this machine lacks to write an ONNX program and verify it; "" if nothing."""
    if importlib.util.find_spec("paddle2onnx") is None:
        return (
            "format onnx needs paddle2onnx: pip install paddle2onnx "
            "(version 2.1 exists for Python 3.12 and older)"
        )
    if verified and not available_readers(".onnx"):
        names = readers(".onnx")
        return (
            f"an onnx program is verified by running it, which needs {' or '.join(names)}: "
            f"pip install {names[-1]}"
        )
    return ""


def _write_programs(formats: Sequence[str], job: Job) -> None:
    """Write the programs of a job, each kind of Paddle program in its own process.

    Both kinds write the same bytes to `.pdiparams`.
    """
    stem = Path(job.stem)
    legacy = [kind for kind in formats if kind != "pir"]
    for pir, kinds in ((True, [kind for kind in formats if kind == "pir"]), (False, legacy)):
        if kinds:
            logger.info(f"writing {' and '.join(kinds)} ...")
            program.run(replace(job, onnx="onnx" in kinds), pir)
    # An ONNX program is converted from a .pdmodel, which may not have been requested.
    requested = {stem.name + suffix for kind in formats for suffix in PROGRAM_FILES[kind]}
    for file in stem.parent.iterdir():
        if file.name not in requested:
            file.unlink()


@contextmanager
def _on_cpu() -> Iterator[None]:
    """Compute on the CPU inside the block, so that GPUs do not change the reference logits."""
    before = paddle.get_device()
    paddle.set_device("cpu")
    try:
        yield
    finally:
        paddle.set_device(before)


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`. Folders that this creates are removed if left empty."""
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, {WORKSPACE})
        work = temporary_name(folder / WORKSPACE)
        work.mkdir(0o700)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write to {folder}: {error.strerror}; choose another folder with -o",
        ) from error
    try:
        yield work
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            f"cannot write the export to {folder}: {error.strerror}; an earlier export is kept",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for path in new:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()
