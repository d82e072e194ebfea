"""Write log-mel features (.npy) of audio files or videos.

Example: %(prog)s data/k400/audio data/k400/audio_feature
The features equal those that LoadAudioFeature computes on the fly if n_fft and hop_length agree.
Files keep their relative paths. Existing files are kept, so an interrupted run can be continued.
Both folders may be URLs.
Exit code: 0 success, 1 an error or at least one failed file (see failures.tsv).
"""

import argparse
import os
from collections.abc import Sequence

from paddlevideo.commands import load, run, running
from paddlevideo.scale.flags import add_flags, place
from paddlevideo.urls import as_path


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/data/build_audio_features.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    source = "folder of audio files or videos, or a list with lines `path [num_frames] [label]`"
    add("audio_home_path", type=as_path, help=source)
    add("spectrogram_save_path", type=as_path, help="output folder")
    add("--level", type=int, help="use only files this many folders deep, 1: in the folder itself")
    add("--ext", help="use only files with this suffix, such as wav")
    names = ("--num-workers", "--num_workers", "--num-worker")
    workers = min(4, os.cpu_count() or 1)
    add(*names, type=int, default=workers, help="processes (default: %(default)s)")
    add("--part", default="1/1", metavar="I/N", help="part I of N, to share work between machines")
    names = ("--list-root", "--list_root")
    add(*names, type=as_path, help="folder that the paths of a list are relative to")
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
    add_flags(parser)
    return parser


def work(args: argparse.Namespace) -> int:
    """Write the features that are missing; the exit code is in the help.

    Raises:
        ValueError, OSError: a mistake in the flags or the inputs.
    """
    jobs = load("paddlevideo.curate.batch_jobs:plan_jobs")
    out = args.spectrogram_save_path
    jobs = jobs(args.audio_home_path, out, ".npy", args.ext, args.level, args.list_root)
    sizes = (args.sample_rate, args.n_fft, args.hop_length, args.num_mels, args.fmin, args.fmax)
    mel = load("paddlevideo.media.log_mel:DecibelMel")(*sizes)
    write = load("paddlevideo.curate.audio_files:WriteFeature")(mel, args.stream, args.backend)
    run_jobs = load("paddlevideo.curate.batch_jobs:run_jobs")
    with running(place(args)) as run_each:
        num = args.num_workers
        done = run_jobs(write, jobs, out, num, args.overwrite, args.part, run_each)
    return load("paddlevideo.curate.batch_jobs:print_outcome")(done, out)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, can_continue=True, bare_help=False)
