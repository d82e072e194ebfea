"""Write the files of a list into tar shards (WebDataset). See docs/shards.md.

Example: python tools/data/make_shards.py data/k400/train.list data/k400/shards --shuffle
The shards are read with `format: WebDataset`. Their bytes depend on the list and the files alone.
Shards that exist are complete and are kept, so an interrupted run can be continued.
Exit code: 0 success, 1 at least one file failed (see failures.PREFIX.tsv), 2 an error.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.make_shards import main

if __name__ == "__main__":
    sys.exit(main())
