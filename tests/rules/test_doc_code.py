"""Python blocks of README and docs run; the picture of the rooms is that of the imports."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import paddle
import pytest

from paddlevideo.engine.build import build_model, load_config
from paddlevideo.weights import state_arrays, write_arrays
from tests.conftest import small_config
from tests.rules.pages import FRAGMENT, ROOT, Block, blocks, texts
from tests.rules.test_layers import FLOOR, FLOORS
from tools.analysis import draw_rooms

PYTHON = {
    page: found
    for page, text in texts(ROOT, ".md").items()
    if (found := [b for b in blocks(page, text) if b.language == "python"])
}


@pytest.fixture(scope="module")
def workspace(clips, tmp_path_factory) -> Path:
    """A folder with everything that the blocks open: configs of a small model, weights, videos."""
    folder = tmp_path_factory.mktemp("workspace")
    output = "output/demo_pptsn"
    small = small_config(clips, folder, epochs=1, output_dir=output).read_text(encoding="utf-8")
    for name in ("demo/pptsn.yaml", "recognition/pptsn/pptsn_k400_videos.yaml"):
        path = folder / "configs" / name
        path.parent.mkdir(parents=True)
        path.write_text(small, encoding="utf-8")
    (folder / "data/demo/appearance").mkdir(parents=True)
    (folder / "data/demo/appearance/test").symlink_to(clips / "test")
    (folder / "videos").symlink_to(clips / "val")
    (folder / "a.mp4").symlink_to(min(clips.rglob("*.mp4")))
    paddle.seed(0)
    model = build_model(load_config(folder / "config.yaml"), 3)
    write_arrays(folder / "data/ppTSN_k400.pdparams", state_arrays(model))
    return folder


def script_of(page: list[Block]) -> str:
    """The blocks of a page that run, each at its own lines, so that a traceback names the page."""
    lines: list[str] = []
    for block in page:
        if not block.fragment:
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.code.splitlines()
    return "\n".join(lines) + "\n"


def run_script(code: str, page: str, folder: Path) -> subprocess.CompletedProcess:
    runner = "import sys; exec(compile(sys.stdin.read(), sys.argv[1], 'exec'), {})"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-B", "-c", runner, page]
    settings = {"cwd": folder, "env": env, "capture_output": True, "text": True, "check": False}
    return subprocess.run(words, input=code, timeout=300, **settings)


CODE = {page: {b.code for b in found if not b.fragment} for page, found in PYTHON.items()}
# README_zh.md has the blocks of README.md (test_docs.py).
SCRIPTS = [page for page, code in CODE.items() if code and page != "README_zh.md"]


def remove_outputs(folder: Path) -> None:
    """Remove those of another page, which nothing writes over."""
    for name in ("output", "inference"):
        shutil.rmtree(folder / name, ignore_errors=True)


def test_blocks_of_the_readme_run(workspace, monkeypatch):
    """In this process, which has imported Paddle."""
    remove_outputs(workspace)
    monkeypatch.chdir(workspace)
    exec(compile(script_of(PYTHON["README.md"]), "README.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("page", SCRIPTS)
def test_python_blocks_run(page, workspace):
    remove_outputs(workspace)
    done = run_script(script_of(PYTHON[page]), page, workspace)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", PYTHON)
def test_fragments_compile_and_their_imports_exist(page):
    for block in (b for b in PYTHON[page] if b.fragment):
        for node in ast.walk(ast.parse(block.code, page)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if alias.name not in dir(module)]
                assert not missing, f"{page}:{block.line}: {node.module} has no {missing}"


def test_blocks_are_found():
    text = f"# A page\n\n{FRAGMENT}\n```python\nx = y\n```\n\n```python\na = 1\n```\n```\nb\n```\n"
    found = blocks("a.md", text)
    assert [(b.language, b.fragment, b.line) for b in found] == [
        ("python", True, 5),
        ("python", False, 9),
        ("", False, 12),
    ]
    assert script_of(found[:2]).splitlines()[8] == "a = 1" and "x = y" not in script_of(found)
    num_fragments = sum(b.fragment for page in PYTHON.values() for b in page)
    assert {"README.md", "docs/deploy.md", "docs/read_this_first.md"} <= PYTHON.keys()
    assert num_fragments <= 2, "blocks that do not run are exceptions"


def test_an_error_in_a_block_names_the_page(tmp_path):
    done = run_script("\n\nundefined\n", "docs/a.md", tmp_path)
    assert done.returncode == 1 and 'File "docs/a.md", line 3' in done.stderr


# --- the picture of the rooms -------------------------------------------------------------------


@pytest.fixture(scope="module")
def rooms(root):
    return draw_rooms.read_imports(root / "paddlevideo")


def test_the_picture_of_the_rooms_is_that_of_the_imports(root, rooms):
    page = (root / "docs/read_this_first.md").read_text(encoding="utf-8")
    shown = page.split(draw_rooms.BEGIN)[1].split(draw_rooms.END)[0]
    update = "python tools/analysis/draw_rooms.py --write docs/read_this_first.md"
    assert shown == draw_rooms.draw(rooms), update


def test_rooms_and_base_are_those_of_the_floors(rooms):
    assert draw_rooms.BASE.split() == sorted(FLOORS[0])
    assert rooms.keys() == {r for r in FLOOR if FLOOR[r] > 1} - {
        "main",
        "__main__",
        "tools",
        "tests",
    }
    assert all(FLOOR[low] < FLOOR[room] for room, imported in rooms.items() for low in imported)


def test_the_list_of_rooms_is_complete(root):
    page = (root / "docs/read_this_first.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"([\w.]+?)(?:/|\.py)(?=\s)", page.split("```")[1]))
    outside = {"main", "__main__", "tools", "tests", "paddlevideo"}
    assert listed - outside == FLOOR.keys() - outside


def test_drawing_leaves_out_implied_arrows(tmp_path):
    files = {"a/x.py": "import paddlevideo.b\nfrom paddlevideo import c", "c.py": ""}
    files |= {"b/y.py": "from paddlevideo.c import z\nload('paddlevideo.log:f')", "log.py": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    rooms = draw_rooms.read_imports(tmp_path)
    assert rooms == {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    picture = draw_rooms.draw(rooms)
    assert picture == "```mermaid\nflowchart TD\n    a --> b\n    b --> c\n    c\n```\n"
