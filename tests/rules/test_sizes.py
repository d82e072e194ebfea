"""Small and flat: files and functions that one can see at a glance."""

import ast

from tests.rules.pages import statements

MAX_FILE = 400  # lines
MAX_FUNCTION = 60  # lines
MAX_SCRIPT = 80  # lines of a tool: it parses arguments and nothing else
MAX_MAIN = 40  # lines of main.py
MAX_INDENT = 6 * 4  # columns where a statement may begin: four levels inside a method


def scripts(root):
    return [root / "main.py", *sorted((root / "tools").rglob("*.py"))]


def package(root):
    return sorted((root / "paddlevideo").rglob("*.py"))


def too_long(paths, root, limit):
    found = []
    for path in paths:
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > limit:
            found.append(f"{path.relative_to(root).as_posix()}: {count} lines, at most {limit}")
    return found


def long_functions(name, text):
    found = []
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > MAX_FUNCTION:
                place = f"{name}:{node.lineno}: {node.name}"
                found.append(f"{place} has {count} lines, at most {MAX_FUNCTION}")
    return found


def deep_statements(name, text):
    lines = text.splitlines()
    return [
        f"{name}:{node.lineno}: {node.col_offset // 4} levels deep"
        for node in statements(ast.parse(text))
        if node.col_offset > MAX_INDENT
        and not lines[node.lineno - 1][: node.col_offset].strip()  # `def f(): ...` is one line
    ]


def check_sources(root, find):
    found = []
    for path in package(root) + scripts(root):
        found += find(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
    assert not found, "\n" + "\n".join(found)


def test_files_are_short(root):
    docs = sorted((root / "docs").rglob("*.md"))
    tests = sorted((root / "tests").rglob("*.py"))
    assert not too_long(package(root) + tests + docs, root, MAX_FILE)


def test_scripts_only_parse_arguments(root):
    assert not too_long(scripts(root), root, MAX_SCRIPT)
    assert not too_long([root / "main.py"], root, MAX_MAIN)


def test_functions_are_short(root):
    check_sources(root, long_functions)


def test_nesting_is_shallow(root):
    check_sources(root, deep_statements)


def test_contributors_read_the_same_numbers(root):
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for number in (f"{MAX_FILE} lines", f"{MAX_FUNCTION} lines", "100 columns"):
        assert number in " ".join(text.split()), number


def test_the_rules_find_something(root, tmp_path):
    (tmp_path / "long.py").write_text("x = 1\n" * (MAX_FILE + 1))
    found = too_long([tmp_path / "long.py"], tmp_path, MAX_FILE)
    assert found == [f"long.py: {MAX_FILE + 1} lines, at most {MAX_FILE}"]
    body = "    x = 1\n" * MAX_FUNCTION
    assert long_functions("a.py", f"def f():\n{body}") == [
        f"a.py:1: f has {MAX_FUNCTION + 1} lines, at most {MAX_FUNCTION}"
    ]
    nested = "".join(f"{'    ' * i}if x:\n" for i in range(7)) + "    " * 7 + "y = 1\n"
    assert deep_statements("a.py", nested) == ["a.py:8: 7 levels deep"]
    assert len(package(root)) > 100 and len(scripts(root)) > 15
