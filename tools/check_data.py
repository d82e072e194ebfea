"""Check videos before training on them, and write clean lists: train.csv, val.csv, labels.txt. See docs/own_data.md.

Example: python tools/check_data.py my_videos
Exit code: 0 nothing is wrong, 1 something is (what is good is written), 2 nothing could be checked or written.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo import log
from paddlevideo.curate.check import CheckPlan, check
from paddlevideo.curate.inventory import Inputs
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.curate.report import html_report, text_report
from paddlevideo.curate.results import REPORT, check_free, how_to_train, write
from paddlevideo.data.class_names import read_class_names


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "data",
        type=Path,
        help="folder with a folder per class, also below train/ val/ test/; list; .csv; .jsonl",
    )
    add(
        "--valid",
        type=Path,
        help="folder or list of the validation set; DATA is the training set then",
    )
    add("--test", type=Path, help="folder or list of the test set")
    add("--data_prefix", help="folder that the paths of a list are relative to")
    add("--suffix", default="", help="put behind each path of a list, as .mp4")
    add("--class_names", help="file of class names, for lists whose labels are ids")
    add("--out", type=Path, help="where to write; default: the folder itself, or the list's")
    add("--overwrite", action="store_true", help="replace lists there that this tool did not write")
    add("--dry_run", action="store_true", help="write nothing")
    add(
        "--frames",
        type=int,
        default=8,
        help="frames to decode of each video: first, last, others between",
    )
    add("--whole", action="store_true", help="decode every frame")
    add("--min_frames", type=int, default=2, help="fewer are too short")
    add("--min_seconds", type=float, default=0.0, help="less is too short")
    add(
        "--valid_share",
        type=float,
        default=0.2,
        help="of each class, where no validation set is given",
    )
    add("--test_share", type=float, default=0.0, help="of each class, where no split is given")
    add("--resplit", action="store_true", help="draw new splits although there are some")
    add("--seed", type=int, default=0, help="of the splits")
    add(
        "--source",
        metavar="REGEX",
        help="its first group is a clip's source; none: each file is one; default: docs/own_data.md",
    )
    add("--workers", type=int, help="processes; default: one per core; 0: none")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    out = args.out or (args.data if args.data.is_dir() else args.data.parent)
    names = read_class_names(args.class_names) if args.class_names else None
    inputs = Inputs(
        args.data, args.valid, args.test, args.data_prefix, args.suffix, names, args.source
    )
    seeing = ProbeOptions(args.frames, args.whole, args.min_frames, args.min_seconds)
    plan = CheckPlan(
        inputs, seeing, args.valid_share, args.test_share, args.seed, args.resplit, args.workers
    )
    if not args.dry_run:
        check_free(out, args.overwrite)
    checked = check(plan)
    print(text_report(checked))
    if not args.dry_run:
        counts = write(
            checked, out, {REPORT: html_report(checked, f"Data: {args.data}")}, args.overwrite
        )
        print(
            f"written to {out}: "
            + ", ".join([*(f"{name} ({count})" for name, count in counts.items()), REPORT])
        )
        print("train on it:", how_to_train(out, counts))
    return 1 if checked.faults else 0


def main() -> int:
    args = parse_args()
    sys.stdout.reconfigure(
        errors="backslashreplace"
    )  # names in scripts that a console does not know
    log.setup()
    try:
        return run(args)
    except (
        ValueError,
        OSError,
    ) as error:  # mistakes of a user or a machine: a message, not a trace
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
