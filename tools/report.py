"""Write the report of a training run: curves, classes, worst clips, data and config in one HTML file. See docs/report.md.

Example: python tools/report.py output/ppTSN
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo import log
from paddlevideo.report.run_report import NUM_CLIPS, write_report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="the run's output folder, which holds metrics.jsonl")
    parser.add_argument("--out", help="the page (default: report.html in that folder)")
    parser.add_argument(
        "--clips",
        type=int,
        default=NUM_CLIPS,
        help="how many of the worst clips are shown (%(default)s)",
    )
    args = parser.parse_args()
    try:
        print(f"report: {write_report(args.folder, args.out, max(args.clips, 0))}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
