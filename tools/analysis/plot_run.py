"""Plot the curves of a training run.

Example: python tools/analysis/plot_run.py output/ppTSN
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="output folder of a run, which contains metrics.jsonl")
    parser.add_argument("--out", help="image file (default: run.png in that folder)")
    args = parser.parse_args()

    from paddlevideo import log
    from paddlevideo.report.plot import plot_run

    try:
        log.show(f"plot: {plot_run(args.folder, args.out)}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        log.show_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
