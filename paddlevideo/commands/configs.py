"""List the shipped configs with a line each, copy one to a file of your own, or translate one.

Examples: %(prog)s copy pptsn mine.yaml
          %(prog)s from-paddlex PP-TSM-R50_8frames_uniform.yaml mine.yaml
Commands take the names after -c, as in `paddlevideo train -c pptsn`; a file of that name wins.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo import log
from paddlevideo.commands import run
from paddlevideo.config import shipped
from paddlevideo.config.paddlex.translate import translate
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
    about = "translate a training config of PaddleX; prints what becomes of each key"
    add = verbs.add_parser("from-paddlex", help=about, description=about).add_argument
    add("file", type=Path, help="config of PaddleX for video classification")
    out = "file to write; an existing one is never replaced. Default: print the config"
    add("out", type=Path, nargs="?", help=out)
    override = "changes PaddleX's config, as Train.epochs_iters=10; repeatable"
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help=override)
    return parser


def work(args: argparse.Namespace) -> None:
    """List, copy or translate.

    Raises:
        ValueError, OSError: no such config, or a file that exists or cannot be written.
    """
    if args.verb == "copy":
        copy(args.name, args.file)
        return
    if args.verb == "from-paddlex":
        from_paddlex(args.file, args.out, args.override)
        return
    names = shipped.short_names()
    width = max(map(len, names))
    log.show(
        *(f"{n:<{width}}  {shipped.about(shipped.configs()[full])}" for n, full in names.items())
    )


def copy(name: str, file: Path) -> None:
    """Copy the shipped config `name` to `file`."""
    source = shipped.find_config(name).resolve()
    known = shipped.configs().items()
    full = next((full for full, path in known if path.resolve() == source), None)
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


def from_paddlex(file: Path, out: Path | None, overrides: Sequence[str]) -> None:
    """Write the translation of a PaddleX config to `out`, or print it.

    Raises:
        ConfigError: the config is wrong; one line with file:line for each mistake.
        ValueError, OSError: `out` exists or cannot be written.
    """
    translation = translate(file, overrides)
    text = translation.text(str(file))
    if out is None:
        log.show(*text.splitlines())
        return
    try:
        with out.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise ValueError(f"{out} exists; choose another file, or delete it first") from None
    log.show(*translation.table(), "", f"{out}: the translated config, for:")
    log.show(*(f"  {command}" for command in translation.commands(str(out))))


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, bare_help=False)
