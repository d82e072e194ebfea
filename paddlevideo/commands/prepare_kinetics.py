"""Make lists of Kinetics-400, -600 or -700 from the official CSV files and a folder of videos.

Example: %(prog)s annotations/train.csv annotations/val.csv \\
             --videos my/k400 --out data/k400
See data/k400/README.md.
Exit code: 0 all clips are listed, 1 some are missing or damaged (the others are listed), 2 an error
(nothing is written).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo.commands import load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/prepare_kinetics.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    csv_help = "official CSV files, such as train.csv val.csv; give all of them in one call"
    add("annotations", type=Path, nargs="+", help=csv_help)
    videos = "folder of videos, with or without a folder per class"
    add("--videos", type=Path, required=True, help=videos)
    out = "folder of train.list, val.list, test.list, labels.txt and problems.tsv"
    add("--out", type=Path, required=True, help=out)
    names = "file of class names in the order of their ids; default: names of the CSV files, sorted"
    add("--class_names", type=Path, help=names)
    add("--num_classes", type=int, help="expected number of classes, such as 400")
    add(
        "--frames", type=int, default=3, help="frames to decode of each video, to find damaged ones"
    )
    add("--no_check", action="store_true", help="do not open the videos")
    add("--workers", type=int, help="processes, 0: only this one; default: one per core")
    add("--overwrite", action="store_true", help="replace existing lists")
    return parser


def work(args: argparse.Namespace) -> int:
    """Write the lists; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs; nothing is written.
    """
    names = options = None
    if args.class_names:
        names = load("paddlevideo.data.class_names:read_class_names")(args.class_names)
    if not args.no_check:
        options = load("paddlevideo.curate.probe:ProbeOptions")(args.frames)
    prepare = load("paddlevideo.curate.kinetics:prepare")
    checks = (args.num_classes, args.overwrite)
    paths = (args.annotations, args.videos, args.out)
    prepared = prepare(*paths, names, args.workers, options, *checks)
    load("paddlevideo.curate.known_sets:write_prepared")(prepared, args.out, args.overwrite)
    return load("paddlevideo.curate.known_sets:print_prepared")(prepared, args.out)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, error_code=2, bare_help=False)
