"""Measure speed, variants side by side in one run and as ratios: clips, shards, training, inference. See docs/benchmarks.md."""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import audio, clips, data, inference, loader, metrics, multigrid, records, train
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
    shards = verbs.add_parser("records", parents=[common], help="videos per second out of shards of frame features")
    shards.add_argument("--shard", type=Path, help="a TFRecord file; default: made-up videos, as many as --videos")
    shards.add_argument("--videos", type=int, default=1000)
    shards.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes")
    shards.add_argument("--tf_python", help="a Python that has TensorFlow, to run tf.data beside")
    phases = verbs.add_parser("multigrid", parents=[common], help="plain training against the phases of a multigrid plan")
    phases.add_argument("--workers", type=int, default=0, help="loader processes")
    verbs.add_parser("data", parents=[common], help="bytes to float32: by table, by arithmetic, as tensors")
    verbs.add_parser("audio", parents=[common], help="waveform to feature, beside librosa where it is installed")
    scoring = verbs.add_parser("metrics", parents=[common], help="Hit@1, PERR, GAP and MAP: a video at a time, at once")
    scoring.add_argument("--videos", type=int, default=1_100_000)
    scoring.add_argument("--classes", type=int, default=3862)
    verbs.add_parser("train", parents=[common], help="training step: threads, static graph, share of a matrix product's speed")
    running = verbs.add_parser("inference", parents=[common], help="one view through every backend")
    running.add_argument("--model", type=Path, help="exported folder; default: the config's model with random weights")
    running.add_argument("--threads", type=int, help="default: all cores")
    return parser.parse_args(argv)


def groups(args: argparse.Namespace, folder: Path):
    if args.verb == "loader":
        made = clips.records_of(args.videos, folder, args.clips, tuple(args.size), args.frames, args.gop)
        return loader.run(args.config, args.override, made, args.workers, args.batch_size, args.rounds)
    if args.verb == "records":
        return records.run(args.shard, folder, args.videos, args.workers, args.tf_python, args.rounds)
    if args.verb == "multigrid":
        made = clips.records_of(None, folder, 8, (340, 256), 250, 50)
        return multigrid.run(args.config, args.override, made, args.workers, args.batch_size, args.rounds)
    if args.verb == "data":
        return data.run(args.config, args.override, args.batch_size, args.rounds)
    if args.verb == "audio":
        return audio.run(args.rounds)
    if args.verb == "metrics":
        return metrics.run(args.videos, args.classes, args.rounds)
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
