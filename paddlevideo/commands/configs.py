"""List the shipped configs with a line each, or copy one to a file of your own.

Example: %(prog)s copy pptsn mine.yaml
Commands take the names after -c, as in `paddlevideo train -c pptsn`; a file of that name wins.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo import log
from paddlevideo.commands import run
from paddlevideo.config import shipped
from paddlevideo.config.schema import ConfigError


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of `paddlevideo configs`."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("list", help="print the names and what they are for (the default)")
    add = verbs.add_parser("copy", help="copy a config; `_base_` still works").add_argument
    add("name", help="name of a shipped config")
    add("file", type=Path, help="file to write; an existing one is never replaced")
    return parser


def work(args: argparse.Namespace) -> None:
    """List or copy.

    Raises:
        ValueError, OSError: no such config, or a file that exists or cannot be written.
    """
    if args.verb == "copy":
        copy(args.name, args.file)
        return
    names = shipped.short_names()
    width = max(map(len, names))
    log.show(
        *(f"{n:<{width}}  {shipped.about(shipped.configs()[full])}" for n, full in names.items())
    )


def copy(name: str, file: Path) -> None:
    """Copy the shipped config `name` to `file`."""
    source = shipped.find_config(name)
    full = next((full for full, path in shipped.configs().items() if path == source), None)
    if full is None:
        raise ConfigError(
            [f"{name}: not the name of a shipped config; `paddlevideo configs` lists them"]
        )
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(shipped.copied_text(full))
    except FileExistsError:
        raise ValueError(f"{file} exists; choose another file, or delete it first") from None
    log.show(f"{file}: a copy of {full}; train with: paddlevideo train -c {file}")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, bare_help=False)
