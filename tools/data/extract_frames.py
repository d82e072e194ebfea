"""Write the frames of videos as JPEG files, img_00001.jpg ..., and the list of them for FrameDataset. See docs/data.md.

Example: python tools/data/extract_frames.py data/ucf101/videos data/ucf101/frames --short_side 256
A folder of frames is complete or not there, and one that is there is kept: start it again to go on.
Exit code: 0 all is there, 1 some videos failed (see failures.tsv), 2 nothing was done.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.curate import frames
from paddlevideo.curate.batch_jobs import tell, work
from paddlevideo.data.class_names import read_class_names


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "videos",
        type=Path,
        help="folder with a folder per class; or a list or table: path and label",
    )
    add("out", type=Path, help="folder to write to: the same relative paths, without suffix")
    add(
        "--short_side",
        type=int,
        help="of the pictures (px); smaller ones stay; default: the video's own size",
    )
    add("--quality", type=int, default=95, help="of the JPEG files, 1 .. 100")
    add(
        "--list",
        type=Path,
        help="where to write `folder num_frames label` a line; default: frames.list in OUT",
    )
    add(
        "--class_names",
        type=Path,
        help="file of class names in the order of their ids; default: those found, sorted",
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
        default=min(8, os.cpu_count() or 1),
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
    file = args.list or args.out / frames.LIST
    try:
        names = read_class_names(args.class_names) if args.class_names else None
        plan = frames.plan_frames(args.videos, args.out, args.list_root, names)
        frames.check_list(plan, file, args.overwrite)
        write = frames.WriteFrames(args.short_side, args.quality)
        done = work(write, plan.jobs, args.out, args.num_workers, args.overwrite, args.part)
        count = frames.write_list(plan, file, args.overwrite)
    except (ValueError, OSError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; start it again to go on", file=sys.stderr)
        return 130
    if without := frames.not_listed(plan):
        print(
            f"{len(without)} videos lie in no class folder and are not listed, as {without[0].source}"
        )
    print(
        f"{file}: {count} folders"
        if count
        else f"no list: none of the folders has a class, or none is there ({file})"
    )
    return tell(done, args.out)


if __name__ == "__main__":
    sys.exit(main())
