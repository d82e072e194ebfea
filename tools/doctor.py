"""Describe this machine and its known problems. Begin a bug report with the output.

Example: python tools/doctor.py
"""

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036, an older Python stops at the syntax of the package
    sys.exit("error: Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0])

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.report.doctor_command import main

if __name__ == "__main__":
    sys.exit(main())
