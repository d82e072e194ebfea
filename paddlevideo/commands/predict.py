"""The command of tools/predict.py: classify videos, audio files or shards of features."""

import argparse
import sys
from collections.abc import Sequence

from paddlevideo.commands import load, run
from paddlevideo.scale.flags import add_flags, place

# Flags of PaddleVideo's predict.py without an effect here, and why.
NO_EFFECT = {
    "time_test_file": "tools/benchmark.py measures speed",
    "enable_benchmark": "tools/benchmark.py measures speed",
}
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
    _add_runtime(parser)
    add_flags(parser, with_gpus=True)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    inputs = "files, folders, globs, .txt lists of paths, shards"
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
    add("--model", help="exported folder, also of PaddleX, or that of a run with `export: true`")
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
    out = "write all results to this file: .json, .jsonl (a line each), .csv (YouTube-8M challenge)"
    out += "; with --on also to a folder, in parts"
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


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    switch = {"type": boolean, "nargs": "?", "const": True}
    fastest = "auto: the fastest that tools/benchmark.py measured here, else a fixed order"
    add("--backend", default="auto", choices=BACKENDS, help=fastest)
    add("--use_gpu", type=boolean, help="default: a GPU where there is one")
    add("--use_tensorrt", type=boolean, default=False, help="the same as --backend tensorrt")
    precisions = ["fp32", "fp16", "bf16", "int8", "auto"]
    words = "int8 needs tools/quantize.py first; fp16 on a CPU is computed in bf16; "
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
    where = place(args)
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
