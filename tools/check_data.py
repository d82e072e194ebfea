"""Check videos before training, and write lists of the good ones. See docs/own_data.md.

The lists are train.csv, val.csv and labels.txt; bad_files.csv and data_report.html show the faults.

Example: python tools/check_data.py my_videos
Exit code: 0 no faults; 1 faults (the good clips are written); 2 nothing was checked or written.
"""

import argparse
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument_group("inputs").add_argument
    data_help = "folder per class, or folder per split with a folder per class in each; or a list"
    add("data", type=Path, help=f"{data_help} (.csv, .jsonl, text)")
    add(
        "--valid", type=Path, help="folder or list of the validation set; DATA is for training then"
    )
    add("--test", type=Path, help="folder or list of the test set; DATA is for training then")
    add("--data_prefix", help="folder that the paths in a list are relative to")
    add("--suffix", default="", help="suffix to append to each path in a list, such as .mp4")
    add("--class_names", help="file of class names, for lists with class ids")
    add = parser.add_argument_group("outputs").add_argument
    add("--out", type=Path, help="output folder (default: DATA, or the folder of the list)")
    add("--overwrite", action="store_true", help="replace files that this tool did not write")
    add("--dry_run", action="store_true", help="write nothing")
    add = parser.add_argument_group("checks").add_argument
    add("--frames", type=int, default=8, help="frames to decode per video (default: 8)")
    add("--whole", action="store_true", help="decode every frame")
    add("--min_frames", type=int, default=2, help="shorter videos are faults (default: 2)")
    add("--min_seconds", type=float, default=0.0, help="shorter videos are faults (default: 0)")
    add("--workers", type=int, help="processes (default: one per core; 0: no extra process)")
    add = parser.add_argument_group("splits").add_argument
    valid_help = "share of each class for validation, if no validation set is given (default: 0.2)"
    add("--valid_share", type=float, default=0.2, help=valid_help)
    test_help = "share of each class for testing, if no splits are given (default: 0)"
    add("--test_share", type=float, default=0.0, help=test_help)
    add("--resplit", action="store_true", help="draw new splits, even if the data has splits")
    add("--seed", type=int, default=0, help="random seed of the splits (default: 0)")
    source_help = "its first group is the recording of a clip; none: each file is a recording"
    add("--source", metavar="REGEX", help=f"{source_help} (default: see docs/own_data.md)")
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    # Imported here, so that --help responds at once.
    from paddlevideo import log
    from paddlevideo.curate.check import CheckOptions
    from paddlevideo.curate.check_command import run_command
    from paddlevideo.curate.inventory import Inputs
    from paddlevideo.curate.probe import ProbeOptions
    from paddlevideo.data.datasets import read_class_names

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console may lack characters of a file name.
        sys.stdout.reconfigure(errors="backslashreplace")
    log.setup()
    try:
        names = read_class_names(args.class_names) if args.class_names else None
        paths = (args.data, args.valid, args.test, args.data_prefix, args.suffix)
        probe = ProbeOptions(args.frames, args.whole, args.min_frames, args.min_seconds)
        shares = (args.valid_share, args.test_share)
        options = CheckOptions(
            Inputs(*paths, names, args.source),
            probe,
            *shares,
            args.seed,
            args.resplit,
            args.workers,
        )
        return run_command(options, args.out, args.dry_run, args.overwrite)
    except (ValueError, OSError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
