"""The command of tools/export_model.py: export a trained model."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo import log
from paddlevideo.commands import load, run
from paddlevideo.commands.predict import boolean
from paddlevideo.urls import is_url

FORMATS = ("pdmodel", "pir", "onnx", "all")


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/export_model.py."""
    parser = argparse.ArgumentParser(
        prog,
        description="Export a trained model: programs that run without its Python code, "
        "model.yaml, golden.npz. See docs/deploy.md.",
    )
    add = parser.add_argument
    config = "config file (YAML) of the model; default: the run.yaml next to the weights"
    add("-c", "--config", help=config)
    overrides = "changes the config, as INFERENCE.top_k=5; repeatable"
    add("--override", action="append", default=[], metavar="KEY=VALUE", help=overrides)
    weights = "weights (.pdparams, .safetensors, .pdstate); default ./best.pdparams"
    add("-p", "--pretrained_params", default="./best.pdparams", help=weights)
    folder = "folder to write, or URL; default inference/<model_name>, without -c that of the run"
    add("-o", "--output_path", help=folder)
    add("--save_name", help="stem of the files; default <model_name>")
    formats = "kinds of programs; pir is Paddle 3's .json"
    add("--overwrite", action="store_true", help="replace another export in that folder")
    add("--format", nargs="+", default=["pdmodel"], choices=FORMATS, help=formats)
    check = "run the programs in every runtime of this machine, and compare; default: yes"
    add("--verify", type=boolean, nargs="?", const=True, default=True, help=check)
    embed = "to embed them: programs from uint8 frames of all views to probabilities"
    add("--with-preprocess", "--with_preprocess", action="store_true", help=embed)
    videos = "with --with-preprocess: videos in one run; default: any number"
    add("--batch", type=int, metavar="N", help=videos)
    repository = "also write a model repository for Triton's onnxruntime backend"
    add("--triton", metavar="DIR", help=repository)
    return parser


def work(args: argparse.Namespace) -> None:
    """Export.

    Raises:
        ValueError, OSError: a mistake in flags, config or weights, or a program that differs.
    """
    load("paddlevideo.dist:use_threads")()
    with log.session():
        weights, folder = args.pretrained_params, args.output_path
        if args.config:
            cfg = load("paddlevideo.engine.build:load_config")(args.config, args.override)
        else:
            cfg = load("paddlevideo.engine.load:config_of_run")(weights, args.override)
            if not (load("paddlevideo.zoo.table:find_model")(weights) or is_url(weights)):
                folder = folder or Path(weights).with_name("inference")
        export = load("paddlevideo.exporting.export:export")
        export(
            cfg,
            weights,
            folder,
            args.format,
            args.save_name,
            args.overwrite,
            args.verify,
            args.with_preprocess,
            args.batch,
            args.triton,
        )


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv)
