"""Add an int8 program to an exported model; see docs/runtimes.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.quantize import main

if __name__ == "__main__":
    sys.exit(main())
