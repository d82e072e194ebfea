"""How many clips a second the loader gives: decoders, workers, and decoding only what is wanted."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import records_of
from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.loader import ClipDataset, Loaded, Loader, load_batch
from paddlevideo.data.orders import EvalOrder
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.media.decode import has_decord
from paddlevideo.sample import DecodeError, Draw, Record

DECODERS = ("pyav", "decord", "cv2")


@dataclass(frozen=True)
class WholeClip:
    """An open clip that decodes all of its frames to give some of them."""

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
class WholeDecoder:
    """Another decoder, whose clips are decoded whole."""

    decoder: Any

    @contextmanager
    def open(self, record: Record) -> Iterator[WholeClip]:
        with self.decoder.open(record) as clip:
            yield WholeClip(clip)


def run(
    config: str,
    overrides: list[str],
    records: list[Record],
    workers: list[int],
    batch_size: int,
    rounds: int,
) -> Iterator[Group]:
    """The train and the test pipeline over decoders and numbers of workers, then parts of a file against all of it."""
    decoders = [name for name in DECODERS if name != "decord" or has_decord()]
    for split, batch in (("train", batch_size), ("test", 1)):
        pipelines = {name: pipeline_with(config, overrides, split, name) for name in decoders}
        title = f"loader, PIPELINE.{split}, batch size {batch}, {len(records)} clips a pass"
        with ExitStack() as stack:
            variants = []
            for name, pipeline in pipelines.items():
                for number in workers:
                    loader = Loader(
                        ClipDataset(records, pipeline), EvalOrder(len(records), batch), number
                    )
                    stack.callback(loader.close)
                    variants.append(
                        Variant(
                            f"{name}, {number} workers",
                            timed(lambda loader=loader: read_all(loader)),
                        )
                    )
            yield measure(
                title, "clip" if split == "train" else "video", len(records), variants, rounds
            )
    yield only_wanted(config, overrides, records, decoders, rounds)


def only_wanted(
    config: str, overrides: list[str], records: list[Record], decoders: list[str], rounds: int
) -> Group:
    """Decoding just the frames of a training clip against decoding the file, in one process."""
    variants = []
    for name in decoders:
        pipeline = pipeline_with(config, overrides, "train", name)
        whole = ClipPipeline(
            WholeDecoder(pipeline.decode),
            pipeline.sample,
            [*pipeline.worker_transforms, *pipeline.batch_transforms],
        )
        for label, chosen in (("all frames", whole), ("wanted frames", pipeline)):
            dataset = ClipDataset(records, chosen)
            variants.append(
                Variant(f"{name}, {label}", timed(lambda dataset=dataset: read_each(dataset)))
            )
    return measure(
        "decoding all frames or the wanted ones, PIPELINE.train",
        "clip",
        len(records),
        variants,
        rounds,
    )


def pipeline_with(config: str, overrides: list[str], split: str, decoder: str) -> ClipPipeline:
    return build_pipeline(
        load_config(config, [*overrides, f"PIPELINE.{split}.decode.backend={decoder}"]), split
    )


def read_all(loader: Loader) -> None:
    for loaded in loader.epoch(0):
        check(loaded)


def read_each(dataset: ClipDataset) -> None:
    for index in range(len(dataset)):
        check(load_batch(dataset, 0, [Draw(index)]))


def check(loaded: Loaded) -> None:
    """
    Raises:
        DecodeError: a video failed, and reading less is faster.
    """
    if loaded.failures:
        raise DecodeError(
            f"{loaded.failures[0]}; take it out of the folder, every decoder must read the same videos"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--videos", type=Path, help="read the videos below this folder instead of made-up ones")
    add("--clips", type=int, default=8, help="made-up videos")
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
    add("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes")


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    made = records_of(args.videos, folder, args.clips, tuple(args.size), args.frames, args.gop)
    return run(args.config, args.override, made, args.workers, args.batch_size, args.rounds)
