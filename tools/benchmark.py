"""Measure speed, variants side by side in one run and as ratios: loader, data, train, inference. See docs/benchmarks.md."""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import clips, data, inference, loader, train
from benchmarks.measure import machine, write_json
from paddlevideo import dist, log


def parse_args(argv=None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("-c", "--config", default=str(ROOT / "configs/recognition/pptsn/pptsn_k400_videos.yaml"), help="config file (YAML)")
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="as MODEL.backbone.layers=18; repeatable")
    add("-b", "--batch_size", type=int, default=4, help="clips in a training batch")
    add("-r", "--rounds", type=int, default=5, help="each variant once a round; medians are over the rounds")
    add("--json", type=Path, help="write all times to this file, too")
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    reading = verbs.add_parser("loader", parents=[common], help="clips per second of decoders and workers")
    reading.add_argument("--videos", type=Path, help="read the videos below this folder instead of made-up ones")
    reading.add_argument("--clips", type=int, default=8, help="made-up videos")
    reading.add_argument("--frames", type=int, default=250, help="of a made-up video, at 25 a second")
    reading.add_argument("--size", type=int, nargs=2, default=(340, 256), metavar=("WIDTH", "HEIGHT"), help="pixels, even")
    reading.add_argument("--gop", type=int, default=50, help="frames from one key frame to the next")
    reading.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes")
    verbs.add_parser("data", parents=[common], help="bytes to float32: by table, by arithmetic, as tensors")
    verbs.add_parser("train", parents=[common], help="training step: threads, static graph, share of a matrix product's speed")
    running = verbs.add_parser("inference", parents=[common], help="one view through every backend")
    running.add_argument("--model", type=Path, help="exported folder; default: the config's model with random weights")
    running.add_argument("--threads", type=int, help="default: all cores")
    return parser.parse_args(argv)


def groups(args: argparse.Namespace, folder: Path):
    if args.verb == "loader":
        records = clips.records_of(args.videos, folder, args.clips, tuple(args.size), args.frames, args.gop)
        return loader.run(args.config, args.override, records, args.workers, args.batch_size, args.rounds)
    if args.verb == "data":
        return data.run(args.config, args.override, args.batch_size, args.rounds)
    if args.verb == "train":
        return train.run(args.config, args.override, args.batch_size, args.rounds)
    exported = inference.Exported(args.model) if args.model else inference.made_up(args.config, args.override, folder)
    return inference.run(exported, args.threads, args.rounds)


def main() -> int:
    args, done = parse_args(), []
    log.setup()
    dist.use_threads()
    about = machine()
    print(f"{about['processor']}, {about['cores']} cores, load {about['load']}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            for group in groups(args, Path(folder)):
                print(f"\n{group.text()}", flush=True)
                done.append(group)
        if args.json:
            write_json(args.json, done)
    except (ValueError, OSError) as error:  # mistakes of a user or a machine: a message, not a trace
        print(f"error: {log.told(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
