"""Check the plain data of a config against dataclasses, signatures and type hints.

Fixed sections (DATASET, PIPELINE, ...) are checked against the dataclasses of `schema.py`,
components against the signatures of the classes and functions that they name. All problems are
collected, each with its file:line.
"""

import dataclasses
import types
import typing
from typing import Annotated, Any

from paddlevideo.config.hints import (
    allows_none,
    component_kind,
    field_names,
    fit,
    followed_key,
    is_structured,
    required_fields,
    spell,
)
from paddlevideo.config.registry import Kind, known, lookup, nearest
from paddlevideo.config.schema import IGNORED, OTHER_NAMES, AtLeast, Component, Config
from paddlevideo.config.yamltree import Keys, Tree, dotted


class Checker:
    """Turns plain data into typed values.

    Args:
        tree: the config as plain data, with the location of each value.

    Attributes:
        problems: mistakes, one line each.
        notes: keys that have no effect, one line each.
    """

    def __init__(self, tree: Tree):
        self.tree = tree
        self.problems: list[str] = []
        self.notes: list[str] = []

    def section(self, cls, data, keys: Keys) -> Any:
        """An instance of the dataclass `cls` from a map; None if anything is wrong."""
        names = field_names(cls)
        if not isinstance(data, dict):
            expected = f"expected a map with {', '.join(names)}"
            self._problem(keys, f"{dotted(keys)} is {data!r}, {expected}")
            return None
        hints = typing.get_type_hints(cls, include_extras=True)
        other_names = OTHER_NAMES.get(cls, {})
        values = {}
        for key, value in data.items():
            name, here = other_names.get(key, key), (*keys, key)
            label = dotted(here)
            if label in IGNORED and name not in names:
                self._note(here, label, IGNORED[label])
            elif name not in names:
                self._problem(here, f"{label} is not known{nearest(key, [*names, *other_names])}")
            elif name != key and name in data:
                text = f"{label} is another name for {name}, which is also given; keep one of them"
                self._problem(here, text)
            elif value is not None or allows_none(hints[name]):
                values[name] = self.value(hints[name], value, here)
        given = {other_names.get(key, key) for key, value in data.items() if value is not None}
        self._report_missing(keys, required_fields(cls), given, dotted(keys) or "the file")
        return None if self.problems else cls(**values)

    def value(self, hint, value, keys: Keys) -> Any:
        """`value` converted to the type `hint`; adds a problem if it does not fit."""
        before = len(self.problems)
        origin = typing.get_origin(hint)
        if origin is Annotated:
            kind = component_kind(hint)
            return self.component(kind, value, keys) if kind else self._bounded(hint, value, keys)
        if origin in (typing.Union, types.UnionType):
            return self._union(typing.get_args(hint), value, keys)
        if dataclasses.is_dataclass(hint):
            return self.section(hint, value, keys)
        if origin in (list, tuple) and isinstance(value, list):
            arguments = typing.get_args(hint)
            item_hint = arguments[0] if arguments else Any
            return [self._item(item_hint, item, (*keys, i)) for i, item in enumerate(value)]
        fitted, fits = fit(hint, value)
        if not fits and len(self.problems) == before:
            self._problem(keys, f"{dotted(keys)} is {value!r}, expected {spell(hint)}")
        return fitted

    def component(self, kind: Kind, value, keys: Keys) -> Component | None:
        """The component that a map `{name: X, argument: value, ...}` describes."""
        if isinstance(value, Component):
            return value
        if isinstance(value, dict) and isinstance(value.get(kind.key), str):
            args = {key: v for key, v in value.items() if key != kind.key}
            return self._named(kind, value[kind.key], args, keys, (*keys, kind.key))
        given = repr(value)
        if isinstance(value, dict) and kind.key in value:
            given = f"{kind.key}: {value[kind.key]!r}"
        names = ", ".join(known(kind.name))
        expected = f"expected a map with a {kind.key!r} that names the {kind.name}: {names}"
        self._problem(keys, f"{dotted(keys)} is {given}, {expected}")
        return None

    def compare_inference(self, config: Config) -> None:
        """Note the values of INFERENCE that differ from those of PIPELINE.test."""
        test = config.PIPELINE.test
        if test is None:
            return
        components = [part for part in (test.decode, test.sample, *test.transform) if part]
        for name, value in vars(config.INFERENCE).items():
            used = [part.args[name] for part in components if name in part.args]
            if used and value is not None and name != "name" and value not in used:
                reason = f"PIPELINE.test has {used[0]!r}, and exported models use PIPELINE.test"
                self._note(("INFERENCE", name), f"INFERENCE.{name} {value!r}", reason)

    def _bounded(self, hint, value, keys: Keys):
        before = len(self.problems)
        fitted = self.value(typing.get_args(hint)[0], value, keys)
        for bound in hint.__metadata__:
            if isinstance(bound, AtLeast) and len(self.problems) == before and fitted < bound.value:
                self._problem(keys, f"{dotted(keys)} is {value!r}, expected at least {bound.value}")
        return fitted

    def _union(self, hints, value, keys: Keys):
        """`value` as the first alternative that it fits.

        A map, a list or a component's name that fits none is checked against the structured
        alternative, so that the problem names the part that is wrong.
        """
        if value is None and type(None) in hints:
            return None
        structured = [hint for hint in hints if is_structured(hint)]
        for hint in hints:
            if hint not in structured and fit(hint, value)[1]:
                return fit(hint, value)[0]
        if structured:
            only_structured = len(structured) == len([h for h in hints if h is not type(None)])
            containers = (dict, list, str) if component_kind(structured[0]) else (dict, list)
            if only_structured or isinstance(value, containers):
                return self.value(structured[0], value, keys)
        expected = " or ".join(map(spell, hints))
        self._problem(keys, f"{dotted(keys)} is {value!r}, expected {expected}")
        return None

    def _item(self, hint, item, keys: Keys):
        """An item of a list.

        A component is written `- Name`, `- Name: {arguments}` or `- {name: Name, arguments}`.
        """
        kind = component_kind(hint)
        if kind and isinstance(item, str):
            return self.value(hint, {"name": item}, keys)
        if kind and isinstance(item, dict) and "name" not in item:
            if len(item) == 1:
                ((name, args),) = item.items()
                if args is None or isinstance(args, dict):
                    return self._named(kind, name, args or {}, (*keys, name))
                here = (*keys, name)
                self._problem(here, f"{dotted(here)} is {args!r}, expected a map of arguments")
                return None
            if None in item.values():
                names = ", ".join(map(str, item))
                advice = "indent the arguments under the name"
                self._problem(keys, f"{dotted(keys)} has {names} side by side; {advice}")
                return None
        return self.value(hint, item, keys)

    def _named(self, kind: Kind, name: str, args: dict, keys: Keys, name_keys: Keys | None = None):
        """The component `name` with checked arguments.

        Args:
            name_keys: where the name is, for a component that is written `{name: Name, ...}`.
        """
        try:
            entry = lookup(kind.name, name)
        except KeyError as error:
            self._problem(name_keys or keys, f"{dotted(name_keys or keys)}: {error.args[0]}")
            return None
        label = f"{dotted(keys)} ({name})" if name_keys else dotted(keys)
        parameters, values = entry.parameters(args), {}
        followers = {
            key: source
            for key, parameter in parameters.items()
            if (source := followed_key(parameter.annotation)) and args.get(key) is None
        }
        # A run of 0 epochs, which only fits a classifier, has a schedule all the same.
        values |= {key: self._top_value(source) or 1 for key, source in followers.items()}
        for key, value in args.items():
            here = (*keys, key)
            if value is None and key in (*kind.supplied, *followers):
                continue  # the same as a key that is absent
            if key in entry.ignores:
                self._note(here, dotted(here), entry.ignores[key])
            elif key not in parameters:
                near = nearest(key, list(parameters))
                self._problem(here, f"{label} has no argument {key!r}{near}")
            else:
                values[key] = self.value(parameters[key].annotation, value, here)
        required = {
            key: parameter.annotation
            for key, parameter in parameters.items()
            if parameter.default is parameter.empty and key not in (*kind.supplied, *followers)
        }
        # An argument that is given but empty was checked against its type.
        self._report_missing(keys, required, set(args), label)
        return Component(kind.name, name, values, dotted(keys), self.tree.where(keys))

    def _top_value(self, key: str) -> Any:
        """The value of a key at the top of the config; a wrong one is reported elsewhere."""
        value = self.tree.data.get(key)
        return Config.__dataclass_fields__[key].default if value is None else value

    def _report_missing(self, keys: Keys, required: dict, given: set, label: str) -> None:
        for key, hint in required.items():
            if key not in given:
                self._problem(keys, f"{label} lacks {key!r} ({spell(hint)})")

    def _problem(self, keys: Keys, text: str) -> None:
        self.problems.append(f"{self.tree.where(keys)}: {text}")

    def _note(self, keys: Keys, label: str, reason: str) -> None:
        self.notes.append(f"{self.tree.where(keys)}: {label} has no effect: {reason}")
