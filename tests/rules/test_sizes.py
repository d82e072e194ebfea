"""Small and flat: what one can see whole."""

import ast

MAX_FILE = 420  # lines
MAX_FUNCTION = 80
MAX_SCRIPT = 80  # main.py and tools: argument parsing only
MAX_LINE = 100
MAX_INDENT = 6 * 4  # columns where a statement may begin: four levels inside a method


def scripts(root):
    return [root / "main.py", *sorted((root / "tools").rglob("*.py"))]


def package(root):
    return sorted((root / "paddlevideo").rglob("*.py"))


def lengths(paths, root, limit):
    counts = {
        p.relative_to(root).as_posix(): len(p.read_text(encoding="utf-8").splitlines())
        for p in paths
    }
    return [
        f"{name}: {count} lines, at most {limit}" for name, count in counts.items() if count > limit
    ]


def test_files_are_a_few_screens(root):
    assert not lengths(package(root) + sorted((root / "docs").rglob("*.md")), root, MAX_FILE)


def test_scripts_only_parse_arguments(root):
    assert not lengths(scripts(root), root, MAX_SCRIPT)


def test_functions_can_be_seen_whole(root):
    long = []
    for path in package(root) + scripts(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > MAX_FUNCTION:
                    long.append(
                        f"{path.relative_to(root)}:{node.lineno}: {node.name} has {count} lines, at most {MAX_FUNCTION}"
                    )
    assert not long, "\n" + "\n".join(long)


def test_no_deep_nesting(root):
    deep = []
    for path in package(root) + scripts(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.stmt) and node.col_offset > MAX_INDENT:
                deep.append(
                    f"{path.relative_to(root)}:{node.lineno}: {node.col_offset // 4} levels deep"
                )
    assert not deep, "\n" + "\n".join(deep)


def test_the_limits_can_be_broken(root, tmp_path):
    (tmp_path / "long.py").write_text("x = 1\n" * (MAX_FILE + 1))
    assert lengths([tmp_path / "long.py"], tmp_path, MAX_FILE) == [
        f"long.py: {MAX_FILE + 1} lines, at most {MAX_FILE}"
    ]
    assert len(package(root)) > 30 and len(scripts(root)) > 3, "the rules look at the right folders"
