"""Make videos smaller once, so that training decodes less: H.264, sound copied. See docs/data.md for what it brings.

Example: python tools/data/resize_videos.py data/k400/videos data/k400/videos_256 --short_side 256
Files keep their relative paths, ending in .mp4. One is complete or not there, and one that is there is kept: start it
again to go on. Of a list (path and label) a list of the new files is written into OUT.
Exit code: 0 all is there, 1 some videos failed (see failures.tsv), 2 nothing was done.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.curate import resize
from paddlevideo.curate.batch_jobs import tell, work


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, usual = parser.add_argument, resize.WriteSmaller()
    add("videos", type=Path, help="folder of videos; or a list or table: path and label")
    add("out", type=Path, help="folder to write to")
    add(
        "--short_side",
        type=int,
        default=usual.short_side,
        help="px, even; smaller videos keep their size",
    )
    add("--gop", type=int, default=usual.gop, help="frames from one key frame to the next")
    add("--crf", type=int, default=usual.crf, help="quality, 0 .. 51; less is better and larger")
    add(
        "--preset",
        choices=resize.PRESETS,
        default=usual.preset,
        help="of x264: slower ones make smaller files",
    )
    add(
        "--sound",
        choices=["copy", "none"],
        default="copy",
        help="copy it as it is, or leave it out",
    )
    add(
        "--suffix",
        choices=list(resize.FORMATS),
        default=usual.suffix,
        help=".mkv takes other kinds of sound",
    )
    add(
        "--list_root",
        "--list-root",
        type=Path,
        help="folder that the paths of a list are relative to",
    )
    add(
        "--num_workers",
        "--num-workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes; 1: this one alone",
    )
    add(
        "--part",
        default="1/1",
        metavar="I/N",
        help="only part I of N, to share the work between machines",
    )
    add("--overwrite", action="store_true", help="make again what is there")
    args = parser.parse_args()
    try:
        write = resize.WriteSmaller(
            args.short_side, args.gop, args.crf, args.preset, args.sound, args.suffix
        )
        jobs, rows = resize.plan_smaller(args.videos, args.out, args.suffix, args.list_root)
        done = work(write, jobs, args.out, args.num_workers, args.overwrite, args.part)
        if rows:
            file, count = resize.write_list(jobs, rows, args.out / args.videos.name)
            print(f"{file}: {count} of {len(rows)} lines")
    except (ValueError, OSError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; start it again to go on", file=sys.stderr)
        return 130
    return tell(done, args.out)


if __name__ == "__main__":
    sys.exit(main())
