"""Lists of Kinetics-400, -600 or -700 out of the official CSV files and a folder of videos; see data/k400/README.md.

Example: python tools/data/prepare_kinetics.py annotations/train.csv annotations/val.csv --videos my/k400 --out data/k400
Exit code: 0 all clips are listed, 1 some are missing or damaged (the others are listed), 2 nothing was written.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.curate.kinetics import prepare
from paddlevideo.curate.known_sets import tell, write
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.data.class_names import read_class_names


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "annotations",
        type=Path,
        nargs="+",
        help="official CSV files, as train.csv val.csv; all of them in one call",
    )
    add(
        "--videos",
        type=Path,
        required=True,
        help="folder of the videos, flat or with a folder per class",
    )
    add(
        "--out",
        type=Path,
        required=True,
        help="folder of train.list, val.list, test.list, labels.txt, problems.tsv",
    )
    add(
        "--class_names",
        type=Path,
        help="file of class names in the order of their ids; default: those of the CSV, sorted",
    )
    add("--num_classes", type=int, help="stop unless there are so many, as 400")
    add(
        "--frames", type=int, default=3, help="frames to decode of each video, to find damaged ones"
    )
    add("--no_check", action="store_true", help="open no video")
    add("--workers", type=int, help="processes; default: one per core; 0: none")
    add("--overwrite", action="store_true", help="replace lists that are there")
    args = parser.parse_args()
    try:
        names = read_class_names(args.class_names) if args.class_names else None
        how = None if args.no_check else ProbeOptions(args.frames)
        made = prepare(args.annotations, args.videos, args.out, names, args.workers, how)
        if args.num_classes not in (None, len(made.class_names)):
            raise ValueError(
                f"{len(made.class_names)} classes, --num_classes says {args.num_classes}; give all CSV files"
            )
        write(made, args.out, args.overwrite)
    except (ValueError, OSError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 2
    return tell(made, args.out)


if __name__ == "__main__":
    sys.exit(main())
