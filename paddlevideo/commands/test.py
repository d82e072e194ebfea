"""The command `paddlevideo test`: `main.py --test`, with the same flags."""

import argparse
from collections.abc import Sequence

from paddlevideo.commands import run, train


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of main.py; `--test` is set."""
    parser = train.make_parser(prog)
    parser.description = (
        "Test weights on DATASET.test: %(prog)s -c CONFIG -w WEIGHTS; or an exported model: "
        "%(prog)s -c CONFIG -m FOLDER."
    )
    parser.set_defaults(test=True)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), train.work, argv)
