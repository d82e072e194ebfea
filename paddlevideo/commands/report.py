"""Write the report of a training run as one HTML file. See docs/report.md.

It shows curves, classes, the hardest clips, data and config. Remarks on what stands out are also
printed.

Example: %(prog)s output/ppTSN
"""

import argparse
from collections.abc import Sequence

from paddlevideo import log
from paddlevideo.commands import PLOT_ERRORS, load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/report.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", help="output folder of a run, which contains metrics.jsonl")
    add("--out", help="the page (default: report.html in that folder)")
    add("--clips", type=int, help="how many of the hardest clips are shown (default: 48)")
    add("--overwrite", action="store_true", help="replace a page that is no report of this run")
    return parser


def work(args: argparse.Namespace) -> None:
    """Write the page and print the remarks.

    Raises:
        ValueError, OSError: no run in the folder, or a page that cannot be written.
    """
    num_clips = load("paddlevideo.report.run_report:NUM_CLIPS")
    num_clips = num_clips if args.clips is None else max(args.clips, 0)
    write_report = load("paddlevideo.report.run_report:write_report")
    page = write_report(args.folder, args.out, num_clips, args.overwrite)
    run_facts = load("paddlevideo.report.run_facts:read_run")(args.folder)
    for remark in load("paddlevideo.report.conclusions:remarks")(run_facts):
        log.show(f"- {remark}")
    log.show(f"report: {page}")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, errors=PLOT_ERRORS, bare_help=False)
