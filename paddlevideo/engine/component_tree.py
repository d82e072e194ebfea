"""The components of a config as a tree: a recognizer contains a backbone and a head."""

from typing import Any

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Component


def children(component: Component) -> list[Component]:
    """The components among the arguments of a component, in order."""
    found = []
    for value in component.args.values():
        values = value if isinstance(value, list) else [value]
        found += [item for item in values if isinstance(item, Component)]
    return found


def descendants(component: Component, kind: str) -> list[Component]:
    """All components of a kind below a component: children first."""
    nested = children(component)
    found = [child for child in nested if child.kind == kind]
    for child in nested:
        found += descendants(child, kind)
    return found


def class_argument(component: Component) -> str:
    """The argument that is the number of classes; "" without one.

    It is that of a head, or that of a backbone which has the classifier's layers.
    """
    if component.kind == "head":
        return "num_classes"
    if component.kind != "backbone":
        return ""
    return "class_num" if "class_num" in lookup("backbone", component.name).parameters() else ""


def with_classes(component: Component, num_classes: int) -> Component:
    """The component with the number of classes in each of its heads and their backbones."""
    argument = class_argument(component)
    if argument:
        return component.with_args(**{argument: num_classes})

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(item) for item in value]
        return with_classes(value, num_classes) if isinstance(value, Component) else value

    return component.with_args(**{key: filled(value) for key, value in component.args.items()})


def parts_text(component: Component) -> str:
    """The parts of a model as text: "ResNetTweaksTSN + ppTSNHead"."""
    texts = []
    for child in children(component):
        nested = parts_text(child)
        texts.append(f"{child.name} ({nested})" if nested else child.name)
    return " + ".join(texts)
