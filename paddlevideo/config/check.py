"""YAML file + `_base_` + overrides -> a checked `Config`. Every value knows its file:line; nothing is ever evaluated.

All mistakes are collected and reported at once. A component's arguments are checked against its own signature and type
hints, so the code that uses a key is the only place that defines it.
"""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from paddlevideo.config.registry import Kind, known, lookup, nearest
from paddlevideo.config.schema import (
    IGNORED,
    OTHER_NAMES,
    AtLeast,
    Component,
    Config,
    ConfigError,
    Origin,
)
from paddlevideo.config.yamltree import Keys, Tree, dotted, dump, override, read

__all__ = ["check", "dump", "config_from_data", "read_config"]


def read_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read and check a config file.

    Args:
        path: the YAML file.
        overrides: `A.b.0.c=value` texts; values are YAML.

    Raises:
        ConfigError: with every mistake of file and overrides, a line each.
    """
    tree = read(Path(path), ())
    for text in overrides:
        override(tree, text)
    notes = settle_root(tree)
    config = check(tree, str(path), tuple(overrides))
    return dataclasses.replace(
        config, origin=dataclasses.replace(config.origin, notes=(*notes, *config.origin.notes))
    )


def settle_root(tree: Tree) -> list[str]:
    """A DATASET.root takes the place of the lists and class names that a base has, or under an override the file: who names
    a folder of data means that one. What stands beside it, in the same file or among the overrides, is kept.

    Returns:
        what was taken away, in words.
    """
    data = tree.data.get("DATASET")
    if not isinstance(data, dict) or not data.get("root"):
        return []
    layers = {source: number for number, source in enumerate(tree.sources)}

    def layer(*keys: str) -> int:
        place = tree.where(("DATASET", *keys))
        return len(layers) if place.startswith("-o ") else layers.get(place.rpartition(":")[0], -1)

    gone = []
    for keys in (*((split, "file_path") for split in ("train", "valid", "test")), ("class_names",)):
        section = data.get(keys[0]) if len(keys) == 2 else data
        if (
            isinstance(section, dict)
            and section.get(keys[-1]) is not None
            and layer(*keys) < layer("root")
        ):
            gone.append(f"{'.'.join(keys)}: {section.pop(keys[-1])}")
            tree.forget(("DATASET", *keys))
            if "data_prefix" in section and layer(keys[0], "data_prefix") < layer(
                "root"
            ):  # of the list that is gone
                del section["data_prefix"]
                tree.forget(("DATASET", keys[0], "data_prefix"))
    return [f"DATASET.root {data['root']} takes the place of {', '.join(gone)}"] if gone else []


def config_from_data(data: dict, path: str) -> Config:
    """Check a config that is already plain data, as the one inside an exported model; `path` names it in messages."""
    return check(Tree(data, {(): path}, [], [path]), path)


def check(tree: Tree, path: str, overrides: tuple[str, ...] = ()) -> Config:
    """The config of a tree that was read; see `load`."""
    checker = _Checker(tree)
    config = checker.section(Config, tree.data, ())
    problems = tree.problems + checker.problems
    if problems:
        raise ConfigError(problems)
    checker.compare_inference(config)
    origin = Origin(path, tuple(tree.sources), overrides, tree.data, tuple(checker.notes))
    return dataclasses.replace(config, origin=origin)


# --- checking: against dataclasses, signatures and type hints -------------------------------------------------------


class _Checker:
    def __init__(self, tree: Tree):
        self.tree = tree
        self.problems: list[str] = []
        self.notes: list[str] = []

    def _problem(self, keys: Keys, text: str) -> None:
        self.problems.append(f"{self.tree.where(keys)}: {text}")

    def section(self, cls, data, keys: Keys) -> Any:
        """Fill dataclass `cls` from a map; None (and problems) where that fails."""
        if not isinstance(data, dict):
            self._problem(
                keys,
                f"{dotted(keys)} is {data!r}, expected a map with {', '.join(_field_names(cls))}",
            )
            return None
        hints = typing.get_type_hints(cls, include_extras=True)
        values, other = {}, OTHER_NAMES.get(cls, {})
        for key, value in data.items():
            name, label = other.get(key, key), dotted((*keys, key))
            if label in IGNORED:
                self._note((*keys, key), label, IGNORED[label])
            elif name not in _field_names(cls):
                self._problem(
                    (*keys, key),
                    f"{label} is not known{nearest(key, [*_field_names(cls), *other])}",
                )
            elif name != key and name in data:
                self._problem(
                    (*keys, key),
                    f"{label} is another name of {name}, which is given too; keep one of them",
                )
            elif value is not None or _allows_none(hints[name]):
                values[name] = self.value(hints[name], value, (*keys, key))
        self._missing(
            keys,
            _required(cls),
            {other.get(key, key): value for key, value in data.items()},
            dotted(keys),
        )
        return None if self.problems else cls(**values)

    def value(self, hint, value, keys: Keys) -> Any:
        """`value` as `hint` wants it; anything else is noted as a problem."""
        before = len(self.problems)
        if typing.get_origin(hint) is Annotated:
            kind = next((m for m in hint.__metadata__ if isinstance(m, Kind)), None)
            return self.component(kind, value, keys) if kind else self._bounded(hint, value, keys)
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            return self._union(typing.get_args(hint), value, keys)
        if dataclasses.is_dataclass(hint):
            return self.section(hint, value, keys)
        if typing.get_origin(hint) in (list, tuple) and isinstance(value, list):
            items = typing.get_args(hint)
            item_hint = items[0] if items else Any
            return [self._item(item_hint, item, (*keys, i)) for i, item in enumerate(value)]
        fitted, fits = _fit(hint, value)
        if not fits and len(self.problems) == before:
            self._problem(keys, f"{dotted(keys)} is {value!r}, expected {_spell(hint)}")
        return fitted

    def _bounded(self, hint, value, keys: Keys):
        before = len(self.problems)
        fitted = self.value(typing.get_args(hint)[0], value, keys)
        for bound in hint.__metadata__:
            if isinstance(bound, AtLeast) and len(self.problems) == before and fitted < bound.value:
                self._problem(keys, f"{dotted(keys)} is {value!r}, expected at least {bound.value}")
        return fitted

    def _union(self, hints, value, keys: Keys):
        """The alternative that fits; a lone map or list is judged by the alternative made for it."""
        if value is None and type(None) in hints:
            return None
        rich = [
            h
            for h in hints
            if typing.get_origin(h) in (Annotated, list) or dataclasses.is_dataclass(h)
        ]
        for hint in hints:
            if hint not in rich and _fit(hint, value)[1]:
                return _fit(hint, value)[0]
        takes = (dict, list, str) if rich and _is_component(rich[0]) else (dict, list)
        if rich and (
            isinstance(value, takes) or len(rich) == len([h for h in hints if h is not type(None)])
        ):
            return self.value(rich[0], value, keys)
        self._problem(
            keys, f"{dotted(keys)} is {value!r}, expected {' or '.join(map(_spell, hints))}"
        )
        return None

    def _item(self, hint, item, keys: Keys):
        """An element of a list; components may be written `- Name`, `- Name: {arguments}` or `- name: Name`."""
        if _is_component(hint) and isinstance(item, str):
            return self.value(hint, {"name": item}, keys)
        if _is_component(hint) and isinstance(item, dict) and len(item) == 1 and "name" not in item:
            ((name, args),) = item.items()
            if args is None or isinstance(args, dict):
                kind = next(m for m in hint.__metadata__ if isinstance(m, Kind))
                return self._named(kind, name, args or {}, (*keys, name))
            self._problem(
                (*keys, name), f"{dotted((*keys, name))} is {args!r}, expected a map of arguments"
            )
            return None
        if (
            _is_component(hint)
            and isinstance(item, dict)
            and "name" not in item
            and None in item.values()
        ):
            self._problem(
                keys,
                f"{dotted(keys)} has {', '.join(map(str, item))} side by side; indent the arguments under the name",
            )
            return None
        return self.value(hint, item, keys)

    def component(self, kind: Kind, value, keys: Keys):
        if isinstance(value, Component):
            return value
        if not isinstance(value, dict) or not isinstance(value.get(kind.key), str):
            came = (
                f"{kind.key}: {value.get(kind.key)!r}"
                if isinstance(value, dict) and kind.key in value
                else repr(value)
            )
            self._problem(
                keys,
                f"{dotted(keys)} is {came}, expected a map with a {kind.key!r} that says which {kind.name}: "
                f"{', '.join(known(kind.name))}",
            )
            return None
        args = {key: v for key, v in value.items() if key != kind.key}
        return self._named(kind, value[kind.key], args, keys, (*keys, kind.key))

    def _named(self, kind: Kind, name: str, args: dict, keys: Keys, name_keys: Keys | None = None):
        try:
            entry = lookup(kind.name, name)
        except KeyError as error:
            self._problem(name_keys or keys, f"{dotted(name_keys or keys)}: {error.args[0]}")
            return None
        label = f"{dotted(keys)} ({name})" if name_keys else dotted(keys)
        parameters, values = entry.parameters(args), {}
        for key, value in args.items():
            if value is None and key in kind.supplied:
                continue  # as if it were not there: the code supplies it
            if key in entry.ignores:
                self._note((*keys, key), dotted((*keys, key)), entry.ignores[key])
            elif key not in parameters:
                near = nearest(key, list(parameters))
                self._problem((*keys, key), f"{label} has no argument {key!r}{near}")
            else:
                values[key] = self.value(parameters[key].annotation, value, (*keys, key))
        required = {
            k: p.annotation
            for k, p in parameters.items()
            if p.default is p.empty and k not in kind.supplied
        }
        # An argument that is there and empty has been judged by its type.
        self._missing(keys, {k: h for k, h in required.items() if k not in args}, {}, label)
        return Component(kind.name, name, values, dotted(keys), self.tree.where(keys))

    def compare_inference(self, config: Config) -> None:
        """Note what INFERENCE says otherwise than PIPELINE.test."""
        test = config.PIPELINE.test
        parts = (
            [part for part in (test.decode, test.sample, *test.transform) if part] if test else []
        )
        for name, value in vars(config.INFERENCE).items():
            used = [part.args[name] for part in parts if name in part.args]
            if used and value is not None and name != "name" and value not in used:
                reason = (
                    f"PIPELINE.test has {used[0]!r}, and an exported model works as the test does"
                )
                self._note(("INFERENCE", name), f"INFERENCE.{name} {value!r}", reason)

    def _missing(self, keys: Keys, required: dict, given: dict, label: str) -> None:
        for key, hint in required.items():
            if given.get(key) is None:
                self._problem(keys, f"{label or 'the file'} lacks {key!r} ({_spell(hint)})")

    def _note(self, keys: Keys, dotted: str, reason: str) -> None:
        self.notes.append(f"{self.tree.where(keys)}: {dotted} has no effect: {reason}")


def _field_names(cls) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.name != "origin"]


def _required(cls) -> dict[str, Any]:
    missing, hints = dataclasses.MISSING, typing.get_type_hints(cls, include_extras=True)
    return {
        f.name: hints[f.name]
        for f in dataclasses.fields(cls)
        if f.default is missing and f.default_factory is missing
    }


def _is_component(hint) -> bool:
    return typing.get_origin(hint) is Annotated and any(
        isinstance(m, Kind) for m in hint.__metadata__
    )


def _allows_none(hint) -> bool:
    return hint in (Any, None) or type(None) in typing.get_args(hint)


def _fit(hint, value) -> tuple[Any, bool]:
    """(converted value, whether it fits) for a plain hint."""
    if hint in (None, type(None)):
        return None, value is None
    if typing.get_origin(hint) is Literal:
        return value, any(type(value) is type(a) and value == a for a in typing.get_args(hint))
    if hint is bool:
        return value, isinstance(value, bool)
    if hint is int:
        return value, isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        number = (
            isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 10**300
        )
        return (float(value) if number else value), number
    if hint in (str, list, dict, tuple):
        return value, isinstance(value, list if hint is tuple else hint)
    if typing.get_origin(hint) in (list, tuple):
        return value, False
    if typing.get_origin(hint) is dict:
        return value, isinstance(value, dict)
    return value, True


def _spell(hint) -> str:
    if hint in (None, type(None)):
        return "nothing"
    if _is_component(hint):
        return f"a map with a {hint.__metadata__[0].key!r}"
    if typing.get_origin(hint) is Annotated:
        return _spell(typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_spell(a) for a in typing.get_args(hint))
    if dataclasses.is_dataclass(hint):
        return f"a map with {', '.join(_field_names(hint))}"
    if typing.get_origin(hint) in (list, tuple):
        return f"a list of {_spell(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) is dict:
        return f"a map of names to {_spell(typing.get_args(hint)[1])}"
    return getattr(hint, "__name__", str(hint))
