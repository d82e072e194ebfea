"""Write the audio of videos as wav files.

Example: python tools/data/extract_audio.py data/k400/videos data/k400/audio
Files keep their relative paths. Existing files are kept, so an interrupted run can be continued.
Exit code: 0 success, 1 an error or at least one failed video (see failures.tsv).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.extract_audio import main

if __name__ == "__main__":
    sys.exit(main())
