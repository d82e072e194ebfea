"""The flags of tools/benchmark.py. A verb is the name of the file that measures."""

import argparse
from pathlib import Path

from paddlevideo.scale.flags import add_flags

CONFIG = "pptsn_k400_videos"  # a shipped config
SMALL_CONFIG = "demo/pptsn"  # where a video takes 0.1 s, not 10 s


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of all verbs."""
    parser = argparse.ArgumentParser(
        prog,
        description="Measure speed: variants of the same work in turn, in one run, and as ratios. "
        "See docs/benchmarks.md.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, (add_own, text) in VERBS.items():
        own = {"parents": [_common()], "conflict_handler": "resolve"}  # a verb may redefine a flag
        add_own(verbs.add_parser(verb, help=text, **own))
    return parser


def _common() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    add("-c", "--config", default=CONFIG, help="config file (YAML)")
    overrides = "changes the config, as MODEL.backbone.layers=18; repeatable"
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help=overrides)
    add("-b", "--batch_size", type=count, default=4, help="clips in a training batch")
    rounds = "every round runs each variant once; medians are over the rounds"
    add("-r", "--rounds", type=count, default=5, help=rounds)
    add("--json", type=Path, help="also write all times to this file")
    return parser


def count(text: str) -> int:
    """An integer of at least 1, from a flag."""
    return _integer(text, 1)


def number(text: str) -> int:
    """An integer of at least 0, from a flag."""
    return _integer(text, 0)


def _integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text}: expected an integer, at least {least}")
    return value


def _none(parser: argparse.ArgumentParser) -> None:
    """Verbs without flags of their own."""


def _videos(parser: argparse.ArgumentParser, size: tuple[int, int], gop: int) -> None:
    """The videos to read; the defaults are those of synthetic videos."""
    add = parser.add_argument
    add("--videos", type=Path, help="read the videos in this folder instead of synthetic ones")
    add("--frames", type=count, default=250, help="of a synthetic video, 25 per second")
    pixels = {"nargs": 2, "metavar": ("WIDTH", "HEIGHT")}
    add("--size", type=count, default=size, **pixels, help="of a synthetic video (pixels, even)")
    add("--gop", type=count, default=gop, help="frames from one key frame to the next")


def _loader(parser: argparse.ArgumentParser) -> None:
    _videos(parser, (340, 256), 50)
    parser.add_argument("--clips", type=count, default=8, help="number of synthetic videos")
    workers = "numbers of loader processes"
    parser.add_argument("--workers", type=number, nargs="+", default=[0, 1, 2], help=workers)


def _resize(parser: argparse.ArgumentParser) -> None:
    _videos(parser, (1280, 720), 125)
    add = parser.add_argument
    add("--clips", type=count, default=4, help="number of synthetic videos")
    add("--short_side", type=count, nargs="+", default=[256], help="of the copies (pixels)")
    gop = "frames from one key frame to the next, of the copies"
    add("--new_gop", type=count, nargs="+", default=[32], help=gop)
    add("--workers", type=number, default=1, help="loader processes")


def _shards(parser: argparse.ArgumentParser) -> None:
    _videos(parser, (170, 128), 16)
    add = parser.add_argument
    add("--clips", type=count, default=256, help="number of synthetic videos")
    add("--shard_size", default="8MB", help="of a shard, such as 256MB")
    buffer = "clips over which the order of shards is shuffled"
    add("--shuffle_buffer", type=count, default=64, help=buffer)
    workers = "numbers of loader processes"
    add("--workers", type=number, nargs="+", default=[0, 2], help=workers)
    parser.set_defaults(frames=32, config=SMALL_CONFIG, batch_size=8)


def _records(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--shard", type=Path, help="a TFRecord file; default: a synthetic one")
    add("--videos", type=count, default=1000, help="number of videos in a synthetic shard")
    workers = "numbers of loader processes"
    add("--workers", type=number, nargs="+", default=[0, 1, 2], help=workers)
    add("--tf_python", help="a Python with TensorFlow, to compare with tf.data")


def _views(parser: argparse.ArgumentParser) -> None:
    _videos(parser, (340, 256), 50)


def _multigrid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=number, default=0, help="loader processes")


def _nextvlad(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=count, default=300, help="of a video")
    threads = "of each process; default: one per core"
    parser.add_argument("--threads", type=count, help=threads)


def _ranks(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ranks", type=count, nargs="+", default=[1, 2], help="numbers of ranks; first: baseline")
    add("--threads", type=count, default=1, help="compute threads of each rank")


def _inference(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    configs = "config files, each exported with random weights; several give a table of all"
    add("-c", "--config", nargs="+", default=[CONFIG], help=configs)
    model = "exported folders, where --backend auto finds the result, in place of -c"
    add("-m", "--model", nargs="+", type=Path, help=model)
    threads = "numbers of compute threads; default: all cores and, from 4 cores, half of them"
    add("--threads", type=count, nargs="+", help=threads)
    add("--clips", type=count, nargs="+", default=[1, 2], help="numbers of clips per run")
    words = ["fp32", "bf16", "fp16", "int8"]
    add("--precision", nargs="+", choices=words, default=words, help="default: all")
    add("--device", choices=["cpu", "gpu"], help="default: a GPU where a runtime has one")
    preferred = "of each runtime only the program that it prefers, with its own options"
    add("--preferred", action="store_true", help=preferred)
    memory = "measure the memory of each setting, in a process of its own"
    switch = argparse.BooleanOptionalAction
    add("--memory", action=switch, default=True, help=memory)


def _predict(parser: argparse.ArgumentParser) -> None:
    _videos(parser, (340, 256), 50)
    add = parser.add_argument
    add("--clips", type=count, default=64, help="number of synthetic videos")
    model = "exported folder; default: the config's model with random weights"
    add("--model", type=Path, help=model)
    add("--backend", default="auto", help="as in predict")
    add("--threads", type=count, help="of the network; default: all cores")
    add("--decode_workers", type=number, help="threads that decode; default: as in predict")
    parser.set_defaults(config=SMALL_CONFIG, batch_size=None, rounds=3)


def _timeline(parser: argparse.ArgumentParser) -> None:
    _videos(parser, (340, 256), 50)
    add = parser.add_argument
    add("--clips", type=count, default=1, help="number of synthetic videos")
    _exported(parser)
    add("--window", type=float, default=2.0, help="length of a window (s)")
    overlap = "shares of a window that the next one has too; rows are compared with the first"
    add("--overlap", type=float, nargs="+", default=[0.0, 0.5, 0.75], help=overlap)
    parser.set_defaults(config=SMALL_CONFIG, rounds=3, frames=1500)


def _live(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=float, default=600.0, help="how long the source sends")
    add("--window", type=float, default=2.0, help="length of a window (s)")
    stride = "from the start of a window to that of the next one (s); default: half of it"
    add("--stride", type=float, help=stride)
    pixels = {"nargs": 2, "metavar": ("WIDTH", "HEIGHT")}
    add("--size", type=count, default=(640, 360), **pixels, help="of the source (pixels, even)")
    add("--gop", type=count, default=50, help="frames from one key frame to the next")
    _exported(parser)
    parser.set_defaults(config=SMALL_CONFIG)


def _exported(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    model = "exported folder; default: the config's model with random weights"
    add("--model", type=Path, help=model)
    add("--backend", default="auto", help="as in predict")
    add("--threads", type=count, help="of the network; default: all cores")


def _serve(parser: argparse.ArgumentParser) -> None:
    _videos(parser, (340, 256), 50)
    add = parser.add_argument
    add("-m", "--model", type=Path, help="exported folder; required")
    add("--clips", type=count, default=16, help="number of synthetic videos")
    add("--clients", type=count, default=8, help="threads that send requests; default 8")
    add("--requests", type=count, default=64, help="of each round; default 64")
    mixed = "send good, broken and hostile requests instead, a third of them good"
    add("--hostile", action="store_true", help=mixed)
    add("--backend", default="auto", help="as in predict")
    add("--threads", type=count, help="of the network; default: all cores")
    parser.set_defaults(rounds=3)


def _metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=count, default=1_100_000, help="number of videos")
    parser.add_argument("--classes", type=count, default=3862, help="number of classes")


def _scale(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--items", type=count, default=1_000_000, help="number of synthetic items")
    unit = "items that are sent together at first; then as many as take seconds"
    add("--unit", type=count, default=4, help=unit)
    add("--item_ms", type=float, default=0.0, help="time of an item in each stage (ms)")
    parts = "folder of the results, to continue a job; default: a temporary one"
    add("--out", type=Path, help=parts)
    add_flags(parser, with_gpus=True)
    parser.set_defaults(on="ray")


VERBS = {
    "loader": (_loader, "clips per second of decoders and workers"),
    "resize": (_resize, "clips per second from original videos and from smaller copies"),
    "shards": (_shards, "clips per second from many small files and from tar shards"),
    "records": (_records, "videos per second from shards of frame features"),
    "views": (_views, "a multi-view test: one decode per video or one per view"),
    "data": (_none, "bytes to float32: table, arithmetic, tensors"),
    "audio": (_none, "waveform to feature, compared with librosa if installed"),
    "train": (_none, "training step: threads, static graph, share of a matrix product's speed"),
    "ranks": (_ranks, "training steps of one rank, and of several with the same batch each"),
    "multigrid": (_multigrid, "plain training and the phases of a multigrid plan"),
    "nextvlad": (_nextvlad, "NeXtVLAD: one product per video or one per frame"),
    "inference": (
        _inference,
        "exported models: runtimes, precisions, threads, clips per run",
    ),
    "predict": (_predict, "a folder of videos: predict, decoding alone, the network alone"),
    "live": (_live, "a live source in real time: latency, dropped frames, memory"),
    "timeline": (_timeline, "a long video: windows without overlap and with it, memory"),
    "serve": (_serve, "the HTTP service next to predict, or with hostile requests"),
    "scale": (_scale, "bulk work on Ray: items per second, and the memory of the driver"),
    "metrics": (_metrics, "Hit@1, PERR, GAP and MAP: one video at a time or all at once"),
}
