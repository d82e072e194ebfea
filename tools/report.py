"""Write the report of a training run as one HTML file. See docs/report.md.

It shows curves, classes, the hardest clips, data and config. Remarks on what stands out are also
printed.

Example: python tools/report.py output/ppTSN
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
