"""Prepare YouTube-8M shards: check every record, write lists and class names, convert pickles, make a small set."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import log
from paddlevideo.curate import youtube8m as youtube8m_prepare
from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.data.youtube8m.dataset import FeatureDecoder


def feature(text: str) -> tuple[str, int]:
    name, _, width = text.partition("=")
    return name, int(width)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--workers", type=int, help="processes; all cores by default")
    common.add_argument(
        "--features",
        type=feature,
        nargs="+",
        default=[("rgb", 1024), ("audio", 128)],
        metavar="NAME=SIZE",
    )
    check = verbs.add_parser(
        "check", parents=[common], help="read every record, count, and write the index for training"
    )
    check.add_argument("shards", help="list, folder, glob or shard")
    check.add_argument(
        "--num_classes", type=int, default=3862, help="labels from here on are wrong"
    )
    check.add_argument(
        "--max_frames", type=int, default=300, help="frames of a video that are used"
    )
    check.add_argument(
        "--index",
        help="file to keep where the records are; default: beside the list, in the folder",
    )
    lists = verbs.add_parser("lists", help="train.list, val.list, test.list of a folder of shards")
    lists.add_argument("folder", type=Path)
    lists.add_argument("--out", type=Path, default=Path("data/yt8m"), help="folder of the lists")
    labels = verbs.add_parser("labels", help="class names from vocabulary.csv")
    labels.add_argument("vocabulary", type=Path)
    labels.add_argument("--out", type=Path, default=Path("data/yt8m/labels.txt"))
    convert = verbs.add_parser(
        "convert", parents=[common], help="pickles of PaddleCV or PaddleVideo to TFRecord"
    )
    convert.add_argument("shards", help="list, folder or glob of pickles")
    convert.add_argument(
        "--out", type=Path, required=True, help="folder of the TFRecord files; those there are kept"
    )
    convert.add_argument(
        "--group", type=int, default=1, help="pickles in a file; about 1000 where each is one video"
    )
    demo = verbs.add_parser("demo", help="a small made-up set that can be learnt")
    demo.add_argument("--out", type=Path, default=Path("data/demo_yt8m"), help="folder")
    demo.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    demo.add_argument(
        "--videos",
        type=int,
        default=256,
        help="of training; a quarter of that each to validate and to test",
    )
    demo.add_argument("--classes", type=int, default=8)
    return parser.parse_args()


def run(args: argparse.Namespace) -> list[str]:
    """Do it and print what came out; returns what is wrong."""
    if args.verb == "check":
        decoder = FeatureDecoder(args.max_frames, dict(args.features), args.num_classes)
        return youtube8m_prepare.check_and_report(args.shards, decoder, args.index, args.workers)
    if args.verb == "convert":
        names = [name for name, _ in args.features]
        return youtube8m_prepare.convert_and_report(
            args.shards, args.out, names, args.group, args.workers
        )
    if args.verb == "lists":
        for name, count in youtube8m_prepare.write_lists(args.folder, args.out).items():
            print(f"{name}: {count} shards")
    elif args.verb == "labels":
        print(
            f"{args.out}: {youtube8m_prepare.write_class_names(args.vocabulary, args.out)} classes"
        )
    else:
        print(
            f"{args.out}: {make_shards(args.out, ShardPlan(args.seed, args.classes, args.videos))} shards"
        )
    return []


def main() -> int:
    try:
        wrong = run(parse_args())
    except (ValueError, OSError) as error:
        wrong = [log.error_text(error)]
    print("".join(f"error: {text}\n" for text in wrong), end="", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
