"""Write log-mel features (.npy) of audio files or videos.

Example: python tools/data/build_audio_features.py data/k400/audio data/k400/audio_feature
The features equal those that LoadAudioFeature computes on the fly if n_fft and hop_length agree.
Files keep their relative paths. Existing files are kept, so an interrupted run can be continued.
Exit code: 0 success, 1 an error or at least one failed file (see failures.tsv).
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    source = "folder of audio files or videos, or a list with lines `path [num_frames] [label]`"
    add("audio_home_path", type=Path, help=source)
    add("spectrogram_save_path", type=Path, help="output folder")
    add("--level", type=int, help="use only files this many folders deep, 1: in the folder itself")
    add("--ext", help="use only files with this suffix, such as wav")
    names = ("--num-workers", "--num_workers", "--num-worker")
    workers = min(4, os.cpu_count() or 1)
    add(*names, type=int, default=workers, help="processes (default: %(default)s)")
    add("--part", default="1/1", metavar="I/N", help="part I of N, to share work between machines")
    names = ("--list-root", "--list_root")
    add(*names, type=Path, help="folder that the paths of a list are relative to")
    add("--sample-rate", type=int, default=16000, help="of the waveform (Hz)")
    n_fft = "window (samples); PaddleVideo's script has 512, its documentation 1024"
    add("--n-fft", type=int, default=512, help=n_fft)
    add("--hop-length", type=int, default=256, help="samples from one time step to the next")
    add("--num-mels", type=int, default=80, help="mel bins")
    add("--fmin", type=float, default=125.0, help="lower edge of the filters (Hz)")
    add("--fmax", type=float, default=7600.0, help="upper edge of the filters (Hz)")
    add("--stream", type=int, default=0, help="number of the audio stream, counted from 0")
    backends, backend = ["pyav", "soundfile"], "soundfile reads plain audio files as librosa does"
    add("--backend", choices=backends, default="pyav", help=backend)
    add("--overwrite", action="store_true", help="write existing files again")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from paddlevideo import log
    from paddlevideo.curate.audio_files import WriteFeature
    from paddlevideo.curate.batch_jobs import plan_jobs, print_outcome, run_jobs
    from paddlevideo.media.log_mel import DecibelMel

    out = args.spectrogram_save_path
    sizes = (args.sample_rate, args.n_fft, args.hop_length, args.num_mels, args.fmin, args.fmax)
    try:
        jobs = plan_jobs(args.audio_home_path, out, ".npy", args.ext, args.level, args.list_root)
        write = WriteFeature(DecibelMel(*sizes), args.stream, args.backend)
        done = run_jobs(write, jobs, out, args.num_workers, args.overwrite, args.part)
    except (ValueError, OSError) as error:
        log.show_error(error)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the command again to continue", file=sys.stderr)
        return 130
    return print_outcome(done, out)


if __name__ == "__main__":
    sys.exit(main())
