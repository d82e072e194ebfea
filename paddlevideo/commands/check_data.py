"""Check videos or audio files before training, and write lists of the good ones.

The lists are train.csv, val.csv and labels.txt; the faults are in bad_files.csv and
data_report.html. All of them may be at URLs. See docs/own_data.md.

Example: %(prog)s my_videos
Exit code: 0 no faults; 1 faults (the good clips are written); 2 nothing was checked or written.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace

from paddlevideo import log
from paddlevideo.commands import load, run, running
from paddlevideo.scale.flags import add_flags, place
from paddlevideo.urls import as_path


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/check_data.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument_group("inputs").add_argument
    add("data", type=as_path, help="folder per class, also below train/, val/ and test/; or a list")
    add(
        "--valid",
        type=as_path,
        help="validation set: folder or list; DATA is the training set then",
    )
    add("--test", type=as_path, help="test set: folder or list; DATA is the training set then")
    add("--data_prefix", help="folder that the paths in a list are relative to")
    add("--suffix", default="", help="suffix to append to each path in a list, such as .mp4")
    add("--class_names", help="file of class names, for lists with class ids")
    media_help = "what to check where there are both (default: videos, audio files without videos)"
    add("--media", choices=("video", "audio"), help=media_help)
    add = parser.add_argument_group("outputs").add_argument
    add("--out", type=as_path, help="output folder (default: DATA, or the folder of the list)")
    add("--overwrite", action="store_true", help="replace files that this tool did not write")
    add("--dry_run", action="store_true", help="write nothing")
    add = parser.add_argument_group("checks").add_argument
    add("--frames", type=int, default=8, help="frames to decode per video (default: 8)")
    add("--whole", action="store_true", help="decode every frame")
    add("--min_frames", type=int, default=2, help="fewer frames are a fault (default: 2)")
    add("--min_seconds", type=float, default=0.0, help="a shorter video is a fault (default: 0)")
    add("--workers", type=int, help="processes (default: one per core; 0: no extra process)")
    add = parser.add_argument_group("splits").add_argument
    share_help = "part of each class to draw, if the split is not given"
    add("--valid_share", type=float, default=0.2, help=f"{share_help} (default: 0.2)")
    add("--test_share", type=float, default=0.0, help=f"{share_help} (default: 0)")
    add("--resplit", action="store_true", help="draw new splits, even if the data has splits")
    fold_help = "hold out fold I of N for validation, by source; each in its own folder (--out)"
    add("--fold", metavar="I/N", help=fold_help)
    add("--seed", type=int, default=0, help="random seed of the splits (default: 0)")
    source_help = "first group: the recording that a clip was cut from; none: each file is one"
    add("--source", metavar="REGEX", help=f"{source_help} (default: see docs/own_data.md)")
    add_flags(parser)
    return parser


def work(args: argparse.Namespace) -> int:
    """Check, print a report, write the lists; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs; nothing is written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console may lack characters of a file name.
        sys.stdout.reconfigure(errors="backslashreplace")
    names = load("paddlevideo.data.class_names:read_class_names")
    names = names(args.class_names) if args.class_names else None
    paths = (args.data, args.valid, args.test)
    inputs = load("paddlevideo.curate.inventory:Inputs")
    inputs = inputs(*paths, args.data_prefix, args.suffix, names, args.source, args.media)
    probe = load("paddlevideo.curate.probe:ProbeOptions")
    probe = probe(args.frames, args.whole, args.min_frames, args.min_seconds)
    shares = (args.valid_share, args.test_share)
    options = load("paddlevideo.curate.check:CheckOptions")
    options = options(inputs, probe, *shares, args.seed, args.resplit, args.workers)
    if args.fold is not None:
        fold = load("paddlevideo.curate.fold:parse_fold")(args.fold)
        options = replace(options, fold=fold)
    run_command = load("paddlevideo.curate.check_command:run_command")
    with log.session(), running(place(args)) as run_each:
        options = replace(options, run=run_each)
        return run_command(options, args.out, args.dry_run, args.overwrite)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, error_code=2, bare_help=False)
