"""Make lists of Kinetics-400, -600 or -700 from the official CSV files and a folder of videos.

Example: python tools/data/prepare_kinetics.py annotations/train.csv annotations/val.csv \\
             --videos my/k400 --out data/k400
See data/k400/README.md.
Exit code: 0 all clips are listed, 1 some are missing or damaged (the others are listed), 2 an error
(nothing is written).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.prepare_kinetics import main

if __name__ == "__main__":
    sys.exit(main())
