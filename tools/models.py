"""List published models, fetch their weights, share models; see docs/pretrained.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.models import main

if __name__ == "__main__":
    sys.exit(main())
