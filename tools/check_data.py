"""Check videos or audio files before training, and write lists of the good ones.

The lists are train.csv, val.csv and labels.txt; the faults are in bad_files.csv and
data_report.html. See docs/own_data.md.

Example: python tools/check_data.py my_videos
Exit code: 0 no faults; 1 faults (the good clips are written); 2 nothing was checked or written.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.check_data import main

if __name__ == "__main__":
    sys.exit(main())
