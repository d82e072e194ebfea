"""Convert weights of another project to a `.pdparams` or `.safetensors` file for this one.

Example:
  python tools/convert_weights.py --source paddlecv_nextvlad -w NEXTVLAD.pdparams -o out.pdparams
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo.commands.convert_weights import main

if __name__ == "__main__":
    sys.exit(main())
