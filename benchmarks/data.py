"""The last step before the model: bytes -> normalised float32, by table, by arithmetic, and as tensors."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle

from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.engine.build import build_pipeline, load_config


def run(config: str, overrides: list[str], batch_size: int, rounds: int) -> Iterator[Group]:
    """`finish` on a training batch, and on one view of a test."""
    cfg = load_config(config, overrides)
    for split in ("train", "test"):
        pipeline = build_pipeline(cfg, split)
        made_up = pipeline.synthetic()
        sample = {name: np.asarray(made_up[name]) for name in pipeline.batch_specs}
        if pipeline.num_views > 1:
            batch = {name: array[:1] for name, array in sample.items()}
        else:
            batch = {
                name: np.stack([array] * (batch_size if split == "train" else 1))
                for name, array in sample.items()
            }
        yield finishing(pipeline, batch, f"bytes to float32, PIPELINE.{split}", rounds)


def finishing(
    pipeline: ClipPipeline, batch: dict[str, np.ndarray], title: str, rounds: int
) -> Group:
    """
    Raises:
        ValueError: the ways give different numbers.
    """
    tensors = {name: paddle.to_tensor(array) for name, array in batch.items()}

    def plain() -> dict[str, np.ndarray]:
        return pipeline.finish({name: array.astype(np.float32) for name, array in batch.items()})

    def table() -> dict[str, np.ndarray]:
        return pipeline.finish(batch)

    def on_device() -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in pipeline.finish_on_device(tensors).items()}

    wanted = plain()
    for label, way in (("table look-up", table), ("paddle tensors", on_device)):
        difference = max(float(np.abs(array - wanted[name]).max()) for name, array in way().items())
        if difference > 1e-6:
            raise ValueError(f"{title}: {label} and NumPy arithmetic differ by {difference:.1e}")
    variants = [
        Variant("NumPy arithmetic", timed(plain)),
        Variant("table look-up", timed(table)),
        Variant("paddle tensors", timed(on_device)),
    ]
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in batch.items())
    return measure(f"{title}, {shapes}", "clip", len(next(iter(batch.values()))), variants, rounds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # those of every benchmark do


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    return run(args.config, args.override, args.batch_size, args.rounds)
