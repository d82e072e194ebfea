"""Check everything on the GPUs of this machine: training, export, every runtime; minutes.

It trains the demo on the CPU, on one GPU in fp32 and mixed precision, and on all GPUs, and compares
the losses; it runs the exported model in every runtime, and compares the logits. Results are in
gpu_check.html and gpu_check.json, with the facts about the machine.
Exit code: 0 if no row failed, 1 if one did, 2 without a GPU.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo.commands import load, run


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/gpu_check.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("output/gpu_check"), help="folder (default: %(default)s)")
    add("--epochs", type=int, default=2, help="epochs of each training (default: %(default)s)")
    add("--clips", type=int, default=16, help="clips per class (default: %(default)s)")
    return parser


def work(args: argparse.Namespace) -> int:
    """Do the checks; returns the exit code."""
    return load("paddlevideo.benchmarks.gpu_check:run_check")(args.out, args.epochs, args.clips)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, bare_help=False)
