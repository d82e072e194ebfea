"""The command of tools/predict.py: classify videos, audio files or shards of features."""

import argparse
import math
import sys
from collections.abc import Sequence

from paddlevideo.commands import load, run
from paddlevideo.scale.flags import add_flags, place

# Flags of PaddleVideo's predict.py without an effect here, and why.
NO_EFFECT = {
    "time_test_file": "`paddlevideo benchmark` measures speed",
    "enable_benchmark": "`paddlevideo benchmark` measures speed",
}
TIMELINE_FLAGS = (
    "stride",
    "min_score",
    "min_duration",
    "raw_windows",
    "exact_stride",
    "annotate",
)
BACKENDS = ("auto", "paddle", "tensorrt", "onnxruntime", "openvino", "eager")


def boolean(text: str) -> bool:
    """True or False from the text of a flag, as PaddleVideo's command lines give it."""
    if text.lower() not in ("true", "t", "1", "false", "f", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "t", "1")


def shard(text: str) -> tuple[int, int]:
    """(number, count) from a text such as 2/8."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; expected i/n, such as 2/8")
    if not 1 <= int(number) <= int(count):
        raise argparse.ArgumentTypeError(f"shard {text}: expected 1/{count} to {count}/{count}")
    return int(number), int(count)


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/predict.py, those of PaddleVideo's predict.py among them."""
    parser = argparse.ArgumentParser(
        prog,
        description="Classify videos, audio files or shards of features with an exported model, "
        "or with a config and weights. See docs/deploy.md.",
    )
    _add_inputs(parser)
    _add_outputs(parser)
    _add_timeline(parser)
    _add_live(parser)
    _add_runtime(parser)
    add_flags(parser, with_gpus=True)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    inputs = (
        "files, folders, globs, .txt lists of paths, shards; also as URLs, s3://bucket/folder; "
    )
    inputs += "or a live source: a camera's number, an rtsp:// or http:// address, - for standard "
    inputs += "input"
    add("-i", "--input_file", nargs="+", required=True, help=inputs)
    add("-c", "--config", help="config to use instead of the model.yaml next to the model")
    add(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="changes the config; repeatable",
    )
    add("--model", help="exported folder or its URL, also of PaddleX, or a run with `export: true`")
    add("--model_file", help=".pdmodel, .json or .onnx file")
    add("--params_file", help=".pdiparams file; default: next to the model file")
    add("-w", "--weights", help="with --config and no model: run the model with these weights")
    add("--class_names", help="class names, or YouTube-8M's vocabulary.csv; default: the model's")
    add("--features", help="folder of a tagger's training features: their network reads videos")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    batch = "videos scored together; default: as many as suit the device, 1: results early"
    add("-b", "--batch_size", type=int, help=batch)
    add("--topk", type=int, help="number of classes to show; default INFERENCE.top_k")
    modalities = "also score each modality of an audio-visual model alone"
    add("--modalities", action="store_true", help=modalities)
    out = "write all results to this file: .json, .jsonl (a line each), .csv (YouTube-8M "
    out += "challenge); with --window also .vtt, .srt, .html; with --on also to a folder, in parts"
    add("--out", "--save_json", help=out)
    save = "also write each result to this folder as PaddleX does: NAME_res.json, and NAME_res.mp4"
    add("--save_path", metavar="FOLDER", help=f"{save} with the best class on its frames")
    resume = "continue a .jsonl file of --out: skip its results, try its failures again"
    add("--resume", action="store_true", help=resume)
    add("--overwrite", action="store_true", help="replace the file of --out")
    part = "only part i of n of the inputs, as 2/8; --out out.jsonl becomes out.2-of-8.jsonl"
    add("--shard", type=shard, metavar="I/N", help=part)
    verbose = "print PaddleVideo's lines for each class; default: with --model_file, else one line"
    add("--verbose", type=boolean, nargs="?", const=True, help=verbose)
    add("--quiet", action="store_true", help="print no results, only write them")


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def not_negative(text: str) -> float:
    """A number of seconds, 0 among them."""
    try:
        return 0.0 if float(text) == 0 else seconds(text)
    except ValueError:
        return seconds(text)


def _add_timeline(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("timelines of long videos, see docs/streams.md").add_argument
    window = "score windows of this length in place of whole videos, and print segments"
    add("--window", type=seconds, metavar="SECONDS", help=window)
    stride = "time from the start of a window to that of the next one; default: half of --window"
    add("--stride", type=seconds, metavar="SECONDS", help=stride)
    add("--min_score", type=float, help="score from which a class begins a segment; default 0.3")
    duration = "shortest segment, and shortest interruption that ends one; default 0"
    add("--min_duration", type=float, metavar="SECONDS", help=duration)
    exact = "begin windows exactly there; else they are rounded to share frames where that helps"
    add("--exact_stride", action="store_true", help=exact)
    add("--raw_windows", action="store_true", help="print all windows instead of segments")
    annotate = "also write a copy of the video with its classes and timeline on the frames"
    add("--annotate", metavar="FILE.mp4", help=annotate)


def _add_live(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("live sources, see docs/streams.md")
    add = group.add_argument
    follow = "the input is a file that another program writes; ends when it stops growing"
    add("--follow", action="store_true", help=follow)
    raw = "frames without a container come on standard input (-i -), as 640x480@25:rgb24"
    add("--raw", metavar="WxH@FPS[:FORMAT]", help=raw)
    stall = "without a frame for so long, the source counts as lost; default 10"
    add("--stall", type=seconds, metavar="SECONDS", help=stall)
    again = "how long to try to connect again; 0: end when the source is lost; default 600"
    add("--reconnect", type=not_negative, metavar="SECONDS", help=again)
    transport = "transport of rtsp:// addresses; default tcp"
    add("--rtsp_transport", choices=("tcp", "udp"), help=transport)


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    switch = {"type": boolean, "nargs": "?", "const": True}
    fastest = "auto: the fastest that `paddlevideo benchmark` measured here, else a fixed order"
    add("--backend", default="auto", choices=BACKENDS, help=fastest)
    add("--use_gpu", type=boolean, help="default: a GPU where there is one")
    add("--use_tensorrt", type=boolean, default=False, help="the same as --backend tensorrt")
    precisions = ["fp32", "fp16", "bf16", "int8", "auto"]
    words = "int8 needs `paddlevideo quantize` first; fp16 on a CPU is computed in bf16; "
    words += "auto: lower where the scores stay close, see the log"
    add("--precision", choices=precisions, default="fp32", help=words)
    add("--gpu_mem", type=int, default=8000, help="initial GPU memory pool of Paddle (MB)")
    optimize = "let Paddle Inference rewrite the program"
    add("--ir_optim", type=boolean, default=True, help=optimize)
    add("--enable_mkldnn", type=boolean, help="oneDNN in Paddle Inference on a CPU; default: on")
    add("--cpu_threads", type=int, help="default: all cores")
    decoding = "threads that decode while the network runs; default: one per core, at most 8"
    add("--decode_workers", type=int, help=decoding)
    add("--disable_glog", **switch, default=True, help="no log lines of Paddle's own")
    for flag in ("use_xpu", "use_npu"):
        add(f"--{flag}", **switch, default=False, help="not supported")
    for flag, reason in NO_EFFECT.items():
        add(f"--{flag}", **switch, default=False, help=f"no effect: {reason}")


def work(args: argparse.Namespace) -> int:
    """Predict; 1 where an input failed."""
    ignored = {flag: reason for flag, reason in NO_EFFECT.items() if vars(args)[flag]}
    where, is_live = place(args), load("paddlevideo.timelines.live_inputs:is_live_command")(args)
    if not where.is_local and is_live:
        raise ValueError(f"--on {where.on}: live sources are read on this machine; leave --on out")
    if not where.is_local and args.window is not None:
        raise ValueError(
            f"--on {where.on}: timelines run on this machine; leave --on out, or give each machine "
            "its part of the files with --shard"
        )
    if is_live or args.window is not None:
        room = "live_command" if is_live else "command"
        return 1 if load(f"paddlevideo.timelines.{room}:run_command")(args, ignored) else 0
    for flag in TIMELINE_FLAGS:
        if vars(args)[flag] is not None and vars(args)[flag] is not False:
            raise ValueError(f"--{flag} is for timelines; give --window SECONDS too")
    try:
        if where.is_local:
            num_failed = load("paddlevideo.predict.command:run_command")(args, ignored)
        else:
            num_failed = load("paddlevideo.scale.predict:run_command")(args, ignored, where)
        return 1 if num_failed else 0
    except KeyboardInterrupt:
        if not where.is_local and args.out:
            print("interrupted; the same command continues", file=sys.stderr)
            return 130
        if not (args.out and args.out.endswith(".jsonl")):
            raise
        print("interrupted; the same command with --resume continues", file=sys.stderr)
        return 130


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv)
