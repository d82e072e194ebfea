"""One exported model on every backend of this machine."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from benchmarks.measure import Group, Variant, measure, timed
from benchmarks.train import MATRIX, multiplications, speed
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import GOLDEN, export, relative_difference
from paddlevideo.log import logger
from paddlevideo.runtimes.choose import available_backends, open_backend
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.weights import state_arrays, write_arrays

# (label, kind, suffix of the program, options); the first is the baseline.
WAYS = (
    ("paddle", "paddle", ".pdmodel", {}),
    ("paddle, no oneDNN", "paddle", ".pdmodel", {"onednn": False}),
    ("paddle, PIR", "paddle", ".json", {}),
    ("tensorrt", "tensorrt", ".pdmodel", {}),
    ("onnxruntime", "onnxruntime", ".onnx", {}),
    ("openvino", "openvino", ".onnx", {}),
)


@dataclass(frozen=True)
class Exported:
    """A folder with programs; `model` is the same one, built, where the weights are at hand."""

    folder: Path
    model: paddle.nn.Layer | None = None


def made_up(config: str, overrides: list[str], folder: Path) -> Exported:
    """The config's model with random weights, exported in every format to `folder`."""
    cfg = load_config(config, overrides)
    paddle.seed(0)
    weights = folder / "random.pdparams"
    write_arrays(weights, state_arrays(build_model(cfg)))
    return Exported(
        export(cfg, weights, folder / "exported", ["all"]), trained_model(cfg, weights)[0]
    )


def run(exported: Exported, threads: int | None, rounds: int) -> Iterator[Group]:
    """One view at a time through each backend; the logits are compared with those that export kept.

    Raises:
        ValueError: the folder holds no export.
    """
    golden_file, manifest = exported.folder / GOLDEN, read_manifest(exported.folder)
    if manifest is None or not golden_file.exists():
        raise ValueError(
            f"{exported.folder}: no model.yaml and {GOLDEN} in it; give a folder that tools/export_model.py wrote"
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
    opened_ones = [
        opened(label, backend, view, logits, operations, peak)
        for label, backend in backends(exported, threads)
    ]
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in view.items())
    yield measure(f"inference of {manifest.name}, {shapes}", "view", 1, opened_ones, rounds)


def matrix_product(rounds: int) -> Group:
    """What the processor can do, to compare with."""
    matrix = paddle.to_tensor(
        np.random.default_rng(0).standard_normal((MATRIX, MATRIX)).astype(np.float32)
    )
    product = timed(lambda: paddle.matmul(matrix, matrix).numpy())
    variant = Variant("paddle", product, lambda median: speed(2.0 * MATRIX**3, median, 0.0))
    return measure(f"matrix product, float32 {MATRIX} x {MATRIX}", "product", 1, [variant], rounds)


def backends(exported: Exported, threads: int | None) -> Iterator[tuple[str, Any]]:
    """The backends that this machine and the folder have; says which are left out and why."""
    missing = available_backends()
    for label, kind, suffix, options in WAYS:
        program = next(iter(sorted(exported.folder.glob(f"*{suffix}"))), None)
        if missing[kind] or program is None:
            logger.info(
                f"left out: {label}: {missing[kind] or f'no {suffix} in {exported.folder}'}"
            )
        else:
            yield label, open_backend(program, kind, threads=threads, **options)
    if exported.model is not None:
        for label, by_onednn in (("eager", True), ("eager, no oneDNN", False)):
            yield label, open_backend(exported.model, "eager", threads=threads, onednn=by_onednn)


def opened(
    label: str,
    backend: Any,
    view: dict[str, np.ndarray],
    logits: np.ndarray,
    operations: float,
    peak: float,
) -> Variant:
    """A backend as a variant.

    Args:
        operations: of a view; 0 where unknown.
        peak: operations a second of a matrix product.
    """
    difference = relative_difference(backend.run(view), logits)
    about = f"{backend.name}; logits off by {difference:.1e}"

    def note(median: float) -> str:
        return f"{speed(operations, median, peak)}; {about}" if operations else about

    return Variant(label, timed(lambda: backend.run(view)), note)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        help="exported folder; default: the config's model with random weights",
    )
    parser.add_argument("--threads", type=int, help="default: all cores")


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    exported = Exported(args.model) if args.model else made_up(args.config, args.override, folder)
    return run(exported, args.threads, args.rounds)
