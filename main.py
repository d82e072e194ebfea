"""Train or test a video recognition model: flags -> config -> train() or test()."""

import argparse
import sys

from paddlevideo import dist, log
from paddlevideo.engine.build import load_config
from paddlevideo.engine.describe import describe
from paddlevideo.engine.test import test
from paddlevideo.engine.train import train
from paddlevideo.export.export import export_finished
from paddlevideo.report.run_report import report_finished


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-c", "--config", default="configs/demo/pptsn.yaml", help="config file (YAML)")
    add(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="as DATASET.batch_size=16; repeatable",
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
        help="go on where a run stopped: auto, or a .pdstate file or its folder",
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
    add("--seed", type=int, help="seed of everything random (config: seed, 1234)")
    add(
        "--deterministic",
        action="store_true",
        help="ask GPU libraries for reproducible kernels; a CPU needs no asking",
    )
    add("--amp", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on a CPU")
    add(
        "--amp_level",
        choices=["O1", "O2"],
        help="O1 casts per operation, O2 keeps weights in half precision too",
    )
    add("--max_iters", type=int, help="stop every epoch after this many steps")
    add("--out", help="with --test: per-video scores to this .json or .npz file")
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
    return parser.parse_args(argv)


def overrides_of(args: argparse.Namespace) -> list[str]:
    """The flags that stand for config keys, as overrides; they come last and win."""
    flags = {"seed": args.seed, "amp_level": args.amp_level, "max_iters": args.max_iters}
    switches = {"amp": args.amp, "deterministic": args.deterministic}
    texts = [f"{k}={v}" for k, v in flags.items() if v is not None]
    return [*args.override, *texts, *(f"{k}=true" for k, v in switches.items() if v)]


def run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, overrides_of(args))
    log.setup(None if args.check or args.test else cfg.folder, dist.rank())
    device, note = dist.choose_device(cfg.use_gpu)
    if cfg.deterministic:
        dist.make_deterministic()
    dist.init_ranks()
    threads = dist.use_threads()
    log.logger.info(
        f"{device}, {threads} compute thread(s), rank {dist.rank()} of {dist.world_size()}, seed {cfg.seed}"
    )
    if note:
        log.logger.warning(note)
    if args.check:
        print(describe(cfg, args.multigrid))
    elif args.test:
        if not args.weights:
            raise ValueError("--test needs the weights to test: -w output/.../..._best.pdparams")
        test(cfg, args.weights, args.out, args.eval)
    else:
        state = train(cfg, args.validate, args.weights, args.resume, args.multigrid)
        if state.finished and dist.is_main():
            report_finished(cfg.folder)
        if cfg.export and state.finished and dist.is_main():
            export_finished(cfg, state.progress)


def main() -> int:
    try:
        run(parse_args())
    except (
        ValueError,
        OSError,
    ) as error:  # mistakes of a user or a machine: a message, not a trace
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
