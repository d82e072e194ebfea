"""Runs scripts of the checkout in this process."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_script(monkeypatch, script: str) -> ModuleType:
    """The module of a script, which may be run in this process; `sys.path` stays as it was."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


def run_script(monkeypatch, capsys, script: str, *args) -> tuple[int | str | None, str, str]:
    """Run `python <script> <args>`; returns (exit status, standard output, standard error)."""
    module = load_script(monkeypatch, script)
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    capsys.readouterr()
    try:
        code = module.main()
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err
