"""The command of tools/quantize.py: add an int8 program to an exported model."""

import argparse
from collections.abc import Sequence

from paddlevideo import log
from paddlevideo.commands import load, run, running
from paddlevideo.scale.flags import add_flags, place


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/quantize.py."""
    parser = argparse.ArgumentParser(
        prog,
        description="Quantize an exported model: a program that computes in int8, next to the "
        "others, or with --backend tensorrt the ranges of its activations, and how much its "
        "scores differ. See docs/runtimes.md.",
    )
    add = parser.add_argument
    add(
        "-m",
        "--model",
        required=True,
        help="exported folder, or that of a run with an export, or its URL",
    )
    videos = "list, table, folder, glob or shards, or their URL; with labels, accuracy is measured"
    add("--videos", required=True, metavar="LIST", help=videos)
    add("--num", type=int, default=64, help="videos to calibrate with, at most; default 64")
    test = "other videos to compare fp32 and int8 on, at most; default: as --num"
    add("--num_test", type=int, help=test)
    backends = "what runs it in int8: openvino on a CPU, or tensorrt on this GPU"
    add("--backend", choices=("openvino", "tensorrt"), default="openvino", help=backends)
    add("--overwrite", action="store_true", help="replace an int8 program that is there")
    add_flags(parser)
    return parser


def work(args: argparse.Namespace) -> None:
    """Quantize, and print the comparison.

    Raises:
        ValueError, OSError: a mistake in flags, export or videos.
    """
    load("paddlevideo.dist:use_threads")()
    where = place(args)
    with log.session(), running(where, max_unit=1) as run_each:
        quantize = load("paddlevideo.quantizing.quantize:quantize")
        more = {} if where.is_local else {"run": run_each}
        numbers = (args.num, args.num_test)
        result = quantize(
            args.model, args.videos, *numbers, args.overwrite, backend=args.backend, **more
        )
        log.show(*result.lines())


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv)
