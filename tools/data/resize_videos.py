"""Write smaller copies of videos (H.264), which training decodes faster. See docs/data.md.

Example: python tools/data/resize_videos.py data/k400/videos data/k400/videos_256 --short_side 256
Copies keep their relative paths. Existing copies are complete and are kept, so an interrupted run
can be continued. If VIDEOS is a list or table, a list of the copies is written to OUT.
Exit code: 0 success, 1 at least one video failed (see failures.tsv), 2 an error.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.resize_videos import main

if __name__ == "__main__":
    sys.exit(main())
