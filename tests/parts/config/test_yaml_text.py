"""YAML that the package wrote: read as PyYAML does, within limits."""

import os

import numpy as np
import pytest
import yaml

from paddlevideo.config import yaml_text
from paddlevideo.config.yaml_text import NotYaml, load_data, read_text
from tests.hostile_files import yamls

HOSTILE = yamls()


@pytest.fixture(params=["libyaml", "python"])
def parser(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(yaml_text, "_DataLoader", yaml_text._PythonLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("this PyYAML has no libyaml")


CONTENT = {
    "text": [
        "None",
        "1e5",
        "yes",
        "2024-01-01",
        "köpfen",
        "跳舞",
        "",
        " a",
        "a: b",
        "#",
        "1:30",
        "\t",
    ],
    "numbers": [1, -2.5, 1e-7, float("inf"), 0, 12345678901234567890],
    "others": [None, True, {}, [], {"a": [{"b": 1}]}],
    3: "a key",
}


def test_reads_what_pyyaml_writes(parser):
    shared = ["shared"]
    content = {**CONTENT, "aliases": [shared, shared]}
    for options in ({}, {"default_flow_style": True}, {"allow_unicode": True, "width": 40}):
        assert load_data(yaml.safe_dump(content, **options)) == content
    assert load_data("") is None and load_data("# a comment\n") is None
    merged = load_data("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert merged == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


@pytest.mark.parametrize(
    ("number", "of_configs"),
    [(2000, 1000), pytest.param(100_000, yaml_text.MAX_CONFIG_VALUES, marks=pytest.mark.slow)],
)
def test_reads_many_class_names(monkeypatch, number, of_configs):
    """More than the values of a config."""
    monkeypatch.setattr(yaml_text.Bounded, "max_nodes", of_configs)
    labels = [f"class name {number}" for number in range(number)]
    if yaml.__with_libyaml__:
        assert load_data("labels:\n- " + "\n- ".join(labels)) == {"labels": labels}
    assert yaml_text.MAX_DATA_VALUES > 200_000


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_hostile_text(parser, monkeypatch, name):
    monkeypatch.setattr(yaml_text, "MAX_DATA_VALUES", 10_000)
    text, message = HOSTILE[name]
    message = message.replace("100000", "10000")
    message = "" if name == "aliases as keys" else message  # PyYAML calls it unhashable
    with pytest.raises(NotYaml, match=message or "unhashable") as raised:
        load_data(text)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "line 2: not valid YAML"),
        ("a: 2024-13-45", "a value in it cannot be read: month must be in 1..12"),
        ("a: !!int x", "a value in it cannot be read"),
        ("a: !!binary é", "line 1: not valid YAML: failed to convert base64"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: \x01", "not valid YAML"),
        ("a: *b", "found undefined alias"),
        ("a: 1\n---\nb: 1", "but found another document"),
    ],
)
def test_refuses_other_text(parser, text, message):
    with pytest.raises(NotYaml, match=message):
        load_data(text)


def test_any_text_is_read_or_refused(parser):
    rng = np.random.default_rng(0)
    signs = [*"ab1:-{}[],&*<>!|%@`'\"#?\n\t .~=", "<<: ", "&a ", "*a", "!!int "]
    for _ in range(700):
        text = "".join(rng.choice(signs, rng.integers(1, 25)))
        try:
            load_data(text)
        except NotYaml:
            continue


def test_reads_regular_files_of_a_limited_size(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(path, 10) == "a: 1"
    with pytest.raises(OSError, match="it has 7 bytes, expected at most 6"):
        read_text(path, 6)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="a FIFO"):
        read_text(tmp_path / "fifo", 10)
