"""Write the files of a list into tar shards (WebDataset). See docs/shards.md.

Example: %(prog)s data/k400/train.list data/k400/shards --shard_size 256MB --shuffle
The shards are read with `format: WebDataset`. Their bytes depend on the list and the files alone.
Shards that exist are complete and are kept, so an interrupted run can be continued.
The list, its files and OUT may be at URLs.
Exit code: 0 success, 1 at least one file failed (see failures.PREFIX.tsv), 2 an error.
"""

import argparse
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from paddlevideo.commands import load, run
from paddlevideo.urls import as_path, path_name


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/make_shards.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", help="list, table, or folder with one sub-folder per class")
    add("out", type=as_path, help="output folder")
    media = "what the list names: videos, folders of frames, or audio files, features and videos"
    add("--media", choices=["video", "frames", "audio"], default="video", help=media)
    add("--prefix", help="of the shards' names; default: the name of the list")
    size = "of a shard, such as 256MB; a larger file has its own (default: %(default)s)"
    add("--shard_size", "--shard-size", default="256MB", help=size)
    add("--shuffle", action="store_true", help="put the samples into a random order")
    add("--seed", type=int, default=0, help="of --shuffle (default: %(default)s)")
    resize = "write videos smaller, with this short side (px, even); default: copy the files"
    add("--resize", type=int, metavar="PIXELS", help=resize)
    splits = ["train", "valid", "test"]
    add("--split", choices=splits, help="use the rows of a table with this value in column split")
    multi = "a record has any number of labels"
    add("--multi_label", "--multi-label", action="store_true", help=multi)
    names = "file of class names in the order of their ids; default: the sorted names of the list"
    add("--class_names", "--class-names", help=names)
    root = "folder that the paths of a list are relative to"
    add("--list_root", "--list-root", help=root)
    workers = "processes (default: %(default)s)"
    add("--num_workers", "--num-workers", type=int, default=os.cpu_count() or 1, help=workers)
    add("--overwrite", action="store_true", help="replace shards of other files or settings")
    return parser


def work(args: argparse.Namespace) -> int:
    """Write the shards that are missing; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs.
    """
    shards = import_module("paddlevideo.curate.make_shards")
    settings = shards.ShardSettings(
        Path(path_name(args.source)).stem if args.prefix is None else args.prefix,
        shards.parse_size(args.shard_size),
        args.seed if args.shuffle else None,
        args.resize,
    )
    if args.resize is not None and args.media != "video":
        raise ValueError(f"--resize is for videos, not for --media {args.media}")
    names = None
    if args.class_names:
        names = load("paddlevideo.data.class_names:read_class_names")(args.class_names)
    data, has_names = shards.load_data(
        args.source, args.media, args.list_root, args.split, args.multi_label, names
    )
    done = shards.make_shards(data, has_names, args.out, settings, args.num_workers, args.overwrite)
    return load("paddlevideo.curate.batch_jobs:print_outcome")(done, args.out)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, error_code=2, can_continue=True, bare_help=False)
