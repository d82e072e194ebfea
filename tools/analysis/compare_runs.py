"""Plot the curves of several training runs into one image, over minutes and over epochs.

Example: python tools/analysis/compare_runs.py output/plain output/multigrid --out curves.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folders", nargs="+", help="output folders of runs, which contain metrics.jsonl")
    add("--names", nargs="+", default=[], help="names in the legend (default: the folders' names)")
    add("--out", default="runs.png", help="image file (default: %(default)s)")
    args = parser.parse_args()

    from paddlevideo import log
    from paddlevideo.report.plot import plot_runs

    try:
        log.show(f"plot: {plot_runs(args.folders, args.out, args.names)}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        log.show_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
