"""Write smaller copies of videos (H.264), which training decodes faster. See docs/data.md.

Example: %(prog)s data/k400/videos data/k400/videos_256 --short_side 256
Copies keep their relative paths. Existing copies are complete and are kept, so an interrupted run
can be continued. If VIDEOS is a list or table, a list of the copies is written to OUT.
VIDEOS and OUT may be URLs.
Exit code: 0 success, 1 at least one video failed (see failures.tsv), 2 an error.
"""

import argparse
import os
from collections.abc import Sequence
from importlib import import_module

from paddlevideo import log
from paddlevideo.commands import load, run, running
from paddlevideo.scale.flags import add_flags, place
from paddlevideo.urls import as_path, join_path, path_name, shown


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/resize_videos.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("videos", type=as_path, help="folder of videos, or a list or table of videos")
    add("out", type=as_path, help="output folder")
    add("--short_side", type=int, default=256, help="px, even; smaller videos keep their size")
    add("--gop", type=int, default=32, help="largest distance of key frames (frames)")
    add("--crf", type=int, default=20, help="quality, 0 .. 51; smaller is better, and larger files")
    preset = "of x264, ultrafast .. veryslow: slower presets make smaller files"
    add("--preset", default="veryfast", help=preset)
    add("--sound", choices=["copy", "none"], default="copy", help="copy the audio, or leave it out")
    suffix = ".mkv can hold more audio codecs"
    add("--suffix", choices=[".mp4", ".mkv"], default=".mp4", help=suffix)
    names = ("--list_root", "--list-root")
    add(*names, type=as_path, help="folder that the paths of a list are relative to")
    names = ("--num_workers", "--num-workers")
    add(*names, type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    add("--part", default="1/1", metavar="I/N", help="part I of N, to share work between machines")
    add("--overwrite", action="store_true", help="write existing copies again")
    add_flags(parser)
    return parser


def work(args: argparse.Namespace) -> int:
    """Write the copies that are missing; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs.
    """
    resize = import_module("paddlevideo.curate.resize")
    write = resize.WriteResized(
        args.short_side, args.gop, args.crf, args.preset, args.sound, args.suffix
    )
    jobs, rows = resize.plan_resize(args.videos, args.out, args.suffix, args.list_root)
    run_jobs = load("paddlevideo.curate.batch_jobs:run_jobs")
    with running(place(args)) as run_each:
        num = args.num_workers
        done = run_jobs(write, jobs, args.out, num, args.overwrite, args.part, run_each)
    if rows:
        file, count = resize.write_list(
            jobs, rows, as_path(join_path(args.out, path_name(args.videos)))
        )
        log.show(f"{shown(file)}: {count} of {len(rows)} lines")
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
