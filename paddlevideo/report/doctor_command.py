"""Describe this machine and its known problems. Begin a bug report with the output.

Example: %(prog)s
Exit code: 1 if training or prediction fails on this machine, else 0.
"""

# It needs no package but Python's own: a missing package is one of the problems.
import argparse
import json
from collections.abc import Sequence

from paddlevideo.plain_text import readable
from paddlevideo.report.doctor import examine, text


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/doctor.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print all facts as JSON")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the facts and the problems; returns the exit code."""
    args = make_parser(prog).parse_args(argv)
    facts = examine()
    shown = json.dumps(facts, indent=1) if args.json else text(facts)
    print("\n".join(readable(line) for line in shown.split("\n")))
    return 1 if any(problem["level"] == "error" for problem in facts["problems"]) else 0
