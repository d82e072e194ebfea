"""Who may import whom: layers only look down, parts of one layer do not know each other, imports stand at the top."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

BASE = ("config", "schema", "yamltree", "registry", "sample", "dist", "onednn", "weights", "torchfile", "log")
LAYERS = dict.fromkeys(BASE, 0) | {"data": 1, "models": 1, "losses": 1, "metrics": 1, "solver": 1}
LAYERS |= {"engine": 2, "deploy": 3, "report": 3, "main": 4, "tools": 4, "tests": 5}
BLIND = {("report", "engine"): "it reads metrics.jsonl and score files"}  # where looking down is not wanted either

# What may be missing on a machine, or (Paddle in a transform) must not be loaded by every decoding worker.
OPTIONAL = {"decord", "visualdl", "tensorboardX", "onnxruntime", "onnx", "openvino", "paddle2onnx", "matplotlib", "tensorrt"}
OPTIONAL |= {"soundfile", "soxr"}
INNER = {("data/transforms.py", "paddle")}


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of a module in `package`, as ("paddlevideo", "models") for models/tsn.py."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def violations(name: str, text: str) -> list[str]:
    """What is wrong in the file `name` (a path under paddlevideo/) with that text."""
    path, tree = Path(name), ast.parse(text)
    own = path.parts[0].removesuffix(".py")
    found = []
    for line, module in imports(tree, ("paddlevideo", *path.parent.parts)):
        top, _, rest = module.partition(".")
        other = rest.split(".")[0] if top == "paddlevideo" else top
        if other not in LAYERS or other == own or (top != "paddlevideo" and LAYERS[other] < 4):
            continue
        reason = BLIND.get((own, other), "")
        if LAYERS[other] > LAYERS[own] or LAYERS[other] == LAYERS[own] > 0 or reason:
            pair = f"'{own}' (layer {LAYERS[own]}) may not import '{other}' (layer {LAYERS[other]})"
            found.append(f"{name}:{line}: {pair}{reason and ': ' + reason}")
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for line, module in imports(function, ("paddlevideo", *path.parent.parts)):
                top = module.split(".")[0]
                if top not in OPTIONAL and (name, top) not in INNER:
                    found.append(f"{name}:{line}: {module} is imported inside a function; only optional extras may be")
    return sorted(set(found))


def test_layers(root):
    files = [p for p in sorted((root / "paddlevideo").rglob("*.py")) if p.parent.name != "paddlevideo" or p.stem != "__init__"]
    unknown = {p.relative_to(root / "paddlevideo").parts[0].removesuffix(".py") for p in files} - set(LAYERS)
    assert not unknown, f"give {sorted(unknown)} a layer in tests/rules/test_layers.py, and say why in docs/read_this_first.md"
    found = [
        v for p in files for v in violations(p.relative_to(root / "paddlevideo").as_posix(), p.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "models/slowfast.py",
            "import paddlevideo.data",
            "models/slowfast.py:1: 'models' (layer 1) may not import 'data' (layer 1)",
        ),
        ("models/a.py", "\nfrom paddlevideo.data.decode import x", "models/a.py:2: 'models' (layer 1) may not import 'data'"),
        ("models/a.py", "from paddlevideo import losses", "'models' (layer 1) may not import 'losses' (layer 1)"),
        ("models/a.py", "from ..data import decode", "'models' (layer 1) may not import 'data' (layer 1)"),
        ("models/convert/a.py", "from ... import engine", "'models' (layer 1) may not import 'engine' (layer 2)"),
        ("losses.py", "from . import metrics", "'losses' (layer 1) may not import 'metrics' (layer 1)"),
        ("weights.py", "from .models import tsn", "'weights' (layer 0) may not import 'models' (layer 1)"),
        ("engine/train.py", "import paddlevideo.deploy.export", "'engine' (layer 2) may not import 'deploy' (layer 3)"),
        ("deploy/export.py", "from paddlevideo.report import plot", "'deploy' (layer 3) may not import 'report' (layer 3)"),
        ("report/plot.py", "from paddlevideo.engine import test", "may not import 'engine' (layer 2): it reads metrics.jsonl"),
        ("engine/train.py", "import main", "'engine' (layer 2) may not import 'main' (layer 4)"),
        ("deploy/a.py", "from tools.predict import x", "'deploy' (layer 3) may not import 'tools' (layer 4)"),
        (
            "data/a.py",
            "def f():\n  import json",
            "data/a.py:2: json is imported inside a function; only optional extras may be",
        ),
        ("data/a.py", "def f():\n  from paddlevideo import log", "paddlevideo.log is imported inside a function"),
    ],
)
def test_the_rule_sees(name, text, said):
    assert any(said in v for v in violations(name, text)), violations(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.py", "from paddlevideo.registry import lookup\nfrom .schema import Config"),
        ("models/tsn.py", "from .layers import ConvBN\nfrom paddlevideo.models import layers\nfrom ..registry import register"),
        ("engine/train.py", "import paddlevideo.data\nfrom paddlevideo import losses, dist\nfrom .build import x\nimport json"),
        ("deploy/export.py", "from paddlevideo.engine.build import build_model\nimport data.thing"),
        ("data/decode.py", "def f():\n  import decord"),
    ],
)
def test_the_rule_lets_pass(name, text):
    assert violations(name, text) == []
