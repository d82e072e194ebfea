"""Generate the demo data set and an example clip.

Example: python tools/data/make_demo.py --out data/demo --seed 0
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.make_demo import main

if __name__ == "__main__":
    sys.exit(main())
