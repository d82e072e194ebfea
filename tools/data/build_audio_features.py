"""Write audio features (log-mel, .npy): python tools/data/build_audio_features.py data/k400/audio data/k400/audio_feature

The first argument may hold wav files or the videos themselves. The features are those of `LoadAudioFeature` in a config, which
makes them on the fly where a list names a video or a sound; give both the same n_fft and hop_length.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.curate.audio_files import WriteFeature
from paddlevideo.curate.batch_jobs import plan, tell, work
from paddlevideo.media.log_mel import DecibelMel


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Files keep their relative paths; those that are there are kept. Exits with 1 if any failed, see failures.tsv.",
    )
    add, usual = parser.add_argument, DecibelMel()
    add(
        "audio_home_path",
        type=Path,
        help="folder of sounds or videos, or a list: `path [num_frames] [label]` a line",
    )
    add("spectrogram_save_path", type=Path, help="folder to write to")
    add(
        "--level",
        type=int,
        help="only files so many folders deep, 1 for the folder itself; any by default",
    )
    add("--ext", help="only files with this suffix, as wav; any by default")
    add(
        "--num-workers",
        "--num_workers",
        "--num-worker",
        type=int,
        default=min(4, os.cpu_count() or 1),
        help="processes",
    )
    add(
        "--part",
        default="1/1",
        metavar="I/N",
        help="only part I of N, to share the work between machines",
    )
    add(
        "--list-root",
        "--list_root",
        type=Path,
        help="folder that the paths of a list are relative to",
    )
    add("--sample-rate", type=int, default=usual.sample_rate, help="of the waveform (Hz)")
    add(
        "--n-fft",
        type=int,
        default=usual.n_fft,
        help="window (samples); 512 in the published script, 1024 in its table",
    )
    add("--hop-length", type=int, default=usual.hop_length, help="samples from row to row")
    add("--num-mels", type=int, default=usual.num_mels, help="columns")
    add("--fmin", type=float, default=usual.fmin, help="lower edge of the filters (Hz)")
    add("--fmax", type=float, default=usual.fmax, help="upper edge of the filters (Hz)")
    add("--stream", type=int, default=0, help="which audio stream, counted from 0")
    add(
        "--backend",
        choices=["pyav", "soundfile"],
        default="pyav",
        help="soundfile: plain audio files as librosa reads them",
    )
    add("--overwrite", action="store_true", help="make files again that are there")
    args = parser.parse_args()
    out = args.spectrogram_save_path
    try:
        feature = DecibelMel(
            args.sample_rate, args.n_fft, args.hop_length, args.num_mels, args.fmin, args.fmax
        )
        jobs = plan(args.audio_home_path, out, ".npy", args.ext, args.level, args.list_root)
        write = WriteFeature(feature, args.stream, args.backend)
        done = work(write, jobs, out, args.num_workers, args.overwrite, args.part)
    except (ValueError, OSError) as error:
        print(f"build_audio_features: {log.error_text(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("build_audio_features: stopped; start it again to go on", file=sys.stderr)
        return 130
    return tell(done, out)


if __name__ == "__main__":
    sys.exit(main())
