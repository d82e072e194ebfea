"""The command of main.py: train, test or check a config."""

import argparse

import paddlevideo
from paddlevideo.commands import run


def make_parser() -> argparse.ArgumentParser:
    """The flags of main.py, those of PaddleVideo's main.py among them."""
    parser = argparse.ArgumentParser(description="Train or test a video recognition model.")
    add = parser.add_argument
    add("-c", "--config", required=True, help="config file (YAML)")
    add(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="changes the config, as DATASET.batch_size=16; repeatable",
    )
    add(
        "--validate",
        action="store_true",
        help="evaluate DATASET.valid while training and keep the best model",
    )
    add("--test", action="store_true", help="test the weights given with -w on DATASET.test")
    add("-w", "--weights", help="weights to test, or to start training from")
    add(
        "--resume",
        nargs="?",
        const="auto",
        help="continue a stopped run: auto, a .pdstate file, or its folder",
    )
    add(
        "--multigrid",
        action="store_true",
        help="change clips, batches and learning rate as the MULTIGRID section says",
    )
    add(
        "--check",
        action="store_true",
        help="check config and pipelines without data, print the plan, and stop",
    )
    add("--seed", type=int, help="seed of all random numbers (config: seed, 1234)")
    add(
        "--deterministic",
        action="store_true",
        help="use reproducible kernels on a GPU; a CPU always does",
    )
    add(
        "--amp",
        action="store_true",
        help="mixed precision: float16 on a GPU, bfloat16 on a CPU",
    )
    add(
        "--amp_level",
        choices=["O1", "O2"],
        help="O1 casts per operation, O2 also keeps weights in half precision",
    )
    add("--max_iters", type=int, help="stop every epoch after this many steps")
    add("--out", help="with --test: write the scores of each video to this .json or .npz file")
    add(
        "--eval",
        nargs="+",
        choices=["top_k_accuracy", "mean_class_accuracy"],
        help="with --test: which numbers to print",
    )
    add(
        "--fleet",
        action="store_true",
        help="accepted for old command lines; ranks always train data-parallel",
    )
    return parser


def overrides_of(args: argparse.Namespace) -> list[str]:
    """The flags that stand for config keys as overrides; they come last and win."""
    values = {"seed": args.seed, "amp_level": args.amp_level, "max_iters": args.max_iters}
    switches = {"amp": args.amp, "deterministic": args.deterministic}
    texts = [f"{key}={value}" for key, value in values.items() if value is not None]
    texts += [f"{key}=true" for key, on in switches.items() if on]
    return [*args.override, *texts]


def work(args: argparse.Namespace) -> None:
    """Check, test or train.

    Raises:
        ValueError: a mistake in flags, config, data or weights.
    """
    cfg = paddlevideo.load_config(args.config, overrides_of(args))
    if args.check:
        print(paddlevideo.check(cfg, args.multigrid))
    elif args.test:
        if not args.weights:
            raise ValueError("--test needs weights: -w output/.../..._best.pdparams")
        paddlevideo.test(cfg, args.weights, args.out, args.eval)
    else:
        paddlevideo.train(cfg, args.validate, args.weights, args.resume, args.multigrid)


def main() -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(), work)
