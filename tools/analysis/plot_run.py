"""Draw the curves of a training run.

Example: python tools/analysis/plot_run.py output/ppTSN
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.report.plot import plot_run


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="the run's output folder, which holds metrics.jsonl")
    parser.add_argument("--out", help="the picture (default: run.png in that folder)")
    args = parser.parse_args()
    try:
        print(f"plot: {plot_run(args.folder, args.out)}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
