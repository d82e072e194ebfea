"""Prepare YouTube-8M: check all records, write lists and class names, convert pickles.

Example: python tools/data/prepare_youtube8m.py check data/yt8m/train.list
Exit code: 0 success, 1 an error or at least one problem.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.prepare_youtube8m import main

if __name__ == "__main__":
    sys.exit(main())
