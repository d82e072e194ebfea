"""Run the verbs of tools/data/prepare_youtube8m.py."""

import argparse

from paddlevideo import log
from paddlevideo.curate import youtube8m
from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder


def run(args: argparse.Namespace) -> list[str]:
    """Run a verb, print its result, and return the problems.

    Args:
        args: `verb` and its options.

    Raises:
        ValueError: wrong options, or no such files.
        OSError: a file cannot be read or written.
    """
    if args.verb == "check":
        decoder = FeatureDecoder(args.max_frames, dict(args.features), args.num_classes)
        return youtube8m.check_and_report(args.shards, decoder, args.index, args.workers)
    if args.verb == "convert":
        names = [name for name, _ in args.features]
        return youtube8m.convert_and_report(args.shards, args.out, names, args.group, args.workers)
    if args.verb == "lists":
        for name, count in youtube8m.write_lists(args.folder, args.out).items():
            log.show(f"{name}: {count} shards")
    elif args.verb == "labels":
        log.show(f"{args.out}: {youtube8m.write_class_names(args.vocabulary, args.out)} classes")
    else:
        plan = ShardPlan(args.seed, args.classes, args.videos)
        log.show(f"{args.out}: {make_shards(args.out, plan)} shards")
    return []
