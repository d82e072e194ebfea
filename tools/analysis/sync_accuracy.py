"""Measure how often a synchronization network prefers the audio of the same clip.

It compares the distance between a clip's frames and its own audio with the distance to the audio
of every other clip. Chance is 0.5.

Example: python tools/analysis/sync_accuracy.py -c configs/demo/avslowfast_sync.yaml \\
             -w output/demo_sync/Sync_latest.pdstate
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.sync_accuracy import main

if __name__ == "__main__":
    sys.exit(main())
