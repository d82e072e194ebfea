"""`python -m paddlevideo`: the same as the command `paddlevideo`."""

import sys

from paddlevideo.cli import main

if __name__ == "__main__":
    sys.exit(main())
