"""Measure speed, variants side by side in one run and as ratios. See docs/benchmarks.md."""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (
    audio,
    data,
    inference,
    loader,
    metrics,
    multigrid,
    nextvlad,
    records,
    resize,
    train,
    views,
)
from benchmarks.measure import machine, write_json
from paddlevideo import dist, log

VERBS = {  # each adds its own flags and gives its groups of rows
    "loader": (loader, "clips per second of decoders and workers"),
    "resize": (resize, "clips per second from videos as they are, and from smaller copies of them"),
    "records": (records, "videos per second out of shards of frame features"),
    "views": (views, "a multi-view test: each video once, or a view at a time"),
    "data": (data, "bytes to float32: by table, by arithmetic, as tensors"),
    "audio": (audio, "waveform to feature, beside librosa where it is installed"),
    "train": (train, "training step: threads, static graph, share of a matrix product's speed"),
    "multigrid": (multigrid, "plain training against the phases of a multigrid plan"),
    "nextvlad": (nextvlad, "NeXtVLAD: one product per video against the per-frame form"),
    "inference": (inference, "one view through every backend"),
    "metrics": (metrics, "Hit@1, PERR, GAP and MAP: a video at a time, at once"),
}


def parse_args(argv=None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add(
        "-c",
        "--config",
        default=str(ROOT / "configs/recognition/pptsn/pptsn_k400_videos.yaml"),
        help="config file (YAML)",
    )
    add(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="as MODEL.backbone.layers=18; repeatable",
    )
    add("-b", "--batch_size", type=int, default=4, help="clips in a training batch")
    add(
        "-r",
        "--rounds",
        type=int,
        default=5,
        help="each variant once a round; medians are over the rounds",
    )
    add("--json", type=Path, help="write all times to this file, too")
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, (module, told) in VERBS.items():
        module.add_arguments(verbs.add_parser(name, parents=[common], help=told))
    return parser.parse_args(argv)


def main() -> int:
    args, done = parse_args(), []
    log.setup()
    dist.use_threads()
    about = machine()
    print(f"{about['processor']}, {about['cores']} cores, load {about['load']}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            for group in VERBS[args.verb][0].groups(args, Path(folder)):
                print(f"\n{group.text()}", flush=True)
                done.append(group)
        if args.json:
            write_json(args.json, done)
    except (
        ValueError,
        OSError,
    ) as error:  # mistakes of a user or a machine: a message, not a trace
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
