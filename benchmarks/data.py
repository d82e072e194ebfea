"""The last step before the model: bytes -> normalised float32, by table, by arithmetic, and as tensors."""

from collections.abc import Iterator

import numpy as np
import paddle

from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.pipeline import ClipPipeline
from paddlevideo.engine.build import build_pipeline, load_config, synthetic_sample


def run(config: str, overrides: list[str], batch_size: int, rounds: int) -> Iterator[Group]:
    """`finish` on a training batch, and on one view of a test."""
    cfg = load_config(config, overrides)
    for split in ("train", "test"):
        pipeline = build_pipeline(cfg, split)
        sample = synthetic_sample(pipeline)["frames"]
        batch = sample[:1] if pipeline.view_axis else np.stack([sample] * (batch_size if split == "train" else 1))
        yield finishing(pipeline, batch, f"bytes to float32, PIPELINE.{split}, {list(batch.shape)}", rounds)


def finishing(pipeline: ClipPipeline, batch: np.ndarray, title: str, rounds: int) -> Group:
    """
    Raises:
        ValueError: the ways give different numbers.
    """
    tensor = paddle.to_tensor(batch)

    def plain() -> np.ndarray:
        return pipeline.finish({"frames": batch.astype(np.float32)})["frames"]

    def table() -> np.ndarray:
        return pipeline.finish({"frames": batch})["frames"]

    def tensors() -> np.ndarray:
        return pipeline.finish_on_device(tensor).numpy()

    for name, way in (("table", table), ("tensors", tensors)):
        difference = float(np.abs(way() - plain()).max())
        if difference > 1e-6:
            raise ValueError(f"{title}: by {name} and by arithmetic differ by {difference}")
    variants = [
        Variant("NumPy arithmetic", timed(plain)),
        Variant("table look-up", timed(table)),
        Variant("paddle tensors", timed(tensors)),
    ]
    return measure(title, "clip", len(batch), variants, rounds)
