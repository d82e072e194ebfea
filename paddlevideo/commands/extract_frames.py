"""Write the frames of videos as JPEG files, and the list of them for FrameDataset.

Example: %(prog)s data/ucf101/videos data/ucf101/frames --short_side 256
Existing folders of frames are complete and are kept, so an interrupted run can be continued.
VIDEOS and OUT may be URLs. See docs/data.md.
Exit code: 0 success, 1 at least one video failed (see failures.tsv), 2 an error.
"""

import argparse
import os
from collections.abc import Sequence
from importlib import import_module

from paddlevideo import log
from paddlevideo.commands import load, run, running
from paddlevideo.scale.flags import add_flags, place
from paddlevideo.urls import as_path, join_path, shown


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/extract_frames.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("videos", type=as_path, help="folder with a folder per class, or a list or table of videos")
    add("out", type=as_path, help="output folder; a folder of frames has the path of its video")
    size = "of the frames (px), smaller ones keep their size; default: size of the video"
    add("--short_side", type=int, help=size)
    add("--quality", type=int, default=95, help="of the JPEG files, 1 .. 100")
    list_help = "file to write with lines `folder num_frames label`; default: OUT/frames.list"
    add("--list", type=as_path, help=list_help)
    names_help = "file of class names in the order of their ids; default: sorted names"
    add("--class_names", type=as_path, help=names_help)
    names = ("--list_root", "--list-root")
    add(*names, type=as_path, help="folder that the paths of a list are relative to")
    workers = min(8, os.cpu_count() or 1)
    names = ("--num_workers", "--num-workers")
    add(*names, type=int, default=workers, help="processes (default: %(default)s)")
    add("--part", default="1/1", metavar="I/N", help="part I of N, to share work between machines")
    add("--overwrite", action="store_true", help="write existing frames and class names again")
    add_flags(parser)
    return parser


def work(args: argparse.Namespace) -> int:
    """Write the frames that are missing, and their list; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs.
    """
    frames = import_module("paddlevideo.curate.frames")
    file = args.list or as_path(join_path(args.out, frames.LIST_NAME))
    names = load("paddlevideo.data.class_names:read_class_names")
    names = names(args.class_names) if args.class_names else None
    plan = frames.plan_frames(args.videos, args.out, args.list_root, names)
    frames.check_list(plan, file, args.overwrite)
    write = frames.WriteFrames(args.short_side, args.quality)
    run_jobs = load("paddlevideo.curate.batch_jobs:run_jobs")
    with running(place(args)) as run_each:
        num = args.num_workers
        more = (args.overwrite, args.part, run_each, frames.FIRST_FRAME)
        done = run_jobs(write, plan.jobs, args.out, num, *more)
    count = frames.write_list(plan, file, args.overwrite, args.out)
    if unlisted := frames.jobs_without_class(plan):
        first = shown(unlisted[0].source)
        log.show(
            f"not listed: {len(unlisted)} videos outside of the class folders, such as {first}"
        )
    result = f"{count} folders" if count else "not written, there are no frames to list"
    log.show(f"{shown(file)}: {result}")
    return load("paddlevideo.curate.batch_jobs:print_outcome")(done, args.out)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(
        make_parser(prog),
        work,
        argv,
        error_code=2,
        can_continue=True,
        bare_help=False,
    )
