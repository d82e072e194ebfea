"""Import rules: modules import from lower floors only, at the top of the file."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rules.pages import statements

FLOORS = (
    (
        "array_files",
        "bounded_pickle",
        "config",
        "cores",
        "dist",
        "files",
        "html_page",
        "log",
        "paddle_internals",
        "plain_text",
        "processes",
        "remote",
        "safe_pickle",
        "sample",
        "tar_paths",
        "urls",
        "weights",
        "zoo",
    ),
    ("losses", "media", "metrics", "solver"),
    ("data", "models"),
    ("curate", "engine"),
    ("runtimes",),
    ("exporting", "features", "report"),
    ("hub", "predict"),
    ("quantizing", "scale", "timelines"),
    ("api", "benchmarks"),
    ("serve",),
    ("commands",),
    ("cli",),
    ("__main__",),
    ("main", "tools"),
    ("tests",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
OUTSIDE = ("main", "tools", "tests")  # next to the package
# Imports that the floors allow, but that are not wanted, and why.
FORBIDDEN = {("report", "engine"): "it reads metrics.jsonl and score files"}

# Packages that may be missing on a machine.
OPTIONAL = {
    "argcomplete",
    "librosa",
    "decord",
    "visualdl",
    "tensorboardX",
    "onnxruntime",
    "nncf",
    "onnx",
    "openvino",
    "paddle2onnx",
    "matplotlib",
    "tensorrt",
    "soundfile",
    "soxr",
    "huggingface_hub",
    "modelscope",
    "fsspec",
    "fastapi",
    "prometheus_client",
    "python_multipart",
    "starlette",
    "uvicorn",
    "pyarrow",
    "ray",
}
# Imports inside a function of one file. Decoding workers use transforms and must not load Paddle.
# A benchmark compares with protobuf where it is installed.
INNER = {
    ("data/transforms.py", "paddle"),
    ("data/clip_transforms.py", "paddle"),
    ("benchmarks/records.py", "google"),
}


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of a module.

    Args:
        package: of the module, as ("paddlevideo", "models") for models/tsn.py.
    """
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def violations(name: str, text: str) -> list[str]:
    """The forbidden imports of a file.

    Args:
        name: its path under paddlevideo/.
        text: its content.
    """
    path, tree = Path(name), ast.parse(text)
    own = path.parts[0].removesuffix(".py")
    found = []
    for line, module in imports(tree, ("paddlevideo", *path.parent.parts)):
        top, _, rest = module.partition(".")
        other = rest.split(".")[0] if top == "paddlevideo" else top
        if other not in FLOOR or other == own or (top != "paddlevideo" and other not in OUTSIDE):
            continue
        reason = FORBIDDEN.get((own, other), "")
        if FLOOR[other] > FLOOR[own] or FLOOR[other] == FLOOR[own] > 1 or reason:
            pair = f"'{own}' may not import '{other}' (floors {FLOOR[own]}, {FLOOR[other]})"
            found.append(f"{name}:{line}: {pair}{reason and ': ' + reason}")
    for function in statements(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for line, module in imports(function, ("paddlevideo", *path.parent.parts)):
                top = module.split(".")[0]
                if top not in OPTIONAL and (name, top) not in INNER:
                    problem = f"{module} is imported inside a function; only optional extras may be"
                    found.append(f"{name}:{line}: {problem}")
    return sorted(set(found))


def test_layers(root):
    package = root / "paddlevideo"
    texts = {
        path.relative_to(package): path.read_text(encoding="utf-8")
        for path in sorted(package.rglob("*.py"))
        if path != package / "__init__.py"
    }
    unknown = sorted({path.parts[0].removesuffix(".py") for path in texts} - set(FLOOR))
    fix = "add a floor to tests/rules/test_layers.py, and the reason to docs/read_this_first.md"
    assert not unknown, f"{unknown}: {fix}"
    found = []
    for path, text in texts.items():
        found += violations(path.as_posix(), text)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "models/a.py",
            "import paddlevideo.data",
            "a.py:1: 'models' may not import 'data'",
        ),
        (
            "models/a.py",
            "\nfrom paddlevideo.data.pipeline import x",
            "models/a.py:2: 'models'",
        ),
        (
            "models/a.py",
            "from paddlevideo import curate",
            "'models' may not import 'curate'",
        ),
        (
            "models/a.py",
            "from ..data import decode",
            "'models' may not import 'data'",
        ),
        (
            "models/convert/a.py",
            "from ... import engine",
            "'models' may not import 'engine'",
        ),
        (
            "losses.py",
            "from . import metrics",
            "'losses' may not import 'metrics'",
        ),
        (
            "weights.py",
            "from .models import tsn",
            "'weights' may not import 'models'",
        ),
        (
            "curate/a.py",
            "from paddlevideo import engine",
            "'curate' may not import 'engine'",
        ),
        (
            "engine/train.py",
            "import paddlevideo.exporting",
            "'engine' may not import 'exporting'",
        ),
        (
            "exporting/a.py",
            "from paddlevideo.report import plot",
            "'exporting' may not import 'report'",
        ),
        (
            "report/plot.py",
            "from paddlevideo.engine import test",
            "it reads metrics.jsonl",
        ),
        ("engine/train.py", "import main", "'engine' may not import 'main'"),
        (
            "predict/a.py",
            "from tools.predict import x",
            "'predict' may not import 'tools'",
        ),
        ("data/a.py", "def f():\n  import json", "data/a.py:2: json is imported inside a function"),
        (
            "data/a.py",
            "def f():\n  from paddlevideo import log",
            "paddlevideo.log is imported inside a function",
        ),
    ],
)
def test_finds_forbidden_imports(name, text, problem):
    found = violations(name, text)
    assert any(problem in violation for violation in found), found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "config/check.py",
            "from paddlevideo.config.registry import lookup\nfrom .schema import Config",
        ),
        ("models/tsn.py", "from .layers import ConvBN\nfrom ..config.registry import register"),
        (
            "engine/train.py",
            "from paddlevideo import losses, data, dist\nfrom .build import x\nimport json",
        ),
        (
            "exporting/export.py",
            "from paddlevideo.engine.build import build_model\nimport data.thing",
        ),
        ("media/decode.py", "def f():\n  import decord"),
    ],
)
def test_allows_other_imports(name, text):
    assert violations(name, text) == []


def test_sampling_loads_few_modules(root):
    code = (
        "import sys, paddlevideo.data.sampling; "
        "print(*(m for m in sys.modules if m.split('.')[0] in ('paddlevideo', 'paddle', 'cv2')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    modules = printed.stdout.split()
    assert all(module.startswith("paddlevideo") for module in modules), modules
    assert "paddlevideo.data.sampling" in modules and len(modules) <= 12, modules
