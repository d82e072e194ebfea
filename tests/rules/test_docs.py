"""Public things say what they are, links and commands name what exists, and nothing points at one machine."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

NOT_OURS = {
    ".git",
    ".venv",
    ".hypothesis",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "build",
    "dist",
    "output",
    "inference",
}
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".list", ".cfg", ""}


def tracked(root: Path) -> list[Path]:
    """The files that belong to the project: those git knows or would take, or all where there is no git."""
    git = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\0")
        files = [root / name for name in names if name]
    except (OSError, subprocess.CalledProcessError):
        files = [p for p in root.rglob("*") if not NOT_OURS & set(p.relative_to(root).parts)]
    return sorted(p for p in files if p.is_file())


def texts(root: Path, *suffixes: str) -> dict[str, str]:
    wanted = [p for p in tracked(root) if p.suffix in (suffixes or TEXT)]
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in wanted}


# --- docstrings -------------------------------------------------------------------------------------------------------


SHORT = 6  # lines; a function of that size says itself what it does


def undocumented(name: str, text: str) -> list[str]:
    """The module, its public classes and its public functions that are not short, where they have no docstring."""
    tree = ast.parse(text)
    missing = (
        []
        if ast.get_docstring(tree) or not tree.body
        else [f"{name}:1: the module has no docstring"]
    )
    for node in tree.body:
        short = isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno < SHORT
        if (
            isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and not short
            and not node.name.startswith("_")
        ):
            missing += (
                []
                if ast.get_docstring(node)
                else [f"{name}:{node.lineno}: {node.name} has no docstring"]
            )
    return missing


def test_public_things_have_a_docstring(root):
    files = texts(root, ".py")
    found = [
        problem
        for name, text in files.items()
        if name.startswith("paddlevideo/")
        for problem in undocumented(name, text)
    ]
    scripts = {name: text for name, text in files.items() if name.startswith(("tools/", "main.py"))}
    found += [
        f"{name}:1: no docstring, which is what --help shows"
        for name, text in scripts.items()
        if text[:3] != '"""'
    ]
    assert not found, "\n" + "\n".join(found)
    assert undocumented("a.py", "class A: pass") == [
        "a.py:1: the module has no docstring",
        "a.py:1: A has no docstring",
    ]


# --- links, commands ----------------------------------------------------------------------------------------------------

LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)]*)?\)")


def test_links_lead_to_files(root):
    broken = []
    for name, text in texts(root, ".md").items():
        for target, _ in LINK.findall(text):
            if not ((root / name).parent / target).exists():
                line = text[: text.index(f"]({target}")].count("\n") + 1
                broken.append(f"{name}:{line}: {target} does not exist")
    assert not broken, "\n" + "\n".join(broken)


NAMED = re.compile(
    r"(?<![\w/.-])((?:configs|tools|tests|paddlevideo|docs)/[\w./-]+\.(?:py|yaml|md))\b"
)


def test_files_named_in_texts_exist(root):
    missing = []
    for name, text in texts(root, ".md", ".yaml", "").items():
        if not name.startswith("tests/"):
            for number, line in enumerate(text.splitlines(), 1):
                missing += [
                    f"{name}:{number}: {path}"
                    for path in NAMED.findall(line)
                    if not (root / path).exists()
                ]
    assert not missing, "named, but not there:\n" + "\n".join(missing)


def commands(text: str) -> list[str]:
    """The commands that start Python in the fenced blocks of a page, continued lines joined."""
    blocks = re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.M | re.S)
    lines = [
        line.strip().removeprefix("$ ")
        for block in blocks
        for line in re.sub(r"\\\n\s*", " ", block).splitlines()
    ]
    return [line for line in lines if re.match(r"(python3?|\S*/python3?) ", line)]


def parser_of(root: Path, script: str):
    """The set of flags that a script's argparse parser takes, read from its source and that of what it calls."""
    text = (root / script).read_text(encoding="utf-8")
    modules = re.findall(r"from (paddlevideo[\w.]*) import", text)
    for names in re.findall(
        r"^from benchmarks import (.*)$", text, re.M
    ):  # each adds the flags of its verb
        modules += [f"benchmarks.{name.strip()}" for name in names.split(",")]
    for module in modules:
        path = root / (module.replace(".", "/") + ".py")
        text += path.read_text(encoding="utf-8") if path.exists() else ""
    return set(re.findall(r"""["'](--?[A-Za-z][\w-]*)["']""", text)) | {"-h", "--help"}


def test_commands_in_texts_use_flags_that_exist(root):
    wrong, seen = [], 0
    for name, text in texts(root, ".md").items():
        for command in commands(text):
            words = shlex.split(
                re.sub(r"[\[\]]|\.\.\.", " ", command.split(" #")[0].split(" | ")[0])
            )
            script = next((w for w in words if w.endswith(".py")), None)
            if script is None or not (root / script).exists():
                continue
            seen += 1
            flags = [
                w.split("=")[0]
                for w in words[words.index(script) + 1 :]
                if re.match(r"--?[A-Za-z]", w)
            ]
            wrong += [
                f"{name}: {script} has no flag {flag}"
                for flag in flags
                if flag not in parser_of(root, script)
            ]
    assert not wrong, "\n" + "\n".join(wrong)
    assert seen or not (root / "README.md").exists(), "README.md shows commands"
    assert "--no-such-flag" not in parser_of(root, "main.py") >= {"-c", "--validate", "-w"}


# --- no machine of ours ---------------------------------------------------------------------------------------------------

ELSEWHERE = re.compile(r"(?<![\w.$~}])/(?:work|home|root|Users|mnt|data\d|tmp|private)/[\w.-]+")


def test_no_path_of_one_machine(root):
    found = []
    for name, text in texts(root).items():
        for number, line in enumerate(text.splitlines(), 1):
            if ELSEWHERE.search(line) and name != "tests/rules/test_docs.py":
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n" + "\n".join(found)
    assert ELSEWHERE.search("cd /home/me/videos") and not ELSEWHERE.search(
        "data/demo/train.list paddlevideo/media/decode.py"
    )


# --- the scripts answer ---------------------------------------------------------------------------------------------------


def scripts() -> list[str]:
    root = Path(__file__).resolve().parents[2]
    return [
        "main.py",
        *sorted(p.relative_to(root).as_posix() for p in (root / "tools").rglob("*.py")),
    ]


@pytest.mark.parametrize("script", scripts())
def test_help(root, script):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-B", script, "--help"],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ") and len(done.stdout.splitlines()) > 5
    described = done.stdout.split("\n\n")[1]
    assert len(described.split()) > 3, "it says what it is for"
