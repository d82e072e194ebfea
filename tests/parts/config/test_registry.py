"""The registry: components by name, and the arguments in their signatures."""

from dataclasses import dataclass

import pytest

from paddlevideo.config import registry
from paddlevideo.config.registry import known, lookup, nearest, register


@pytest.fixture(autouse=True)
def restored_registry():
    before = {kind: dict(entries) for kind, entries in registry._ENTRIES.items()}
    yield
    registry._ENTRIES.clear()
    registry._ENTRIES.update(before)


def test_registers_classes_and_functions_under_one_or_more_names():
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
    assert Hammer.__name__ == "Hammer", "the decorator returns the class"


def test_rejects_a_second_component_of_the_same_name():
    register("tool", "Saw")(dict)
    with pytest.raises(AssertionError, match="tool 'Saw' is registered twice"):
        register("tool", "Saw")(list)
    register("machine", "Saw")(list)


def test_unknown_names_suggest_the_nearest():
    register("tool", "Hammer")(dict)
    register("tool", "Saw")(dict)
    with pytest.raises(KeyError, match=r"there is no tool named 'hamer'; did you mean 'Hammer'\?"):
        lookup("tool", "hamer")
    with pytest.raises(KeyError, match="there is no tool named 'Quux'; known: Hammer, Saw"):
        lookup("tool", "Quux")
    with pytest.raises(KeyError, match="there is no machine named 'Saw'"):
        lookup("machine", "Saw")
    assert known("machine") == []


def test_nearest_ignores_case():
    assert nearest("CENTERCROP", ["CenterCrop", "TenCrop"]) == "; did you mean 'CenterCrop'?"
    assert nearest("xyz", []) == ""


def test_parameters_of_dataclasses_classes_and_functions():
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
    assert {name: (p.annotation, p.default) for name, p in drill.items()} == {
        "speed": (int, drill["speed"].empty),
        "size": (float, 2.0),
    }
    plane = lookup("tool", "Plane").parameters()
    assert list(plane) == ["width", "depth"] and plane["depth"].annotation == float | None
    parameters = list(lookup("tool", "anything").parameters())
    assert parameters == ["named"], "a config cannot give positional-only parameters"


def test_further_parameters_depend_on_the_given_arguments():
    def held(given):
        return lookup("tool", given.get("holds", "Saw")).parameters()

    @register("tool", further=held)
    class Holder:
        def __init__(self, holds: str = "Saw", **arguments):
            pass

    register("tool", "Saw")(lambda length=1: length)
    register("tool", "Knife")(lambda edge=1: edge)
    assert set(lookup("tool", "Holder").parameters()) == {"holds", "length"}
    assert set(lookup("tool", "Holder").parameters({"holds": "Knife"})) == {"holds", "edge"}
