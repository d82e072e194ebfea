"""Classify videos, sounds, or shards of features with an exported model, or a config and weights. See docs/deploy.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo import log
from paddlevideo.predict.command import run_command

# Flags of PaddleVideo's predict.py that have no effect here, and why.
NO_EFFECT = {
    "time_test_file": "tools/benchmark.py measures speed",
    "enable_benchmark": "tools/benchmark.py measures speed",
}


def truth(text: str) -> bool:
    if text.lower() not in ("true", "t", "1", "false", "f", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "t", "1")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "-i",
        "--input_file",
        nargs="+",
        required=True,
        help="files, folders, globs, .txt lists of paths, shards",
    )
    add(
        "-c",
        "--config",
        help="config; not needed where model.yaml stands beside the model, used instead of it where given",
    )
    add(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="changes the config; repeatable",
    )
    add("--model", help="exported folder")
    add("--model_file", help=".pdmodel, .json or .onnx")
    add("--params_file", help=".pdiparams; default: beside the model file")
    add(
        "-w",
        "--weights",
        help="with --config and no model: run the model itself with these weights",
    )
    add("-b", "--batch_size", type=int, default=1, help="videos scored together")
    add("--topk", type=int, help="classes to show; default INFERENCE.top_k")
    add(
        "--backend",
        default="auto",
        choices=["auto", "paddle", "tensorrt", "onnxruntime", "openvino", "eager"],
    )
    add(
        "--class_names",
        help="file of class names, or YouTube-8M's vocabulary.csv; default: those the model came with",
    )
    add(
        "--features",
        help="folder of features that a tagger was trained on: videos are given to what made them, then tagged",
    )
    add(
        "--modalities",
        action="store_true",
        help="of a model of pictures and sound: also the scores of each alone",
    )
    add(
        "--out",
        "--save_json",
        help="write all results to this file: .json, .jsonl (a line each), .csv (YouTube-8M challenge)",
    )
    add("--quiet", action="store_true", help="print no results, only write them")
    add("--use_gpu", type=truth, help="default: a GPU where there is one")
    add("--use_tensorrt", type=truth, default=False, help="the same as --backend tensorrt")
    add(
        "--precision",
        choices=["fp32", "fp16", "int8"],
        default="fp32",
        help="fp16 is bfloat16 on a CPU",
    )
    add("--gpu_mem", type=int, default=8000, help="MB of Paddle's GPU memory pool at the start")
    add("--ir_optim", type=truth, default=True, help="let Paddle Inference rewrite the program")
    add("--enable_mkldnn", type=truth, help="oneDNN in Paddle Inference on a CPU; default: on")
    add("--cpu_threads", type=int, help="default: all cores")
    add(
        "--disable_glog",
        type=truth,
        nargs="?",
        const=True,
        default=True,
        help="no log lines of Paddle's own",
    )
    for flag in ("use_xpu", "use_npu"):
        add(f"--{flag}", type=truth, nargs="?", const=True, default=False, help="not supported")
    for flag, why in NO_EFFECT.items():
        add(f"--{flag}", type=truth, nargs="?", const=True, default=False, help=f"no effect: {why}")
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    log.setup()
    for flag, why in NO_EFFECT.items():
        if getattr(args, flag):
            log.logger.warning(f"--{flag} has no effect: {why}")
    try:
        return 1 if run_command(args) else 0
    except (
        ValueError,
        OSError,
    ) as error:  # mistakes of a user or a machine: a message, not a trace
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
