"""The workflows run what `make` offers, on the versions that setup.py names."""

import re
import runpy
import sys
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement

from tests.rules.pages import ROOT

# Programs that tests look for.
INSTALLS = {
    "sudo apt-get update",
    "sudo apt-get install --yes ffmpeg gir1.2-gst-rtsp-server-1.0 python3-gi "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly",
}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
MAKE = re.compile(r"make (?P<target>[a-z-]+)(?P<settings>(?: [A-Z]+=\S*)*)")


@pytest.fixture(scope="module")
def setup():
    """The arguments that setup.py gives to `setup`."""
    arguments = {}
    module = SimpleNamespace(setup=arguments.update, find_packages=lambda **_: [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "setuptools", module)
        runpy.run_path(str(ROOT / "setup.py"))
    return arguments


def pythons(setup) -> set[str]:
    """The versions of Python in the classifiers of setup.py."""
    prefix = "Programming Language :: Python :: "
    return {c.removeprefix(prefix) for c in setup["classifiers"] if c.startswith(prefix)}


def lower_bounds(setup) -> list[str]:
    """`name==version` for each requirement of setup.py; builds for GPUs cannot be tried."""
    extras = [names for extra, names in setup["extras_require"].items() if extra != "gpu"]
    pinned = []
    for text in sum(extras, list(setup["install_requires"])):
        requirement = Requirement(text)
        (bound,) = requirement.specifier
        assert bound.operator == ">=", f"{text} has another bound than a lower one"
        pinned.append(f"{requirement.name}=={bound.version}")
    return pinned


def jobs(path) -> list[tuple[str, dict]]:
    """(file: job, content) of a workflow."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["permissions"] == {"contents": "read"} and content["concurrency"]
    return [(f"{path.name}: {name}", job) for name, job in content["jobs"].items()]


def unknown_commands(job: dict, makefile: str) -> list[str]:
    """The commands of a job that neither `make` offers nor `INSTALLS` names."""
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    variables = re.findall(r"^([A-Z]+) \??=", makefile, re.M)
    commands = [step["run"] for step in job["steps"] if "run" in step]
    unknown = []
    for command in set(commands) - INSTALLS:
        match = MAKE.fullmatch(re.sub(r"\$\{\{.*?\}\}", "", command))
        settings = re.findall(r"([A-Z]+)=", match["settings"]) if match else []
        if not match or match["target"] not in targets or set(settings) - set(variables):
            unknown.append(command)
    return unknown


def test_workflows_run_targets_of_make():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = set()
    for path in WORKFLOWS:
        for name, job in jobs(path):
            assert not unknown_commands(job, makefile), name
            assert 0 < job["timeout-minutes"] <= 120, name
            actions = [step["uses"] for step in job["steps"] if "uses" in step]
            assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in actions), name
            commands |= {step.get("run", "").partition(" VERSIONS=")[0] for step in job["steps"]}
    assert commands >= {"make test", "make demo", "make lint", "make test EXTRAS=cpu,dev"}
    steps = [{"run": f"make {words}"} for words in ("test VERSIONS=${{ a.b }}", "all", "test XY=1")]
    assert unknown_commands({"steps": steps[:1]}, makefile) == []
    assert len(unknown_commands({"steps": steps}, makefile)) == 2


def test_workflows_use_the_pythons_and_files_of_the_project(setup):
    """Each Python has the tested packages; the oldest the lowest, too, the newest the newest."""
    (tests,) = (job for path in WORKFLOWS for name, job in jobs(path) if name == "tests.yml: test")
    runs = {(run["python"], run["versions"]) for run in tests["strategy"]["matrix"]["include"]}
    assert {python for python, files in runs if files == "constraints.txt"} == pythons(setup)
    assert setup["python_requires"] == f">={min(pythons(setup))}"
    assert (min(pythons(setup)), "lowest.txt") in runs and (max(pythons(setup)), "") in runs
    assert all((ROOT / file).is_file() for _, file in runs if file)
    (nightly,) = (job for path in WORKFLOWS for name, job in jobs(path) if "nightly" in name)
    runs = {(run["python"], run["versions"]) for run in nightly["strategy"]["matrix"]["include"]}
    assert {python for python, files in runs if files == "constraints.txt"} == pythons(setup)
    assert (min(pythons(setup)), "lowest.txt") in runs, "with all optional packages"
    extras = nightly["steps"][-1]["run"].partition("EXTRAS=")[2].split()[0].split(",")
    assert set(extras) == set(setup["extras_require"]) - {"gpu"}


@pytest.mark.parametrize("page", ["README.md", "README_zh.md", "CONTRIBUTING.md"])
def test_pages_name_the_oldest_and_the_newest_python(setup, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    found = set(re.findall(r"Python (3\.\d+) (?:to|至) (3\.\d+)", text))
    assert found == {(min(pythons(setup)), max(pythons(setup)))}


def test_make_refuses_other_pythons(setup):
    """Paddle has no packages for them, and pip would say so after minutes."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    oldest, newest = (
        version.replace(".", ", ") for version in (min(pythons(setup)), max(pythons(setup)))
    )
    assert f"({oldest}) <= sys.version_info[:2] <= ({newest})" in makefile
    assert f"Python {min(pythons(setup))} to {max(pythons(setup))} is needed" in makefile


def test_lowest_versions_are_the_lower_bounds_of_setup(setup):
    lines = (ROOT / "lowest.txt").read_text(encoding="utf-8").splitlines()
    expected = lower_bounds(setup)
    found = [line for line in lines if not line.startswith("#")]
    assert found == expected, "lowest.txt should be\n" + "\n".join(expected)


def test_constraints_satisfy_the_lower_bounds(setup):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {r.name.lower().replace("_", "-"): next(iter(r.specifier)).version for r in pinned}
    for text in sum(setup["extras_require"].values(), list(setup["install_requires"])):
        requirement = Requirement(text)
        if version := versions.get(requirement.name.lower()):
            assert version in requirement.specifier, f"{text}, but constraints.txt has {version}"
