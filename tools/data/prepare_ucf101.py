"""Lists of UCF-101's three splits out of the official ones, for videos and for extracted frames; see data/ucf101/README.md.

Example: python tools/data/prepare_ucf101.py ucfTrainTestlist --videos data/ucf101/videos --out data/ucf101
Exit code: 0 all clips are listed, 1 some are missing or damaged (the others are listed), 2 nothing was written.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.curate.known_sets import tell, write
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.curate.ucf101 import SPLITS, prepare


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "annotations",
        type=Path,
        help="folder with classInd.txt, trainlist01.txt, testlist01.txt, ...",
    )
    add("--videos", type=Path, help="folder of the videos: ..._videos.txt")
    add(
        "--frames",
        type=Path,
        help="folder of what extract_frames.py made of them: ..._rawframes.txt",
    )
    add("--out", type=Path, required=True, help="folder of the lists, labels.txt and problems.tsv")
    add(
        "--splits",
        type=int,
        nargs="+",
        choices=SPLITS,
        default=SPLITS,
        help="which; all by default",
    )
    add(
        "--check_frames",
        type=int,
        default=3,
        help="frames to decode of each video, to find damaged ones",
    )
    add("--no_check", action="store_true", help="open no video")
    add("--workers", type=int, help="processes; default: one per core; 0: none")
    add("--overwrite", action="store_true", help="replace lists that are there")
    args = parser.parse_args()
    if args.videos is None and args.frames is None:
        parser.error("give --videos, --frames or both")
    try:
        how = None if args.no_check else ProbeOptions(args.check_frames)
        made = prepare(
            args.annotations, args.out, args.videos, args.frames, args.splits, args.workers, how
        )
        write(made, args.out, args.overwrite)
    except (ValueError, OSError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 2
    return tell(made, args.out)


if __name__ == "__main__":
    sys.exit(main())
