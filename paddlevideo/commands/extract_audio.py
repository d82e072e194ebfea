"""Write the audio of videos as wav files.

Example: %(prog)s data/k400/videos data/k400/audio
Files keep their relative paths. Existing files are kept, so an interrupted run can be continued.
Both folders may be URLs.
Exit code: 0 success, 1 an error or at least one failed video (see failures.tsv).
"""

import argparse
import os
from collections.abc import Sequence

from paddlevideo.commands import load, run
from paddlevideo.urls import as_path


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/extract_audio.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "root",
        type=as_path,
        help="folder of videos, or a list with lines `path [num_frames] [label]`",
    )
    add("dst_root", type=as_path, help="output folder")
    add("--level", type=int, help="use only videos this many folders deep, 1: in the folder itself")
    add("--ext", help="use only videos with this suffix, such as mp4")
    workers = min(8, os.cpu_count() or 1)
    names = ("--num-workers", "--num_workers", "--num-worker")
    add(*names, type=int, default=workers, help="processes (default: %(default)s)")
    names = ("--list-root", "--list_root")
    add(*names, type=as_path, help="folder that the paths of a list are relative to")
    rate = "write mono audio at this rate (Hz); default: rate and channels of each video"
    add("--sample-rate", type=int, help=rate)
    add("--stream", type=int, default=0, help="number of the audio stream, counted from 0")
    add("--overwrite", action="store_true", help="write existing files again")
    return parser


def work(args: argparse.Namespace) -> int:
    """Write the files that are missing; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs.
    """
    jobs = load("paddlevideo.curate.batch_jobs:plan_jobs")
    jobs = jobs(args.root, args.dst_root, ".wav", args.ext, args.level, args.list_root)
    write = load("paddlevideo.curate.audio_files:WriteWav")(args.sample_rate, args.stream)
    run_jobs = load("paddlevideo.curate.batch_jobs:run_jobs")
    done = run_jobs(write, jobs, args.dst_root, args.num_workers, args.overwrite)
    return load("paddlevideo.curate.batch_jobs:print_outcome")(done, args.dst_root)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, can_continue=True, bare_help=False)
