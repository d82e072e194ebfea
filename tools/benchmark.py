"""Measure speed; see docs/benchmarks.md."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import flags
from paddlevideo import log
from paddlevideo.commands import load, run


def work(args: argparse.Namespace) -> None:
    """Measure what the verb names, and print a table per group of variants.

    Raises:
        ValueError, OSError: a mistake in flags or data, or variants that compute different results.
    """
    load("paddlevideo.dist:use_threads")()
    with log.session(), tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        machine = load("benchmarks.measure:machine")()
        print(
            f"{machine['processor']}, {machine['cores']} cores, load {machine['load']}", flush=True
        )
        groups = []
        for group in load(f"benchmarks.{args.verb}:groups")(args, Path(folder)):
            print(f"\n{group.text()}", flush=True)
            groups.append(group)
    if args.json:
        load("benchmarks.measure:write_json")(args.json, groups)


def main() -> int:
    """Entry point; returns the exit code."""
    return run(flags.make_parser(), work)


if __name__ == "__main__":
    sys.exit(main())
