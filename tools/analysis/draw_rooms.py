"""Draw which rooms of the package import which, as a Mermaid flowchart; the docs show it.

An arrow points to what is imported. Arrows that follow from others are left out, and so is the
base, which everything may import.

Example: python tools/analysis/draw_rooms.py --write docs/read_this_first.md
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "array_files bounded_pickle config cores dist files html_page log paddle_internals "
BASE += "plain_text processes remote safe_pickle sample tar_paths urls weights zoo"
OTHERS = {"__init__", "__main__", "__pycache__", *BASE.split()}
BEGIN, END = "<!-- rooms: begin -->\n", "<!-- rooms: end -->\n"


def imported_names(node: ast.AST) -> list[str]:
    """Dotted names that a node imports, at once or later as `load("package.module:function")`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Constant) and str(node.value).startswith("paddlevideo."):
        return [node.value.partition(":")[0]]
    return []


def room_of(module: str) -> str:
    """The room of a dotted name: "data" for "paddlevideo.data.lists"; the package is its API."""
    top, *rooms = [*module.split("."), "api"]
    return rooms[0] if top == "paddlevideo" else ""


def read_imports(package: Path) -> dict[str, set[str]]:
    """{room: rooms that its files import}, without the base."""
    names = {path.stem for path in package.iterdir() if path.suffix in ("", ".py")}
    rooms = {name: set() for name in sorted(names - OTHERS)}
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if own in rooms else ():
            rooms[own] |= {room_of(name) for name in imported_names(node)}
    return {room: found & rooms.keys() - {room} for room, found in rooms.items()}


def reachable(rooms: dict[str, set[str]], room: str) -> set[str]:
    """All rooms that `room` imports, directly or through others."""
    return rooms[room] | {far for near in rooms[room] for far in reachable(rooms, near)}


def draw(rooms: dict[str, set[str]]) -> str:
    """The flowchart, as a fenced block; an arrow that a longer way implies is left out."""
    lines = ["```mermaid", "flowchart TD"]
    for room, imported in rooms.items():
        implied = {far for near in imported for far in reachable(rooms, near)}
        targets = " & ".join(sorted(imported - implied))
        lines.append(f"    {room} --> {targets}" if targets else f"    {room}")
    return "\n".join([*lines, "```", ""])


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace the diagram there")
    args = parser.parse_args()
    diagram = draw(read_imports(ROOT / "paddlevideo"))
    if args.write is None:
        print(diagram, end="")
        return 0
    before, rest = args.write.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    args.write.write_text(before + BEGIN + diagram + END + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
