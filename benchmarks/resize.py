"""How many clips a second the loader gives from videos as they are, and from copies that tools/data/resize_videos.py made."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.clips import records_of
from benchmarks.loader import read_all
from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.curate.batch_jobs import Job, run_jobs
from paddlevideo.curate.resize import WriteResized
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.sample import Record


def smaller(records: list[Record], out: Path, write: WriteResized) -> list[Record]:
    """The same records with the paths of smaller copies.

    Raises:
        ValueError: one of the videos cannot be made smaller.
    """
    targets = {
        path: str(out / f"{number:05}{write.suffix}")
        for number, path in enumerate({r.path: None for r in records})
    }
    done = run_jobs(write, [Job(source, target) for source, target in targets.items()], out, 1)
    if done.failed:
        raise ValueError(f"{done.failed[0][0]}: {done.failed[0][1]}; take it out of the folder")
    return [Record(targets[record.path], record.label, record.id) for record in records]


def megabytes(records: list[Record]) -> float:
    return sum(Path(path).stat().st_size for path in {record.path for record in records}) / 2**20


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The train and the test pipeline, each on the videos and on their copies."""
    (folder / "whole").mkdir()
    made = records_of(
        args.videos, folder / "whole", args.clips, tuple(args.size), args.frames, args.gop
    )
    sets = {"as they are": made}
    for side in args.short_side:
        for gop in args.new_gop:
            sets[f"short side {side}, gop {gop}"] = smaller(
                made, folder / f"{side}_{gop}", WriteResized(side, gop)
            )
    cfg = load_config(args.config, args.override)
    for split in ("train", "test"):
        with ExitStack() as stack:
            variants = []
            for name, records in sets.items():
                batch = args.batch_size if split == "train" else 1
                dataset = ClipDataset(records, build_pipeline(cfg, split))
                loader = Loader(dataset, EvalOrder(len(records), batch), args.workers)
                stack.callback(loader.close)
                note = f"{megabytes(records):.1f} MB"
                job = timed(lambda loader=loader: read_all(loader))
                variants.append(Variant(name, job, lambda median, note=note: note))
            title = f"loader, PIPELINE.{split}, {args.workers} workers, {len(made)} clips a pass"
            yield measure(
                title, "clip" if split == "train" else "video", len(made), variants, args.rounds
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--videos", type=Path, help="read the videos below this folder instead of made-up ones")
    add("--clips", type=int, default=4, help="made-up videos")
    add("--frames", type=int, default=250, help="of a made-up video, at 25 a second")
    add(
        "--size",
        type=int,
        nargs=2,
        default=(1280, 720),
        metavar=("WIDTH", "HEIGHT"),
        help="pixels, even",
    )
    add("--gop", type=int, default=125, help="frames from one key frame to the next")
    add("--short_side", type=int, nargs="+", default=[256], help="of the copies (px)")
    add(
        "--new_gop",
        type=int,
        nargs="+",
        default=[32],
        help="frames from one key frame to the next, of the copies",
    )
    add("--workers", type=int, default=1, help="loader processes")
