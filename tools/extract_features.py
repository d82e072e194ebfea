"""Frame features of any video, as shards in the format of YouTube-8M, by a recognizer of yours. See docs/nextvlad.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo import dist, log
from paddlevideo.features.extract import Recipe
from paddlevideo.features.feature_sets import SetPlan, extract_set, tell


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Start it again to go on where it stopped. Exits with 1 if any video failed, see failures.tsv.",
    )
    add = parser.add_argument
    add(
        "-i",
        "--input_file",
        nargs="+",
        required=True,
        help="videos: files, folders (of classes), lists `path [label,label]`",
    )
    add("-c", "--config", required=True, help="config of the visual network (YAML)")
    add("-w", "--weights", required=True, help="its weights")
    add("-o", "--output", type=Path, required=True, help="folder to write to")
    add(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="changes the config; repeatable",
    )
    add(
        "--fitted",
        type=Path,
        help="folder of features whose components and class names are used, as those of the training",
    )
    add(
        "--pca",
        type=int,
        metavar="N",
        help="principal components kept of the picture's features; default: the values themselves",
    )
    add("--fit_videos", type=int, default=2000, help="videos, drawn at random, to fit on")
    add("--frame_rate", type=float, default=1.0, help="frames a second")
    add(
        "--max_frames",
        type=int,
        default=300,
        help="frames of a video; what is behind them is not looked at",
    )
    add("--no_audio", action="store_true", help="pictures alone")
    add(
        "--class_names",
        help="file of class names in the order of their ids; default: those of --fitted, or sorted",
    )
    add(
        "--split",
        choices=["train", "valid", "test"],
        help="rows of a table that has a column `split`",
    )
    add("--no_labels", action="store_true", help="take no notice of labels and of folders' names")
    add("--per_shard", type=int, default=256, help="videos in a file")
    add(
        "--num_workers",
        type=int,
        help="processes that decode; default: one per core, 0: none but this",
    )
    add(
        "--retry_failed",
        action="store_true",
        help="make shards again that lack videos which failed",
    )
    add("--overwrite", action="store_true", help="begin anew, whatever is in the folder")
    add(
        "--use_gpu", action=argparse.BooleanOptionalAction, help="default: a GPU where there is one"
    )
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    log.setup()
    try:
        device, note = dist.choose_device(args.use_gpu)
        log.logger.info(note or f"{device}, {dist.use_threads()} compute thread(s)")
        recipe = Recipe(
            args.config,
            args.weights,
            tuple(args.override),
            args.frame_rate,
            args.max_frames,
            audio=not args.no_audio,
        )
        plan = SetPlan(
            args.output,
            args.fitted,
            args.pca,
            args.fit_videos,
            args.per_shard,
            args.retry_failed,
            args.overwrite,
        )
        done = extract_set(
            recipe,
            plan,
            args.input_file,
            args.class_names,
            not args.no_labels,
            args.num_workers,
            args.split,
        )
    except (
        ValueError,
        OSError,
    ) as error:  # mistakes of a user or a machine: a message, not a trace
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; start it again to go on", file=sys.stderr)
        return 130
    return tell(done, args.output)


if __name__ == "__main__":
    sys.exit(main())
