"""A trained model -> a folder that is complete by itself: programs, weights, `model.yaml`, and `golden.npz` to replay.

Everything is written and compared with the model in a temporary folder first; only then does it take its place.
"""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle

from paddlevideo.config.schema import Config
from paddlevideo.data.pipeline import SYNTHETIC_SIZE
from paddlevideo.engine.build import build_pipeline
from paddlevideo.engine.checkpoint import Progress
from paddlevideo.engine.load import trained_model
from paddlevideo.engine.preflight import batch_of_one, preflight
from paddlevideo.engine.runfile import versions
from paddlevideo.exporting import program
from paddlevideo.exporting.program import ExportError, Job
from paddlevideo.log import error_text, logger
from paddlevideo.runtimes.choose import available_backends, open_backend
from paddlevideo.runtimes.manifest import FILE, Manifest, read_manifest, sha256
from paddlevideo.sample import InputSpec
from paddlevideo.weights import checksum, state_arrays

GOLDEN = "golden.npz"
TOLERANCE = 1e-4
WRITES = {
    "pdmodel": (".pdmodel", ".pdiparams", ".pdiparams.info"),
    "pir": (".json", ".pdiparams"),
    "onnx": (".onnx",),
}
FORMATS = tuple(WRITES)
_BLOCK = 16  # pixels; golden frames are made of blocks, which keeps the file small


def export(
    cfg: Config,
    weights: str | Path,
    output_dir: str | Path | None = None,
    formats: Iterable[str] = ("pdmodel",),
    name: str | None = None,
) -> Path:
    """Write a model as programs that run without its Python code.

    Args:
        weights: `.pdparams`, `.safetensors` or `.pdstate`.
        output_dir: `inference/<model_name>` by default.
        formats: pdmodel (`.pdmodel`, `.pdiparams`, `.pdiparams.info`), pir (`.json`, `.pdiparams`), onnx (`.onnx`), or all.
            pdmodel and pir share one `.pdiparams`.
        name: stem of the files, `model_name` by default.

    Returns:
        the folder.

    Raises:
        ConfigError, WeightsError: the config or the weights are wrong, or do not fit each other.
        ExportError: a program could not be written, or gives other logits than the model; the folder is as it was.
    """
    wanted = _formats(formats)
    name = name or cfg.model_name
    folder = Path(output_dir or f"inference/{cfg.model_name}")
    earlier = read_manifest(folder)
    if earlier and earlier.name != name:
        raise ExportError(
            f"{folder} holds the model {earlier.name}; give {name} a folder of its own with -o"
        )
    with _on_cpu():
        model, classes = trained_model(cfg, weights)
        inputs, sample = program_inputs(cfg, model)
        golden = golden_inputs(sample)
        with paddle.no_grad():
            logits = model({key: paddle.to_tensor(array) for key, array in golden.items()}).numpy()
    manifest = Manifest(
        name=name,
        inputs=inputs,
        num_classes=logits.shape[1],
        labels=classes.names,
        views=build_pipeline(cfg, "test").num_views,
        top_k=cfg.INFERENCE.top_k,
        weights=checksum(state_arrays(model)),
        config=dict(cfg.origin.data),
        versions=versions(),
        view_average=model.view_average,
        multi_label=model.multi_label,
        modalities=model.modalities,
    )
    with _workspace(folder) as work:
        _write_programs(wanted, work / name, cfg, classes.num, weights, inputs)
        np.savez_compressed(work / GOLDEN, **golden, logits=logits)
        programs = [f"{name}{WRITES[kind][0]}" for kind in wanted]
        differences = {file: _verify(work / file, golden, logits) for file in programs}
        files = {path.name: sha256(path) for path in sorted(work.iterdir())}
        kept, old = _kept(folder, earlier, manifest, files), earlier or manifest
        manifest = replace(
            manifest,
            files={**{n: old.files[n] for n in kept}, **files},
            differences={
                **{n: old.differences[n] for n in kept if n in old.differences},
                **differences,
            },
        )
        (work / FILE).write_text(manifest.text(), encoding="utf-8")
        for file in [
            *files,
            FILE,
        ]:  # model.yaml last: until then the old one does not match, and says so
            os.replace(work / file, folder / file)
    logger.info(f"exported {name} to {folder}: {', '.join([*files, FILE])}")
    return folder


def export_finished(cfg: Config, progress: Progress) -> Path:
    """Export what a training that has just ended leaves: the best model, or where nothing was validated the last one.

    Raises:
        ExportError: it failed; the message says that the training is done, and how to export later.
    """
    which = "best" if progress.best is not None else f"epoch_{progress.epoch:05d}"
    weights = f"{cfg.folder}/{cfg.model_name}_{which}.pdparams"
    try:
        return export(cfg, weights)
    except Exception as error:  # whatever it is, the training is done
        raise ExportError(
            f"training is done, its checkpoints are in {cfg.folder}; the export failed: {error_text(error)}\nonce that is mended: "
            f"python tools/export_model.py -c {cfg.folder}/run.yaml -p {weights}"
        ) from error


def program_inputs(
    cfg: Config, model: paddle.nn.Layer
) -> tuple[dict[str, InputSpec], dict[str, np.ndarray]]:
    """(what the program takes, one made-up sample of it): the batch is free, and so are sizes that PIPELINE.test does not fix.

    Raises:
        ConfigError: the pipeline does not give what the model takes.
    """
    preflight(cfg, model, ("test",))
    pipeline = build_pipeline(cfg, "test")
    # A clip of another size tells which axes follow the video.
    upright, turned = (
        batch_of_one(pipeline, pipeline.synthetic(size))
        for size in (SYNTHETIC_SIZE, SYNTHETIC_SIZE[::-1])
    )
    inputs = {}
    for name, spec in model.inputs.items():
        sizes = zip(upright[name].shape[1:], turned[name].shape[1:], strict=True)
        inputs[name] = replace(
            spec, shape=(None, *(size if size == second else None for size, second in sizes))
        )
    return inputs, {name: upright[name][0] for name in inputs}


def golden_inputs(sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Two fixed samples in the shapes and types of the given one, [2, ...].

    Floats are standard normal noise, and bytes are any. A whole number counts something: it is the sample's, and half of it.
    """
    rng, arrays = np.random.default_rng(0), {}
    for name, array in sample.items():
        if array.dtype == np.uint8:
            arrays[name] = rng.integers(0, 256, (2, *array.shape), np.uint8)
        elif array.dtype.kind in "iu":
            arrays[name] = np.stack([array, (array + 1) // 2])
        else:
            arrays[name] = _noise(rng, array.shape)
    return arrays


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """float32 [2, ...]; pictures are made of blocks of one value."""
    blocks = [2, *shape]
    for axis in (-1, -2) if len(shape) >= 3 else ():
        blocks[axis] = -(-shape[axis] // _BLOCK)
    array = rng.standard_normal(blocks).astype(np.float32)
    if len(shape) >= 3:
        array = array.repeat(_BLOCK, -1).repeat(_BLOCK, -2)[..., : shape[-2], : shape[-1]]
    return np.ascontiguousarray(array)


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """max |found - expected| / max |expected|; infinite where shapes differ or a value is not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    scale = np.abs(expected).max()
    return float(np.abs(found.astype(np.float64) - expected).max() / (scale or 1.0))


def _formats(formats: Iterable[str]) -> tuple[str, ...]:
    given = [formats] if isinstance(formats, str) else list(formats)
    unknown = [f for f in given if f not in (*FORMATS, "all")]
    if unknown or not given:
        raise ExportError(
            f"format is {', '.join(unknown) or 'missing'}; expected {', '.join(FORMATS)} or all"
        )
    wanted = tuple(f for f in FORMATS if f in given or "all" in given)
    if "onnx" in wanted:
        if importlib.util.find_spec("paddle2onnx") is None:
            raise ExportError("format onnx needs paddle2onnx: pip install paddle2onnx")
        if not _onnx_runners():
            raise ExportError(
                "format onnx is checked by running it, which needs onnxruntime: pip install onnxruntime"
            )
    return wanted


def _onnx_runners() -> list[str]:
    return [kind for kind in ("onnxruntime", "openvino") if not available_backends()[kind]]


def _write_programs(wanted, stem: Path, cfg: Config, num_classes: int, weights, inputs) -> None:
    legacy = [kind for kind in wanted if kind != "pir"]
    for pir, kinds in ((True, [kind for kind in wanted if kind == "pir"]), (False, legacy)):
        if kinds:  # the .pdiparams of the second holds the same bytes as that of the first
            logger.info(f"writing {' and '.join(kinds)} ...")
            onnx = "onnx" in kinds
            program.run(
                Job.of(cfg.origin.data, cfg.origin.path, num_classes, weights, inputs, stem, onnx),
                pir,
            )
    belongs = {stem.name + suffix for kind in wanted for suffix in WRITES[kind]}
    for file in stem.parent.iterdir():  # ONNX is made from a program that was perhaps not asked for
        if file.name not in belongs:
            file.unlink()


def _verify(file: Path, golden: dict[str, np.ndarray], logits: np.ndarray) -> float:
    """Run a program on two samples and on one, and return the larger difference from the model."""
    kind = _onnx_runners()[0] if file.suffix == ".onnx" else "paddle"
    backend = open_backend(file, kind, device="cpu")
    first = {key: array[:1] for key, array in golden.items()}
    difference = max(
        relative_difference(backend.run(golden), logits),
        relative_difference(backend.run(first), logits[:1]),
    )
    line = f"{file.name}: logits differ from the model's by {difference:.1e} of the largest ({backend.name})"
    if not difference <= TOLERANCE:
        raise ExportError(f"{line}; at most {TOLERANCE:g} is float noise, so nothing was exported")
    logger.info(line)
    return float(f"{difference:.3g}")


def _kept(
    folder: Path, earlier: Manifest | None, manifest: Manifest, files: Mapping[str, str]
) -> list[str]:
    """Files of an earlier export of the same model, which stay part of this one."""
    if earlier is None:
        return []
    others, same = (
        [name for name in earlier.files if name not in files],
        earlier.same_model(manifest),
    )
    kept = [
        n
        for n in others
        if same and (folder / n).exists() and sha256(folder / n) == earlier.files[n]
    ]
    if len(kept) < len(others):
        gone = ", ".join(n for n in others if n not in kept)
        logger.warning(
            f"{folder}: of an earlier export of other weights or settings, and no part of this one: {gone}"
        )
    return kept


@contextmanager
def _on_cpu() -> Iterator[None]:
    """The reference logits come from a CPU: GPUs round differently from one kind to the next."""
    before = paddle.get_device()
    paddle.set_device("cpu")
    try:
        yield
    finally:
        paddle.set_device(before)


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, which is itself removed again where it was made for nothing."""
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write to {folder}: {error.strerror}; choose another folder with -o",
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for path in new:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()
