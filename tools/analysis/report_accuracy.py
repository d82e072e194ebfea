"""Accuracy of score files, each alone and all of them fused by a weighted sum. See docs/fusion.md.

Example: python tools/analysis/report_accuracy.py --scores audio.json visual.json --coefficients 1 2
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.report.fusion import report_accuracy


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--scores",
        nargs="+",
        required=True,
        metavar="FILE",
        help="one for each modality: .json, .npz or .pkl",
    )
    add(
        "--datalist",
        metavar="LIST",
        help="the videos and their labels; needed where the score files do not hold them",
    )
    add(
        "--coefficients",
        "--coefficient",
        nargs="+",
        type=float,
        metavar="C",
        help="one for each score file (default: 1 each)",
    )
    add(
        "--apply-softmax",
        "--apply_softmax",
        action="store_true",
        help="make probabilities of each row first",
    )
    add("--search", action="store_true", help="find the coefficients that are best on these videos")
    add(
        "--plot", metavar="FILE", help="draw the accuracy over the coefficients: .png, .svg or .pdf"
    )
    add("--out", metavar="FILE", help="write the fused scores: .json or .npz")
    args = parser.parse_args()
    try:
        print(
            report_accuracy(
                **{name.replace("scores", "files"): value for name, value in vars(args).items()}
            )
        )
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
