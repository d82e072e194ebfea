"""Make the demo data set and an example clip: python tools/data/make_demo.py --out data/demo --seed 0"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo.curate.demo_videos import CLASSES, DemoPlan, make_demo_set, write_example


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("data/demo"), help="folder of the data set"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--clips", type=int, default=16, help="training clips per class")
    parser.add_argument(
        "--example",
        type=Path,
        default=Path("data/example.avi"),
        help="a single clip for the predict commands",
    )
    parser.add_argument("--workers", type=int, help="processes; all cores by default")
    args = parser.parse_args()
    try:
        made = make_demo_set(args.out, DemoPlan(args.seed, args.clips), args.workers)
        made_example = write_example(args.example, args.seed)
    except (OSError, ValueError) as error:
        print(f"make_demo: {error}", file=sys.stderr)
        return 1
    files = list(args.out.rglob("*.mp4"))
    size = sum(file.stat().st_size for file in files) / 2**20
    state = "made" if made else "already there"
    print(
        f"{args.out}: {len(files)} clips, {sum(map(len, CLASSES.values()))} classes, {size:.1f} MB, {state}"
    )
    print(f"{args.example}: {'made' if made_example else 'already there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
