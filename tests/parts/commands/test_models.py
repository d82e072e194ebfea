"""The command for models by name."""

import shlex

import pytest

from paddlevideo.commands import models as command
from paddlevideo.zoo import cache, table
from tests.file_server import serve
from tests.named_models import publish


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A table of two models, whose files are compared with nothing."""
    with serve() as server:
        server.files["/one.pdparams"] = b"weights"
        row = {"file": "one.pdparams", "config": "demo/pptsn", "classes": 4, "top1": 61.5}
        backbone = {"file": "", "url": "", "network": "Net", "package": "no-such-weights"}
        rows = {"one": {**row, "test": "TenCrop", "overrides": ("epochs=3",)}, "net": backbone}
        publish(monkeypatch, server, tmp_path / "home", {**rows, "far": {**row, "url": ""}})
        monkeypatch.setattr("paddlevideo.engine.named_models.compare", lambda *_: "it fits")
        yield server
    table._by_stem.cache_clear()


def call(capsys, *words):
    code = command.main(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_lists_what_is_published(published, capsys):
    code, out, _ = call(capsys)
    lines = out.splitlines()
    assert code == 0 and call(capsys, "list")[1] == out
    assert lines[1].split()[:4] == ["one", "clips", "61.5", "download"]
    assert lines[2].split()[:3] == ["net", "clips", "package"] and "no address" in lines[3]
    assert lines[-1] == command.NOTE


def test_describes_a_model(published, capsys, tmp_path):
    code, out, _ = call(capsys, "info", "one")
    rows = dict(line.split(None, 1) for line in out.splitlines())
    assert code == 0 and rows["config"] == "demo/pptsn -o epochs=3"
    assert rows["accuracy"].startswith("top-1 61.5 %, TenCrop (as published")
    assert rows["address"] == f"{published.url}/one.pdparams"
    path = shlex.quote(f"{tmp_path}/home/weights/one.pdparams")
    assert f"curl --fail --location --create-dirs -o {path}" in out
    assert "paddlevideo predict --model one" in out
    assert "not known" in call(capsys, "info", "far")[1]
    assert "pip install no-such-weights" in call(capsys, "info", "net")[1]
    assert not published.asked


def test_fetches(published, capsys, tmp_path):
    code, out, _ = call(capsys, "fetch", "one")
    file = f"{tmp_path}/home/weights/one.pdparams"
    assert code == 0 and out.splitlines()[-1] == file and "it fits" in out
    assert call(capsys, "fetch", "one", "one")[1].splitlines()[-2:] == [file] * 2
    assert len(published.asked) == 1
    assert "  cached  " in call(capsys)[1]
    assert f"in the cache  {file}" in call(capsys, "info", "one")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "xyz"], "xyz: no published model has this name; `paddlevideo models` lists them"),
        (["fetch", "one", "onne"], "onne: no published model has this name; did you mean the"),
        (["fetch", "far"], "far is not in the cache, and no address of it is known: put"),
        (["fetch", "net"], "net is not in the cache, and install it: pip install no-such-weights"),
    ],
)
def test_mistakes(published, capsys, words, message):
    code, _, err = call(capsys, *words)
    assert code == 1 and message in err and not published.asked


def test_offline(published, capsys, monkeypatch):
    monkeypatch.setenv(cache.OFFLINE, "1")
    code, _, err = call(capsys, "fetch", "one")
    assert code == 1 and "fetch it by hand: curl" in err and not published.asked
