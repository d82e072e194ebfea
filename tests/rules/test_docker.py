"""Dockerfile and compose.yaml name files, extras, flags and paths that exist."""

import fnmatch
import json
import re

import pytest
import yaml

from paddlevideo import cli
from paddlevideo.commands.serve import make_parser
from tests.rules.pages import ROOT
from tests.rules.test_ci import setup  # noqa: F401, a fixture


def instructions(text: str) -> list[tuple[str, str]]:
    """(name, arguments) of each instruction of a Dockerfile, with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (name.upper(), rest.strip())
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


@pytest.fixture(scope="module")
def dockerfile():
    return instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def all_of(dockerfile, name: str) -> list[str]:
    return [rest for instruction, rest in dockerfile if instruction == name]


def copied(dockerfile) -> list[str]:
    """The files and folders of the checkout that are copied."""
    found = []
    for rest in all_of(dockerfile, "COPY"):
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        found += sources
    for rest in all_of(dockerfile, "RUN"):
        found += re.findall(r"--mount=type=bind,source=([^,\s]+)", rest)
    return found


def test_copied_files_exist_and_reach_the_build(dockerfile):
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert copied(dockerfile)
    assert "constraints.txt" in copied(dockerfile)
    for name in copied(dockerfile):
        assert (ROOT / name).exists(), name
        assert any(fnmatch.fnmatch(name, pattern) for pattern in kept), f"{name} is ignored"
    for name in kept:
        assert (ROOT / name).exists(), name


def test_the_wheel_has_what_setup_names(dockerfile, setup):  # noqa: F811
    names = [name.rstrip("/") for name in copied(dockerfile)]
    for folder in setup["package_dir"].values():
        assert any(name == folder or name.startswith(f"{folder}/") for name in names), folder
    for name in ("setup.py", "README.md", "paddlevideo"):  # setup.py reads them
        assert name in names
    for package, patterns in setup["package_data"].items():
        folder = setup["package_dir"].get(package)
        for pattern in patterns if folder == "data" else ():
            found = [path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"data/{pattern}")]
            found = set(found) - {"data/demo/labels.txt"}  # of `make demo`
            assert found <= set(names), "labels that the image lacks"


def test_extras_exist(dockerfile, setup):  # noqa: F811
    [extras] = re.findall(r"\.whl\)\[([a-z,]+)\]", " ".join(all_of(dockerfile, "RUN")))
    assert {"cpu", "serve"} <= set(extras.split(",")) <= set(setup["extras_require"])


def test_python_is_a_supported_one(dockerfile, setup):  # noqa: F811
    versions = {rest.split()[0].partition(":")[2] for rest in all_of(dockerfile, "FROM")}
    [version] = versions
    number = version.removesuffix("-slim")
    assert f"Programming Language :: Python :: {number}" in setup["classifiers"]


def test_the_command_is_one_of_ours(dockerfile, compose):
    [entry], [default] = all_of(dockerfile, "ENTRYPOINT"), all_of(dockerfile, "CMD")
    program, verb, *flags = json.loads(entry)  # a list: signals go to the service, not to a shell
    assert program == "paddlevideo" and verb in cli.VERBS
    service = compose["services"]["paddlevideo"]
    for more in (json.loads(default), service["command"]):
        args = make_parser().parse_args([*flags, *more])
        assert args.host == "0.0.0.0" and args.model == ["/model"]
        [exposed] = all_of(dockerfile, "EXPOSE")
        assert args.port == int(exposed)
        assert int(service["stop_grace_period"].removesuffix("s")) > args.timeout + 5
        assert args.max_mb < 4096  # of the folder for uploads
    assert "token" not in " ".join([entry, default, *service["command"]]).lower()


def test_it_does_not_run_as_root(dockerfile, compose):
    users = [number for number, (name, _) in enumerate(dockerfile) if name == "USER"]
    last_root = max(n for n, (name, _) in enumerate(dockerfile) if name in ("RUN", "COPY"))
    assert users and users[-1] > last_root and all_of(dockerfile, "USER")[-1] not in ("root", "0")
    service = compose["services"]["paddlevideo"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert all(text.startswith("127.0.0.1:") for text in service["ports"])


def test_the_health_check_asks_a_route_that_exists(dockerfile):
    [check] = all_of(dockerfile, "HEALTHCHECK")
    [path] = re.findall(r"127\.0\.0\.1:8000(/[a-z]*)", check)
    text = (ROOT / "paddlevideo/serve/app.py").read_text(encoding="utf-8")
    assert f'@app.get("{path}"' in text
    code = json.loads(check.partition("CMD ")[2])
    assert code[0] == "python"
    compile(code[2], "HEALTHCHECK", "exec")
    assert float(re.search(r"--timeout=(\d+)s", check)[1]) > 4


def test_the_model_is_mounted_where_the_command_reads_it(compose):
    service = compose["services"]["paddlevideo"]
    [volume] = service["volumes"]
    assert volume.endswith(":/model:ro") and volume.startswith("${MODEL:?")
    assert service["environment"] == ["PADDLEVIDEO_TOKEN", "HOME=/tmp"]


def test_wrong_files_are_found():
    text = "FROM a\nCOPY --from=x b \\\n  c /d\n# COPY e f\nRUN x\n"
    assert instructions(text) == [("FROM", "a"), ("COPY", "--from=x b c /d"), ("RUN", "x")]
    assert copied(instructions(text)) == ["b", "c"]
