"""Make lists of Kinetics-400, -600 or -700 from the official CSV files and a folder of videos.

Example: python tools/data/prepare_kinetics.py annotations/train.csv annotations/val.csv \\
             --videos my/k400 --out data/k400
See data/k400/README.md.
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
    csv_help = "official CSV files, such as train.csv val.csv; give all of them in one call"
    add("annotations", type=Path, nargs="+", help=csv_help)
    videos = "folder of videos, with or without a folder per class"
    add("--videos", type=Path, required=True, help=videos)
    out = "folder of train.list, val.list, test.list, labels.txt and problems.tsv"
    add("--out", type=Path, required=True, help=out)
    names = "file of class names in the order of their ids; default: names of the CSV files, sorted"
    add("--class_names", type=Path, help=names)
    add("--num_classes", type=int, help="expected number of classes, such as 400")
    add(
        "--frames", type=int, default=3, help="frames to decode of each video, to find damaged ones"
    )
    add("--no_check", action="store_true", help="do not open the videos")
    add("--workers", type=int, help="processes, 0: only this one; default: one per core")
    add("--overwrite", action="store_true", help="replace existing lists")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from paddlevideo import log
    from paddlevideo.curate.kinetics import prepare
    from paddlevideo.curate.known_sets import print_prepared, write_prepared
    from paddlevideo.curate.probe import ProbeOptions
    from paddlevideo.data.class_names import read_class_names

    try:
        names = read_class_names(args.class_names) if args.class_names else None
        options = None if args.no_check else ProbeOptions(args.frames)
        prepared = prepare(args.annotations, args.videos, args.out, names, args.workers, options)
        num_classes = len(prepared.class_names)
        if args.num_classes not in (None, num_classes):
            raise ValueError(
                f"the annotations have {num_classes} classes, --num_classes is {args.num_classes}; "
                "give all CSV files"
            )
        write_prepared(prepared, args.out, args.overwrite)
    except (ValueError, OSError) as error:
        log.show_error(error)
        return 2
    return print_prepared(prepared, args.out)


if __name__ == "__main__":
    sys.exit(main())
