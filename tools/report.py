"""Write the report of a training run as one HTML file. See docs/report.md.

It shows curves, classes, the hardest clips, data and config. Remarks on what stands out are also
printed.

Example: python tools/report.py output/ppTSN
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", help="output folder of a run, which contains metrics.jsonl")
    add("--out", help="the page (default: report.html in that folder)")
    add("--clips", type=int, help="how many of the hardest clips are shown (default: 48)")
    args = parser.parse_args()

    from paddlevideo import log
    from paddlevideo.report.conclusions import remarks
    from paddlevideo.report.run_facts import read_run
    from paddlevideo.report.run_report import NUM_CLIPS, write_report

    num_clips = NUM_CLIPS if args.clips is None else max(args.clips, 0)
    try:
        page = write_report(args.folder, args.out, num_clips)
        for remark in remarks(read_run(args.folder)):
            log.show(f"- {remark}")
        log.show(f"report: {page}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        log.show_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
