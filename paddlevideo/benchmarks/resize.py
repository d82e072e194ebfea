"""Clips per second of the loader: original videos, and smaller copies of them."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.loader import read_all
from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.curate.batch_jobs import Job, run_jobs
from paddlevideo.curate.resize import WriteResized
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.sample import Record


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The train and the test pipeline, each on the videos and on their copies."""
    (folder / "original").mkdir()
    size = tuple(args.size)
    originals = records_of(
        args.videos, folder / "original", args.clips, size, args.frames, args.gop
    )
    sets = {"as they are": originals}
    for side in args.short_side:
        for gop in args.new_gop:
            write = WriteResized(side, gop)
            copies = smaller(originals, folder / f"{side}_{gop}", write)
            sets[f"short side {side}, gop {gop}"] = copies
    cfg = load_config(args.config, args.override)
    for split, batch, unit in (("train", args.batch_size, "clip"), ("test", 1, "video")):
        with ExitStack() as stack:
            variants = []
            for name, records in sets.items():
                dataset = ClipDataset(records, build_pipeline(cfg, split))
                loader = Loader(dataset, EvalOrder(len(records), batch), args.workers)
                stack.callback(loader.close)
                note = f"{megabytes(records):.1f} MB"
                job = timed(lambda loader=loader: read_all(loader))
                variants.append(Variant(name, job, lambda median, note=note: note))
            count = len(originals)
            title = f"loader, PIPELINE.{split}, {args.workers} workers, {count} clips a pass"
            yield measure(title, unit, count, variants, args.rounds)


def smaller(records: list[Record], out: Path, write: WriteResized) -> list[Record]:
    """Write smaller copies; returns the same records with the paths of the copies.

    Raises:
        ValueError: a video cannot be resized.
    """
    sources = dict.fromkeys(record.path for record in records)
    targets = {path: str(out / f"{number:05}{write.suffix}") for number, path in enumerate(sources)}
    done = run_jobs(write, [Job(source, target) for source, target in targets.items()], out, 1)
    if done.failed:
        path, reason = done.failed[0]
        raise ValueError(f"{path}: {reason}; take it out of the folder")
    return [Record(targets[record.path], record.label, record.id) for record in records]


def megabytes(records: list[Record]) -> float:
    """Size of the files."""
    return sum(Path(path).stat().st_size for path in {record.path for record in records}) / 2**20
