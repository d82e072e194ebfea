"""The check after each test finds and restores what a test changed; the choice of `test-quick`."""

import logging
import os
import subprocess
import sys

import cv2
import numpy as np
import paddle
import pytest

from paddlevideo import paddle_internals
from paddlevideo.models import onednn
from tests.changed import select_tests
from tests.process_state import ProcessState


def threads():
    paddle_internals.set_num_threads(5)
    cv2.setNumThreads(cv2.getNumThreads() + 1)


def tracer():
    return paddle.base.framework._dygraph_tracer()


CHANGES = {
    "mode of new files": lambda: os.umask(0o070),
    "working directory": lambda: os.chdir("/"),
    "sys.path": lambda: sys.path.insert(0, "x"),
    "NEW_VARIABLE": lambda: os.environ.update(NEW_VARIABLE="1"),
    "paddlevideo was": lambda: logging.getLogger("paddlevideo").addHandler(logging.NullHandler()),
    "OpenCV": threads,
    "FLAGS_check_nan_inf": lambda: paddle.set_flags({"FLAGS_check_nan_inf": True}),
    "default dtype": lambda: paddle.set_default_dtype("float64"),
    "gradients": lambda: paddle.set_grad_enabled(False),
    "oneDNN": lambda: onednn._enabled.set(True),
    "AMP level": lambda: setattr(tracer(), "_amp_level", paddle.base.core.AmpLevel.O1),
    "errors": lambda: np.seterr(all="raise"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_finds_and_restores_a_change(name):
    state = ProcessState()
    CHANGES[name]()
    found = state.restore()
    assert len(found) in (1, 2) and name in "\n".join(found), found
    assert state.restore() == []


def test_finds_a_process_that_goes_on(monkeypatch):
    monkeypatch.setattr("tests.process_state.SECONDS_TO_END", 0.1)
    state = ProcessState()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (line,) = state.restore()
        assert line.startswith(f"child process: {child.pid} was None, is ") and "input()" in line
    finally:
        child.communicate()
    assert state.restore() == []


def test_chooses_the_select_tests_what_changed():
    rules = [f"tests/rules/test_{name}.py" for name in ("contracts", "language", "layers", "sizes")]
    assert select_tests([]) == rules
    changed = ["paddlevideo/data/loader.py", "paddlevideo/log.py", "docs/gone.md", "setup.py"]
    chosen = ["tests/parts/data", "tests/parts/test_log.py", "tests/rules/test_docs.py"]
    assert select_tests(changed) == sorted([*rules, *chosen, "tests/rules/test_ci.py"])
    others = {
        "tests/parts/data/conftest.py": "tests/parts/data",
        "configs/demo/gone.yaml": "tests/rules/test_configs.py",
        "tools/predict.py": "tests/parts/commands",
        "paddlevideo/data/gone.py": "tests/parts/data",
    }
    for name, expected in others.items():
        assert expected in select_tests([name])
    own = "tests/runs/test_audio.py"
    assert own in select_tests([own])
