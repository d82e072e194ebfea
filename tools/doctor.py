"""Describe this machine and its known problems. Begin a bug report with the output.

Example: python tools/doctor.py
Exit code: 1 if training or prediction fails on this machine, else 0.
"""

import argparse
import json
import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036, an older Python stops at the syntax of the package
    sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0])

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print all facts as JSON")
    args = parser.parse_args()

    from paddlevideo.plain_text import readable
    from paddlevideo.report.doctor import examine, text

    facts = examine()
    shown = json.dumps(facts, indent=1) if args.json else text(facts)
    print("\n".join(readable(line) for line in shown.split("\n")))
    return 1 if any(problem["level"] == "error" for problem in facts["problems"]) else 0


if __name__ == "__main__":
    sys.exit(main())
