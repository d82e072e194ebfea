"""The registry: names to components, and what their signatures say."""

from dataclasses import dataclass

import pytest

from paddlevideo.config import registry
from paddlevideo.config.registry import known, lookup, nearest, register


@pytest.fixture(autouse=True)
def clean():
    before = {kind: dict(entries) for kind, entries in registry._ENTRIES.items()}
    yield
    registry._ENTRIES.clear()
    registry._ENTRIES.update(before)


def test_classes_and_functions_by_their_own_or_given_names():
    @register("tool")
    class Hammer:
        pass

    @register("tool", "Saw", "Knife", ignores={"colour": "all are grey"})
    def cutter(length: int):
        return length

    assert known("tool") == ["Hammer", "Knife", "Saw"]
    assert lookup("tool", "Hammer").make is Hammer
    assert lookup("tool", "Saw").make(3) == lookup("tool", "Knife").make(3) == 3
    assert lookup("tool", "Saw").ignores == {"colour": "all are grey"}
    assert Hammer.__name__ == "Hammer", "a decorator that gives the class back"


def test_one_name_stands_for_one_component():
    register("tool", "Saw")(dict)
    with pytest.raises(AssertionError, match="tool 'Saw' is registered twice"):
        register("tool", "Saw")(list)
    register("machine", "Saw")(list)


def test_unknown_names_propose_the_nearest():
    register("tool", "Hammer")(dict)
    register("tool", "Saw")(dict)
    with pytest.raises(KeyError, match=r"there is no tool named 'hamer'; did you mean 'Hammer'\?"):
        lookup("tool", "hamer")
    with pytest.raises(KeyError, match="there is no tool named 'Quux'; known: Hammer, Saw"):
        lookup("tool", "Quux")
    with pytest.raises(KeyError, match="there is no machine named 'Saw'"):
        lookup("machine", "Saw")
    assert known("machine") == []


def test_nearest_looks_past_case_first():
    assert nearest("CENTERCROP", ["CenterCrop", "TenCrop"]) == "; did you mean 'CenterCrop'?"
    assert nearest("xyz", []) == ""


def test_parameters_of_classes_dataclasses_and_functions():
    @register("tool")
    @dataclass(frozen=True)
    class Drill:
        speed: "int"
        size: float = 2.0

    @register("tool")
    class Plane:
        def __init__(self, width: int, *rest, depth: "float | None" = None, **more):
            pass

    @register("tool")
    def anything(free, /, named=1):
        pass

    drill = lookup("tool", "Drill").parameters()
    assert {k: (p.annotation, p.default) for k, p in drill.items()} == {
        "speed": (int, drill["speed"].empty),
        "size": (float, 2.0),
    }
    plane = lookup("tool", "Plane").parameters()
    assert list(plane) == ["width", "depth"] and plane["depth"].annotation == float | None
    assert list(lookup("tool", "anything").parameters()) == ["named"], (
        "what has no name cannot be given in a file"
    )
