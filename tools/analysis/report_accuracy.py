"""Report the accuracy of score files, each alone and all fused by a weighted sum.

See docs/fusion.md.

Example: python tools/analysis/report_accuracy.py --scores audio.json rgb.json --coefficients 1 2
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.report_accuracy import main

if __name__ == "__main__":
    sys.exit(main())
