"""The views of a multi-view test: every video decoded once, against a decode for each view."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import records_of
from benchmarks.loader import check
from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.crops import MultiCrop
from paddlevideo.data.loader import ClipDataset, load_batch
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.sample import Draw, Record


@dataclass(frozen=True)
class OneClip:
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


def run(config: str, overrides: list[str], records: list[Record], rounds: int) -> Iterator[Group]:
    """Both ways up to the bytes of every view, in one process.

    Raises:
        ValueError: a test of one view, or views that differ.
    """
    pipeline = build_pipeline(load_config(config, overrides), "test")
    if pipeline.num_views < 2:
        raise ValueError(
            f"{config}: PIPELINE.test has one view; try -c configs/recognition/slowfast/slowfast.yaml"
        )
    together = ClipDataset(records, pipeline)
    apart = [ClipDataset(records, one) for one in single_views(pipeline)]
    for first, second in zip(
        views_of(together, 0), (view for part in apart for view in views_of(part, 0)), strict=True
    ):
        if not np.array_equal(first, second):
            raise ValueError("a view that is decoded by itself is not that of the shared frames")

    def all_views(datasets: list[ClipDataset]) -> None:
        for index in range(len(records)):
            for dataset in datasets:
                for _ in views_of(dataset, index):
                    pass

    variants = [
        Variant("a decode for each view", timed(lambda: all_views(apart))),
        Variant("each video once", timed(lambda: all_views([together]))),
    ]
    yield measure(
        f"loader, PIPELINE.test, {pipeline.num_views} views a video",
        "video",
        len(records),
        variants,
        rounds,
    )


def single_views(pipeline: ClipPipeline) -> list[ClipPipeline]:
    """The pipeline of each view alone, in the order of the views."""
    parts = [*pipeline.worker_transforms, *pipeline.batch_transforms]
    place = next((i for i, part in enumerate(parts) if isinstance(part, MultiCrop)), None)
    found = []
    for clip in range(pipeline.num_clips):
        sample = OneClip(pipeline.sample, clip)
        if place is None:
            found.append(ClipPipeline(pipeline.decode, sample, parts))
            continue
        whole = parts[place]
        for number in range(whole.num_spatial_crops):
            crop = OneCrop(whole.target_size, True, whole.num_spatial_crops, number)
            found.append(
                ClipPipeline(pipeline.decode, sample, [*parts[:place], crop, *parts[place + 1 :]])
            )
    return found


def views_of(dataset: ClipDataset, index: int) -> Iterator[np.ndarray]:
    """uint8 [T, H, W, 3] of each view of a record."""
    loaded = load_batch(dataset, 0, [Draw(index)])
    check(loaded)
    frames = loaded.batch["frames"]  # [1, T, H, W, 3], or views [1, V, T, H, W, 3]
    flat = frames.reshape(-1, *frames.shape[-4:])
    for number in range(len(flat)):
        yield flat[number : number + 1][0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--videos", type=Path, help="read the videos below this folder instead of made-up ones")
    add("--frames", type=int, default=250, help="of a made-up video, at 25 a second")
    add(
        "--size",
        type=int,
        nargs=2,
        default=(340, 256),
        metavar=("WIDTH", "HEIGHT"),
        help="pixels, even",
    )
    add("--gop", type=int, default=50, help="frames from one key frame to the next")


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    made = records_of(args.videos, folder, 2, tuple(args.size), args.frames, args.gop)
    return run(args.config, args.override, made[:2], args.rounds)
