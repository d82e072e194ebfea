"""Prepare YouTube-8M: check all records, write lists and class names, convert pickles.

Example: %(prog)s check data/yt8m/train.list
Exit code: 0 success, 1 an error or at least one problem.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo import log
from paddlevideo.commands import load, run


def feature(text: str) -> tuple[str, int]:
    name, _, width = text.partition("=")
    return name, int(width)


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/prepare_youtube8m.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--workers", type=int, help="processes; default: one per core")
    features = [("rgb", 1024), ("audio", 128)]
    common.add_argument(
        "--features", type=feature, nargs="+", default=features, metavar="NAME=VALUES_PER_FRAME"
    )
    about = "read all records, print counts and problems, write the index for training"
    add = verbs.add_parser("check", parents=[common], help=about).add_argument
    add("shards", help="list, folder, glob or shard")
    add("--num_classes", type=int, default=3862, help="labels must be less than this")
    add("--max_frames", type=int, default=300, help="frames to use of each video")
    add("--index", help="file for the positions of the records; default: next to the list")
    about = "write train.list, val.list and test.list of a folder of shards"
    add = verbs.add_parser("lists", help=about).add_argument
    add("folder", type=Path)
    add("--out", type=Path, default=Path("data/yt8m"), help="folder of the lists")
    add = verbs.add_parser("labels", help="write the class names of vocabulary.csv").add_argument
    add("vocabulary", type=Path)
    add("--out", type=Path, default=Path("data/yt8m/labels.txt"))
    about = "convert pickles of PaddleCV or PaddleVideo to TFRecord files"
    add = verbs.add_parser("convert", parents=[common], help=about).add_argument
    add("shards", help="list, folder or glob of pickles")
    add("--out", type=Path, required=True, help="output folder; existing files are kept")
    add("--group", type=int, default=1, help="pickles per file; about 1000 if each is one video")
    about = "generate a small synthetic set that a model can learn"
    add = verbs.add_parser("demo", help=about).add_argument
    add("--out", type=Path, default=Path("data/demo_yt8m"), help="output folder")
    add("--seed", type=int, default=0, help="the same seed gives the same files")
    videos = "training videos; validation and test have a quarter of it each"
    add("--videos", type=int, default=256, help=videos)
    add("--classes", type=int, default=8, help="number of classes")
    return parser


def work(args: argparse.Namespace) -> int:
    """Do what the verb says; 1 if there are problems.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs.
    """
    problems = load("paddlevideo.curate.youtube8m_command:run")(args)
    for problem in problems:
        log.show_error(problem)
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, bare_help=False)
