"""The package: a lazy API, and an import without side effects."""

import pkgutil
import subprocess
import sys

import pytest

import paddlevideo


def run_python(root, code: str) -> str:
    """Run code in a new process; returns what it prints, standard error included."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("name", paddlevideo._API)
def test_the_api_has_every_name(name):
    assert callable(getattr(paddlevideo, name))
    assert name in dir(paddlevideo) and name in paddlevideo.__all__


def test_dir_lists_the_version_and_modules():
    assert {"__version__", "log"} <= set(dir(paddlevideo))


def test_rejects_other_names():
    with pytest.raises(AttributeError, match="'paddlevideo' has no attribute 'trian'"):
        paddlevideo.trian  # noqa: B018


def test_no_module_has_the_name_of_a_function():
    # The import system would replace the function by the module.
    modules = {module.name for module in pkgutil.iter_modules(paddlevideo.__path__)}
    assert not modules & set(paddlevideo._API)


def test_importing_loads_no_paddle_and_changes_no_filters(root):
    code = """
import sys, warnings
before = list(warnings.filters)
import paddlevideo, paddlevideo.log, paddlevideo.processes, paddlevideo.config.check
assert warnings.filters == before
assert "paddle" not in sys.modules
"""
    assert run_python(root, code) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import paddlevideo.dist",
        "assert callable(paddlevideo.load_config)",
        "assert callable(paddlevideo.export)",
    ],
)
def test_paddle_is_loaded_without_its_warning(root, first):
    code = f"""
import sys, warnings
import numpy  # it adds a filter of its own
before = list(warnings.filters)
import paddlevideo
{first}
assert "paddle" in sys.modules
assert warnings.filters == before
"""
    assert "ccache" not in run_python(root, code)
