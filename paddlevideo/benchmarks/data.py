"""The last step before the model: bytes to normalized float32, in three ways."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle

from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.pipeline import Pipeline
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.sample import Arrays


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py data."""
    return run(args.config, args.override, args.batch_size, args.rounds)


def run(config: str, overrides: list[str], batch_size: int, rounds: int) -> Iterator[Group]:
    """`finish` on a training batch, and on one view of a test."""
    cfg = load_config(config, overrides)
    for split in ("train", "test"):
        pipeline = build_pipeline(cfg, split)
        synthetic = pipeline.synthetic()
        sample = {name: np.asarray(synthetic[name]) for name in pipeline.batch_specs}
        copies = batch_size if split == "train" else 1
        batch = {name: np.stack([array] * copies) for name, array in sample.items()}
        if pipeline.num_views > 1:
            batch = {name: array[:1] for name, array in sample.items()}
        yield finishing(pipeline, batch, f"bytes to float32, PIPELINE.{split}", rounds)


def finishing(pipeline: Pipeline, batch: Arrays, title: str, rounds: int) -> Group:
    """Compare the ways to finish a batch.

    Raises:
        ValueError: they give different numbers.
    """
    tensors = {name: paddle.to_tensor(array) for name, array in batch.items()}

    def arithmetic() -> Arrays:
        return pipeline.finish({name: array.astype(np.float32) for name, array in batch.items()})

    def table() -> Arrays:
        return pipeline.finish(batch)

    def on_device() -> Arrays:
        return {name: tensor.numpy() for name, tensor in pipeline.finish_on_device(tensors).items()}

    expected = arithmetic()
    for label, function in (("table look-up", table), ("paddle tensors", on_device)):
        arrays = function()
        difference = max(float(np.abs(a - expected[name]).max()) for name, a in arrays.items())
        if difference > 1e-6:
            raise ValueError(f"{title}: {label} and NumPy arithmetic differ by {difference:.1e}")
    variants = [
        Variant("NumPy arithmetic", timed(arithmetic)),
        Variant("table look-up", timed(table)),
        Variant("paddle tensors", timed(on_device)),
    ]
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in batch.items())
    return measure(f"{title}, {shapes}", "clip", len(next(iter(batch.values()))), variants, rounds)
