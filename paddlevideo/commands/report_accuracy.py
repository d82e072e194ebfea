"""Report the accuracy of score files, each alone and all fused by a weighted sum.

See docs/fusion.md.

Example: %(prog)s --scores audio.json rgb.json --coefficients 1 2
"""

import argparse
from collections.abc import Sequence

from paddlevideo import log
from paddlevideo.commands import PLOT_ERRORS, load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/analysis/report_accuracy.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    text = "score files, one per modality: .json, .npz or .pkl"
    add("--scores", nargs="+", required=True, metavar="FILE", help=text)
    text = "list of the videos with labels; required if the score files do not contain them"
    add("--datalist", metavar="LIST", help=text)
    names, text = ("--coefficients", "--coefficient"), "weight of each score file (default: 1 each)"
    add(*names, nargs="+", type=float, metavar="C", help=text)
    names = ("--apply-softmax", "--apply_softmax")
    add(*names, action="store_true", help="turn each row of scores into probabilities first")
    text = "find the coefficients with the highest top 1 accuracy on these videos"
    add("--search", action="store_true", help=text)
    text = "plot the accuracy over the coefficients: .png, .svg or .pdf"
    add("--plot", metavar="FILE", help=text)
    add("--out", metavar="FILE", help="write the fused scores: .json or .npz")
    text = "replace a plot and scores that were not made from these files"
    add("--overwrite", action="store_true", help=text)
    return parser


def work(args: argparse.Namespace) -> None:
    """Print the table.

    Raises:
        ValueError, OSError: score files that cannot be read or do not fit together.
    """
    flags = vars(args)
    files = flags.pop("scores")
    text = load("paddlevideo.report.fusion:report_accuracy")(files, **flags)
    log.show(*text.split("\n"))


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, errors=PLOT_ERRORS, bare_help=False)
