"""Compare several training runs, such as folds or seeds: their scores with the mean, and a plot.

The plot shows score and loss over minutes and over epochs.

Example: %(prog)s output/plain output/multigrid --out curves.png
"""

import argparse
from collections.abc import Sequence

from paddlevideo import log
from paddlevideo.commands import PLOT_ERRORS, load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/analysis/compare_runs.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folders", nargs="+", help="output folders of runs, which contain metrics.jsonl")
    add("--names", nargs="+", default=[], help="names in the legend (default: the folders' names)")
    add("--out", default="runs.png", help="image file (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace an image that is no plot of these runs")
    return parser


def work(args: argparse.Namespace) -> None:
    """Print the scores, and write the plot.

    Raises:
        ValueError, OSError: no run in a folder, or an image that cannot be written.
    """
    plot_runs = load("paddlevideo.report.plot:plot_runs")
    plot = plot_runs(args.folders, args.out, args.names, args.overwrite)
    comparison = load("paddlevideo.report.compare:comparison")
    log.show(*comparison(args.folders, args.names).split("\n"), f"plot: {plot}")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, errors=PLOT_ERRORS, bare_help=False)
