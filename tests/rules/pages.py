"""The texts of the checkout: files that git tracks, fenced blocks, commands in docs and headers."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_TRACKED = {".git", ".venv", ".hypothesis", ".pytest_cache", ".ruff_cache", "__pycache__"}
NOT_TRACKED |= {"build", "dist", "output", "inference"}
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".list", ".cfg", ""}


def tracked(root: Path = ROOT) -> list[Path]:
    """Files that git tracks or would add; else all files outside of build folders.

    A copy without a repository of its own may lie in another one, which ignores it.
    """
    git = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = []
    files = [root / name for name in names if name]
    if "setup.py" not in names:
        files = [p for p in root.rglob("*") if not NOT_TRACKED & set(p.relative_to(root).parts)]
    return sorted(p for p in files if p.is_file())


def texts(root: Path, *suffixes: str) -> dict[str, str]:
    """{path relative to `root`: text} of the files with these suffixes, or of all text files."""
    wanted = [p for p in tracked(root) if p.suffix in (suffixes or TEXT)]
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in wanted}


# --- statements ---------------------------------------------------------------------------------


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """All statements inside of `tree`, and it itself if it is one; expressions are not walked."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.stmt):
            yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += vars(node).get(block, ())


# --- fenced blocks ------------------------------------------------------------------------------

COMMAND = "paddlevideo"  # the installed command
FRAGMENT = "<!-- fragment -->"  # on the line above a Python block that is compiled, not run
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its first line of code."""

    page: str
    line: int
    language: str
    code: str
    fragment: bool


def blocks(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        line = text[: match.start("code")].count("\n") + 1
        fragment = text[: match.start()].endswith(f"{FRAGMENT}\n")
        found.append(Block(page, line, match["language"], match["code"], fragment))
    return found


# --- commands -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """`python <script> <words>` or `paddlevideo <words>` in a text.

    `script` is a path in the checkout, or "paddlevideo" for the installed command.
    """

    where: str
    script: str
    words: tuple[str, ...]


def config_header(text: str) -> str:
    """The comment lines at the beginning of a YAML file, without their `#`."""
    lines = re.match(r"(?:#.*\n)*", text).group().splitlines()
    return "\n".join(line[1:] for line in lines)


# At the beginning of a line, or behind a label: "command   python", "Example: python".
STARTS_PYTHON = re.compile(
    r"^\s*(?:\$ |[A-Za-z]+: +|[a-z]+ {2,})?((?:\S*python3?|paddlevideo(?= [a-z-])) .*)$", re.M
)


def command_lines(name: str, text: str) -> list[str]:
    """Lines that start Python: shell blocks, inline code, config headers, docstrings, Makefile."""
    if name.endswith(".md"):
        shell = [b.code for b in blocks(name, text) if b.language in ("", "bash", "sh", "console")]
        inline = re.findall(r"`((?:python|paddlevideo) [^`]+)`", FENCE.sub("", text))
        text = "\n".join(shell + inline)
    elif name.endswith(".yaml"):
        text = config_header(text)
    elif name == "Makefile":
        text = text.replace("$(RUN)", "python")
    else:
        text = text.split('"""')[1] if text.startswith('"""') else ""
        text = text.replace("\\\\\n", "\\\n")
    return STARTS_PYTHON.findall(re.sub(r"\\\n\s*", " ", text))


def commands(name: str, text: str) -> list[Command]:
    """The commands of a text that run a script of the checkout."""
    found = []
    for line in command_lines(name, text):
        text = re.split(r"\s#|\s\||\s>|  \(", line)[0]
        words = shlex.split(text)
        if words[0] == COMMAND:
            found.append(Command(name, COMMAND, tuple(words[1:])))
            continue
        at = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
        if at is not None:
            found.append(Command(name, words[at], tuple(words[at + 1 :])))
    return found


def all_commands(root: Path = ROOT) -> list[Command]:
    """The commands in docs, config headers, docstrings of tools, and the Makefile."""
    sources = texts(root, ".md", ".yaml")
    sources |= {n: t for n, t in texts(root, ".py").items() if n.startswith("tools/")}
    sources["Makefile"] = (root / "Makefile").read_text(encoding="utf-8")
    return [command for name, text in sources.items() for command in commands(name, text)]
