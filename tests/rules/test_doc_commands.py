"""Commands in docs, config headers and docstrings: parsed by the real parsers, cheap ones run."""

import argparse
import contextlib
import functools
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import main
from paddlevideo import cli
from paddlevideo.commands import convert_weights
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import load_config
from paddlevideo.models.convert import sources
from tests.rules.pages import COMMAND, ROOT, Command, all_commands, commands

SCRIPTS = ["main.py", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("tools/**/*.py"))]
COMMANDS = all_commands()
PAGES = sorted({command.where for command in COMMANDS})


class Parsed(Exception):
    """Carries the parsed flags out of a script before the script does its work."""


def parse(command: Command, monkeypatch) -> argparse.Namespace | str:
    """The flags of a command as the parser of its script reads them, or the parser's error."""
    real = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, args=None, namespace=None):
        raise Parsed(real(parser, args, namespace))

    errors = io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [command.script, *command.words])
        patch.setattr(sys, "path", list(sys.path))
        try:
            if command.script == COMMAND:
                raise SystemExit(cli.main(command.words))
            runpy.run_path(str(ROOT / command.script), run_name="__main__")
        except Parsed as parsed:
            return parsed.args[0]
        except SystemExit as stop:
            if not stop.code:  # --help
                return argparse.Namespace()
            lines = errors.getvalue().strip().splitlines()
            return lines[-1] if lines else argparse.Namespace()  # no flags: the help
    return f"{command.script} parses no flags"


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_parsed(page, monkeypatch):
    wrong = []
    for command in (c for c in COMMANDS if c.where == page):
        if command.script != COMMAND and not (ROOT / command.script).is_file():
            wrong.append(f"{command.script} does not exist")
            continue
        flags = parse(command, monkeypatch)
        if isinstance(flags, str):
            wrong.append(f"{command.script} {' '.join(command.words)}\n    {flags}")
    assert not wrong, f"{page}:\n" + "\n".join(wrong)


def configs_of(flags: argparse.Namespace) -> list[str]:
    """The configs of a command; one flag takes several."""
    given = vars(flags).get("config") or []
    return [given] if isinstance(given, str) else given


def override_errors(flags: argparse.Namespace) -> list[str]:
    """What the config checker says about the configs and the overrides of a command."""
    errors = []
    for config in configs_of(flags):
        is_path = config.endswith((".yaml", ".yml"))
        if config.isupper() or (is_path and not (ROOT / config).is_file()):
            continue  # a config of the reader
        errors.append(config_error(config, tuple(vars(flags).get("override") or [])))
    return [error for error in errors if error]


@functools.cache  # many commands have the same config
def config_error(config: str, overrides: tuple[str, ...]) -> str:
    try:
        load_config(config, list(overrides))
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_configs_and_overrides_in_commands_are_valid(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    wrong = []
    for command in (c for c in COMMANDS if c.where == page):
        flags = parse(command, monkeypatch)
        configs = [] if isinstance(flags, str) else configs_of(flags)
        missing = [c for c in configs if c.startswith("configs/") and not Path(c).is_file()]
        wrong += [f"{config} does not exist" for config in missing]
        if configs and not missing:
            wrong += override_errors(flags)
    assert not wrong, f"{page}:\n" + "\n".join(wrong)


def test_a_wrong_command_is_found(monkeypatch):
    launch = "python -B -m paddle.distributed.launch --gpus=0"
    text = f"Text.\n\n```\n{launch} main.py --train -c a.yaml\n```\n"
    (wrong,) = commands("a.md", text)
    assert wrong == Command("a.md", "main.py", ("--train", "-c", "a.yaml"))
    assert "unrecognized arguments: --train" in parse(wrong, monkeypatch)
    assert "required: -c/--config" in parse(Command("a.md", "main.py", ("--test",)), monkeypatch)
    right = parse(Command("a.md", "main.py", ("--test", "-c", "a.yaml", "-o", "b=1")), monkeypatch)
    assert right.test and right.config == "a.yaml" and right.override == ["b=1"]
    (installed,) = commands("a.md", "```\npaddlevideo train -c no_such_config -w w.pdparams\n```\n")
    flags = parse(installed, monkeypatch)
    assert flags.weights == "w.pdparams" and "no_such_config" in override_errors(flags)[0]
    (several,) = commands("a.md", "```\npaddlevideo benchmark inference -c pptsn no_one\n```\n")
    assert "no_one" in override_errors(parse(several, monkeypatch))[0]
    (unknown,) = commands("a.md", "Type `paddlevideo trian -c pptsn`.")
    assert "did you mean 'train'" in parse(unknown, monkeypatch)
    pages = {"README.md", "README_zh.md", "docs/audio.md", "Makefile", "configs/demo/pptsn.yaml"}
    assert pages < set(PAGES) and len(COMMANDS) > 200


# --- commands that are cheap enough to run ------------------------------------------------------

# Prints the help, and on a line of its own the modules of these that were imported for it.
HELP = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    print("\\nloaded:", sorted({"paddle", "numpy"} & set(sys.modules)), "code:", stop.code)
"""


def python(*words: str, timeout: int = 120) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = {"cwd": ROOT, "env": env, "capture_output": True, "text": True, "check": False}
    return subprocess.run([sys.executable, "-B", *words], timeout=timeout, **run)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_describes_the_script_without_paddle(script):
    done = python("-c", HELP, script)
    assert done.returncode == 0, done.stderr
    help_text, _, loaded = done.stdout.rpartition("\nloaded: ")
    assert help_text.startswith("usage: ") and len(help_text.splitlines()) > 5
    assert len(help_text.split("\n\n")[1].split()) > 3, "a description"
    assert loaded.strip() == "[] code: 0", "--help imports the modules that the work needs"


def test_convert_weights_knows_all_converters():
    assert sorted(convert_weights.SOURCES) == sorted(sources())


def marks_of(words: tuple[str, ...]) -> list[pytest.MarkDecorator]:
    """The check of a multigrid run draws large clips of every shape."""
    return [pytest.mark.slow] if "--multigrid" in words else []


CHECKS = [c.words for c in COMMANDS if "--check" in c.words]


@pytest.mark.parametrize("words", [pytest.param(words, marks=marks_of(words)) for words in CHECKS])
def test_check_commands_run(words, monkeypatch, capsys):
    config = words[words.index("-c") + 1]
    if not (ROOT / config).is_file():
        pytest.skip(f"{config} stands for a config of the reader")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["main.py", *words])
    assert main.main() == 0, capsys.readouterr().err
    assert f"{config}: no mistakes found" in capsys.readouterr().out
