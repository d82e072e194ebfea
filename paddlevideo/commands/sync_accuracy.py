"""Measure how often a synchronization network prefers the audio of the same clip.

It compares the distance between a clip's frames and its own audio with the distance to the audio
of every other clip. Chance is 0.5.

Example: %(prog)s -c configs/demo/avslowfast_sync.yaml \\
             -w output/demo_sync/Sync_latest.pdstate
"""

import argparse
from collections.abc import Sequence

from paddlevideo import log
from paddlevideo.commands import load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/analysis/sync_accuracy.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-c", "--config", required=True, help="config file (YAML)")
    text = "change the config; repeatable"
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help=text)
    add("-w", "--weights", required=True, help="weights of the network")
    text = "which list and pipeline are used (default: %(default)s)"
    add("--split", choices=["valid", "test"], default="valid", help=text)
    return parser


def work(args: argparse.Namespace) -> None:
    """Print the table.

    Raises:
        ValueError, OSError: a mistake in flags, config, data or weights.
    """
    cfg = load("paddlevideo.engine.build:load_config")(args.config, args.override)
    load("paddlevideo.dist:choose_device")(cfg.use_gpu)
    load("paddlevideo.dist:use_threads")()
    with log.session():
        measure = load("paddlevideo.engine.sync_accuracy:sync_accuracy")
        shares, num_clips = measure(cfg, args.weights, args.split)
    columns = load("paddlevideo.engine.sync_accuracy:COLUMNS")
    print(f"{num_clips} clips; how often the own audio is closer than the audio of another clip:")
    print("stage" + "".join(name.rjust(20) for name in columns))
    for stage, row in shares.items():
        print(stage.ljust(5) + "".join(f"{row[name]:.4f}".rjust(20) for name in columns))


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, bare_help=False)
