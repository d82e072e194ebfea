"""Print the code that lets a shell complete verbs, flags and names of configs.

Example: eval "$(%(prog)s bash)"
fish: %(prog)s fish | source. The package argcomplete is needed (extra `completion`).
"""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from paddlevideo.commands import run
from paddlevideo.config import shipped


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of `paddlevideo completion`."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def work(args: argparse.Namespace) -> None:
    """Print the code.

    Raises:
        ValueError: argcomplete is not installed.
    """
    try:
        import argcomplete
    except ModuleNotFoundError:
        fix = "pip install 'paddlevideo[completion]', or pip install argcomplete"
        raise ValueError(f"completion needs the package argcomplete; {fix}") from None
    print(argcomplete.shellcode(["paddlevideo"], shell=args.shell))


def complete(verbs: Mapping[str, tuple[str, str]]) -> None:
    """Answer a shell that asks what may follow, and end the process.

    Args:
        verbs: verb -> (module of its command, text of its help).
    """
    try:
        import argcomplete
    except ModuleNotFoundError:
        raise SystemExit(1) from None
    argcomplete.autocomplete(whole_parser(verbs))


def whole_parser(verbs: Mapping[str, tuple[str, str]]) -> argparse.ArgumentParser:
    """One parser of all verbs and their flags."""
    top = argparse.ArgumentParser("paddlevideo")
    subparsers = {"": top.add_subparsers()}
    for verb, (module, text) in verbs.items():
        group, _, name = verb.rpartition(" ")
        if group not in subparsers:
            subparsers[group] = subparsers[""].add_parser(group, help=group).add_subparsers()
        own = import_module(module).make_parser(f"paddlevideo {verb}")
        add_completers(own, ("config", "name") if verb == "configs" else ("config",))
        subparsers[group].add_parser(name, parents=[own], add_help=False, help=text)
    return top


def add_completers(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Let the arguments with these names, those of subcommands too, complete to configs."""
    for action in parser._actions:
        if action.dest in names:
            action.completer = complete_config  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                add_completers(inner, names)


def complete_config(prefix: str, **_: Any) -> list[str]:
    """The names of shipped configs, and files, that begin with `prefix`."""
    import argcomplete

    files = argcomplete.FilesCompleter(("yaml", "yml"))(prefix)
    return [*(name for name in shipped.short_names() if name.startswith(prefix)), *files]


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, bare_help=False)
