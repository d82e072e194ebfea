"""Make lists of UCF-101 from its official lists, for videos and for extracted frames.

Example: %(prog)s ucfTrainTestlist --videos data/ucf101/videos \\
             --out data/ucf101
See data/ucf101/README.md.
Exit code: 0 all clips are listed, 1 some are missing or damaged (the others are listed), 2 an error
(nothing is written).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo.commands import load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/prepare_ucf101.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    annotations = "folder of the official lists: classInd.txt, trainlist01.txt, testlist01.txt, ..."
    add("annotations", type=Path, help=annotations)
    add("--videos", type=Path, help="folder of videos, to write lists ..._videos.txt")
    frames = "folder that `paddlevideo data frames` wrote, to write lists ..._rawframes.txt"
    add("--frames", type=Path, help=frames)
    add("--out", type=Path, required=True, help="folder of the lists, labels.txt and problems.tsv")
    splits = (1, 2, 3)
    add("--splits", type=int, nargs="+", choices=splits, default=splits, help="default: all")
    check_frames = "frames to decode of each video, to find damaged ones"
    add("--check_frames", type=int, default=3, help=check_frames)
    add("--no_check", action="store_true", help="do not open the videos")
    add("--workers", type=int, help="processes, 0: only this one; default: one per core")
    add("--overwrite", action="store_true", help="replace existing lists")
    return parser


def work(args: argparse.Namespace) -> int:
    """Write the lists; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs; nothing is written.
    """
    if args.videos is None and args.frames is None:
        raise ValueError("give --videos, --frames or both")
    options = None
    if not args.no_check:
        options = load("paddlevideo.curate.probe:ProbeOptions")(args.check_frames)
    folders = (args.annotations, args.out, args.videos, args.frames)
    prepare = load("paddlevideo.curate.ucf101:prepare")
    prepared = prepare(*folders, args.splits, args.workers, options, args.overwrite)
    load("paddlevideo.curate.known_sets:write_prepared")(prepared, args.out, args.overwrite)
    return load("paddlevideo.curate.known_sets:print_prepared")(prepared, args.out)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, error_code=2, bare_help=False)
