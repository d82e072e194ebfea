"""Measure speed; see docs/benchmarks.md."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paddlevideo import log
from paddlevideo.benchmarks.flags import make_parser
from paddlevideo.commands import load, run

MODULES = {"serve": "paddlevideo.serve.load"}  # of verbs that measure rooms above the benchmarks

__all__ = ["main", "make_parser", "work"]


def work(args: argparse.Namespace) -> None:
    """Measure what the verb names, and print a table per group of variants.

    Raises:
        ValueError, OSError: a mistake in flags or data, or variants that compute different results.
    """
    load("paddlevideo.dist:use_threads")()
    with log.session(), tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        machine = load("paddlevideo.benchmarks.measure:machine")()
        print(
            f"{machine['processor']}, {machine['cores']} cores, load {machine['load']}", flush=True
        )
        groups = []
        module = MODULES.get(args.verb, f"paddlevideo.benchmarks.{args.verb}")
        for group in load(f"{module}:groups")(args, Path(folder)):
            print(f"\n{group.text()}", flush=True)
            groups.append(group)
    if args.json:
        load("paddlevideo.benchmarks.measure:write_json")(args.json, groups)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv)
