"""Compare several training runs, such as folds or seeds: their scores with the mean, and a plot.

Example: python tools/analysis/compare_runs.py output/plain output/multigrid --out curves.png
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.compare_runs import main

if __name__ == "__main__":
    sys.exit(main())
