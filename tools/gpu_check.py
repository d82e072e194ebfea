"""Check everything on the GPUs of this machine: training, export, every runtime; minutes.

Example: python tools/gpu_check.py --out output/gpu_check
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.gpu_check import main

if __name__ == "__main__":
    sys.exit(main())
