"""Scripts of tools/, called in this process."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_script(monkeypatch, capsys, script: str, *args) -> tuple[int, str, str]:
    """(exit status, what it printed, what it said on the error stream) of `python <script> <args>`."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    spec.loader.exec_module(module)
    capsys.readouterr()
    try:
        code = module.main()
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return code, said.out, said.err
