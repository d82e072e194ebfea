"""Models and pipelines answer for themselves: nobody probes them for an attribute."""

import ast
import inspect

import pytest

from paddlevideo.config.registry import known, lookup
from paddlevideo.data.pipeline import FrameSampler, Pipeline, Transform
from paddlevideo.engine import components  # noqa: F401, registers everything
from paddlevideo.models.base import Backbone, Head, Recognizer

SYSTEM_MODULES = ("os", "signal")  # they differ between platforms


def probes(name: str, text: str) -> list[str]:
    """`getattr(x, "name")` and `hasattr(x, "name")` where x is not the module `os` or `signal`."""
    found = []
    for node in ast.walk(ast.parse(text)) if "attr(" in text else ():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id not in ("getattr", "hasattr") or len(node.args) < 2:
            continue
        attribute = node.args[1]
        literal = isinstance(attribute, ast.Constant) and isinstance(attribute.value, str)
        if literal and ast.unparse(node.args[0]) not in SYSTEM_MODULES:
            found.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_nobody_probes_for_an_attribute(root):
    other_libraries = "report/doctor_probes.py"  # asks them for their versions
    found = []
    for path in sorted((root / "paddlevideo").rglob("*.py")):
        name = path.relative_to(root / "paddlevideo").as_posix()
        if name != other_libraries:
            found += probes(name, path.read_text(encoding="utf-8"))
    message = "give the attribute a default in the base class and ask for it"
    assert not found, f"{message}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("hasattr(model, 'student')", 1),
        ("getattr(model, 'multi_label', False)", 1),
        ("getattr(model.backbone, 'stages', {})", 1),
        ("hasattr(self.model, 'student')", 1),
        ("hasattr(os, 'sched_getaffinity')", 0),
        ("hasattr(signal, 'pthread_sigmask')", 0),
        ("getattr(self, name)", 0),
        ("model.multi_label", 0),
    ],
)
def test_the_rule_finds_probes(text, count):
    assert len(probes("a.py", text)) == count


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("framework", Recognizer),
        ("backbone", Backbone),
        ("audio_backbone", Backbone),
        ("transform", Transform),
        ("sample", FrameSampler),
    ],
)
def test_registered_components_implement_their_contract(kind, base):
    names = known(kind)
    assert names
    for name in names:
        component = lookup(kind, name).make
        assert inspect.isclass(component) and issubclass(component, base), f"{kind} {name}"


def test_decoders_name_a_pipeline_family():
    for name in known("decode"):
        family = lookup("decode", name).make.pipeline
        assert family is None or issubclass(family, Pipeline), name


def test_heads_have_one_signature_of_connect():
    wanted = list(inspect.signature(Head.connect).parameters)

    def subclasses(cls):
        return [cls, *(c for sub in cls.__subclasses__() for c in subclasses(sub))]

    heads = subclasses(Head)
    assert len(heads) > 4
    for head in heads:
        assert list(inspect.signature(head.connect).parameters) == wanted, head.__name__
