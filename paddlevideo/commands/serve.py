"""The command of tools/serve.py: classify videos over HTTP."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo.commands import PLOT_ERRORS, load, run
from paddlevideo.commands.predict import BACKENDS


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/serve.py."""
    parser = argparse.ArgumentParser(
        prog,
        description="Serve exported models over HTTP, with a page to try them. See docs/serve.md.",
    )
    add = parser.add_argument
    model = "exported folder, or NAME=FOLDER; repeatable, the first one is the default"
    add("--model", action="append", required=True, metavar="[NAME=]FOLDER", help=model)
    host = "address to listen on; default 127.0.0.1, this machine alone; 0.0.0.0: all networks"
    add("--host", default="127.0.0.1", help=host)
    add("--port", type=int, default=8000, help="default 8000; 0: any free one")
    token = "file with the bearer token that requests need; or set PADDLEVIDEO_TOKEN"
    add("--token_file", type=Path, metavar="FILE", help=token)
    _add_limits(parser)
    _add_access(parser)
    _add_runtime(parser)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--max_mb", type=float, default=512, help="largest file (MB); default 512")
    seconds = "longest video (s); default 7200"
    add("--max_seconds", type=float, default=7200, help=seconds)
    pixels = "largest frame (million pixels); default 9.5, a little over 4K"
    add("--max_megapixels", type=float, default=9.5, help=pixels)
    timeout = "time for a request after its upload, and for a window of a timeline (s); default 60"
    add("--timeout", type=float, default=60, help=timeout)
    queue = "requests that are uploaded, wait or run at once; more get status 429; default 64"
    add("--queue", type=int, default=64, help=queue)
    timelines = "timelines among them; each has a decoding process of its own; default 2"
    add("--timelines", type=int, default=2, help=timelines)
    memory = "memory that a decoding process may take for a file (MB); default 2048"
    add("--worker_mb", type=int, default=2048, help=memory)
    add("--temp_dir", type=Path, help="folder for uploads; default: the system's for such files")


def _add_access(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    host = "fetch videos of URLs on this host, as HOST or HOST:PORT; repeatable; default: no URLs"
    add("--allow-host", "--allow_host", action="append", default=[], metavar="HOST", help=host)
    origin = "let pages of this origin use the service (CORS), as https://example.org; repeatable"
    add("--allow-origin", "--allow_origin", action="append", default=[], help=origin)


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--backend", default="auto", choices=BACKENDS, help="as in predict")
    precisions = ["fp32", "fp16", "bf16", "int8"]
    add("--precision", choices=precisions, default="fp32", help="as in predict")
    add("--device", default="auto", help="auto, cpu, gpu or gpu:NUMBER")
    add("--cpu_threads", type=int, help="compute threads; default: all cores")
    workers = "processes that decode; default: one per core, at most 8"
    add("--decode_workers", type=int, help=workers)
    wait = "how long a decoded video waits for others to run with it (ms); default 50"
    add("--batch_wait", type=float, default=50, help=wait)
    add("--class_names", help="class names in place of the models' own")


def work(args: argparse.Namespace) -> None:
    """Serve until a signal.

    Raises:
        ValueError, OSError: a mistake in flags or models.
        ModuleNotFoundError: the extra `serve` is not installed.
    """
    load("paddlevideo.serve.command:run_command")(args)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, errors=PLOT_ERRORS)
