"""One exported model on every backend of this machine."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.benchmarks.train import MATRIX, multiplications, speed
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import GOLDEN, export
from paddlevideo.exporting.golden import relative_difference
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.runtimes.base import Backend
from paddlevideo.runtimes.choose import available_backends, open_backend
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.sample import Arrays
from paddlevideo.weights import state_arrays, write_arrays

# (label, kind, suffix of the program, options); the first is the baseline.
BACKENDS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("paddle", "paddle", ".pdmodel", {}),
    ("paddle, no oneDNN", "paddle", ".pdmodel", {"onednn": False}),
    ("paddle, PIR", "paddle", ".json", {}),
    ("tensorrt", "tensorrt", ".pdmodel", {}),
    ("onnxruntime", "onnxruntime", ".onnx", {}),
    ("openvino", "openvino", ".onnx", {}),
)


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Args:
        model: the same model, built, if its weights are known.
    """

    folder: Path
    model: Recognizer | None = None


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py inference."""
    if args.model:
        exported = Exported(args.model)
    else:
        exported = export_random(args.config, args.override, folder)
    return run(exported, args.threads, args.rounds)


def export_random(config: str, overrides: list[str], folder: Path) -> Exported:
    """Export the model of a config, with random weights, in every format to `folder`."""
    cfg = load_config(config, overrides)
    paddle.seed(0)
    weights = folder / "random.pdparams"
    write_arrays(weights, state_arrays(build_model(cfg)))
    exported = export(cfg, weights, folder / "exported", ["all"])
    return Exported(exported, trained_model(cfg, weights)[0])


def run(exported: Exported, threads: int | None, rounds: int) -> Iterator[Group]:
    """One view at a time on each backend; its logits are compared with the exported ones.

    Raises:
        ValueError: the folder has no export.
    """
    golden_file, manifest = exported.folder / GOLDEN, read_manifest(exported.folder)
    if manifest is None or not golden_file.exists():
        raise ValueError(
            f"{exported.folder}: no model.yaml and {GOLDEN} in it; "
            "give a folder that tools/export_model.py wrote"
        )
    with np.load(golden_file) as golden:
        view = {name: golden[name][:1] for name in golden.files if name != "logits"}
        logits = golden["logits"][:1]
    operations, peak = 0.0, 0.0
    if exported.model is not None:
        operations = 2 * multiplications(exported.model, view)
        product = matrix_product(rounds)
        peak = 2.0 * MATRIX**3 / product.rows[0].median
        yield product
    variants = [
        variant(label, backend, view, logits, operations, peak)
        for label, backend in backends(exported, threads)
    ]
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in view.items())
    yield measure(f"inference of {manifest.name}, {shapes}", "view", 1, variants, rounds)


def matrix_product(rounds: int) -> Group:
    """A matrix product: the speed that the processor can reach."""
    noise = np.random.default_rng(0).standard_normal((MATRIX, MATRIX))
    matrix = paddle.to_tensor(noise.astype(np.float32))
    product = timed(lambda: paddle.matmul(matrix, matrix).numpy())
    variant = Variant("paddle", product, lambda median: speed(2.0 * MATRIX**3, median, 0.0))
    return measure(f"matrix product, float32 {MATRIX} x {MATRIX}", "product", 1, [variant], rounds)


def backends(exported: Exported, threads: int | None) -> Iterator[tuple[str, Backend]]:
    """(label, backend) of those that this machine and the folder have; the others are logged."""
    missing = available_backends()
    for label, kind, suffix, options in BACKENDS:
        program = next(iter(sorted(exported.folder.glob(f"*{suffix}"))), None)
        if missing[kind] or program is None:
            reason = missing[kind] or f"no {suffix} in {exported.folder}"
            logger.info(f"left out: {label}: {reason}")
        else:
            yield label, open_backend(program, kind, threads=threads, **options)
    if exported.model is not None:
        for label, onednn in (("eager", True), ("eager, no oneDNN", False)):
            yield label, open_backend(exported.model, "eager", threads=threads, onednn=onednn)


def variant(
    label: str, backend: Backend, view: Arrays, logits: np.ndarray, operations: float, peak: float
) -> Variant:
    """A backend as a variant.

    Args:
        logits: the expected ones.
        operations: of one view; 0 if unknown.
        peak: operations per second of a matrix product.
    """
    difference = relative_difference(backend.run(view), logits)
    text = f"{backend.name}; logits differ by {difference:.1e}"

    def note(median: float) -> str:
        return f"{speed(operations, median, peak)}; {text}" if operations else text

    return Variant(label, timed(lambda: backend.run(view)), note)
