"""Write the sound of videos as wav files: python tools/data/extract_audio.py data/k400/videos data/k400/audio"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.curate.audio_files import WriteWav
from paddlevideo.curate.batch_jobs import plan, tell, work


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Files keep their relative paths; those that are there are kept. Exits with 1 if any failed, see failures.tsv.",
    )
    add = parser.add_argument
    add("root", type=Path, help="folder of videos, or a list: `path [num_frames] [label]` a line")
    add("dst_root", type=Path, help="folder to write to")
    add(
        "--level",
        type=int,
        help="only videos so many folders deep, 1 for the folder itself; any by default",
    )
    add("--ext", help="only videos with this suffix, as mp4; any by default")
    add(
        "--num-workers",
        "--num_workers",
        "--num-worker",
        type=int,
        default=min(8, os.cpu_count() or 1),
        help="processes",
    )
    add(
        "--list-root",
        "--list_root",
        type=Path,
        help="folder that the paths of a list are relative to",
    )
    add(
        "--sample-rate",
        type=int,
        help="mono at this rate (Hz); by default the rate and channels of each video",
    )
    add("--stream", type=int, default=0, help="which audio stream, counted from 0")
    add("--overwrite", action="store_true", help="make files again that are there")
    args = parser.parse_args()
    try:
        jobs = plan(args.root, args.dst_root, ".wav", args.ext, args.level, args.list_root)
        done = work(
            WriteWav(args.sample_rate, args.stream),
            jobs,
            args.dst_root,
            args.num_workers,
            args.overwrite,
        )
    except (ValueError, OSError) as error:
        print(f"extract_audio: {log.error_text(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("extract_audio: stopped; start it again to go on", file=sys.stderr)
        return 130
    return tell(done, args.dst_root)


if __name__ == "__main__":
    sys.exit(main())
