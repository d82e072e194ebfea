"""Draw the curves of several training runs into one picture, over the minutes that they took and over epochs.

Example: python tools/analysis/compare_runs.py output/plain output/multigrid --out curves.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.report.plot import plot_runs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="+", help="output folders of runs, which hold metrics.jsonl"
    )
    parser.add_argument(
        "--names", nargs="+", default=[], help="what to call them (default: the folders' names)"
    )
    parser.add_argument("--out", default="runs.png", help="the picture")
    args = parser.parse_args()
    try:
        print(f"plot: {plot_runs(args.folders, args.out, args.names)}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
