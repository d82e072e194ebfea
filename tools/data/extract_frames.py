"""Write the frames of videos as JPEG files, and the list of them for FrameDataset.

Example: python tools/data/extract_frames.py data/ucf101/videos data/ucf101/frames --short_side 256
Existing folders of frames are complete and are kept, so an interrupted run can be continued.
See docs/data.md.
Exit code: 0 success, 1 at least one video failed (see failures.tsv), 2 an error.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.extract_frames import main

if __name__ == "__main__":
    sys.exit(main())
