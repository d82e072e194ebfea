"""The flags of the commands. A help text needs no Paddle: the work is imported after parsing."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from paddlevideo import log

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
    log.quiet_paddle_warnings()
    try:
        return work(args) or 0
    except (ValueError, OSError) as error:
        with contextlib.suppress(OSError):
            log.show_error(error)
        return 1
    finally:
        drop_lost_output()


def drop_lost_output() -> None:
    """Forget text for a terminal or a pipe that is gone; at its exit Python would fail to write it.

    Without this, a training that saved its state when its terminal was closed would exit with 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def load(target: str) -> Callable[..., Any]:
    """The function that "package.module:function" names, imported now."""
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)
