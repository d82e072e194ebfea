"""The commands: their flags and what they do, one module each.

A module has `make_parser(prog)` and `main(argv, prog)`; `prog` is how help texts name the command.
A help text needs no Paddle: the work is imported after parsing.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from paddlevideo import log
from paddlevideo.processes import RunEach
from paddlevideo.scale.flags import Place
from paddlevideo.urls import is_url, shown

Work = Callable[[argparse.Namespace], int | None]

LOCAL_ONLY = "this command reads and writes local files; see docs/remote.md"
# A plot needs an optional package, whose absence is a mistake of the machine.
PLOT_ERRORS = (ValueError, OSError, ModuleNotFoundError)


def run(
    parser: argparse.ArgumentParser,
    work: Work,
    argv: Sequence[str] | None = None,
    *,
    error_code: int = 1,
    errors: tuple[type[Exception], ...] = (ValueError, OSError),
    bare_help: bool = True,
    can_continue: bool = False,
    local_files: bool = False,
) -> int:
    """Parse the flags and do the work; mistakes of a user or a machine are one line, no traceback.

    Args:
        work: parsed flags -> exit code; None is 0.
        argv: the flags; None takes those of the process.
        error_code: the exit code after an error.
        errors: what counts as a mistake of a user or a machine.
        bare_help: print the help where there are no flags, and return 2.
        local_files: a URL among the flags is a mistake: the command reads and writes local files.
        can_continue: the same command continues after Ctrl-C, which the message says.

    Returns:
        the exit code; 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv and bare_help:
        parser.print_help()
        return 2
    args = parser.parse_args(argv)
    words = [word for text in argv for word in (text, text.partition("=")[2])]  # --out=URL, too
    urls = [word for word in words if is_url(word)] if local_files else []
    if urls:
        print(f"{shown(urls[0])}: {LOCAL_ONLY}", file=sys.stderr)
        return error_code
    log.quiet_paddle_warnings()
    log.quiet_s3_packages()
    try:
        return work(args) or 0
    except errors as error:
        with contextlib.suppress(OSError):
            log.show_error(error)
        return error_code
    except KeyboardInterrupt:
        again = "; run the command again to continue" if can_continue else ""
        print(f"interrupted{again}", file=sys.stderr)
        return 130
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


def load(target: str) -> Any:
    """The function, class or constant that "package.module:name" names, imported now."""
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)


@contextlib.contextmanager
def running(where: Place, max_unit: int = 2000) -> Iterator[RunEach]:
    """`processes.run_each`, or the same on a cluster that is connected for the block.

    Args:
        max_unit: items that a cluster sends together, at most; fewer where results are large.

    Raises:
        ValueError: Ray is not installed.
        OSError: there is no cluster at the address.
    """
    if where.is_local:
        yield load("paddlevideo.processes:run_each")
        return
    with (
        log.session(),
        load("paddlevideo.scale.cluster:connected")(where.on) as cluster,
    ):
        yield load("paddlevideo.scale.run_each:RunOnCluster")(cluster, where, max_unit)
