"""Make lists of UCF-101 from its official lists, for videos and for extracted frames.

Example: python tools/data/prepare_ucf101.py ucfTrainTestlist --videos data/ucf101/videos \\
             --out data/ucf101
See data/ucf101/README.md.
Exit code: 0 all clips are listed, 1 some are missing or damaged (the others are listed), 2 an error
(nothing is written).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.prepare_ucf101 import main

if __name__ == "__main__":
    sys.exit(main())
