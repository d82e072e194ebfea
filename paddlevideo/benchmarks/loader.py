"""Clips per second of the loader: decoders, workers, and decoding only the frames of a clip."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.loader import ClipDataset, Loaded, Loader, load_batch
from paddlevideo.data.orders import EvalOrder
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.media.decode import has_decord
from paddlevideo.sample import DecodeError, Draw, Record

DECODERS = ("pyav", "decord", "cv2")


@dataclass(frozen=True)
class AllFramesClip:
    """An open clip that decodes all of its frames to return some of them."""

    clip: Any

    @property
    def num_frames(self) -> int:
        return self.clip.num_frames

    @property
    def fps(self) -> float:
        return self.clip.fps

    def read(self, indices, each=None) -> np.ndarray:
        return self.clip.read(np.arange(self.clip.num_frames), each)[np.asarray(indices)]


@dataclass(frozen=True)
class AllFramesDecoder:
    """Another decoder, whose clips decode all of their frames."""

    decoder: Any

    @contextmanager
    def open(self, record: Record) -> Iterator[AllFramesClip]:
        with self.decoder.open(record) as clip:
            yield AllFramesClip(clip)


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py loader."""
    records = records_of(args.videos, folder, args.clips, tuple(args.size), args.frames, args.gop)
    return run(args.config, args.override, records, args.workers, args.batch_size, args.rounds)


def run(
    config: str,
    overrides: list[str],
    records: list[Record],
    workers: list[int],
    batch_size: int,
    rounds: int,
) -> Iterator[Group]:
    """Both pipelines with all decoders and numbers of workers, then wanted frames or all frames."""
    decoders = [name for name in DECODERS if name != "decord" or has_decord()]
    for split, batch, unit in (("train", batch_size, "clip"), ("test", 1, "video")):
        pipelines = {name: pipeline_with(config, overrides, split, name) for name in decoders}
        title = f"loader, PIPELINE.{split}, batch size {batch}, {len(records)} clips a pass"
        with ExitStack() as stack:
            variants = []
            for name, pipeline in pipelines.items():
                for number in workers:
                    order = EvalOrder(len(records), batch)
                    loader = Loader(ClipDataset(records, pipeline), order, number)
                    stack.callback(loader.close)
                    job = timed(lambda loader=loader: read_all(loader))
                    variants.append(Variant(f"{name}, {number} workers", job))
            yield measure(title, unit, len(records), variants, rounds)
    yield wanted_frames(config, overrides, records, decoders, rounds)


def wanted_frames(
    config: str, overrides: list[str], records: list[Record], decoders: list[str], rounds: int
) -> Group:
    """Decode only the frames of a training clip, or all frames of the file; in one process."""
    variants = []
    for name in decoders:
        pipeline = pipeline_with(config, overrides, "train", name)
        all_frames = ClipPipeline(
            AllFramesDecoder(pipeline.decode),
            pipeline.sample,
            [*pipeline.worker_transforms, *pipeline.batch_transforms],
        )
        for label, chosen in (("all frames", all_frames), ("wanted frames", pipeline)):
            dataset = ClipDataset(records, chosen)
            job = timed(lambda dataset=dataset: read_each(dataset))
            variants.append(Variant(f"{name}, {label}", job))
    title = "decoding all frames or the wanted ones, PIPELINE.train"
    return measure(title, "clip", len(records), variants, rounds)


def pipeline_with(config: str, overrides: list[str], split: str, decoder: str) -> ClipPipeline:
    """The pipeline of a split with this decoder."""
    backend = f"PIPELINE.{split}.decode.backend={decoder}"
    pipeline = build_pipeline(load_config(config, [*overrides, backend]), split)
    return clip_pipeline(pipeline, config)


def clip_pipeline(pipeline: Any, config: str) -> ClipPipeline:
    """The pipeline itself, if it is one of frames.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(pipeline, ClipPipeline):
        raise ValueError(f"{config}: this benchmark reads frames; its pipeline has none")
    return pipeline


def read_all(loader: Loader) -> None:
    """Read one pass of a loader."""
    for loaded in loader.epoch(0):
        check(loaded)


def read_each(dataset: ClipDataset) -> None:
    """Read every record in this process."""
    for index in range(len(dataset)):
        check(load_batch(dataset, 0, [Draw(index)]))


def check(loaded: Loaded) -> None:
    """Check that all videos of a batch were read; skipping some would be faster.

    Raises:
        DecodeError: a video failed.
    """
    if loaded.failures:
        raise DecodeError(
            f"{loaded.failures[0]}; "
            "take it out of the folder, every decoder must read the same videos"
        )
