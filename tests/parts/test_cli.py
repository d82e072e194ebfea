"""The command `paddlevideo`: verbs, help texts, mistakes, and the wheel that it comes with."""

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from paddlevideo import __version__, cli
from paddlevideo.commands import demo

# Prints the help of a verb, then the large packages that were imported for it.
HELP = """
import sys
from paddlevideo import cli
try:
    code = cli.main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print("\\nloaded:", sorted({"paddle", "numpy", "cv2", "av"} & set(sys.modules)), "code:", code)
"""


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_flags_and_a_short_help(verb):
    module, text = cli.VERBS[verb]
    parser = import_module(module).make_parser(f"paddlevideo {verb}")
    help_text = parser.format_help()
    assert help_text.startswith(f"usage: paddlevideo {verb} ") and "%(prog)s" not in help_text
    assert len(parser.format_usage()) > 20 and len(text) > 10


@pytest.mark.parametrize(
    "verb", [[], ["train"], ["data", "resize"], ["configs"], ["models"], ["benchmark"]]
)
def test_help_loads_no_large_packages(verb, root):
    command = [sys.executable, "-B", "-c", HELP, *verb, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.startswith("usage: paddlevideo")
    assert done.stdout.endswith("loaded: [] code: 0\n")


def test_each_tool_is_a_verb(root):
    """A tool calls the `main` of the module that its verb has; the diagram is of the checkout."""
    modules = {module for module, _ in cli.VERBS.values()}
    for path in sorted([root / "main.py", *(root / "tools").rglob("*.py")]):
        found = re.findall(r"^from (paddlevideo\S+) import main$", path.read_text("utf-8"), re.M)
        assert path.name == "draw_rooms.py" or (set(found) <= modules and found), path


def test_lists_the_verbs(capsys):
    assert cli.main([]) == 2
    without = capsys.readouterr().out
    assert cli.main(["--help"]) == cli.main(["help"]) == cli.main(["-h"]) == 0
    assert capsys.readouterr().out == 3 * without
    for verb in cli.VERBS:
        assert f"  {verb.split()[0]} " in without


def test_lists_the_verbs_of_a_group(capsys):
    assert cli.main(["data"]) == 2 and cli.main(["data", "--help"]) == 0
    out = capsys.readouterr().out
    assert "  resize " in out and "  make-demo " in out and "  train " not in out


def test_prints_the_version(capsys):
    assert cli.main(["--version"]) == cli.main(["-V"]) == 0
    assert capsys.readouterr().out == 2 * f"paddlevideo {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "no verb 'trian'; did you mean 'train'?"),
        (["check_data", "x"], "no verb 'check_data'; did you mean 'check-data'?"),
        (["data", "resise"], "no verb 'data resise'; did you mean 'data resize'?"),
        (["dat", "resize"], "no verb 'dat'; did you mean 'data'?"),
        (["resize", "a"], "no verb 'resize'"),
        (["qqqq"], "no verb 'qqqq'; `paddlevideo --help` lists them"),
        (["--chekc"], "no verb '--chekc'"),
    ],
)
def test_names_the_nearest_verb(capsys, words, message):
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["train", "--validate"], "usage: paddlevideo train "),
        (["test"], "usage: paddlevideo test "),
        (["data", "resize"], "usage: paddlevideo data resize "),
        (["predict", "--no_such_flag"], "usage: paddlevideo predict "),
    ],
)
def test_a_usage_names_the_verb(capsys, words, usage):
    try:
        code = cli.main(words)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2 and usage in printed.out + printed.err


def test_test_is_train_with_test_set(capsys):
    parser = import_module("paddlevideo.commands.test").make_parser()
    args = parser.parse_args(["-w", "w.pdparams"])
    assert args.test and args.config is None  # the run.yaml next to the weights
    assert (
        not import_module("paddlevideo.commands.train").make_parser().parse_args(["-c", "x"]).test
    )
    assert cli.main(["test", "-c", "demo/pptsn"]) == 1
    assert "--test needs weights" in capsys.readouterr().err


def test_commands_take_shipped_configs_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["-o", "DATASET.root=missing"]
    assert cli.main(["train", "--check", "-c", "demo/pptsn"]) == 0, capsys.readouterr().err
    assert cli.main(["train", "-c", "pptsm"]) == 1
    assert "did you mean 'pptsn'?" in capsys.readouterr().err
    assert cli.main(["train", "-c", "slowfast", *flags]) == 1
    assert "finetune/slowfast, slowfast/slowfast" in capsys.readouterr().err


def test_a_module_runs_as_the_command(root, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-B", "-m", "paddlevideo", "configs"]
    run = {"capture_output": True, "text": True, "check": True, "env": environment}
    listed = subprocess.run(command, cwd=tmp_path, **run).stdout
    assert re.search(r"^pptsn +PP-TSN on your own videos", listed, re.M)
    assert list(tmp_path.iterdir()) == []


def test_demo_steps_are_commands_that_exist(monkeypatch):
    args = demo.make_parser().parse_args(["--epochs", "1"])
    for verb, flags in demo.steps(args):
        parsed = import_module(cli.VERBS[verb][0]).make_parser().parse_args(flags)
        assert demo.COMMANDS[verb] is import_module(cli.VERBS[verb][0]).main
        assert vars(parsed).get("epochs") == (1 if verb == "train" else None)


@pytest.fixture
def demo_steps(monkeypatch):
    """What the steps of the demo did in place of their work; a test sets `code` and `progress`."""
    fake = SimpleNamespace(done=[], code={}, progress=(16, 0))
    for verb in demo.COMMANDS:
        step = lambda _, prog, verb=verb: fake.done.append(verb) or fake.code.get(verb, 0)  # noqa: E731
        monkeypatch.setitem(demo.COMMANDS, verb, step)
    monkeypatch.setattr(demo, "load", lambda name: lambda path: fake.progress)
    return fake


def test_demo_ends_with_the_step_that_fails(demo_steps, capsys):
    demo_steps.code["test"] = 3
    assert cli.main(["demo"]) == 3 and demo_steps.done == ["data make-demo", "train", "test"]
    assert "$ paddlevideo train --validate -c demo/pptsn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "progress", "ends"),
    [
        ([], (0, 3), True),  # in the first epoch, without a best model
        ([], (2, 0), True),  # after an epoch
        ([], (16, 0), False),
        (["--epochs", "2"], (1, 5), True),
        (["--epochs", "2"], (2, 0), False),
    ],
)
def test_demo_ends_with_a_training_that_a_signal_stopped(demo_steps, capsys, flags, progress, ends):
    demo_steps.progress = progress
    assert cli.main(["demo", *flags]) == (130 if ends else 0)
    assert demo_steps.done == list(demo.COMMANDS)[: 2 if ends else None]
    assert ("the demo ends here" in capsys.readouterr().out) == ends


@pytest.mark.slow
def test_demo_runs_in_an_empty_folder(root, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    flags = ["--epochs", "1", "--clips", "4"]
    command = [sys.executable, "-B", "-m", "paddlevideo", "demo", *flags]
    run = {"capture_output": True, "text": True, "env": environment, "check": False}
    done = subprocess.run(command, cwd=tmp_path, **run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(tmp_path, "output/demo_pptsn/predictions.json").is_file()
    assert Path(tmp_path, "inference/demo_pptsn/model.yaml").is_file()


def index_is_reached(pip: Path, run: dict) -> bool:
    """Whether a package can be fetched at all."""
    words = [pip, "download", "--no-deps", "--quiet", "--dest", "downloaded", "tqdm"]
    return subprocess.run(words, **run).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_runs_in_an_empty_environment(root, tmp_path):
    """The package and its extra `cpu` are enough; needs the package index."""
    venv.create(tmp_path / "env", with_pip=True)
    scripts = tmp_path / "env" / "bin"
    source = tmp_path / "source"
    unused = shutil.ignore_patterns(".venv", ".git", "build", "output", "inference", "*.egg-info")
    shutil.copytree(root, source, ignore=unused)
    run = {"capture_output": True, "text": True, "check": False, "cwd": tmp_path}
    words = [scripts / "pip", "install", "--quiet", "-c", root / "constraints.txt"]
    installed = subprocess.run([*words, f"{source}[cpu]"], **run)
    if installed.returncode and not index_is_reached(scripts / "pip", run):
        pytest.skip(f"the package index cannot be used: {installed.stderr[-200:]}")
    assert installed.returncode == 0, installed.stderr
    environment = {**os.environ, "PYTHONPATH": ""}
    words = [scripts / "paddlevideo", "demo", "--epochs", "1", "--clips", "4"]
    done = subprocess.run(words, env=environment, **run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(tmp_path, "output/demo_pptsn/predictions.json").is_file()


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """What setup.py puts into the wheel, in a folder outside of the checkout."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-B", "setup.py", "--quiet", "build_py", "--build-lib", str(folder)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    return folder


def test_the_built_package_works_without_the_checkout(built, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(built)}
    run = {"capture_output": True, "text": True, "check": False, "env": environment}
    listed = subprocess.run(
        [sys.executable, "-B", "-m", "paddlevideo", "configs"], cwd=tmp_path, **run
    )
    assert listed.returncode == 0 and "\npptsn " in listed.stdout, listed.stderr
    code = (
        "import paddlevideo\n"
        "from paddlevideo import cli\n"
        "print(cli.main(['configs', 'copy', 'pptsn_224', 'mine.yaml']), cli.main(['models']))\n"
        "print(cli.main(['train', '-c', 'pptsn', '--data', 'nowhere']))\n"
        "from paddlevideo.engine.build import load_config\n"
        "from paddlevideo.data.class_names import read_class_names\n"
        "print(paddlevideo.__file__, load_config('mine.yaml').origin.sources[0])\n"
        "print(len(read_class_names('data/k400/labels.txt')))\n"
    )
    read = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, **run)
    shipped = built / "paddlevideo/shipped/configs/finetune/pptsn.yaml"
    expected = f"\n1\n{built / 'paddlevideo/__init__.py'} {shipped}\n400\n"
    assert read.stdout.endswith(expected), read.stdout + read.stderr
    assert "\nppTSN_k400 " in read.stdout and "\n0 0\n" in read.stdout
    assert "nowhere: no such folder" in read.stderr


@pytest.mark.parametrize(
    "words",
    [
        "data kinetics a.csv --videos s3://b/videos --out lists",
        "compare https://h/run?secret s3://b/run",
        "data youtube8m check s3://b/shards",
        "report s3://b/run",
        "data make-demo --out=s3://b/demo",
        "plot run --out=https://h/a.png",
        "gpu-check --out s3://b/check",
    ],
)
def test_commands_on_local_files_refuse_urls(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) != 0
    printed = capsys.readouterr().err
    assert ": this command reads and writes local files; see docs/remote.md" in printed
    assert not list(tmp_path.iterdir())
