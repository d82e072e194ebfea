"""Clips per second of training data: many small files, and the same clips in tar shards.

Both are read in the order of training: files in any order, shards by their shuffle buffer. What the
system has in memory it does not read again, and a program cannot empty that; see docs/shards.md.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.loader import read_all
from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.curate.make_shards import ShardSettings, make_shards, parse_size
from paddlevideo.data.datasets import RecordList
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.pipeline import Pipeline
from paddlevideo.data.webdataset.dataset import WebDataset
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.sample import BatchShape


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The train pipeline on files and on shards.

    Raises:
        ValueError: a video cannot be put into a shard.
    """
    (folder / "files").mkdir()
    size = tuple(args.size)
    records = records_of(args.videos, folder / "files", args.clips, size, args.frames, args.gop)
    files = RecordList(list(dict.fromkeys(records)))
    settings = ShardSettings("clips", parse_size(args.shard_size))
    done = make_shards(files, False, folder / "shards", settings, 1)
    if done.failed:
        path, reason = done.failed[0]
        raise ValueError(f"{path}: {reason}; take it out of the folder")
    shards = WebDataset(str(folder / "shards"), shuffle_buffer=args.shuffle_buffer).load()
    pipeline = build_pipeline(load_config(args.config, args.override), "train")
    count = len(files.records) // args.batch_size * args.batch_size
    if not count:
        raise ValueError(f"{len(files.records)} clips do not fill a batch of {args.batch_size}")
    num_shards = len(shards.starts) - 1
    notes = {"files": f"{len(files.records)} files", "shards": f"{num_shards} shards"}
    sets = {"files": files, "shards": shards}
    with ExitStack() as stack:
        variants = []
        for workers in args.workers:
            for name, data in sets.items():
                loader = loader_of(data, pipeline, args.batch_size, workers)
                stack.callback(loader.close)
                job = timed(lambda loader=loader: read_all(loader))
                note = notes[name]
                row = f"{name}, {workers} workers"
                variants.append(Variant(row, job, lambda median, note=note: note))
        title = f"PIPELINE.train from files and from shards, batch size {args.batch_size}"
        yield measure(title, "clip", count, variants, args.rounds)


def loader_of(data: RecordList, pipeline: Pipeline, batch_size: int, workers: int) -> Loader:
    """A loader in the order of training."""
    order = data.order((BatchShape(batch_size),), 0, 0, 1, None)
    return Loader(ClipDataset(data.records, pipeline), order, workers)
