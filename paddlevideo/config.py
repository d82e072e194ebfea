"""YAML file + `_base_` + overrides -> a checked `Config`. Every value knows its file:line; nothing is ever evaluated.

All mistakes are collected and reported at once. A component's arguments are checked against its own signature and type
hints, so the code that uses a key is the only place that defines it.
"""

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from paddlevideo.registry import Kind, known, lookup, nearest
from paddlevideo.schema import IGNORED, AtLeast, Component, Config, ConfigError, Origin

Keys = tuple[str | int, ...]


def load(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read and check a config file.

    Args:
        path: the YAML file.
        overrides: `A.b.0.c=value` texts; values are YAML.

    Raises:
        ConfigError: with every mistake of file and overrides, a line each.
    """
    tree = _read(Path(path), ())
    for text in overrides:
        _override(tree, text)
    return check(tree, str(path), tuple(overrides))


def from_data(data: dict, path: str) -> Config:
    """Check a config that is already plain data, as the one inside an exported model; `path` names it in messages."""
    return check(_Tree(data, {(): path}, [], [path]), path)


def dump(data: dict) -> str:
    """`data` as YAML text that this module reads back equal; `yaml.safe_dump` would leave the text "1e5" without quotes."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def check(tree: "_Tree", path: str, overrides: tuple[str, ...] = ()) -> Config:
    """The config of a tree that was read; see `load`."""
    checker = _Checker(tree)
    config = checker.section(Config, tree.data, ())
    problems = tree.problems + checker.problems
    if problems:
        raise ConfigError(problems)
    origin = Origin(path, tuple(tree.sources), overrides, tree.data, tuple(checker.notes))
    return dataclasses.replace(config, origin=origin)


# --- reading: plain data, and the place of every value -------------------------------------------------------------


@dataclass
class _Tree:
    data: dict
    marks: dict[Keys, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def forget(self, keys: Keys) -> None:
        """Drop the places of what stood at `keys`."""
        for mark in [m for m in self.marks if m[: len(keys)] == keys]:
            del self.marks[mark]

    def where(self, keys: Keys) -> str:
        while keys and keys not in self.marks:
            keys = keys[:-1]
        return self.marks.get(keys, "config")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `1e-4` is a number, as everywhere else, and `None` is null, as in older files."""


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for something else than text, and writes shared values twice instead of naming them."""

    def ignore_aliases(self, data):
        return True


for _class, _parent in ((_Loader, yaml.SafeLoader), (_Dumper, yaml.SafeDumper)):
    _class.yaml_implicit_resolvers = {k: list(v) for k, v in _parent.yaml_implicit_resolvers.items()}
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
    _class.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^None$"), ["N"])

MAX_VALUES = 100_000  # a config has a few hundred; nested aliases can make billions out of ten lines


def _read(path: Path, seen: tuple[Path, ...], asked_by: str = "") -> _Tree:
    """One file and its bases. `asked_by` is the place of the `_base_` that names it."""
    try:
        if path.resolve() in seen:
            raise ConfigError([f"{path}: _base_ goes round in a circle: {' -> '.join(map(str, (*seen, path.resolve())))}"])
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        advice = f"{asked_by} names it as _base_" if asked_by else "give the path of a config file with -c"
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; {advice}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a UTF-8 text file ({error.reason} at byte {error.start})"]) from None
    tree = _Tree({}, sources=[str(path)])
    try:
        tree.data = _parse(text, (), lambda line: f"{path}:{line}", tree)
    except _NotYaml as error:
        raise ConfigError([str(error)]) from None
    if not isinstance(tree.data, dict):
        raise ConfigError([f"{path}:1: expected a map of sections (MODEL, DATASET, ...)"])
    place = tree.where(("_base_",))
    bases = tree.data.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) and "\0" not in base for base in bases):
        raise ConfigError([f"{place}: _base_ is {bases!r}, expected a path or a list of paths, relative to this file"])
    merged = _Tree({})
    for base in bases:
        _merge(merged, _read(path.parent / base, (*seen, path.resolve()), place))
    _merge(merged, tree)
    merged.marks[()] = f"{path}:1"
    return merged


class _NotYaml(ValueError):
    """Text that is no YAML document; the message begins with the place."""


def _parse(text: str, keys: Keys, place, tree: _Tree):
    """The value of a YAML text, which is to stand at `keys` of `tree`; `place(line)` says where a line is.

    Raises:
        _NotYaml: the text is no YAML.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _plain(loader, node, keys, place, tree)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _NotYaml(f"{place(line)}: not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _NotYaml(f"{place(line)}: not valid YAML: character {error.character!r} is not allowed") from None
    except RecursionError:
        raise _NotYaml(f"{place(1)}: not valid YAML: nested too deep, or an alias (*name) inside its own anchor") from None


def _plain(loader, node, keys: Keys, place, tree: _Tree):
    """The value of a YAML node; records the place of everything in it and reports doubled keys."""
    if len(tree.marks) > MAX_VALUES:
        raise _NotYaml(f"{place(1)}: more than {MAX_VALUES} values; do aliases (*name) multiply?")
    here = place(node.start_mark.line + 1)
    tree.marks[keys] = here
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, keys, place, tree)
        loader.flatten_mapping(node)
        values = {}
        for key, value in node.value:
            name = str(key.value)
            values[name] = _plain(loader, value, (*keys, name), place, tree)
            tree.marks[(*keys, name)] = place(key.start_mark.line + 1)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*keys, i), place, tree) for i, item in enumerate(node.value)]
    try:
        value = loader.construct_object(node)
    except (ValueError, LookupError, AttributeError, OverflowError, yaml.YAMLError) as error:
        why = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
        tree.problems.append(f"{here}: {_dotted(keys)} is {node.value!r}, which cannot be read: {why}")
        return None
    # Dates and binary data, which YAML makes out of plain text, mean text here.
    return value if value is None or isinstance(value, (bool, int, float, str)) else node.value


def _check_keys(node, keys: Keys, place, tree: _Tree) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            raise _NotYaml(f"{place(line)}: not valid YAML: a list or a map cannot be a key")
        if key.value in lines:
            first = f", first on line {lines[key.value]}" if place(1) != place(2) else ""
            tree.problems.append(f"{place(line)}: {_dotted((*keys, key.value))} is given twice{first}")
        lines[key.value] = line


_NAME_KEYS = ("name", "framework", "format")


def _merge(under: _Tree, over: _Tree) -> None:
    """Lay `over` on `under`: maps merge, everything else replaces, and so does a map that names another component."""

    def lay(low, high, keys):
        for key, value in high.items():
            here = (*keys, key)
            old = low.get(key)
            merges = isinstance(value, dict) and isinstance(old, dict)
            if merges and not any(value.get(k, old.get(k)) != old.get(k) for k in _NAME_KEYS):
                lay(old, value, here)
            else:
                low[key] = value
                under.forget(here)

    lay(under.data, over.data, ())
    under.marks.update(over.marks)
    under.problems += over.problems
    under.sources += over.sources


def _override(tree: _Tree, text: str) -> None:
    """Apply one `A.b.0.c=value`; a part that is not there is made, and checked later like the rest of the file."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        tree.problems.append(f"-o {text}: expected KEY.PATH=value, as in -o DATASET.batch_size=16")
        return
    keys: list[str | int] = []
    here = tree.data
    *parents, last = path.strip().split(".")
    for part in parents:
        step = _step(tree, text, here, part, keys)
        if step is None:
            return
        keys.append(step)
        if isinstance(here, dict) and here.get(step) is None:
            here[step] = {}
            tree.marks[tuple(keys)] = f"-o {text}"
        here = here[step]
    step = _step(tree, text, here, last, keys)
    if step is None:
        return
    target = (*keys, step)
    tree.forget(target)
    try:
        here[step] = _parse(value, target, lambda line: f"-o {text}", tree)
    except _NotYaml as error:
        tree.problems.append(f"{error}; put quotes around the value")
    tree.marks[target] = f"-o {text}"


def _step(tree: _Tree, text: str, here, part: str, keys: list):
    """The dict key or list index that `part` means in `here`, or None after noting the problem."""
    if isinstance(here, dict):
        return part
    dotted = ".".join(map(str, keys))
    if isinstance(here, list):
        if part.isdecimal() and len(part) < 6 and int(part) < len(here):
            return int(part)
        tree.problems.append(f"-o {text}: {dotted} is a list of {len(here)}; {part!r} is no place in it")
    else:
        tree.problems.append(f"-o {text}: {dotted} is {here!r}, it has no {part!r}")
    return None


# --- checking: against dataclasses, signatures and type hints -------------------------------------------------------


class _Checker:
    def __init__(self, tree: _Tree):
        self.tree = tree
        self.problems: list[str] = []
        self.notes: list[str] = []

    def _problem(self, keys: Keys, text: str) -> None:
        self.problems.append(f"{self.tree.where(keys)}: {text}")

    def section(self, cls, data, keys: Keys):
        """Fill dataclass `cls` from a map; None (and problems) where that fails."""
        if not isinstance(data, dict):
            self._problem(keys, f"{_dotted(keys)} is {data!r}, expected a map with {', '.join(_field_names(cls))}")
            return None
        hints = typing.get_type_hints(cls, include_extras=True)
        values = {}
        for key, value in data.items():
            if cls is Config and key in IGNORED:
                self._note((key,), key, IGNORED[key])
            elif key not in _field_names(cls):
                self._problem((*keys, key), f"{_dotted((*keys, key))} is not known{nearest(key, _field_names(cls))}")
            elif value is not None or _allows_none(hints[key]):
                values[key] = self.value(hints[key], value, (*keys, key))
        self._missing(keys, _required(cls), data, _dotted(keys))
        return None if self.problems else cls(**values)

    def value(self, hint, value, keys: Keys):
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
            self._problem(keys, f"{_dotted(keys)} is {value!r}, expected {_spell(hint)}")
        return fitted

    def _bounded(self, hint, value, keys: Keys):
        before = len(self.problems)
        fitted = self.value(typing.get_args(hint)[0], value, keys)
        for bound in hint.__metadata__:
            if isinstance(bound, AtLeast) and len(self.problems) == before and fitted < bound.value:
                self._problem(keys, f"{_dotted(keys)} is {value!r}, expected at least {bound.value}")
        return fitted

    def _union(self, hints, value, keys: Keys):
        """The alternative that fits; a lone map or list is judged by the alternative made for it."""
        if value is None and type(None) in hints:
            return None
        rich = [h for h in hints if typing.get_origin(h) in (Annotated, list) or dataclasses.is_dataclass(h)]
        for hint in hints:
            if hint not in rich and _fit(hint, value)[1]:
                return _fit(hint, value)[0]
        if rich and (isinstance(value, (dict, list, str)) or len(rich) == len([h for h in hints if h is not type(None)])):
            return self.value(rich[0], value, keys)
        self._problem(keys, f"{_dotted(keys)} is {value!r}, expected {' or '.join(map(_spell, hints))}")
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
            self._problem((*keys, name), f"{_dotted((*keys, name))} is {args!r}, expected a map of arguments")
            return None
        if _is_component(hint) and isinstance(item, dict) and "name" not in item and None in item.values():
            self._problem(
                keys, f"{_dotted(keys)} has {', '.join(map(str, item))} side by side; indent the arguments under the name"
            )
            return None
        return self.value(hint, item, keys)

    def component(self, kind: Kind, value, keys: Keys):
        if isinstance(value, Component):
            return value
        if not isinstance(value, dict) or not isinstance(value.get(kind.key), str):
            came = f"{kind.key}: {value.get(kind.key)!r}" if isinstance(value, dict) and kind.key in value else repr(value)
            self._problem(
                keys,
                f"{_dotted(keys)} is {came}, expected a map with a {kind.key!r} that says which {kind.name}: "
                f"{', '.join(known(kind.name))}",
            )
            return None
        args = {key: v for key, v in value.items() if key != kind.key}
        return self._named(kind, value[kind.key], args, keys, (*keys, kind.key))

    def _named(self, kind: Kind, name: str, args: dict, keys: Keys, name_keys: Keys | None = None):
        try:
            entry = lookup(kind.name, name)
        except KeyError as error:
            self._problem(name_keys or keys, f"{_dotted(name_keys or keys)}: {error.args[0]}")
            return None
        label = f"{_dotted(keys)} ({name})" if name_keys else _dotted(keys)
        parameters, values = entry.parameters(), {}
        for key, value in args.items():
            if key in entry.ignores:
                self._note((*keys, key), _dotted((*keys, key)), entry.ignores[key])
            elif key not in parameters:
                near = nearest(key, list(parameters))
                self._problem((*keys, key), f"{label} has no argument {key!r}{near}")
            else:
                values[key] = self.value(parameters[key].annotation, value, (*keys, key))
        required = {k: p.annotation for k, p in parameters.items() if p.default is p.empty and k not in kind.supplied}
        # An argument that is there and empty has been judged by its type.
        self._missing(keys, {k: h for k, h in required.items() if k not in args}, {}, label)
        return Component(kind.name, name, values, _dotted(keys), self.tree.where(keys))

    def _missing(self, keys: Keys, required: dict, given: dict, label: str) -> None:
        for key, hint in required.items():
            if given.get(key) is None:
                self._problem(keys, f"{label or 'the file'} lacks {key!r} ({_spell(hint)})")

    def _note(self, keys: Keys, dotted: str, reason: str) -> None:
        self.notes.append(f"{self.tree.where(keys)}: {dotted} has no effect: {reason}")


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))


def _field_names(cls) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.name != "origin"]


def _required(cls) -> dict[str, Any]:
    missing, hints = dataclasses.MISSING, typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing}


def _is_component(hint) -> bool:
    return typing.get_origin(hint) is Annotated and any(isinstance(m, Kind) for m in hint.__metadata__)


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
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 10**300
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
    return getattr(hint, "__name__", str(hint))
