"""The command of main.py: train, test or check a config."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddlevideo
from paddlevideo import log
from paddlevideo.commands import load, run
from paddlevideo.commands.predict import BACKENDS
from paddlevideo.urls import is_url, shown

# What runs an exported program.
PROGRAM_BACKENDS = tuple(name for name in BACKENDS if name != "eager")


class Parser(argparse.ArgumentParser):
    """Requires -c, but for a test of weights or an export, which may have a run.yaml."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags, others = super().parse_known_args(args, namespace)
        if flags.config is None and not (flags.test and (flags.weights or flags.model)):
            self.error("the following arguments are required: -c/--config")
        return flags, others


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of main.py, those of PaddleVideo's main.py among them."""
    parser = Parser(prog, description="Train or test a video recognition model.")
    _add_run(parser)
    _add_config_keys(parser)
    _add_test(parser)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    config = "config file (YAML); with --test by default the run.yaml next to the weights"
    add("-c", "--config", help=config)
    overrides = "changes the config, as DATASET.batch_size=16; repeatable"
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help=overrides)
    validate = "evaluate DATASET.valid while training and keep the best model"
    add("--validate", action="store_true", help=validate)
    add("--test", action="store_true", help="test the weights given with -w on DATASET.test")
    add("-w", "--weights", help="weights to test, or to start training from")
    resume = "continue a stopped run: auto, a .pdstate file, or its folder"
    add("--resume", nargs="?", const="auto", help=resume)
    overwrite = "replace the run in the output folder, or the --out of another test"
    add("--overwrite", action="store_true", help=overwrite)
    multigrid = "change clips, batches and learning rate by the MULTIGRID section"
    add("--multigrid", action="store_true", help=multigrid)
    check = "check config and pipelines without data, print the plan, and stop"
    add("--check", action="store_true", help=check)
    fleet = "accepted for old command lines; ranks always train data-parallel"
    add("--fleet", action="store_true", help=fleet)


def _add_config_keys(parser: argparse.ArgumentParser) -> None:
    """Flags for keys of the config; see `overrides_of`."""
    add = parser.add_argument
    add("--epochs", type=int, help="number of epochs; the learning rate decays over as many")
    rate = "base learning rate, whatever the schedule calls it"
    add("--lr", type=float, help=rate)
    add("--batch_size", type=int, help="clips per device in training (config: DATASET.batch_size)")
    data = "folder of data, as `paddlevideo check-data` checks it (config: DATASET.root)"
    add("--data", metavar="FOLDER", help=data)
    name = "name of the run: the output folder is output/NAME (config: output_dir)"
    add("--name", help=name)
    add("--seed", type=int, help="seed of all random numbers (config: seed, 1234)")
    deterministic = "use reproducible kernels on a GPU; a CPU always does"
    add("--deterministic", action="store_true", help=deterministic)
    amp = "mixed precision: float16 on a GPU, bfloat16 on a CPU"
    add("--amp", action="store_true", help=amp)
    level = "O1 casts per operation, O2 also keeps weights in half precision"
    add("--amp_level", choices=["O1", "O2"], help=level)
    add("--max_iters", type=int, help="stop every epoch after this many steps")


def _add_test(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", help="with --test: write the scores of each video to this .json or .npz file")
    metrics = ["top_k_accuracy", "mean_class_accuracy"]
    model = "with --test: an exported folder to test in place of weights; see docs/deploy.md"
    add("-m", "--model", help=model)
    add("--backend", choices=PROGRAM_BACKENDS, help="with -m: what runs the program; default auto")
    add("--precision", help="with -m: as in predict; default fp32")
    add("--cpu_threads", type=int, help="with -m: compute threads; default: all cores")
    add("--eval", nargs="+", choices=metrics, help="with --test: which numbers to print")


def short_overrides(args: argparse.Namespace) -> list[str]:
    """The short flags as overrides.

    Raises:
        ValueError: a flag and an override give the same key.
    """
    flags: dict[str, tuple[str, object]] = {
        "epochs": ("epochs", args.epochs),
        "batch_size": ("DATASET.batch_size", args.batch_size),
        "data": ("DATASET.root", args.data),
        "name": ("output_dir", None if args.name is None else f"output/{args.name}"),
    }
    texts = []
    for flag, (key, value) in flags.items():
        if value is not None:
            text = json.dumps(value, ensure_ascii=False)  # a name in quotes is never a number
            texts += no_conflict(args, flag, [f"{key}={text}"])
    return texts


def no_conflict(args: argparse.Namespace, flag: str, texts: list[str]) -> list[str]:
    """The overrides of a flag.

    Raises:
        ValueError: an `-o` gives one of the same keys.
    """
    keys = {text.partition("=")[0] for text in texts}
    for text in args.override:
        if text.partition("=")[0].strip() in keys:
            given = f"--{flag} {vars(args)[flag]}"
            raise ValueError(f"{given} and -o {text} are both given; leave one of them out")
    return texts


def load_config(args: argparse.Namespace) -> Any:
    """The config of the flags. Which key is the base rate is known when the rest is read."""
    overrides = overrides_of(args)
    if args.config is None and args.model:
        return load("paddlevideo.engine.load:config_of_run")(
            load("paddlevideo.runtimes.manifest:exported_folder")(Path(args.model)), overrides
        )
    if args.config is None:
        return load("paddlevideo.engine.load:config_of_run")(args.weights, overrides)
    cfg = paddlevideo.load_config(args.config, overrides)
    if args.lr is None:
        return cfg
    rates = load("paddlevideo.engine.schedule:rate_overrides")(cfg, args.lr)
    return paddlevideo.load_config(args.config, [*overrides, *no_conflict(args, "lr", rates)])


def overrides_of(args: argparse.Namespace) -> list[str]:
    """The flags that stand for config keys as overrides; they come last and win."""
    values = {"seed": args.seed, "amp_level": args.amp_level, "max_iters": args.max_iters}
    switches = {"amp": args.amp, "deterministic": args.deterministic}
    texts = [f"{key}={value}" for key, value in values.items() if value is not None]
    texts += [f"{key}=true" for key, on in switches.items() if on]
    return [*args.override, *texts, *short_overrides(args)]


def check_test_flags(args: argparse.Namespace) -> None:
    """Check the flags of a test.

    Raises:
        ValueError: those for a program are given without what they need, or with weights; or the
            file of the scores is a URL.
    """
    if args.model and not args.test:
        raise ValueError("-m is for --test, which runs an exported model; add --test")
    if args.model and args.weights:
        raise ValueError("-m and -w are both given; an exported model has its own weights")
    if is_url(args.out or ""):
        raise ValueError(f"--out {shown(args.out)}: scores are written to a local file; name one")
    for flag in ("backend", "precision", "cpu_threads"):
        if vars(args)[flag] is not None and not args.model:
            raise ValueError(
                f"--{flag} is for a test of an exported model; give its folder with -m"
            )


def work(args: argparse.Namespace) -> None:
    """Check, test or train.

    Raises:
        ValueError: a mistake in flags, config, data or weights.
    """
    check_test_flags(args)
    with log.session():
        cfg = load_config(args)
    if args.check:
        log.show(*paddlevideo.check(cfg, args.multigrid).split("\n"))
    elif args.test and args.model:
        paddlevideo.test_program(
            cfg,
            args.model,
            backend=args.backend or "auto",
            out=args.out,
            names=args.eval,
            overwrite=args.overwrite,
            precision=args.precision or "fp32",
            threads=args.cpu_threads,
        )
    elif args.test:
        if not args.weights:
            raise ValueError(
                "--test needs weights: -w output/.../..._best.pdparams, or an export: -m FOLDER"
            )
        paddlevideo.test(cfg, args.weights, args.out, args.eval, args.overwrite)
    else:
        for flag in ("out", "eval"):
            if vars(args)[flag] is not None:
                log.show(f"--{flag} has no effect in a training; it is for --test")
        paddlevideo.train(
            cfg, args.validate, args.weights, args.resume, args.multigrid, args.overwrite
        )


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv)
