"""Generate the demo data set and an example clip.

Example: %(prog)s --out data/demo --seed 0
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from paddlevideo import log
from paddlevideo.commands import run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/make_demo.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("data/demo"), help="folder of the data set")
    add("--seed", type=int, default=0, help="the same seed gives the same files")
    add("--clips", type=int, default=16, help="training clips per class")
    example = Path("data/example.avi")
    add("--example", type=Path, default=example, help="a single clip for the predict commands")
    add("--workers", type=int, help="processes; default: one per core")
    return parser


def work(args: argparse.Namespace) -> None:
    """Make what is not there yet.

    Raises:
        ValueError, OSError: a folder with other files, or one that cannot be written.
    """
    demo = import_module("paddlevideo.curate.demo_videos")
    plan = demo.DemoPlan(args.seed, args.clips)
    made = demo.make_demo_set(args.out, plan, args.workers)
    made_example = demo.write_example(args.example, args.seed)
    files = list(args.out.rglob("*.mp4"))
    megabytes = sum(file.stat().st_size for file in files) / 2**20
    num_classes = sum(map(len, demo.CLASSES.values()))
    state = "made" if made else "already there"
    log.show(f"{args.out}: {len(files)} clips, {num_classes} classes, {megabytes:.1f} MB, {state}")
    log.show(f"{args.example}: {'made' if made_example else 'already there'}")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, bare_help=False)
