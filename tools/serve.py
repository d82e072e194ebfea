"""Serve exported models over HTTP; see docs/serve.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.serve import main

if __name__ == "__main__":
    sys.exit(main())
