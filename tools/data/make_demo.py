"""Generate the demo data set and an example clip.

Example: python tools/data/make_demo.py --out data/demo --seed 0
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
    add("--out", type=Path, default=Path("data/demo"), help="folder of the data set")
    add("--seed", type=int, default=0, help="the same seed gives the same files")
    add("--clips", type=int, default=16, help="training clips per class")
    example = Path("data/example.avi")
    add("--example", type=Path, default=example, help="a single clip for the predict commands")
    add("--workers", type=int, help="processes; default: one per core")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from paddlevideo import log
    from paddlevideo.curate.demo_videos import CLASSES, DemoPlan, make_demo_set, write_example

    try:
        made = make_demo_set(args.out, DemoPlan(args.seed, args.clips), args.workers)
        made_example = write_example(args.example, args.seed)
    except (OSError, ValueError) as error:
        log.show_error(error)
        return 1
    files = list(args.out.rglob("*.mp4"))
    megabytes = sum(file.stat().st_size for file in files) / 2**20
    num_classes = sum(map(len, CLASSES.values()))
    state = "made" if made else "already there"
    log.show(f"{args.out}: {len(files)} clips, {num_classes} classes, {megabytes:.1f} MB, {state}")
    log.show(f"{args.example}: {'made' if made_example else 'already there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
