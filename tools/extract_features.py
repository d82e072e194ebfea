"""Extract frame features of videos with a recognizer, as shards in the format of YouTube-8M.

See docs/nextvlad.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.extract_features import main

if __name__ == "__main__":
    sys.exit(main())
