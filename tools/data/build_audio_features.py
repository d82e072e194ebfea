"""Write log-mel features (.npy) of audio files or videos.

Example: python tools/data/build_audio_features.py data/k400/audio data/k400/audio_feature
The features equal those that LoadAudioFeature computes on the fly if n_fft and hop_length agree.
Files keep their relative paths. Existing files are kept, so an interrupted run can be continued.
Exit code: 0 success, 1 an error or at least one failed file (see failures.tsv).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.commands.build_audio_features import main

if __name__ == "__main__":
    sys.exit(main())
