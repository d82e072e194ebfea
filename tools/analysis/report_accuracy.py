"""Report the accuracy of score files, each alone and all fused by a weighted sum.

See docs/fusion.md.

Example: python tools/analysis/report_accuracy.py --scores audio.json rgb.json --coefficients 1 2
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from paddlevideo import log
    from paddlevideo.report.fusion import report_accuracy

    flags = vars(args)
    files = flags.pop("scores")
    try:
        log.show(*report_accuracy(files, **flags).split("\n"))
    except (OSError, ValueError, ModuleNotFoundError) as error:
        log.show_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
