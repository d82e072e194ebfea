"""Plot the curves of a training run.

Example: %(prog)s output/ppTSN
"""

import argparse
from collections.abc import Sequence

from paddlevideo import log
from paddlevideo.commands import PLOT_ERRORS, load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/analysis/plot_run.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="output folder of a run, which contains metrics.jsonl")
    parser.add_argument("--out", help="image file (default: run.png in that folder)")
    text = "replace an image that is no plot of this run"
    parser.add_argument("--overwrite", action="store_true", help=text)
    return parser


def work(args: argparse.Namespace) -> None:
    """Write the plot.

    Raises:
        ValueError, OSError: no run in the folder, or an image that cannot be written.
    """
    plot_run = load("paddlevideo.report.plot:plot_run")
    log.show(f"plot: {plot_run(args.folder, args.out, args.overwrite)}")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, errors=PLOT_ERRORS, bare_help=False)
