"""docs/migrate.md: each guide has commands of this project; PaddleVideo's own lines are parsed."""

import re
import shlex

import pytest

from tests.rules.pages import COMMAND, ROOT, Command, commands
from tests.rules.test_doc_commands import parse

PAGE = (ROOT / "docs/migrate.md").read_text(encoding="utf-8")
GUIDES = ("PaddleVideo", "PaddleX", "MMAction2", "PySlowFast", "NeXtVLAD of PaddleCV")
ROW = re.compile(r"^\| (?P<theirs>.*?) \| (?P<ours>.*) \|$", re.M)


def guide(name: str) -> str:
    """The text of a guide."""
    return PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]


def command_rows(text: str) -> list[tuple[str, str]]:
    """(their command, ours) of the table of commands, which is the first one."""
    table = text.split("\n| --- | --- |\n", 1)[1].split("\n\n")[0]
    return [(match["theirs"], match["ours"]) for match in ROW.finditer(table + "\n")]


@pytest.mark.parametrize("name", GUIDES)
def test_each_row_has_a_command_that_is_parsed(name, monkeypatch):
    rows = command_rows(guide(name))
    assert len(rows) >= 8
    for theirs, ours in rows:
        found = commands("a.md", ours)
        assert found, f"{theirs}: {ours} has no command of this project"
        for command in found:
            assert not isinstance(parse(command, monkeypatch), str), command


def test_the_page_names_all_guides_and_is_linked():
    assert re.findall(r"^## (.*)$", PAGE, re.M) == list(GUIDES)
    for page in ("README.md", "README_zh.md", "docs/README.md"):
        assert "migrate.md)" in (ROOT / page).read_text(encoding="utf-8"), page


def test_command_lines_of_paddlevideo_are_parsed_unchanged(monkeypatch):
    """But for `-o resume_epoch=10`, which is part of one, and its wheel's own command."""
    lines = [theirs.split("`")[1] for theirs, _ in command_rows(guide("PaddleVideo"))]
    scripts = [line for line in lines if ".py" in line and "*" not in line]
    assert len(scripts) >= 7
    for line in scripts:
        words = shlex.split(line)
        at = next(number for number, word in enumerate(words) if word.endswith(".py"))
        rest = [*words[at + 1 :], *([] if "-c" in words or "--config" in words else ["-c", "CFG"])]
        command = Command("a.md", words[at], tuple(rest))
        assert not isinstance(parse(command, monkeypatch), str), line


def test_commands_of_the_installed_package_are_used():
    found = commands("a.md", PAGE)
    assert sum(command.script == COMMAND for command in found) > 50
    assert {command.script for command in found} == {COMMAND, "main.py"}
