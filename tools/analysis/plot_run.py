"""Plot the curves of a training run.

Example: python tools/analysis/plot_run.py output/ppTSN
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.plot_run import main

if __name__ == "__main__":
    sys.exit(main())
