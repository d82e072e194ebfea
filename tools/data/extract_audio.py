"""Write the audio of videos as wav files.

Example: python tools/data/extract_audio.py data/k400/videos data/k400/audio
Files keep their relative paths. Existing files are kept, so an interrupted run can be continued.
Exit code: 0 success, 1 an error or at least one failed video (see failures.tsv).
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
    add(
        "root", type=Path, help="folder of videos, or a list with lines `path [num_frames] [label]`"
    )
    add("dst_root", type=Path, help="output folder")
    add("--level", type=int, help="use only videos this many folders deep, 1: in the folder itself")
    add("--ext", help="use only videos with this suffix, such as mp4")
    workers = min(8, os.cpu_count() or 1)
    names = ("--num-workers", "--num_workers", "--num-worker")
    add(*names, type=int, default=workers, help="processes (default: %(default)s)")
    names = ("--list-root", "--list_root")
    add(*names, type=Path, help="folder that the paths of a list are relative to")
    rate = "write mono audio at this rate (Hz); default: rate and channels of each video"
    add("--sample-rate", type=int, help=rate)
    add("--stream", type=int, default=0, help="number of the audio stream, counted from 0")
    add("--overwrite", action="store_true", help="write existing files again")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from paddlevideo import log
    from paddlevideo.curate.audio_files import WriteWav
    from paddlevideo.curate.batch_jobs import plan_jobs, print_outcome, run_jobs

    try:
        jobs = plan_jobs(args.root, args.dst_root, ".wav", args.ext, args.level, args.list_root)
        write = WriteWav(args.sample_rate, args.stream)
        done = run_jobs(write, jobs, args.dst_root, args.num_workers, args.overwrite)
    except (ValueError, OSError) as error:
        log.show_error(error)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the command again to continue", file=sys.stderr)
        return 130
    return print_outcome(done, args.dst_root)


if __name__ == "__main__":
    sys.exit(main())
