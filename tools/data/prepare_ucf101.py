"""Make lists of UCF-101 from its official lists, for videos and for extracted frames.

Example: python tools/data/prepare_ucf101.py ucfTrainTestlist --videos data/ucf101/videos \\
             --out data/ucf101
See data/ucf101/README.md.
Exit code: 0 all clips are listed, 1 some are missing or damaged (the others are listed), 2 an error
(nothing is written).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    annotations = "folder of the official lists: classInd.txt, trainlist01.txt, testlist01.txt, ..."
    add("annotations", type=Path, help=annotations)
    add("--videos", type=Path, help="folder of videos, to write lists ..._videos.txt")
    frames = "folder that extract_frames.py wrote, to write lists ..._rawframes.txt"
    add("--frames", type=Path, help=frames)
    add("--out", type=Path, required=True, help="folder of the lists, labels.txt and problems.tsv")
    splits = (1, 2, 3)
    add("--splits", type=int, nargs="+", choices=splits, default=splits, help="default: all")
    check_frames = "frames to decode of each video, to find damaged ones"
    add("--check_frames", type=int, default=3, help=check_frames)
    add("--no_check", action="store_true", help="do not open the videos")
    add("--workers", type=int, help="processes, 0: only this one; default: one per core")
    add("--overwrite", action="store_true", help="replace existing lists")
    args = parser.parse_args()
    if args.videos is None and args.frames is None:
        parser.error("give --videos, --frames or both")
    return args


def main() -> int:
    args = parse_args()

    from paddlevideo import log
    from paddlevideo.curate.known_sets import print_prepared, write_prepared
    from paddlevideo.curate.probe import ProbeOptions
    from paddlevideo.curate.ucf101 import prepare

    try:
        options = None if args.no_check else ProbeOptions(args.check_frames)
        folders = (args.annotations, args.out, args.videos, args.frames)
        prepared = prepare(*folders, args.splits, args.workers, options)
        write_prepared(prepared, args.out, args.overwrite)
    except (ValueError, OSError) as error:
        log.show_error(error)
        return 2
    return print_prepared(prepared, args.out)


if __name__ == "__main__":
    sys.exit(main())
