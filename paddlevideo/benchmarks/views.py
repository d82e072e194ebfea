"""The views of a multi-view test: one decode per video, or one decode per view."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.loader import check, clip_pipeline
from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.crops import MultiCrop
from paddlevideo.data.loader import ClipDataset, load_batch
from paddlevideo.data.pipeline import FrameSampler
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.sample import Draw, Record


@dataclass(frozen=True)
class OneClip(FrameSampler):
    """One of the clips that a test samples."""

    sample: Any
    number: int
    num_views = 1
    random = False

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        return self.sample(num_frames, fps, rng).reshape(self.sample.num_views, -1)[self.number]


@dataclass(frozen=True)
class OneCrop(MultiCrop):
    """One of the crops of a test."""

    number: int = 0
    views = 1

    def corners(self, width: int, height: int) -> list[tuple[int, int]]:
        return [super().corners(width, height)[self.number]]


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py views."""
    records = records_of(args.videos, folder, 2, tuple(args.size), args.frames, args.gop)
    return run(args.config, args.override, records[:2], args.rounds)


def run(config: str, overrides: list[str], records: list[Record], rounds: int) -> Iterator[Group]:
    """Both ways up to the bytes of every view, in one process.

    Raises:
        ValueError: the test has one view, or the two ways give different views.
    """
    pipeline = clip_pipeline(build_pipeline(load_config(config, overrides), "test"), config)
    if pipeline.num_views < 2:
        raise ValueError(
            f"{config}: PIPELINE.test has one view; "
            "try -c configs/recognition/slowfast/slowfast.yaml"
        )
    together = ClipDataset(records, pipeline)
    apart = [ClipDataset(records, one) for one in single_views(pipeline)]
    single = (view for dataset in apart for view in views_of(dataset, 0))
    for first, second in zip(views_of(together, 0), single, strict=True):
        if not np.array_equal(first, second):
            raise ValueError("a view decoded alone differs from the view of the shared frames")

    def read_views(datasets: list[ClipDataset]) -> None:
        for index in range(len(records)):
            for dataset in datasets:
                for _ in views_of(dataset, index):
                    pass

    variants = [
        Variant("a decode for each view", timed(lambda: read_views(apart))),
        Variant("each video once", timed(lambda: read_views([together]))),
    ]
    title = f"loader, PIPELINE.test, {pipeline.num_views} views a video"
    yield measure(title, "video", len(records), variants, rounds)


def single_views(pipeline: ClipPipeline) -> list[ClipPipeline]:
    """The pipeline of each view alone, in the order of the views."""
    parts = [*pipeline.worker_transforms, *pipeline.batch_transforms]
    index = next((i for i, part in enumerate(parts) if isinstance(part, MultiCrop)), None)
    pipelines = []
    for clip in range(pipeline.num_clips):
        sample = OneClip(pipeline.sample, clip)
        if index is None:
            pipelines.append(ClipPipeline(pipeline.decode, sample, parts))
            continue
        crops = parts[index]
        for number in range(crops.num_spatial_crops):
            crop = OneCrop(crops.target_size, True, crops.num_spatial_crops, number)
            transforms = [*parts[:index], crop, *parts[index + 1 :]]
            pipelines.append(ClipPipeline(pipeline.decode, sample, transforms))
    return pipelines


def views_of(dataset: ClipDataset, index: int) -> Iterator[np.ndarray]:
    """uint8 [T, H, W, 3] of each view of a record."""
    loaded = load_batch(dataset, 0, [Draw(index)])
    check(loaded)
    frames = loaded.batch["frames"]  # [1, T, H, W, 3], or views [1, V, T, H, W, 3]
    flat = frames.reshape(-1, *frames.shape[-4:])
    # Slices keep views that are not cropped yet (`data.views.Views`) as they are.
    for number in range(len(flat)):
        yield flat[number : number + 1][0]
