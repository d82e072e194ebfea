"""Print the tests that `make test-quick` runs: those of the changed rooms, and the rules.

Changes are those that are not committed, or else those of the last commit. A clone of the last
commit alone does not know its changes; the rules remain.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Fast rules that any change can break. The others load configs or run the code of the docs.
RULES = ("layers", "sizes", "contracts", "language")


def changed_files() -> list[str]:
    """Paths relative to the checkout, with new and deleted files."""
    untracked = _git("ls-files", "--others", "--exclude-standard")
    changed = _git("diff", "--name-only", "HEAD") + untracked
    if not changed and len(_git("rev-list", "--max-count=2", "HEAD")) == 2:
        changed = _git("diff", "--name-only", "HEAD~1", "HEAD")
    return changed


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(
        ["git", "-c", "core.quotePath=off", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"git {arguments[0]}: {done.stderr.strip()}; use make test-quick ROOM=...")
    return done.stdout.splitlines()


def select_tests(changed: list[str]) -> list[str]:
    """The test files and folders of these files, relative to the checkout.

    Returns:
        the fast rules; for a file in a room `tests/parts/<room>`, for another file of the package
        its own test file; a changed test file itself, and the room of a helper; for a page, the
        tests of pages; for configs, tools and what CI reads, theirs.
    """
    chosen = {f"tests/rules/test_{name}.py" for name in RULES}
    for name in changed:
        path = Path(name)
        if path.parts[0] == "paddlevideo":
            room = path.parts[1] if len(path.parts) > 2 else f"test_{path.name}"
            chosen.add(f"tests/parts/{room}")
        elif path.parts[0] == "tests" and path.name.startswith("test_"):
            chosen.add(name)
        elif path.parts[:2] == ("tests", "parts") and len(path.parts) > 3:  # a helper of a room
            chosen.add(f"tests/parts/{path.parts[2]}")
        elif path.parts[0] == "configs":
            chosen.add("tests/rules/test_configs.py")
        elif path.parts[0] in ("Makefile", ".github", "setup.py", "constraints.txt", "lowest.txt"):
            chosen.add("tests/rules/test_ci.py")
        elif path.parts[0] == "tools":
            chosen.add("tests/parts/commands")
        elif path.suffix == ".md":
            chosen.add("tests/rules/test_docs.py")
    return sorted(name for name in chosen if (ROOT / name).exists())


if __name__ == "__main__":
    print(*select_tests(changed_files()))
