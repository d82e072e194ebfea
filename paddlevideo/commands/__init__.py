"""The flags of the commands. A help text needs no Paddle: the work is imported after parsing."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from paddlevideo.log import error_text, quiet_paddle_warnings

Work = Callable[[argparse.Namespace], int | None]


def run(parser: argparse.ArgumentParser, work: Work, argv: Sequence[str] | None = None) -> int:
    """Parse the flags and do the work; mistakes of a user or a machine are one line, no traceback.

    Args:
        work: parsed flags -> exit code; None is 0.
        argv: the flags; None takes those of the process. Without any, the help is printed.

    Returns:
        the exit code: 1 after an error, 2 without flags.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv:
        parser.print_help()
        return 2
    args = parser.parse_args(argv)
    quiet_paddle_warnings()
    try:
        return work(args) or 0
    except (ValueError, OSError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 1


def load(target: str) -> Callable[..., Any]:
    """The function that "package.module:function" names, imported now."""
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)
