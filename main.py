"""Train or test a video recognition model; see docs/training.md."""

import sys

from paddlevideo.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
